//! Subscriptions and subscribers without sockets.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, BytesMut};
use smqtt_broker::trie::Trie;
use smqtt_broker::{SessionRef, Subscription};
use smqtt_proto::packet::{ConnAckProperties, Publish};
use smqtt_proto::{
    Delivery, Message, MqttString, ProtocolVersion, QoS, Session, TopicName, client, server,
};

/// A trie of `count` filters: a quarter without wildcards, with `+` at the end, with `#`, with `+` in front.
pub(crate) fn filters(count: usize) -> Trie {
    let mut trie = Trie::default();
    for n in 0..count {
        let filter = match n % 4 {
            0 => format!("site/{n}/t"),
            1 => format!("site/{n}/+"),
            2 => format!("site/{n}/#"),
            _ => format!("+/{n}/t"),
        };
        let slot = u32::try_from(n % 100).expect("below 100");
        trie.subscribe(
            &filter,
            Subscription::new(SessionRef::new(0, slot, 0), QoS::AtMostOnce),
        );
    }
    trie
}

/// So many topics, spread over what [`filters`] made of `count`: each matches one of them.
pub(crate) fn topics(topics: usize, count: usize) -> Vec<String> {
    (0..topics)
        .map(|n| format!("site/{}/t", n * 7919 % count))
        .collect()
}

/// A message of 64 bytes for all [`Subscribers`].
pub(crate) fn publish(qos: QoS) -> Publish {
    let topic = TopicName::new("fan/out").expect("a topic name");
    Publish {
        qos,
        ..Publish::new(topic, vec![b'x'; 64])
    }
}

/// Connections that subscribe to the topic of [`publish`], MQTT 3.1.1 and 5.0 by turns.
pub(crate) struct Subscribers {
    trie: Trie,
    connections: Vec<server::Connection>,
    matched: Vec<Subscription>,
    now: Instant,
}

impl Subscribers {
    /// So many, with this QoS.
    pub(crate) fn new(count: usize, qos: QoS) -> Subscribers {
        let now = Instant::now();
        let mut trie = Trie::default();
        let config = Arc::new(server::Config {
            max_in_flight: u16::MAX,
            ..server::Config::default()
        });
        let connections = (0..count)
            .map(|n| {
                let slot = u32::try_from(n).expect("few");
                trie.subscribe(
                    "fan/out",
                    Subscription::new(SessionRef::new(0, slot, 0), qos),
                );
                let version = [ProtocolVersion::V3_1_1, ProtocolVersion::V5][n % 2];
                connect(&config, version, &format!("subscriber-{n}"), now)
            })
            .collect();
        Subscribers {
            trie,
            connections,
            matched: Vec::new(),
            now,
        }
    }

    /// A message's way from the router to the sockets: who wants it, what each is sent, and that it was sent.
    /// Returns how many bytes that were.
    pub(crate) fn deliver(&mut self, publish: &Publish) -> usize {
        let message = Message::new(publish, self.now).expect("a message");
        let topic = message.topic().as_str();
        self.matched.clear();
        let matched = &mut self.matched;
        self.trie
            .matches(topic, |subscription| matched.push(*subscription));
        let shared = (message.qos() != QoS::AtMostOnce).then(|| Arc::new(message.detach()));
        for subscription in &self.matched {
            let connection = &mut self.connections[subscription.session.slot() as usize];
            let delivery = Delivery::new(message.qos().min(subscription.qos()));
            match &shared {
                None => connection
                    .publish_once(self.now, &message, &delivery)
                    .expect("sent"),
                Some(shared) => {
                    connection
                        .publish(self.now, shared, delivery)
                        .expect("room");
                }
            }
        }
        let mut sent = 0;
        for subscription in &self.matched {
            let outbox = self.connections[subscription.session.slot() as usize].outbox();
            sent += outbox.remaining();
            outbox.advance(outbox.remaining());
        }
        sent
    }
}

fn connect(
    config: &Arc<server::Config>,
    version: ProtocolVersion,
    id: &str,
    now: Instant,
) -> server::Connection {
    let options = client::Options::new(version, MqttString::new(id).expect("a client id"));
    let mut client = client::Connection::new(options, Session::new(), now).expect("valid options");
    let mut wire = BytesMut::new();
    wire.put(client.outbox());
    let mut connection = server::Connection::new(config.clone(), now);
    connection.handle_input(now, &mut wire);
    assert!(matches!(
        connection.poll_event(),
        Some(server::Event::Connect(_))
    ));
    connection.accept(now, Session::new(), false, ConnAckProperties::default());
    let connack = connection.outbox().remaining();
    connection.outbox().advance(connack);
    connection
}
