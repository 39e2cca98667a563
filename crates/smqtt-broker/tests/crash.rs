//! The broker is killed again and again under load, and nothing that it has acknowledged is lost.
//!
//! `SMQTT_CRASH_SEED` repeats a run's choices (not the machine's timing), `SMQTT_CRASH_ROUNDS` says how
//! often the broker is killed.

mod crash_clients;
#[path = "harness/disk.rs"]
mod disk;
mod harness;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crash_clients::{Publisher, Sent, Subscriber, World};
use disk::limit_files;
use harness::{Broker, Client, Options, utf8};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use smqtt_proto::{ProtocolVersion, QoS};

/// How long the clients have at the end for what is left.
const END: Duration = Duration::from_secs(60);

#[test]
fn nothing_acknowledged_is_lost_however_often_the_broker_is_killed() {
    run(false);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_fails_as_well_with_strace() {
    run(true);
}

fn run(disk_fails: bool) {
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
    let args = [
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
    ];
    let start = |strace: &[String]| Broker::spawn(disk::command(strace, &args), 1);
    let world = Arc::new(World::new(port, disk_fails));
    let mut broker = start(&[]);
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
    let mut faults: BTreeMap<Fault, u32> = BTreeMap::new();
    for round in 1..=rounds {
        let life = 20 + random.next_u64() % 200;
        let fault = match disk_fails {
            true => Fault::choose(&mut random),
            false => Fault::None,
        };
        if round % 50 == 0 {
            println!("round {round} of {rounds}");
        }
        if fault == Fault::Files || fault == Fault::FilesForAWhile {
            std::thread::sleep(Duration::from_millis(life / 2));
            // The journal is longer than this, or soon will be.
            limit_files(&broker, Some(random.next_u64() % 2_000_000));
            std::thread::sleep(Duration::from_millis(100));
            if fault == Fault::FilesForAWhile {
                limit_files(&broker, None);
                // As long as it takes the broker to try again, and a little.
                std::thread::sleep(Duration::from_millis(600));
            }
        }
        std::thread::sleep(Duration::from_millis(life));
        broker.signal("KILL");
        broker.wait();
        broker = start(&fault.strace(&data, &mut random));
        *faults.entry(fault).or_default() += 1;
        check_retained(&world, port);
    }
    broker.signal("KILL");
    broker.wait();
    broker = start(&[]);
    world.finishing.store(true, Ordering::SeqCst);
    let publishers: Vec<Publisher> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a publisher's view"))
        .collect();
    let sent: Vec<Sent> = publishers.iter().map(Publisher::sent).collect();
    for (index, sent) in sent.iter().enumerate() {
        let Sent {
            qos,
            count,
            refused,
        } = sent;
        println!(
            "publisher {index}, {qos}: {count} published, {} refused",
            refused.len()
        );
    }
    println!("{faults:?}");
    assert!(
        sent.iter()
            .all(|sent| sent.count > rounds + sent.refused.len() as u64),
        "too little to mean anything"
    );
    if disk_fails && rounds >= 50 {
        assert!(
            sent.iter().any(|sent| !sent.refused.is_empty()),
            "the disk has not failed"
        );
    }
    *world.expected.lock().expect("lock") = Some(sent.clone());
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

/// What the disk does to a broker during its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    /// From some moment on files can't grow: writes fail or are cut short.
    Files,
    /// The same, and then they can again.
    FilesForAWhile,
    /// Some syncs fail.
    Sync,
    /// All syncs fail from some moment on.
    NoSync,
    /// Some writes to the journal find the disk full.
    Full,
}

impl Fault {
    fn choose(random: &mut ChaCha8Rng) -> Fault {
        match random.next_u64() % 6 {
            0 => Fault::None,
            1 => Fault::Files,
            2 => Fault::FilesForAWhile,
            3 => Fault::Sync,
            4 => Fault::NoSync,
            _ => Fault::Full,
        }
    }

    /// What `strace` is to do for it.
    fn strace(self, data: &Path, random: &mut ChaCha8Rng) -> Vec<String> {
        let null = Path::new("/dev/null");
        // Behind the syncs of the start, which ends with an error when they fail.
        let first = 12 + random.next_u64() % 40;
        match self {
            Fault::None | Fault::Files | Fault::FilesForAWhile => Vec::new(),
            Fault::Sync => {
                let mut options = disk::looking_at("fsync,fdatasync", null);
                let when = format!("{first}+{}", 2 + random.next_u64() % 20);
                options.push(disk::failing("fsync,fdatasync", "EIO", &when));
                options
            }
            Fault::NoSync => {
                let mut options = disk::looking_at("fdatasync", null);
                options.push(disk::failing("fdatasync", "EIO", &format!("{first}+")));
                options
            }
            Fault::Full => {
                let mut options = disk::looking_at("write", null);
                // The broker writes to other things as well.
                options.extend(journals(data).map(|path| format!("--trace-path={}", utf8(&path))));
                let when = format!("{first}+{}", 2 + random.next_u64() % 20);
                options.push(disk::failing("write", "ENOSPC", &when));
                options
            }
        }
    }
}

/// The journals of the store, and those that come next.
fn journals(data: &Path) -> impl Iterator<Item = PathBuf> {
    let database = data.join("store/db");
    let last = std::fs::read_dir(&database)
        .expect("a store")
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_suffix(".jnl")?
                .parse()
                .ok()
        })
        .max();
    let last: u64 = last.expect("a journal");
    (last..last + 4).map(move |number| database.join(format!("{number}.jnl")))
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
