//! The broker is killed again and again under load, and nothing that it has acknowledged is lost.
//!
//! `SMQTT_CRASH_SEED` repeats a run's choices (not the machine's timing), `SMQTT_CRASH_ROUNDS` says how
//! often the broker is killed.

mod crash_clients;
mod harness;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crash_clients::{Publisher, Subscriber, World};
use harness::{Broker, Client, Options, utf8};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use smqtt_proto::{ProtocolVersion, QoS};

/// How long the clients have at the end for what is left.
const END: Duration = Duration::from_secs(60);

#[test]
fn nothing_acknowledged_is_lost_however_often_the_broker_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("SMQTT_CRASH_ROUNDS").unwrap_or(50);
    let seed = number("SMQTT_CRASH_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    println!("SMQTT_CRASH_SEED={seed} SMQTT_CRASH_ROUNDS={rounds}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("temporary directory");
    let data = dir.path().join("data");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let url = format!("mqtt://127.0.0.1:{port}");
    let config = dir.path().join("broker.toml");
    std::fs::write(
        &config,
        "[session]\nqueue_messages = 1000000\nqueue_bytes = 1000000000\n",
    )
    .expect("write");
    let start = || {
        Broker::start(&[
            "--config",
            utf8(&config),
            "--listen",
            &url,
            "--allow-anonymous",
            "--workers",
            "3",
            "--data-dir",
            utf8(&data),
            "--log",
            "warn",
        ])
    };
    let world = Arc::new(World::new(port));
    let mut broker = start();
    let mut threads = Vec::new();
    let mut subscribers = Vec::new();
    for (index, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .cycle()
        .take(4)
        .enumerate()
    {
        let version = [ProtocolVersion::V3_1_1, ProtocolVersion::V5][index / 2];
        let mut subscriber =
            Subscriber::new(&format!("sub-{index}"), version, qos, random.next_u64());
        // So that nothing is published before there is a subscription for it.
        subscriber.subscribe(&world);
        let world = world.clone();
        subscribers.push(std::thread::spawn(move || {
            subscriber.run(&world);
            subscriber
        }));
    }
    for (index, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .cycle()
        .take(4)
        .enumerate()
    {
        let version = [ProtocolVersion::V5, ProtocolVersion::V3_1_1][index / 2];
        let mut publisher = Publisher::new(index, version, qos, random.next_u64());
        let world = world.clone();
        threads.push(std::thread::spawn(move || {
            publisher.run(&world);
            publisher
        }));
    }
    for _ in 0..rounds {
        let life = 20 + random.next_u64() % 200;
        std::thread::sleep(Duration::from_millis(life));
        broker.signal("KILL");
        broker.wait();
        broker = start();
        check_retained(&world, port);
    }
    world.finishing.store(true, Ordering::SeqCst);
    let publishers: Vec<Publisher> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a publisher's view"))
        .collect();
    let sent: Vec<(QoS, u64)> = publishers.iter().map(|p| (p.qos, p.sent())).collect();
    println!("published {sent:?}");
    assert!(
        sent.iter().all(|(_, sent)| *sent > rounds),
        "{sent:?}: too little to mean anything"
    );
    *world.expected.lock().expect("lock") = Some(sent.iter().map(|(_, sent)| *sent).collect());
    let end = Instant::now() + END;
    while world.complete.load(Ordering::SeqCst) < subscribers.len() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    world.over.store(true, Ordering::SeqCst);
    for subscriber in subscribers {
        subscriber.join().expect("a subscriber's view").check(&sent);
    }
    check_retained(&world, port);
    assert!(broker.stop().success());
}

/// What is retained is what was acknowledged last, or something later.
fn check_retained(world: &World, port: u16) {
    let acknowledged: Vec<u64> = world
        .retained_acknowledged
        .iter()
        .map(|number| number.load(Ordering::SeqCst))
        .collect();
    for (index, acknowledged) in acknowledged.into_iter().enumerate() {
        if acknowledged == 0 {
            continue;
        }
        let mut client = Client::connect(port, Options::v5("retained-reader"));
        client.subscribe(&format!("r/{index}"), QoS::AtMostOnce);
        let publish = client.receive_publish();
        let text = std::str::from_utf8(&publish.payload).expect("text");
        let number: u64 = text.parse().expect("a number");
        assert!(
            number >= acknowledged,
            "r/{index} is {number}, but {acknowledged} was acknowledged"
        );
        client.vanish();
    }
}
