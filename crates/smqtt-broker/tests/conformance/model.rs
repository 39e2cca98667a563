//! Random clients against a simple model of who must receive what.
//!
//! A few clients of both versions connect, come back, take themselves over, subscribe, publish and get lost in any
//! order, some with messages that they have not acknowledged. The model says what each of them must receive, with which QoS and retain flag, and in which order; anything
//! missing, doubled, changed or unexpected fails. `PROPTEST_CASES` runs more cases.

use std::collections::BTreeMap;

use proptest::prelude::*;
use smqtt_proto::packet::{Ack, Publish, SubscriptionOptions, Unsubscribe};
use smqtt_proto::{Packet, PacketType, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

use super::harness::{Broker, Client, Options, publish, subscribe};

const CLIENTS: usize = 4;
const TOPICS: [&str; 5] = ["a", "a/b", "a/b/c", "b/b", "/b"];
const FILTERS: [&str; 8] = ["a", "a/b", "a/#", "+/b", "+/+", "#", "/+", "a/+/c"];
/// What every client hears, to know that nothing else is on its way. It reaches clients with QoS 0, so that it waits
/// for nobody who is away.
const BARRIER: &str = "$barrier";

#[derive(Debug, Clone)]
enum Step {
    /// Connects, or connects again and takes the older connection over.
    Connect {
        client: usize,
        clean: bool,
        v5: bool,
    },
    Subscribe {
        client: usize,
        filter: usize,
        qos: u8,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: u8,
        retain: bool,
        empty: bool,
    },
    /// From now on and until it connects again, it acknowledges nothing.
    Deafen {
        client: usize,
    },
    Disconnect {
        client: usize,
    },
    Vanish {
        client: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = || 0..CLIENTS;
    let step = prop_oneof![
        4 => (client(), any::<bool>(), any::<bool>())
            .prop_map(|(client, clean, v5)| Step::Connect { client, clean, v5 }),
        5 => (client(), 0..FILTERS.len(), 0..3u8)
            .prop_map(|(client, filter, qos)| Step::Subscribe { client, filter, qos }),
        1 => (client(), 0..FILTERS.len())
            .prop_map(|(client, filter)| Step::Unsubscribe { client, filter }),
        8 => (client(), 0..TOPICS.len(), 0..3u8, prop::bool::weighted(0.3), prop::bool::weighted(0.15))
            .prop_map(|(client, topic, qos, retain, empty)| Step::Publish { client, topic, qos, retain, empty }),
        1 => client().prop_map(|client| Step::Deafen { client }),
        1 => client().prop_map(|client| Step::Disconnect { client }),
        2 => client().prop_map(|client| Step::Vanish { client }),
    ];
    prop::collection::vec(step, 1..60)
}

/// A message as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivered {
    topic: &'static str,
    payload: String,
    qos: u8,
    retain: bool,
    /// Whether it was sent before and not acknowledged.
    dup: bool,
}

/// What the model knows of a client's session.
#[derive(Debug, Default)]
struct Session {
    kept: bool,
    subscriptions: BTreeMap<usize, u8>,
    /// What must come, or wait for the client, in the order of publishing.
    due: Vec<Delivered>,
}

/// The rules of 4.7, level by level.
fn matches(filter: &str, topic: &str) -> bool {
    let mut filter = filter.split('/');
    let mut topic = topic.split('/');
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

fn qos(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

/// A connection that acknowledges what it gets, and keeps it until it is looked at.
struct Peer {
    client: Client,
    inbox: Vec<Publish>,
    deaf: bool,
    /// What it got and did not acknowledge, as it must come again.
    unacknowledged: Vec<Delivered>,
}

impl Peer {
    /// Handles packets until one comes that is not part of a delivery to this client.
    fn answer(&mut self) -> Packet {
        loop {
            let packet = self.client.receive();
            if !self.deliver(&packet) {
                return packet;
            }
        }
    }

    /// Handles one packet of a delivery to this client; whether it was one.
    fn deliver(&mut self, packet: &Packet) -> bool {
        match packet {
            Packet::Publish(publish) => {
                if let (Some(id), false) = (publish.packet_id, self.deaf) {
                    let ack = Ack::new(id, ReasonCode::Success);
                    self.client.send(match publish.qos {
                        QoS::ExactlyOnce => Packet::PubRec(ack),
                        _ => Packet::PubAck(ack),
                    });
                }
                self.inbox.push(publish.clone());
                true
            }
            Packet::PubRel(ack) => {
                let ack = Ack::new(ack.packet_id, ReasonCode::Success);
                self.client.send(Packet::PubComp(ack));
                true
            }
            _ => false,
        }
    }

    /// Publishes to the end.
    fn publish(&mut self, mut packet: Publish) {
        if packet.qos == QoS::AtMostOnce {
            self.client.send(Packet::Publish(packet));
            return;
        }
        let id = self.client.packet_id();
        packet.packet_id = Some(id);
        let expected = match packet.qos {
            QoS::ExactlyOnce => PacketType::PubRec,
            _ => PacketType::PubAck,
        };
        self.client.send(Packet::Publish(packet));
        assert_eq!(self.answer().packet_type(), expected);
        if expected == PacketType::PubRec {
            let ack = Ack::new(id, ReasonCode::Success);
            self.client.send(Packet::PubRel(ack.clone()));
            assert_eq!(self.answer(), Packet::PubComp(ack));
        }
    }

    /// Waits until nothing of its own or of a delivery is unanswered.
    fn settle(&mut self) {
        self.client.send(Packet::PingReq);
        assert_eq!(self.answer(), Packet::PingResp);
    }
}

struct World {
    broker: Broker,
    peers: [Option<Peer>; CLIENTS],
    sessions: [Option<Session>; CLIENTS],
    retained: BTreeMap<&'static str, (String, u8)>,
    published: usize,
    barriers: usize,
    /// Who says [`BARRIER`] where no client says it.
    herald: Client,
}

impl World {
    fn new() -> World {
        let listener = ["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"];
        let broker = Broker::start(&[&listener[..], &["--workers", "2"]].concat());
        let herald = Client::connect(broker.port(), Options::v5("herald"));
        World {
            broker,
            peers: Default::default(),
            sessions: Default::default(),
            retained: BTreeMap::new(),
            published: 0,
            barriers: 0,
            herald,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Connect { client, clean, v5 } => self.connect(client, clean, v5),
            Step::Subscribe {
                client,
                filter,
                qos,
            } => self.subscribe(client, filter, qos),
            Step::Unsubscribe { client, filter } => self.unsubscribe(client, filter),
            Step::Publish {
                client,
                topic,
                qos,
                retain,
                empty,
            } => self.publish(client, TOPICS[topic], qos, retain, empty),
            Step::Deafen { client } => {
                if let Some(peer) = &mut self.peers[client] {
                    peer.deaf = true;
                }
            }
            Step::Disconnect { client } => {
                if let Some(peer) = self.peers[client].take() {
                    peer.client.disconnect();
                    self.gone(client, peer.unacknowledged);
                }
            }
            Step::Vanish { client } => {
                if let Some(peer) = self.peers[client].take() {
                    peer.client.vanish();
                    self.gone(client, peer.unacknowledged);
                }
            }
        }
    }

    /// A connection is over: the session goes too, or keeps what was not acknowledged.
    fn gone(&mut self, client: usize, mut unacknowledged: Vec<Delivered>) {
        match &mut self.sessions[client] {
            Some(session) if session.kept => {
                unacknowledged.append(&mut session.due);
                session.due = unacknowledged;
            }
            session => *session = None,
        }
    }

    fn connect(&mut self, client: usize, clean: bool, v5: bool) {
        let version = if v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V3_1_1
        };
        let options = Options::new(version, &format!("client-{client}"));
        let options = if clean { options } else { options.persistent() };
        let old = self.peers[client].take();
        let (connection, connack) = Client::connect_with_ack(self.broker.port(), options);
        if let Some(mut old) = old {
            old.client.expect_disconnect(ReasonCode::SessionTakenOver);
            self.gone(client, old.unacknowledged);
        }
        if clean {
            self.sessions[client] = None;
        }
        assert_eq!(
            connack.session_present,
            self.sessions[client].is_some(),
            "session present"
        );
        self.sessions[client].get_or_insert_default().kept = !clean;
        let mut peer = Peer {
            client: connection,
            inbox: Vec::new(),
            deaf: false,
            unacknowledged: Vec::new(),
        };
        let id = peer.client.packet_id();
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        peer.client
            .send(Packet::Subscribe(subscribe(id, &[(BARRIER, options)])));
        assert_eq!(peer.answer().packet_type(), PacketType::SubAck);
        self.peers[client] = Some(peer);
        self.compare(None);
    }

    fn subscribe(&mut self, client: usize, filter: usize, granted: u8) {
        let (Some(peer), Some(session)) = (&mut self.peers[client], &mut self.sessions[client])
        else {
            return;
        };
        let id = peer.client.packet_id();
        let options = SubscriptionOptions::new(qos(granted));
        let packet = subscribe(id, &[(FILTERS[filter], options)]);
        peer.client.send(Packet::Subscribe(packet));
        let Packet::SubAck(suback) = peer.answer() else {
            panic!("expected SUBACK")
        };
        assert_eq!(suback.reasons.len(), 1);
        assert_eq!(suback.reasons[0] as u8, granted);
        session.subscriptions.insert(filter, granted);
        for (topic, (payload, level)) in &self.retained {
            if matches(FILTERS[filter], topic) {
                session.due.push(Delivered {
                    topic,
                    payload: payload.clone(),
                    qos: granted.min(*level),
                    retain: true,
                    dup: false,
                });
            }
        }
        self.compare(None);
    }

    fn unsubscribe(&mut self, client: usize, filter: usize) {
        let (Some(peer), Some(session)) = (&mut self.peers[client], &mut self.sessions[client])
        else {
            return;
        };
        let packet_id = peer.client.packet_id();
        peer.client.send(Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Default::default(),
            filters: vec![TopicFilter::new(FILTERS[filter]).expect("a filter")],
        }));
        assert_eq!(peer.answer().packet_type(), PacketType::UnsubAck);
        session.subscriptions.remove(&filter);
    }

    fn publish(
        &mut self,
        client: usize,
        topic: &'static str,
        level: u8,
        retain: bool,
        empty: bool,
    ) {
        let Some(peer) = &mut self.peers[client] else {
            return;
        };
        self.published += 1;
        let payload = if empty {
            String::new()
        } else {
            format!("message {}", self.published)
        };
        let packet = Publish {
            retain,
            ..publish(topic, qos(level), &payload)
        };
        peer.publish(packet);
        if retain && empty {
            self.retained.remove(topic);
        } else if retain {
            self.retained.insert(topic, (payload.clone(), level));
        }
        for (session, peer) in self.sessions.iter_mut().zip(&self.peers) {
            let Some(session) = session else { continue };
            let granted = session
                .subscriptions
                .iter()
                .filter(|(filter, _)| matches(FILTERS[**filter], topic))
                .map(|(_, granted)| *granted)
                .max();
            let Some(granted) = granted else { continue };
            let qos = granted.min(level);
            // Messages of QoS 0 do not wait for who is away.
            if peer.is_some() || qos > 0 {
                session.due.push(Delivered {
                    topic,
                    payload: payload.clone(),
                    qos,
                    retain: false,
                    dup: false,
                });
            }
        }
        self.compare(Some(client));
    }

    /// Makes sure that every connected client gets what the model says and nothing else. The barrier is said by who
    /// published last, so that it follows the messages of that client on every way.
    fn compare(&mut self, publisher: Option<usize>) {
        self.barriers += 1;
        let mark = self.barriers.to_string();
        let barrier = Publish::new(TopicName::new(BARRIER).expect("a topic"), mark.clone());
        match publisher {
            Some(client) => {
                let peer = self.peers[client].as_mut().expect("it has just published");
                peer.publish(barrier);
            }
            None => self.herald.send(Packet::Publish(barrier)),
        }
        for (client, (peer, session)) in self.peers.iter_mut().zip(&mut self.sessions).enumerate() {
            let (Some(peer), Some(session)) = (peer, session) else {
                continue;
            };
            let mut came = false;
            while !came || !session.due.is_empty() {
                if peer.inbox.is_empty() {
                    let packet = peer.client.receive();
                    assert!(peer.deliver(&packet), "client {client}: {packet:?}");
                }
                for publish in peer.inbox.drain(..) {
                    if publish.topic.as_str() == BARRIER {
                        came |= publish.payload == mark;
                    } else {
                        let taken = take(session, &publish).unwrap_or_else(|| {
                            panic!("client {client} got {publish:?}, due is {:?}", session.due)
                        });
                        if peer.deaf && taken.qos > 0 {
                            peer.unacknowledged.push(Delivered { dup: true, ..taken });
                        }
                    }
                }
            }
            peer.settle();
            assert!(
                peer.inbox.is_empty(),
                "client {client} got {:?} after everything",
                peer.inbox
            );
        }
    }
}

/// Takes a message off what is due: nothing of its topic, QoS and retain flag may be due before it.
fn take(session: &mut Session, publish: &Publish) -> Option<Delivered> {
    let got = Delivered {
        topic: TOPICS
            .into_iter()
            .find(|topic| *topic == publish.topic.as_str())?,
        payload: String::from_utf8(publish.payload.to_vec()).ok()?,
        qos: publish.qos as u8,
        retain: publish.retain,
        dup: publish.dup,
    };
    let same =
        |due: &Delivered| (due.topic, due.qos, due.retain) == (got.topic, got.qos, got.retain);
    let first = session.due.iter().position(same)?;
    (session.due[first] == got).then(|| session.due.remove(first))
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(30)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn clients_receive_what_the_model_says(steps in steps()) {
        let mut world = World::new();
        // Somebody is there from the start.
        for client in 0..2 {
            world.step(&Step::Connect { client, clean: client == 0, v5: client == 0 });
        }
        for step in &steps {
            world.step(step);
        }
        // Who is away comes back for what waits.
        for client in 0..CLIENTS {
            world.step(&Step::Connect { client, clean: false, v5: client % 2 == 0 });
        }
    }
}

#[test]
fn the_model_knows_the_rules_of_wildcards() {
    for (filter, topics) in [
        ("a/#", &["a", "a/b", "a/b/c"][..]),
        ("+/b", &["a/b", "b/b", "/b"]),
        ("#", &TOPICS),
        ("/+", &["/b"]),
        ("a/+/c", &["a/b/c"]),
    ] {
        let matched: Vec<_> = TOPICS
            .into_iter()
            .filter(|topic| matches(filter, topic))
            .collect();
        assert_eq!(matched, topics, "{filter}");
    }
}
