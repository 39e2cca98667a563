//! Many clients connect, subscribe, are killed and come back: all that the limits allow are let in, a
//! second storm takes no more memory than the first, and afterwards memory is where it was.
//!
//! The test that always runs has 1,000 clients without TLS and 200 with it. The size that the documentation
//! speaks of needs so many file descriptors, here and in the broker:
//!
//! ```sh
//! ulimit -n 16384
//! SMQTT_STORM=10000,2000 cargo test --release -p smqtt-broker --test connection_storm -- --nocapture
//! ```

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::{Broker, Client, Options, TestPki, connect_tls, subscribe};
use smqtt_proto::packet::SubscriptionOptions;
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode};

/// Clients that connect at the same time.
const AT_ONCE: usize = 8;

/// Resident memory of the broker in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the broker runs");
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .expect("VmRSS")
}

/// Lets so many clients in, each with a subscription. `connect` makes a connection without a CONNECT.
fn storm(count: usize, kind: &str, connect: impl Fn() -> Client + Sync) -> Vec<Client> {
    let one = |i: usize| {
        let mut client = connect();
        let connack = client.handshake(Options::v5(&format!("{kind}-{i}")).persistent());
        assert_eq!(connack.reason, ReasonCode::Success, "{kind}-{i}");
        let filters = [(
            &*format!("storm/{kind}/{i}/+"),
            SubscriptionOptions::new(QoS::AtLeastOnce),
        )];
        let id = client.packet_id();
        client.send(Packet::Subscribe(subscribe(id, &filters)));
        match client.receive() {
            Packet::SubAck(suback) => assert!(!suback.reasons[0].is_error()),
            other => panic!("expected SUBACK, got {other:?}"),
        }
        client
    };
    thread::scope(|scope| {
        let parts: Vec<_> = (0..AT_ONCE)
            .map(|part| {
                let one = &one;
                scope.spawn(move || (part..count).step_by(AT_ONCE).map(one).collect::<Vec<_>>())
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("every client is let in"))
            .collect()
    })
}

fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .expect("the hard limit");
}

fn size() -> (usize, usize) {
    let Ok(size) = std::env::var("SMQTT_STORM") else {
        return (1_000, 200);
    };
    let parsed = size
        .split_once(',')
        .and_then(|(plain, tls)| Some((plain.parse().ok()?, tls.parse().ok()?)));
    parsed.expect("SMQTT_STORM is PLAIN,TLS")
}

#[test]
fn everyone_is_let_in_and_memory_is_given_back() {
    raise_open_files();
    let (plain, tls) = size();
    let pki = TestPki::new(1);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("broker.toml");
    std::fs::write(&path, "[session]\nmax_expiry_seconds = 1\n").expect("write configuration");
    let mut arguments = pki.arguments();
    arguments.extend([
        "--listen".into(),
        "mqtt://127.0.0.1:0".into(),
        "--allow-anonymous".into(),
        "--config".into(),
        harness::utf8(&path).into(),
    ]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut broker = Broker::start(&[&arguments[..], &["--admin", "127.0.0.1:0"]].concat());
    let admin = broker.wait_for_line("admin on http://");
    let admin = admin.rsplit('/').next().expect("an address").to_owned();
    let config = pki.anonymous();
    let (tls_port, plain_port, pid) = (broker.ports()[0], broker.ports()[1], broker.pid());
    let everyone = || {
        let mut clients = storm(plain, "plain", || {
            Client::raw(plain_port, ProtocolVersion::V5)
        });
        clients.extend(storm(tls, "tls", || {
            connect_tls(tls_port, &config, ProtocolVersion::V5)
        }));
        clients
    };
    let gone = || {
        let patience = Instant::now() + Duration::from_secs(60);
        while sessions(&admin) > 0 {
            assert!(Instant::now() < patience, "sessions are left");
            thread::sleep(Duration::from_millis(100));
        }
    };
    // One of each first, so that what is made once is there.
    drop(Client::connect(plain_port, Options::v5("first")));
    let mut first = connect_tls(tls_port, &config, ProtocolVersion::V5);
    first.handshake(Options::v5("first-tls"));
    drop(first);
    gone();
    let before = resident(pid);

    let begin = Instant::now();
    let clients = everyone();
    let (took, first_peak) = (begin.elapsed(), resident(pid));
    // Killed: their sockets close without a word.
    drop(clients);
    // They come back while their sessions are being kept.
    let clients = everyone();
    let second_peak = resident(pid);
    assert_eq!(sessions(&admin) as usize, plain + tls);
    drop(clients);
    gone();
    println!(
        "{plain} plain and {tls} TLS clients in {took:.1?}; resident KiB: {before} before, {first_peak} connected, {second_peak} connected again"
    );
    // The allocator gives pages back when they have not been used for ten seconds.
    let patience = Instant::now() + Duration::from_secs(60);
    while resident(pid) > before + before / 5 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(250));
    }
    let after = resident(pid);
    println!("{after} KiB when all are gone");
    assert!(
        after <= before + before / 5,
        "{before} KiB before, {after} KiB when all are gone"
    );
    assert!(
        second_peak <= first_peak + first_peak / 5,
        "{first_peak} KiB connected, {second_peak} KiB connected again"
    );
}

/// Sessions, as the broker counts them.
fn sessions(admin: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(admin).expect("the admin listener listens");
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )
    .expect("the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
        .lines()
        .find_map(|line| line.strip_prefix("smqtt_broker_sessions ")?.parse().ok())
        .expect("the metric")
}
