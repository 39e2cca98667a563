use std::io::{Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message};

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example:9001\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: foo, mqtt\r\n";

fn fresh(path: Option<&str>, origins: &[&str]) -> WebSocket {
    WebSocket::new(Arc::new(WebRules {
        path: path.map(Into::into),
        origins: origins.iter().map(|&origin| origin.into()).collect(),
    }))
}

/// What the server writes now, at most `chunk` bytes a call.
fn written(web: &mut WebSocket, out: &mut Outbox, chunk: usize) -> Vec<u8> {
    let mut all = Vec::new();
    web.drain(
        out,
        |slices| {
            let mut left = chunk;
            for slice in slices {
                let part = slice.len().min(left);
                all.extend_from_slice(&slice[..part]);
                left -= part;
            }
            Ok(chunk - left)
        },
        |_, _| {},
    )
    .expect("memory takes all");
    all
}

fn receive(web: &mut WebSocket, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut buffer = BytesMut::from(bytes);
    web.receive(&mut buffer, 0).map(|()| buffer.to_vec())
}

fn answer(web: &mut WebSocket, request: &str) -> (Result<Vec<u8>, Refused>, String) {
    let result = receive(web, request.as_bytes());
    let answer = written(web, &mut Outbox::default(), usize::MAX);
    (result, String::from_utf8(answer).expect("UTF-8"))
}

fn opened() -> WebSocket {
    let mut web = fresh(None, &[]);
    let (result, answer) = answer(&mut web, &format!("{REQUEST}\r\n"));
    assert_eq!(result, Ok(Vec::new()));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    web
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        longer => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(longer).expect("fits").to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

#[test]
fn the_opening_is_answered_as_the_rfc_has_it() {
    let mut web = fresh(None, &[]);
    let (_, answer) = answer(&mut web, &format!("{REQUEST}\r\n"));
    let answer = answer.to_ascii_lowercase();
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("sec-websocket-protocol: mqtt\r\n"),
        "{answer}"
    );
    assert!(!web.is_opening());
}

#[test]
fn an_opening_may_come_in_any_pieces_with_frames_behind_it() {
    let mut all = format!("{REQUEST}\r\n").into_bytes();
    all.extend(frame(0x82, b"MQTT"));
    for chunk in [1, 2, 3, 7, 500] {
        let mut web = fresh(None, &[]);
        let mut mqtt = Vec::new();
        for piece in all.chunks(chunk) {
            mqtt.extend(receive(&mut web, piece).expect("good"));
        }
        assert_eq!(mqtt, b"MQTT");
    }
}

#[test]
fn openings_are_refused_with_a_status_that_says_why() {
    let without = |line: &str| {
        let rest: Vec<&str> = REQUEST
            .split_inclusive("\r\n")
            .filter(|l| !l.starts_with(line))
            .collect();
        rest.concat()
    };
    let long = format!("{REQUEST}X: {}\r\n", "x".repeat(9000));
    for (request, status) in [
        (REQUEST.replace("GET", "POST"), "400"),
        (REQUEST.replace("/mqtt", "/other"), "404"),
        (REQUEST.replace("foo, mqtt", "foo, mqttv3.1"), "400"),
        (without("Sec-WebSocket-Protocol"), "400"),
        (without("Sec-WebSocket-Key"), "400"),
        (without("Upgrade"), "426"),
        (REQUEST.replace("Version: 13", "Version: 8"), "400"),
        (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), "400"),
        ("\x10\x0c\0\x04MQTT\r\n".to_owned(), "400"),
        (long, "431"),
    ] {
        let (result, answer) = answer(&mut fresh(None, &[]), &format!("{request}\r\n"));
        assert!(result.is_err(), "{request}");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
}

#[test]
fn the_path_can_be_chosen() {
    for (configured, asked, good) in [
        (None, "/mqtt", true),
        (None, "/", true),
        (None, "/mqtt?token=1", true),
        (Some("/iot"), "/iot", true),
        (Some("/iot"), "/mqtt", false),
    ] {
        let request = format!("{}\r\n", REQUEST.replace("/mqtt", asked));
        let (result, _) = answer(&mut fresh(configured, &[]), &request);
        assert_eq!(result.is_ok(), good, "{configured:?} {asked}");
    }
}

#[test]
fn pages_of_other_hosts_need_permission() {
    let allowed = ["https://app.example"];
    for (origins, origin, good) in [
        (&[][..], "http://broker.example", true),
        (&[], "https://Broker.Example:8443", true),
        (&[], "https://evil.example", false),
        (&[], "https://broker.example.evil.example", false),
        (&[], "null", false),
        (&allowed, "https://app.example", true),
        (&allowed, "http://app.example", false),
        (&["*"], "https://evil.example", true),
    ] {
        let request = format!("{REQUEST}Origin: {origin}\r\n\r\n");
        let (result, answer) = answer(&mut fresh(None, origins), &request);
        assert_eq!(result.is_ok(), good, "{origins:?} {origin}");
        assert_eq!(answer.starts_with("HTTP/1.1 403 "), !good, "{answer}");
    }
}

#[test]
fn packets_span_and_share_frames() {
    // [MQTT-6.0.0-2]
    let all = [
        frame(0x02, b"ab"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, b"cdefg"),
        frame(0x82, &[b'x'; 300]),
    ]
    .concat();
    let expected = [&b"abcdefg"[..], &[b'x'; 300]].concat();
    for chunk in [1, 3, 5, 1000] {
        let mut web = opened();
        let mut mqtt = Vec::new();
        for piece in all.chunks(chunk) {
            mqtt.extend(receive(&mut web, piece).expect("good"));
        }
        assert_eq!(mqtt, expected);
        let answer = written(&mut web, &mut Outbox::default(), 3);
        assert_eq!(answer, b"\x8a\x04ping");
    }
}

#[test]
fn what_breaks_the_rules_is_answered_with_a_close_code() {
    for (bytes, code) in [
        (frame(0x81, b"text"), 1003),
        (vec![0x82, 1, b'x'], 1002),
        (frame(0xc2, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x88, b"x"), 1002),
        ([frame(0x02, b"x"), frame(0x82, b"x")].concat(), 1002),
        (
            vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1002,
        ),
    ] {
        let mut web = opened();
        receive(&mut web, &bytes).expect_err("refused");
        assert!(web.has_ended());
        let close = written(&mut web, &mut Outbox::default(), usize::MAX);
        assert_eq!(close[..2], [0x88, 2], "{bytes:?}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{bytes:?}");
    }
}

#[test]
fn a_close_is_answered_once() {
    let mut web = opened();
    let mqtt = receive(
        &mut web,
        &[frame(0x82, b"x"), frame(0x88, &[3, 232, b'!'])].concat(),
    );
    assert_eq!(mqtt, Ok(b"x".to_vec()));
    assert!(web.has_ended());
    web.close(CloseCode::Normal);
    let close = written(&mut web, &mut Outbox::default(), usize::MAX);
    assert_eq!(close, [0x88, 2, 3, 232]);
    assert!(!web.wants_write());
}

#[test]
fn of_many_pings_the_last_is_answered() {
    let mut web = opened();
    for n in 0..100u8 {
        receive(&mut web, &frame(0x89, &[n])).expect("good");
    }
    assert_eq!(
        written(&mut web, &mut Outbox::default(), usize::MAX),
        [0x8a, 1, 99]
    );
}

/// The other side in memory.
struct Wire(Vec<u8>, usize);

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[self.1..];
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let part = rest.len().min(buf.len());
        buf[..part].copy_from_slice(&rest[..part]);
        self.1 += part;
        Ok(part)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reference(role: Role, bytes: Vec<u8>) -> tungstenite::WebSocket<Wire> {
    tungstenite::WebSocket::from_raw_socket(Wire(bytes, 0), role, Some(WebSocketConfig::default()))
}

proptest! {
    #[test]
    fn an_established_client_is_understood(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..6), chunk in 1usize..3000) {
        let mut client = reference(Role::Client, Vec::new());
        for message in &messages {
            client.send(Message::Binary(Bytes::from(message.clone()))).expect("memory");
        }
        let mut web = opened();
        let mut mqtt = Vec::new();
        for piece in client.get_ref().0.chunks(chunk) {
            mqtt.extend(receive(&mut web, piece).expect("good"));
        }
        prop_assert_eq!(mqtt, messages.concat());
    }

    #[test]
    fn an_established_client_understands(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 1..6), chunk in 1usize..4000) {
        let mut web = opened();
        let mut out = Outbox::default();
        let mut wire = Vec::new();
        for piece in &pieces {
            out.push(&piece.clone().into());
            if piece.len() % 2 == 0 {
                receive(&mut web, &frame(0x89, b"p")).expect("good");
                wire.extend(written(&mut web, &mut out, chunk));
            }
        }
        web.close(CloseCode::Normal);
        wire.extend(written(&mut web, &mut out, chunk));
        let mut client = reference(Role::Client, wire);
        let mut mqtt = Vec::new();
        let closed = loop {
            match client.read() {
                Ok(Message::Binary(part)) => mqtt.extend(part),
                Ok(Message::Pong(_)) => {}
                other => break other,
            }
        };
        prop_assert!(matches!(closed, Ok(Message::Close(Some(_)))), "{:?}", closed);
        prop_assert_eq!(mqtt, pieces.concat());
    }

    #[test]
    fn nothing_makes_it_panic_or_hold_much(bytes in proptest::collection::vec(any::<u8>(), 0..600), chunk in 1usize..100) {
        let mut web = opened();
        for piece in bytes.chunks(chunk) {
            match receive(&mut web, piece) {
                Ok(mqtt) => prop_assert!(mqtt.len() <= piece.len()),
                Err(_) => break,
            }
        }
        prop_assert!(written(&mut web, &mut Outbox::default(), usize::MAX).len() <= 2 + CONTROL);
    }
}
