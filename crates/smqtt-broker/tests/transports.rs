//! What lies between a socket and MQTT: WebSocket, TLS options, the PROXY protocol, Unix sockets,
//! sockets from systemd, and the rules of each listener.

mod harness;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use harness::{Broker, Client, Options, PATIENCE, TestPki, utf8};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use smqtt_pki::ServerName;
use smqtt_proto::{ProtocolVersion, QoS, ReasonCode};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;
use tungstenite::http::HeaderValue;
use tungstenite::{Bytes, HandshakeError, Message, WebSocket};

/// MQTT over an established WebSocket client, every write split into two frames.
struct Frames<S> {
    web: WebSocket<S>,
    received: Bytes,
}

impl<S: Read + Write> Read for Frames<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.received.is_empty() {
            match self.web.read() {
                Ok(Message::Binary(bytes)) => self.received = bytes,
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let part = self.received.split_to(buf.len().min(self.received.len()));
        buf[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

impl<S: Read + Write> Write for Frames<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (a, b) = buf.split_at(buf.len() / 2);
        for part in [a, b] {
            let message = Message::Binary(Bytes::copy_from_slice(part));
            self.web.send(message).map_err(io::Error::other)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn request(port: u16, headers: &[(&'static str, &'static str)]) -> Request {
    let mut request = format!("ws://127.0.0.1:{port}/mqtt")
        .into_client_request()
        .expect("request");
    for (name, value) in headers {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(*name, value);
    }
    request
}

const MQTT: (&str, &str) = ("Sec-WebSocket-Protocol", "mqtt");

fn socket(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket
}

fn websocket<S>(stream: S, on: TcpStream, port: u16, version: ProtocolVersion) -> Client
where
    S: Read + Write + Send + 'static,
{
    let Ok((web, answer)) = tungstenite::client(request(port, &[MQTT]), stream) else {
        panic!("the WebSocket was not opened");
    };
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
    let received = Bytes::new();
    Client::over(Frames { web, received }, on, version)
}

fn over_ws(port: u16, options: Options) -> Client {
    let socket = socket(port);
    let version = options.0.version;
    let mut client = websocket(socket.try_clone().expect("clone"), socket, port, version);
    assert_eq!(client.handshake(options).reason, ReasonCode::Success);
    client
}

fn tls(port: u16, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let client = ClientConnection::new(config.clone(), name).expect("client");
    StreamOwned::new(client, socket(port))
}

/// A configuration file that stays until it is dropped.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> File {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("broker.toml"), text).expect("write");
        File(dir)
    }

    fn start(&self, listeners: usize) -> Broker {
        let path = self.0.path().join("broker.toml");
        Broker::start_expecting(&["--workers", "4", "--config", utf8(&path)], listeners)
    }
}

/// Files of this authority, then these sections.
fn with_tls(pki: &TestPki, sections: &str) -> File {
    let path = |name| pki.path(name).display().to_string();
    File::new(&format!(
        "[tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n{sections}",
        path("server.crt"),
        path("server.key"),
        path("ca.crt")
    ))
}

#[test]
fn clients_of_all_transports_talk_to_each_other() {
    let mut pki = TestPki::new(1);
    let file = with_tls(
        &pki,
        "[[listener]]\nurl = \"wss://127.0.0.1:0\"\n[[listener]]\nurl = \"ws://127.0.0.1:0/mqtt\"\nallow_anonymous = true\n[[listener]]\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\n",
    );
    let broker = file.start(3);
    let [wss, ws, plain] = broker.ports() else {
        panic!("three listeners");
    };
    let mut listening = Client::connect(*plain, Options::v3("plain"));
    listening.subscribe("t", QoS::ExactlyOnce);
    let device = Arc::new(pki.device("sensor-1"));
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let stream = tls(*wss, &device);
        let on = stream.sock.try_clone().expect("clone");
        let mut secure = websocket(stream, on, *wss, version);
        let hello = secure.handshake(Options::new(version, "secure"));
        assert_eq!(hello.reason, ReasonCode::Success);
        secure.subscribe("t", QoS::ExactlyOnce);
        let mut open = over_ws(*ws, Options::new(version, "open"));
        for size in [1, 125, 126, 20_000, 500_000] {
            let payload = "x".repeat(size);
            open.publish("t", QoS::ExactlyOnce, &payload);
            for subscriber in [&mut secure, &mut listening] {
                assert!(subscriber.receive_text() == payload);
            }
        }
        secure.settle();
        open.disconnect();
    }
}

#[test]
fn websocket_clients_find_their_session_on_any_worker() {
    let broker = Broker::start(&[
        "--listen",
        "ws://127.0.0.1:0",
        "--allow-anonymous",
        "--workers",
        "4",
    ]);
    for round in 0..8 {
        let mut client = over_ws(broker.port(), Options::v5("c").persistent());
        if round == 0 {
            client.subscribe("t", QoS::AtLeastOnce);
        }
        client.publish("t", QoS::AtMostOnce, "x");
        assert_eq!(client.receive_text(), "x");
        client.settle();
    }
}

#[test]
fn a_websocket_is_refused_without_the_subprotocol_and_to_pages_of_other_hosts() {
    let broker = Broker::start(&["--listen", "ws://127.0.0.1:0", "--allow-anonymous"]);
    let port = broker.port();
    let other = ("Origin", "https://evil.example");
    let own = ("Origin", "http://127.0.0.1:8080");
    for (headers, status) in [
        (&[][..], 400),
        (&[("Sec-WebSocket-Protocol", "chat")], 400),
        (&[MQTT, other], 403),
        (&[MQTT, own], 101),
    ] {
        match tungstenite::client(request(port, headers), socket(port)) {
            Ok((_, answer)) => assert_eq!(answer.status(), status),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                assert_eq!(answer.status(), status);
            }
            Err(error) => panic!("{error}"),
        }
    }
    // What is no HTTP at all.
    let mut plain = socket(port);
    plain
        .write_all(b"\x10\x0c\0\x04MQTT\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_text_frame_ends_the_connection_and_a_ping_does_not() {
    // [MQTT-6.0.0-1]
    let broker = Broker::start(&["--listen", "ws://127.0.0.1:0", "--allow-anonymous"]);
    let port = broker.port();
    let (mut web, _) = tungstenite::client(request(port, &[MQTT]), socket(port)).expect("opened");
    web.send(Message::Ping(Bytes::from_static(b"there?")))
        .expect("sent");
    let pong = web.read().expect("an answer");
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"there?")));
    web.send(Message::text("hello")).expect("sent");
    let Ok(Message::Close(Some(close))) = web.read() else {
        panic!("expected a close frame");
    };
    assert_eq!(u16::from(close.code), 1003);
    assert_eq!(web.get_mut().read(&mut [0; 1]).expect("the end"), 0);
}

/// CONNECT of MQTT 3.1.1, client id `c`, and what a broker answers that lets it in.
const CONNECT: [u8; 15] = [
    16, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'c',
];
const CONNACK: [u8; 4] = [32, 2, 0, 0];

/// What comes back, as far as it is not cut off.
fn say(mut stream: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
    let mut answer = [0; 4];
    if stream.write_all(bytes).is_err() {
        return Vec::new();
    }
    match stream.read_exact(&mut answer) {
        Ok(()) => answer.to_vec(),
        Err(_) => Vec::new(),
    }
}

#[test]
fn a_unix_socket_serves_those_who_may_write_to_it_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("smqtt.sock");
    // Left by a broker that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
    let file = File::new(&format!(
        "[log]\nlevel = \"debug\"\n[[listener]]\nurl = \"unix://{}\"\nallow_anonymous = true\nunix_mode = \"0600\"\n",
        path.display()
    ));
    let mut broker = file.start(1);
    let mode = std::fs::metadata(&path).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for _ in 0..8 {
        let stream = UnixStream::connect(&path).expect("the broker listens");
        assert_eq!(say(&stream, &CONNECT), CONNACK);
    }
    let line = broker.wait_for_line("client connected");
    assert!(line.contains("unix:uid="), "{line}");
    assert!(broker.stop().success());
    assert!(!path.exists());
}

/// A PROXY header for a client at 192.0.2.7:8080.
const PROXY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x1f\x90\x07\x5b";

#[test]
fn behind_a_proxy_the_client_is_who_the_header_says() {
    let pki = TestPki::new(2);
    let file = with_tls(
        &pki,
        "[log]\nlevel = \"debug\"\n[[listener]]\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\nproxy_from = [\"127.0.0.0/8\"]\n[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = true\nproxy_from = [\"127.0.0.1\"]\n[[listener]]\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\nproxy_from = [\"10.0.0.0/8\"]\n",
    );
    let mut broker = file.start(3);
    let [open, secure, elsewhere] = *broker.ports() else {
        panic!("three listeners");
    };
    let all = [PROXY, &CONNECT].concat();
    assert_eq!(say(socket(open), &all), CONNACK);
    let line = broker.wait_for_line("client connected");
    assert!(line.contains("192.0.2.7:8080"), "{line}");
    // TLS begins behind the header.
    let mut stream = tls(secure, &Arc::new(pki.anonymous()));
    stream.sock.write_all(PROXY).expect("sent");
    assert_eq!(say(&mut stream, &CONNECT), CONNACK);
    // Without the header, with a broken one, and from elsewhere.
    assert_eq!(say(socket(open), &CONNECT), []);
    let line = broker.wait_for_line("PROXY");
    assert!(line.contains("127.0.0.1:"), "{line}");
    let datagram = [&PROXY[..13], b"\x12", &PROXY[14..], &CONNECT].concat();
    assert_eq!(say(socket(open), &datagram), []);
    assert_eq!(say(socket(elsewhere), &all), []);
    broker.wait_for_line("proxy_from");
}

#[test]
fn tls_1_2_is_spoken_only_where_that_is_said() {
    let pki = TestPki::new(3);
    let file = with_tls(
        &pki,
        "[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = true\ntls_min_version = \"1.2\"\n[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = true\n",
    );
    let broker = file.start(2);
    for (version, port, spoken) in [
        ("-tls1_2", broker.ports()[0], true),
        ("-tls1_3", broker.ports()[0], true),
        ("-tls1_2", broker.ports()[1], false),
        ("-tls1_3", broker.ports()[1], true),
        ("-tls1_1", broker.ports()[0], false),
    ] {
        let address = format!("127.0.0.1:{port}");
        let output = Command::new("openssl")
            .args([
                "s_client", version, "-brief", "-alpn", "mqtt", "-connect", &address,
            ])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            said.contains("CONNECTION ESTABLISHED"),
            spoken,
            "{version}: {said}"
        );
    }
}

#[test]
fn the_key_exchange_is_post_quantum_and_only_anonymous_sessions_are_resumed() {
    let mut pki = TestPki::new(4);
    let file = with_tls(
        &pki,
        "[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = true\nclient_certificate = \"none\"\n[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\n",
    );
    let broker = file.start(2);
    let configs = [pki.anonymous(), pki.device("sensor-1")].map(Arc::new);
    let again = [HandshakeKind::Resumed, HandshakeKind::Full];
    for ((port, config), again) in broker.ports().iter().zip(&configs).zip(again) {
        for kind in [HandshakeKind::Full, again] {
            let mut stream = tls(*port, config);
            assert_eq!(say(&mut stream, &CONNECT), CONNACK);
            assert_eq!(stream.conn.handshake_kind(), Some(kind));
            let group = stream.conn.negotiated_key_exchange_group().expect("one");
            assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
        }
    }
}

#[test]
fn who_shakes_hands_slowly_does_not_keep_others_out() {
    let pki = TestPki::new(5);
    let file = with_tls(
        &pki,
        "[limits]\nhandshakes = 2\nconnect_timeout_seconds = 600\n[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = true\n",
    );
    let path = file.0.path().join("broker.toml");
    let mut broker = Broker::start_expecting(&["--workers", "1", "--config", utf8(&path)], 1);
    let silent: Vec<_> = (0..4).map(|_| socket(broker.port())).collect();
    let mut stream = tls(broker.port(), &Arc::new(pki.anonymous()));
    assert_eq!(say(&mut stream, &CONNECT), CONNACK);
    broker.wait_for_line("limits.handshakes");
    drop(silent);
}

#[test]
fn each_listener_has_its_own_rules() {
    let file = File::new(
        "[[listener]]\nname = \"old\"\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\nmqtt_versions = [\"3.1.1\"]\nmax_connections = 1\n[[listener]]\nname = \"new\"\nurl = \"mqtt://[::1]:0\"\nallow_anonymous = true\nmqtt_versions = [\"5\"]\nmax_packet_bytes = 2048\n",
    );
    let mut broker = file.start(2);
    let [old, new] = *broker.ports() else {
        panic!("two listeners");
    };
    let mut first = Client::connect(old, Options::v3("first"));
    Client::raw(old, ProtocolVersion::V3_1_1).expect_closed();
    broker.wait_for_line("max_connections");
    first.settle();
    first.disconnect();
    // Its place is free again as soon as the broker has seen it go.
    harness::wait_for(|| (say(socket(old), &CONNECT) == CONNACK).then_some(()));
    let connect = || {
        let socket = TcpStream::connect(("::1", new)).expect("IPv6");
        let stream = socket.try_clone().expect("clone");
        Client::over(stream, socket, ProtocolVersion::V5)
    };
    let mut client = connect();
    let hello = client.handshake(Options::v5("c"));
    assert_eq!(hello.reason, ReasonCode::Success);
    assert_eq!(hello.properties.maximum_packet_size, Some(2048));
    let mut old_client = TcpStream::connect(("::1", new)).expect("IPv6");
    old_client.write_all(&CONNECT).expect("sent");
    let mut answer = [0; 4];
    old_client.read_exact(&mut answer).expect("CONNACK");
    // Unacceptable protocol version, which is all that MQTT 3.1.1 can be told.
    assert_eq!(answer, [32, 2, 0, 1]);
}

/// Opens a TCP socket and a Unix socket, and runs the broker as systemd would.
const ACTIVATE: &str = r#"
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX); unix.bind(sys.argv[1]); unix.listen()
names = sys.argv[2]
for place, passed in enumerate([tcp.fileno(), unix.fileno()]):
    os.dup2(os.dup(passed), 200 + place)
for place in range(2):
    os.dup2(200 + place, 3 + place, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"#;

#[test]
fn sockets_from_systemd_are_taken_by_name_or_address() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("smqtt.sock");
    let file = File::new(&format!(
        "[[listener]]\nname = \"devices\"\nurl = \"mqtt://127.0.0.1:1\"\nallow_anonymous = true\n[[listener]]\nurl = \"unix://{}\"\nallow_anonymous = true\n",
        path.display()
    ));
    let config = file.0.path().join("broker.toml");
    let command = |names: &str| {
        let mut command = Command::new("python3");
        command
            .args([
                "-c",
                ACTIVATE,
                utf8(&path),
                names,
                env!("CARGO_BIN_EXE_smqtt-broker"),
            ])
            .args(["--workers", "2", "--config", utf8(&config)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    };
    let broker = Broker::spawn(command("devices:other"), 2);
    assert_ne!(broker.port(), 1);
    for _ in 0..4 {
        assert_eq!(say(socket(broker.port()), &CONNECT), CONNACK);
        let stream = UnixStream::connect(&path).expect("the broker listens");
        assert_eq!(say(&stream, &CONNECT), CONNACK);
    }
    // Another's socket: it stays.
    assert!(broker.stop().success());
    std::fs::remove_file(&path).expect("it is there");
    let refused = command("strangers:other").output().expect("python runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("strangers"), "{said}");
}
