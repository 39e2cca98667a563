//! A disk that takes no more: nothing is acknowledged that is not safe, and all goes on when it takes
//! something again. The fault is the system's own: a limit on the size of files, which makes writes
//! fail and be cut short.

mod harness;

use std::process::{Command, Stdio};

use harness::{Broker, Client, Options, publish, utf8, wait_for};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use smqtt_proto::{Packet, QoS, ReasonCode};

/// A broker that gets an error instead of a signal when a file is too large.
fn broker(data: &std::path::Path) -> Broker {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "trap '' XFSZ; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_smqtt-broker"),
        ])
        .args([
            "--listen",
            "mqtt://127.0.0.1:0",
            "--allow-anonymous",
            "--workers",
            "2",
        ])
        .args(["--data-dir", utf8(data)])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Broker::spawn(command, 1)
}

fn limit_files(broker: &Broker, bytes: Option<u64>) {
    let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("the limit of a child");
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
