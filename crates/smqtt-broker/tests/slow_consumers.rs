//! A client that does not read stalls nobody, takes bounded memory, and its losses are counted.

mod harness;

use harness::{Broker, Client, Options, publish};
use smqtt_proto::{Packet, QoS};

const CONFIGURATION: &str = "[session]\nqueue_messages = 50\n[sys]\ninterval_seconds = 1\n";

#[test]
fn others_get_everything_while_one_does_not_read() {
    let broker = Broker::configured(CONFIGURATION);
    let mut slow: Vec<Client> = (0..4)
        .map(|i| {
            let mut slow = Client::connect(broker.port(), Options::v5(&format!("slow{i}")));
            slow.subscribe(
                "t",
                if i % 2 == 0 {
                    QoS::AtMostOnce
                } else {
                    QoS::AtLeastOnce
                },
            );
            slow
        })
        .collect();
    let mut reader = Client::connect(broker.port(), Options::v5("reader"));
    reader.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    // More than the sockets between them hold.
    let payload = "x".repeat(100_000);
    for i in 0..300 {
        publisher.publish("t", QoS::AtLeastOnce, &format!("{i} {payload}"));
        assert!(reader.receive_text().starts_with(&format!("{i} ")));
    }
    // What the slow ones get is in order, and the loss shows in $SYS.
    let mut last = None;
    for _ in 0..10 {
        let got = slow[0].receive_publish();
        let number: usize = std::str::from_utf8(&got.payload)
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .expect("a number");
        assert!(last.is_none_or(|last| number > last));
        last = Some(number);
    }
    let mut watcher = Client::connect(broker.port(), Options::v5("watcher"));
    watcher.subscribe(
        "$SYS/broker/publish/messages/dropped/queue-messages",
        QoS::AtMostOnce,
    );
    while watcher.receive_text() == "0" {}
}

#[test]
fn a_client_that_reads_no_acknowledgements_is_not_read_and_loses_nothing() {
    let broker = Broker::open();
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    const COUNT: usize = 20_000;
    let reader = std::thread::spawn(move || {
        for i in 0..COUNT {
            assert_eq!(subscriber.receive_text(), i.to_string());
        }
    });
    for i in 0..COUNT {
        let mut packet = publish("t", QoS::AtLeastOnce, &i.to_string());
        packet.packet_id = smqtt_proto::PacketId::new((i % 60_000) as u16 + 1);
        publisher.send(Packet::Publish(packet));
    }
    for i in 0..COUNT {
        match publisher.receive() {
            Packet::PubAck(ack) => assert_eq!(usize::from(ack.packet_id.get()), i % 60_000 + 1),
            other => panic!("{other:?}"),
        }
    }
    reader.join().expect("everything arrived in order");
}
