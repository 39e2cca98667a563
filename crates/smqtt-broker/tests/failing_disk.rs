//! A disk that takes no more, takes its time, or is for reading only: nothing is acknowledged that is not
//! safe, nobody is stopped who needs no disk, and all goes on when it takes something again. The faults are
//! the system's own: limits, full file systems, and system calls that `strace` lets fail or wait.

#[path = "harness/disk.rs"]
mod disk;
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use disk::limit_files;
use harness::{Broker, Client, Options, publish, utf8, wait_for};
use smqtt_proto::{Packet, QoS, ReasonCode};

const ARGS: [&str; 5] = [
    "--listen",
    "mqtt://127.0.0.1:0",
    "--allow-anonymous",
    "--workers",
    "2",
];

fn broker(data: &Path) -> Broker {
    broker_below(&[], data)
}

fn broker_below(strace: &[String], data: &Path) -> Broker {
    let args: Vec<&str> = ARGS.into_iter().chain(["--data-dir", utf8(data)]).collect();
    Broker::spawn(disk::command(strace, &args), 1)
}

#[test]
fn a_disk_that_takes_no_more_loses_nothing_and_stops_nobody() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut broker = broker(&dir.path().join("data"));
    let port = broker.port();
    let subscriber = || Options::v5("sub").persistent();
    let mut client = Client::connect(port, subscriber());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let mut live = Client::connect(port, Options::v5("live"));
    live.subscribe("live", QoS::AtMostOnce);
    // All that came before this is on the disk when it is acknowledged: the fault meets what comes after.
    publisher.publish("t", QoS::AtLeastOnce, "safe");
    {
        limit_files(&broker, Some(1));
        // What is taken before the fault is known waits for the disk; what comes later is refused.
        let mut waiting = Client::connect(port, Options::v5("waiting"));
        let mut packet = publish("t", QoS::AtLeastOnce, "");
        packet.payload = vec![b'w'; 400_000].into();
        let id = waiting.packet_id();
        packet.packet_id = Some(id);
        waiting.send(Packet::Publish(packet));
        broker.wait_for_line("cannot write to the store");
        let reason = publisher.publish("t", QoS::AtLeastOnce, "refused");
        assert_eq!(reason, ReasonCode::QuotaExceeded);
        let mut three = Client::connect(port, Options::v3("three"));
        let mut packet = publish("t", QoS::AtLeastOnce, "refused");
        packet.packet_id = Some(three.packet_id());
        three.send(Packet::Publish(packet));
        three.expect_closed();
        let mut new = Client::raw(port, smqtt_proto::ProtocolVersion::V5);
        let connack = new.handshake(Options::v5("new").persistent());
        assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
        // QoS 0 goes on.
        publisher.send(Packet::Publish(publish("live", QoS::AtMostOnce, "live")));
        assert_eq!(live.receive_publish().payload, "live");
        waiting.expect_nothing();
        limit_files(&broker, None);
        match waiting.receive() {
            Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason.is_error()), (id, false)),
            other => panic!("{other:?}"),
        }
        broker.wait_for_line("the store works again");
        wait_for(|| {
            let reason = publisher.publish("t", QoS::AtLeastOnce, "taken");
            (!reason.is_error()).then_some(())
        });
        broker.signal("KILL");
        broker.wait();
    }
    let broker = self::broker(&dir.path().join("data"));
    let mut client = Client::connect(broker.port(), subscriber());
    for expected in [4, 400_000, 5] {
        let publish = client.receive_publish();
        assert_eq!(publish.payload.len(), expected);
        client.acknowledge(&publish);
    }
    client.settle();
    client.disconnect();
    again(broker, &dir);
}

/// The same disk fails in the middle of a write, and the broker is ended before it works again.
fn again(mut broker: Broker, dir: &tempfile::TempDir) {
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    publisher.publish("t", QoS::AtLeastOnce, "safe");
    limit_files(&broker, Some(200_000));
    let mut packet = publish("t", QoS::AtLeastOnce, "");
    packet.payload = vec![b'x'; 900_000].into();
    packet.packet_id = Some(publisher.packet_id());
    publisher.send(Packet::Publish(packet));
    broker.wait_for_line("cannot write to the store");
    publisher.expect_nothing();
    broker.signal("KILL");
    broker.wait();
    let broker = self::broker(&dir.path().join("data"));
    let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
    assert_eq!(client.receive_text(), "safe");
    client.settle();
    client.expect_nothing();
}

/// A file system in memory, of this many bytes.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, bytes: u64) -> Small {
        std::fs::create_dir(at).expect("a directory");
        let small = Small(at.to_owned());
        small.run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"],
        );
        small
    }

    fn remount(&self, option: &str) {
        self.run("mount", &["-o", &format!("remount,{option}")]);
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(&self.0).status();
        assert!(status.expect("mount runs").success(), "{program} {args:?}");
    }

    /// Takes what is free.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What a killed broker held is free a moment after its end.
        self.run("umount", &["--lazy"]);
    }
}

#[test]
fn a_full_file_system_is_survived_with_mount() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small = Small::mount(&dir.path().join("small"), 160 << 20);
    let data = small.0.join("data");
    let mut broker = broker(&data);
    let port = broker.port();
    let mut client = Client::connect(port, Options::v5("sub").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let reason = publisher.publish("t", QoS::AtLeastOnce, "before");
    assert!(!reason.is_error());
    let filler = small.fill();
    let mut waiting = Client::connect(port, Options::v5("waiting"));
    let mut packet = publish("t", QoS::AtLeastOnce, "");
    packet.payload = vec![b'w'; 200_000].into();
    packet.packet_id = Some(waiting.packet_id());
    waiting.send(Packet::Publish(packet));
    broker.wait_for_line("No space left on device");
    // Taken and not acknowledged, or refused: what comes when the fault is known.
    let refused = wait_for(|| {
        let mut client = Client::connect(port, Options::v5("refused"));
        let mut packet = publish("t", QoS::AtLeastOnce, "later, or never");
        packet.packet_id = Some(client.packet_id());
        client.send(Packet::Publish(packet));
        client.receive_within(harness::QUIET)
    });
    match refused {
        Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::QuotaExceeded),
        other => panic!("{other:?}"),
    }
    // Reading and QoS 0 go on.
    publisher.subscribe("live", QoS::AtMostOnce);
    publisher.send(Packet::Publish(publish("live", QoS::AtMostOnce, "live")));
    assert_eq!(publisher.receive_text(), "live");
    waiting.expect_nothing();
    std::fs::remove_file(filler).expect("remove");
    match waiting.receive() {
        Packet::PubAck(ack) => assert!(!ack.reason.is_error(), "{ack:?}"),
        other => panic!("{other:?}"),
    }
    broker.signal("KILL");
    broker.wait();
    let broker = self::broker(&data);
    let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
    assert_eq!(client.receive_text(), "before");
    assert_eq!(client.receive_publish().payload.len(), 200_000);
}

#[test]
fn a_directory_for_reading_only_stops_the_start_and_is_named_with_mount() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small = Small::mount(&dir.path().join("small"), 160 << 20);
    let data = small.0.join("data");
    let mut before = broker(&data);
    let mut client = Client::connect(before.port(), Options::v5("sub").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(before.port(), Options::v5("pub"));
    publisher.publish("t", QoS::AtLeastOnce, "before");
    before.signal("TERM");
    before.wait();
    small.remount("ro");
    let args: Vec<&str> = ARGS
        .into_iter()
        .chain(["--data-dir", utf8(&data)])
        .collect();
    let (code, _, stderr) = harness::run(&args);
    assert_ne!(code, 0);
    assert!(stderr.contains("Read-only file system"), "{stderr}");
    assert!(stderr.contains(utf8(&data)), "{stderr}");
    small.remount("rw");
    let broker = broker(&data);
    let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
    assert_eq!(client.receive_text(), "before");
}

#[test]
fn a_slow_disk_delays_what_needs_it_and_nothing_else_with_strace() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut options = disk::looking_at("fdatasync", Path::new("/dev/null"));
    // Microseconds before the call returns.
    options.push("--inject=fdatasync:delay_exit=400000".to_owned());
    let broker = broker_below(&options, &dir.path().join("data"));
    let port = broker.port();
    let mut client = Client::connect(port, Options::v5("sub").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    let mut live = Client::connect(port, Options::v5("live"));
    live.subscribe("live", QoS::AtMostOnce);
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let ids: Vec<_> = (0..200)
        .map(|_| {
            let mut packet = publish("t", QoS::AtLeastOnce, "slow");
            let id = publisher.packet_id();
            packet.packet_id = Some(id);
            publisher.send(Packet::Publish(packet));
            id
        })
        .collect();
    // Meanwhile QoS 0 flows: more of it than would pass if each waited for the disk.
    let began = Instant::now();
    for _ in 0..200 {
        live.send(Packet::Publish(publish("live", QoS::AtMostOnce, "live")));
        assert_eq!(live.receive_text(), "live");
    }
    let one_by_one = std::time::Duration::from_millis(400 * 200);
    assert!(began.elapsed() < one_by_one);
    // And the 200 share their syncs.
    for id in ids {
        match publisher.receive() {
            Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason.is_error()), (id, false)),
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() < one_by_one);
}

#[test]
fn a_client_that_was_ended_for_a_failing_disk_gets_its_message_taken_later() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut broker = broker(&dir.path().join("data"));
    let port = broker.port();
    let reader = || Options::v5("sub").persistent();
    let mut away = Client::connect(port, reader());
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let three = || Options::v3("three").persistent();
    let mut client = Client::connect(port, three());
    let mut packet = publish("t", QoS::ExactlyOnce, "before");
    assert!(!client.publish_packet(packet.clone()).is_error());
    limit_files(&broker, Some(1));
    let mut waiting = Client::connect(port, Options::v5("waiting"));
    let mut first = publish("t", QoS::AtLeastOnce, "waiting");
    first.packet_id = Some(waiting.packet_id());
    waiting.send(Packet::Publish(first));
    broker.wait_for_line("cannot write to the store");
    // MQTT 3.1.1 has no word for a refusal.
    let id = client.packet_id();
    packet.payload = "again".into();
    packet.packet_id = Some(id);
    client.send(Packet::Publish(packet.clone()));
    client.expect_closed();
    limit_files(&broker, None);
    broker.wait_for_line("the store works again");
    match waiting.receive() {
        Packet::PubAck(ack) => assert!(!ack.reason.is_error(), "{ack:?}"),
        other => panic!("{other:?}"),
    }
    let mut client = Client::connect(port, three());
    packet.dup = true;
    client.send(Packet::Publish(packet));
    match client.receive() {
        Packet::PubRec(ack) => assert_eq!(ack.packet_id, id),
        other => panic!("{other:?}"),
    }
    let mut reader = Client::connect(port, reader());
    for expected in ["before", "waiting", "again"] {
        assert_eq!(reader.receive_text(), expected);
    }
}
