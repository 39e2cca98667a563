//! Publishers and subscribers on different workers: nothing is lost, nothing changes places.

#[path = "harness/admin.rs"]
mod admin;
mod harness;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use admin::{administered, metric};
use harness::{Broker, Client, Options, publish};
use smqtt_proto::packet::{Ack, Publish};
use smqtt_proto::{Packet, QoS, ReasonCode};

/// Acknowledges a message without waiting for what comes next.
fn answer(subscriber: &mut Client, publish: &Publish) {
    let Some(id) = publish.packet_id else {
        return;
    };
    let ack = Ack::new(id, ReasonCode::Success);
    subscriber.send(match publish.qos {
        QoS::AtLeastOnce => Packet::PubAck(ack),
        _ => Packet::PubRec(ack),
    });
}

#[test]
fn every_subscriber_gets_every_message_in_the_publishers_order() {
    const PUBLISHERS: usize = 6;
    const SUBSCRIBERS: usize = 6;
    const MESSAGES: usize = 400;
    let broker = Broker::open();
    let port = broker.port();
    let readers: Vec<_> = (0..SUBSCRIBERS)
        .map(|s| {
            let mut subscriber = Client::connect(port, Options::v5(&format!("s{s}")));
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][s % 3];
            subscriber.subscribe("p/#", qos);
            std::thread::spawn(move || {
                let mut next: HashMap<String, usize> = HashMap::new();
                let mut got = 0;
                while got < PUBLISHERS * MESSAGES {
                    match subscriber.receive() {
                        Packet::Publish(publish) => {
                            got += 1;
                            let expected =
                                next.entry(publish.topic.as_str().to_owned()).or_default();
                            assert_eq!(publish.payload, expected.to_string());
                            *expected += 1;
                            answer(&mut subscriber, &publish);
                        }
                        Packet::PubRel(ack) => subscriber.send(Packet::PubComp(ack)),
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..PUBLISHERS)
        .map(|p| {
            std::thread::spawn(move || {
                let mut publisher = Client::connect(port, Options::v5(&format!("p{p}")));
                let topic = format!("p/{p}");
                for i in 0..MESSAGES {
                    publisher.publish_packet(publish(&topic, QoS::ExactlyOnce, &i.to_string()));
                }
            })
        })
        .collect();
    for thread in writers.into_iter().chain(readers) {
        thread.join().expect("no assertion failed");
    }
}

#[test]
fn clients_come_and_go_on_every_worker() {
    let broker = Broker::open();
    let port = broker.port();
    let threads: Vec<_> = (0..4)
        .map(|t| {
            std::thread::spawn(move || {
                for i in 0..60 {
                    // Some client ids are fought for.
                    let id = if i % 3 == 0 {
                        "shared".to_owned()
                    } else {
                        format!("c{t}")
                    };
                    let mut client = Client::raw(port, smqtt_proto::ProtocolVersion::V5);
                    let mut options = Options::v5(&id);
                    if i % 2 == 0 {
                        options = options.persistent();
                    }
                    if client.try_send(Packet::Connect(Box::new(options.0))) {
                        // Success, or taken over or out of luck in between.
                        let _ = client.try_receive();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no assertion failed");
    }
    let mut client = Client::connect(port, Options::v5("shared"));
    client.subscribe("t", QoS::AtLeastOnce);
    client.publish("t", QoS::AtMostOnce, "x");
    assert_eq!(client.receive_text(), "x");
}

/// Workers share a thread while there is little to do, and have one each while there is much. Clients do not notice.
#[test]
fn workers_go_to_threads_of_their_own_and_come_back_with_everything_they_have() {
    const PAIRS: usize = 8;
    let (broker, address) = administered("workers = 2\n");
    let port = broker.port();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..PAIRS)
        .map(|pair| {
            let mut subscriber =
                Client::connect(port, Options::v5(&format!("s{pair}")).persistent());
            subscriber.subscribe(&format!("pair/{pair}"), QoS::ExactlyOnce);
            std::thread::spawn(move || {
                let mut next = 0;
                loop {
                    match subscriber.receive() {
                        Packet::Publish(publish) if publish.payload == "end" => return next,
                        Packet::Publish(publish) => {
                            assert_eq!(publish.payload, next.to_string(), "pair {pair}");
                            next += 1;
                            assert!(publish.packet_id.is_some(), "not with QoS 0");
                            answer(&mut subscriber, &publish);
                        }
                        Packet::PubRel(ack) => subscriber.send(Packet::PubComp(ack)),
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..PAIRS)
        .map(|pair| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut publisher = Client::connect(port, Options::v5(&format!("p{pair}")));
                let topic = format!("pair/{pair}");
                let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][pair % 2];
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    publisher.publish_packet(publish(&topic, qos, &sent.to_string()));
                    sent += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                publisher.publish_packet(publish(&topic, qos, "end"));
                sent
            })
        })
        .collect();

    let moves = || metric(&address, "smqtt_broker_worker_moves_total").expect("a counter");
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut crowd = Client::connect(port, Options::v5("crowd"));
    // With two workers, an even number of moves is one there and one back for each.
    let until = moves() / 2 * 2 + 4;
    while moves() < until {
        assert!(Instant::now() < deadline, "{} of {until} moves", moves());
        if moves() % 2 == 0 {
            // Many messages for nobody: one thread is not enough.
            for _ in 0..20_000 {
                crowd.send(Packet::Publish(publish("nobody", QoS::AtMostOnce, "x")));
            }
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    done.store(true, Ordering::Relaxed);
    for (writer, reader) in writers.into_iter().zip(readers) {
        let sent = writer.join().expect("every message was acknowledged");
        assert_eq!(reader.join().expect("every message came, in order"), sent);
        assert!(sent > 10, "{sent}");
    }
}
