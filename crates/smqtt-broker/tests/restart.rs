//! What survives the broker's end, and what its acknowledgements promise.

mod harness;

use std::path::Path;

use harness::{Broker, Client, Options, command, publish, run, utf8};
use smqtt_proto::packet::{Ack, Publish};
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

fn broker(dir: &Path) -> Broker {
    Broker::open_with(&["--data-dir", utf8(dir)])
}

fn data_dir() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("data");
    (dir, path)
}

/// Ends a broker as a power switch does.
fn kill(mut broker: Broker) {
    broker.signal("KILL");
    broker.wait();
}

/// The next messages, acknowledged whole; the broker's answers to one may come behind the next one.
fn take(client: &mut Client, count: usize) -> Vec<String> {
    let (mut texts, mut unreleased) = (Vec::new(), 0);
    while texts.len() < count || unreleased > 0 {
        match client.receive() {
            Packet::Publish(publish) => {
                let ack = Ack::new(publish.packet_id.expect("QoS 1 or 2"), ReasonCode::Success);
                texts.push(String::from_utf8(publish.payload.to_vec()).expect("text"));
                client.send(match publish.qos {
                    QoS::ExactlyOnce => {
                        unreleased += 1;
                        Packet::PubRec(ack)
                    }
                    _ => Packet::PubAck(ack),
                });
            }
            Packet::PubRel(ack) => {
                unreleased -= 1;
                client.send(Packet::PubComp(ack));
            }
            other => panic!("{other:?}"),
        }
    }
    texts
}

#[test]
fn sessions_messages_and_retained_messages_survive_sigkill_and_sigterm() {
    for graceful in [false, true] {
        let (_dir, data) = data_dir();
        let first = broker(&data);
        let mut publisher = Client::connect(first.port(), Options::v5("pub"));
        for (version, id) in VERSIONS.into_iter().zip(["three", "five"]) {
            let options = || Options::new(version, id).persistent();
            let mut client = Client::connect(first.port(), options());
            client.subscribe("t/#", QoS::ExactlyOnce);
            client.disconnect();
        }
        for n in 0..20 {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][n % 2];
            publisher.publish("t/a", qos, &n.to_string());
        }
        publisher.retain("kept", QoS::AtLeastOnce, "old");
        publisher.retain("kept", QoS::AtLeastOnce, "new");
        publisher.retain("gone", QoS::AtLeastOnce, "x");
        publisher.retain("gone", QoS::AtLeastOnce, "");
        match graceful {
            true => assert!(first.stop().success()),
            false => kill(first),
        }
        let second = broker(&data);
        for (version, id) in VERSIONS.into_iter().zip(["three", "five"]) {
            let options = || Options::new(version, id).persistent();
            let (mut client, connack) = Client::connect_with_ack(second.port(), options());
            assert!(connack.session_present, "{version:?}");
            let mut expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
            if id == "five" {
                // From the other one's turn.
                expected.push("again".to_owned());
            }
            assert_eq!(take(&mut client, expected.len()), expected);
            client.settle();
            // Its subscription still is one.
            let mut publisher = Client::connect(second.port(), Options::v5("pub"));
            publisher.publish("t/b", QoS::AtLeastOnce, "again");
            assert_eq!(client.receive_text(), "again");
            client.settle();
            client.disconnect();
        }
        let mut reader = Client::connect(second.port(), Options::v5("reader"));
        reader.subscribe("gone", QoS::AtLeastOnce);
        reader.subscribe("kept", QoS::AtLeastOnce);
        assert_eq!(reader.receive_text(), "new");
        reader.settle();
        reader.expect_nothing();
        // What was delivered is not there after another end.
        kill(second);
        let third = broker(&data);
        let options = Options::new(ProtocolVersion::V3_1_1, "three").persistent();
        let (mut client, connack) = Client::connect_with_ack(third.port(), options);
        assert!(connack.session_present);
        // The other client's round came after this one's disconnect.
        assert_eq!(client.receive_text(), "again");
        client.settle();
        client.expect_nothing();
    }
}

#[test]
fn what_is_in_flight_goes_on_where_it_was() {
    for version in VERSIONS {
        let (_dir, data) = data_dir();
        let first = broker(&data);
        let options = || Options::new(version, "sub").persistent();
        let mut client = Client::connect(first.port(), options());
        client.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Client::connect(first.port(), Options::v5("pub"));
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
            publisher.publish("t", qos, "x");
        }
        let before: Vec<Publish> = (0..3).map(|_| client.receive_publish()).collect();
        let released = before[2].packet_id.expect("QoS 2");
        client.send(Packet::PubRec(Ack::new(released, ReasonCode::Success)));
        assert!(matches!(client.receive(), Packet::PubRel(_)));
        kill(first);
        let second = broker(&data);
        let (mut client, connack) = Client::connect_with_ack(second.port(), options());
        assert!(connack.session_present);
        let mut again = Vec::new();
        for _ in 0..3 {
            match client.receive() {
                Packet::Publish(publish) => again.push(publish),
                Packet::PubRel(ack) => {
                    assert_eq!(ack.packet_id, released);
                    client.send(Packet::PubComp(ack));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(again.len(), 2, "{version:?}");
        for (before, after) in before.iter().zip(&again) {
            assert!(after.dup);
            assert_eq!(before.packet_id, after.packet_id);
            client.acknowledge(after);
        }
        client.settle();
        client.expect_nothing();
    }
}

#[test]
fn a_qos_2_publication_is_not_taken_twice() {
    for version in VERSIONS {
        let (_dir, data) = data_dir();
        let first = broker(&data);
        let options = |id: &str| Options::new(version, id).persistent();
        let mut client = Client::connect(first.port(), options("sub"));
        client.subscribe("t", QoS::ExactlyOnce);
        client.disconnect();
        let mut publisher = Client::connect(first.port(), options("pub"));
        let mut packet = publish("t", QoS::ExactlyOnce, "once");
        let id = publisher.packet_id();
        packet.packet_id = Some(id);
        publisher.send(Packet::Publish(packet.clone()));
        assert!(matches!(publisher.receive(), Packet::PubRec(_)));
        kill(first);
        let second = broker(&data);
        let (mut publisher, connack) = Client::connect_with_ack(second.port(), options("pub"));
        assert!(connack.session_present);
        packet.dup = true;
        publisher.send(Packet::Publish(packet.clone()));
        assert!(matches!(publisher.receive(), Packet::PubRec(_)));
        publisher.send(Packet::PubRel(Ack::new(id, ReasonCode::Success)));
        assert!(matches!(publisher.receive(), Packet::PubComp(_)));
        kill(second);
        // The identifier is free again: the same one is another message.
        let third = broker(&data);
        let mut publisher = Client::connect(third.port(), options("pub"));
        packet.dup = false;
        packet.payload = "twice".into();
        publisher.send(Packet::Publish(packet));
        assert!(matches!(publisher.receive(), Packet::PubRec(_)));
        let mut client = Client::connect(third.port(), options("sub"));
        assert_eq!(take(&mut client, 2), ["once", "twice"]);
        client.settle();
        client.expect_nothing();
    }
}

#[test]
fn a_cleared_session_does_not_come_back() {
    let (_dir, data) = data_dir();
    let first = broker(&data);
    let mut client = Client::connect(first.port(), Options::v5("c").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.vanish();
    let mut options = Options::v5("c").persistent();
    options.0.clean_start = true;
    let (_client, connack) = Client::connect_with_ack(first.port(), options);
    assert!(!connack.session_present);
    kill(first);
    let second = broker(&data);
    let mut publisher = Client::connect(second.port(), Options::v5("pub"));
    let reason = publisher.publish("t", QoS::AtLeastOnce, "x");
    assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
}

#[test]
fn a_session_is_told_what_it_can_rely_on() {
    let durability = |broker: &Broker, options| {
        let (_client, connack) = Client::connect_with_ack(broker.port(), options);
        let mut properties = connack.properties.user_properties.into_iter();
        properties
            .find(|(name, _)| name.as_str() == "smqtt-durability")
            .map(|(_, value)| value.to_string())
    };
    let (_dir, data) = data_dir();
    let stored = broker(&data);
    let persistent = || Options::v5("c").persistent();
    assert_eq!(durability(&stored, persistent()).as_deref(), Some("sync"));
    assert_eq!(durability(&stored, Options::v5("d")), None);
    let unstored = Broker::open();
    assert_eq!(durability(&unstored, persistent()).as_deref(), Some("none"));
}

#[test]
fn a_long_queue_is_read_back_in_order() {
    let (_dir, data) = data_dir();
    let first = broker(&data);
    let options = || Options::v3("sub").persistent();
    let mut client = Client::connect(first.port(), options());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(first.port(), Options::v5("pub"));
    for n in 0..600 {
        publisher.publish("t", QoS::AtLeastOnce, &n.to_string());
    }
    let mut client = Client::connect(first.port(), options());
    let texts = |range: std::ops::Range<i32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(take(&mut client, 300), texts(0..300));
    kill(first);
    let second = broker(&data);
    let mut client = Client::connect(second.port(), options());
    // Acknowledgements that were on their way are not known: what they were for comes again.
    let mut rest = take(&mut client, 300);
    let first_again: i32 = rest[0].parse().expect("a number");
    assert!(first_again <= 300, "{first_again}");
    rest.extend(take(&mut client, (300 - first_again) as usize));
    assert_eq!(rest, texts(first_again..600));
    client.settle();
    client.expect_nothing();
}

#[test]
fn a_data_directory_has_one_broker() {
    let (_dir, data) = data_dir();
    let _first = broker(&data);
    let output = command(&[
        "--listen",
        "mqtt://127.0.0.1:0",
        "--allow-anonymous",
        "--data-dir",
        utf8(&data),
    ])
    .stderr(std::process::Stdio::piped())
    .output()
    .expect("runs");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another broker"));
}

#[test]
fn damage_stops_the_start_until_it_is_given_up() {
    let (_dir, data) = data_dir();
    let first = broker(&data);
    let mut client = Client::connect(first.port(), Options::v5("c").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(first.port(), Options::v5("pub"));
    for n in 0..50 {
        publisher.publish("t", QoS::AtLeastOnce, &n.to_string());
    }
    kill(first);
    let (code, out, _) = run(&["store", "check", "--data-dir", utf8(&data)]);
    assert!(
        code == 0 && out.contains("1 sessions, 50 messages queued"),
        "{out}"
    );
    let (code, out, _) = run(&["store", "export", "--data-dir", utf8(&data)]);
    let queued = out
        .lines()
        .filter(|line| line.contains("\"queued\""))
        .count();
    assert_eq!((code, queued), (0, 50), "{out}");
    let journal = data.join("store/db/0.jnl");
    let mut bytes = std::fs::read(&journal).expect("readable");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("commits");
    bytes[used / 2] ^= 0xFF;
    std::fs::write(&journal, &bytes).expect("written");
    let arguments = [
        "--listen",
        "mqtt://127.0.0.1:0",
        "--allow-anonymous",
        "--data-dir",
        utf8(&data),
    ];
    let (code, _, log) = run(&arguments);
    assert!(
        code == 4 && log.contains("smqtt-broker store check --data-dir"),
        "{log}"
    );
    let (code, out, log) = run(&["store", "check", "--data-dir", utf8(&data)]);
    assert!(
        code == 4 && out.contains("damaged: ") && log.contains("store repair"),
        "{out}{log}"
    );
    let (code, out, _) = run(&["store", "repair", "--data-dir", utf8(&data)]);
    assert!(
        code == 0 && out.contains("are given up") && out.contains("whole: "),
        "{out}"
    );
    let second = broker(&data);
    let options = Options::v5("c").persistent();
    let (mut client, connack) = Client::connect_with_ack(second.port(), options);
    assert!(connack.session_present);
    assert_eq!(take(&mut client, 1), ["0"]);
}

#[test]
fn a_full_queue_refuses_where_it_is_told_to() {
    let broker = Broker::configured("[session]\nqueue_messages = 3\nqueue_full = \"refuse\"\n");
    let options = || Options::v5("sub").persistent();
    let mut client = Client::connect(broker.port(), options());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut taken = Vec::new();
    let refused = (0..100).any(|n| {
        let reason = publisher.publish("t", QoS::AtLeastOnce, &n.to_string());
        if !reason.is_error() {
            taken.push(n.to_string());
        }
        reason == ReasonCode::QuotaExceeded
    });
    assert!(refused && taken.len() >= 3);
    // Who publishes elsewhere, or with QoS 0, is not concerned.
    assert!(!publisher.publish("u", QoS::AtLeastOnce, "x").is_error());
    let mut client = Client::connect(broker.port(), options());
    assert_eq!(take(&mut client, taken.len()), taken);
    client.settle();
    harness::wait_for(|| {
        let reason = publisher.publish("t", QoS::AtLeastOnce, "again");
        (!reason.is_error()).then_some(())
    });
    assert_eq!(take(&mut client, 1), ["again"]);
}
