//! Clients that keep their side of MQTT's session state through every end of the broker, and notice
//! when the broker does not keep its own.

#![allow(
    unreachable_pub,
    reason = "a module of a test, whose items are for that test"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use smqtt_proto::packet::{
    Ack, Connect, ConnectProperties, Disconnect, Publish, Subscribe, SubscribeProperties,
    Subscription, SubscriptionOptions,
};
use smqtt_proto::{
    Decoder, MqttString, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter,
    TopicName, encode,
};

/// Publishers, each with a topic of its own.
const PUBLISHERS: usize = 4;
/// How many messages a publisher has unacknowledged.
const WINDOW: usize = 16;

/// What the clients share.
pub struct World {
    port: u16,
    /// Refusals are to be expected.
    disk_fails: bool,
    /// Publish nothing new.
    pub finishing: AtomicBool,
    /// What each publisher has sent, once that is settled.
    pub expected: Mutex<Option<Vec<Sent>>>,
    /// Subscribers that have all of it.
    pub complete: AtomicUsize,
    pub over: AtomicBool,
    /// The last retained message of each publisher that was acknowledged.
    pub retained_acknowledged: [AtomicU64; PUBLISHERS],
}

impl World {
    pub fn new(port: u16, disk_fails: bool) -> World {
        World {
            port,
            disk_fails,
            finishing: AtomicBool::new(false),
            expected: Mutex::new(None),
            complete: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            retained_acknowledged: Default::default(),
        }
    }
}

/// What a publisher has sent: the numbers from 1 on.
#[derive(Debug, Clone)]
pub struct Sent {
    pub qos: QoS,
    pub count: u64,
    /// Those that the broker has refused. That it was sent again before may be why one arrives all the same.
    pub refused: HashSet<u64>,
}

/// A connection, which may end at any moment.
struct Line {
    stream: TcpStream,
    decoder: Decoder,
    version: ProtocolVersion,
    input: BytesMut,
}

/// It has ended.
struct Gone;

impl Line {
    /// Connects; tells whether the session was there.
    fn open(
        world: &World,
        client_id: &str,
        version: ProtocolVersion,
    ) -> Result<(Line, bool), Gone> {
        let stream = TcpStream::connect(("127.0.0.1", world.port)).map_err(|_| Gone)?;
        stream.set_nodelay(true).map_err(|_| Gone)?;
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .map_err(|_| Gone)?;
        let mut line = Line {
            stream,
            decoder: Decoder::new(version, u32::MAX),
            version,
            input: BytesMut::new(),
        };
        let v5 = version == ProtocolVersion::V5;
        line.send(Packet::Connect(Box::new(Connect {
            version,
            clean_start: false,
            keep_alive: 0,
            client_id: MqttString::new(client_id).expect("text"),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: v5.then_some(3600),
                ..ConnectProperties::default()
            },
        })))?;
        // A broker that is being started again takes a while.
        for _ in 0..500 {
            match line.receive()? {
                None => {}
                Some(Packet::ConnAck(connack)) if connack.reason == ReasonCode::Success => {
                    return Ok((line, connack.session_present));
                }
                // A disk that fails: a new session cannot be promised.
                Some(Packet::ConnAck(connack)) if world.disk_fails && connack.reason.is_error() => {
                    return Err(Gone);
                }
                Some(other) => panic!("{client_id}: instead of CONNACK {other:?}"),
            }
        }
        panic!("{client_id}: no CONNACK");
    }

    fn send(&mut self, packet: Packet) -> Result<(), Gone> {
        let mut bytes = BytesMut::new();
        encode(&packet, self.version, &mut bytes).expect("encodable");
        self.stream.write_all(&bytes).map_err(|_| Gone)
    }

    /// The next packet, or none after a while.
    fn receive(&mut self) -> Result<Option<Packet>, Gone> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input).expect("well-formed") {
                return Ok(Some(packet));
            }
            let mut buffer = [0; 8192];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Gone),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(_) => return Err(Gone),
            }
        }
    }
}

/// What a publisher has sent and not settled.
#[derive(Clone, Copy)]
struct Pending {
    number: u64,
    retained: bool,
    /// PUBREC came.
    received: bool,
}

pub struct Publisher {
    index: usize,
    version: ProtocolVersion,
    pub qos: QoS,
    random: ChaCha8Rng,
    next: u64,
    next_retained: u64,
    refused: HashSet<u64>,
    /// In the order of sending.
    pending: Vec<(PacketId, Pending)>,
    /// The broker has said that it has a session.
    known: bool,
}

impl Publisher {
    pub fn new(index: usize, version: ProtocolVersion, qos: QoS, seed: u64) -> Publisher {
        Publisher {
            index,
            version,
            qos,
            random: ChaCha8Rng::seed_from_u64(seed),
            next: 1,
            next_retained: 1,
            refused: HashSet::new(),
            pending: Vec::new(),
            known: false,
        }
    }

    /// Messages that every subscriber is to get.
    pub fn sent(&self) -> Sent {
        Sent {
            qos: self.qos,
            count: self.next - 1,
            refused: self.refused.clone(),
        }
    }

    pub fn run(&mut self, world: &World) {
        loop {
            match self.connection(world) {
                Ok(()) => return,
                Err(Gone) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn connection(&mut self, world: &World) -> Result<(), Gone> {
        let id = format!("pub-{}", self.index);
        let (mut line, present) = Line::open(world, &id, self.version)?;
        assert!(
            present || !self.known,
            "{id}: its session, of which something was acknowledged, is gone"
        );
        for (packet_id, pending) in self.pending.clone() {
            if pending.received {
                line.send(Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)))?;
            } else {
                let mut publish = self.packet(packet_id, pending);
                publish.dup = true;
                line.send(Packet::Publish(publish))?;
            }
        }
        loop {
            let finishing = world.finishing.load(Ordering::SeqCst);
            if finishing && self.pending.is_empty() {
                let _ = line.send(Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
                return Ok(());
            }
            while !finishing && self.pending.len() < WINDOW {
                let retained = self.random.next_u64().is_multiple_of(4);
                let number = match retained {
                    true => &mut self.next_retained,
                    false => &mut self.next,
                };
                let pending = Pending {
                    number: *number,
                    retained,
                    received: false,
                };
                *number += 1;
                let used: HashSet<PacketId> = self.pending.iter().map(|(id, _)| *id).collect();
                let packet_id = (1..)
                    .filter_map(PacketId::new)
                    .find(|id| !used.contains(id))
                    .expect("a free identifier");
                self.pending.push((packet_id, pending));
                line.send(Packet::Publish(self.packet(packet_id, pending)))?;
            }
            match line.receive()? {
                None => {}
                Some(Packet::PubAck(ack) | Packet::PubRec(ack)) if ack.reason.is_error() => {
                    assert!(world.disk_fails, "{ack:?}");
                    assert_eq!(ack.reason, ReasonCode::QuotaExceeded);
                    let pending = self.take(ack.packet_id);
                    if !pending.retained {
                        self.refused.insert(pending.number);
                    }
                }
                Some(Packet::PubAck(ack)) => self.settle(world, ack.packet_id),
                Some(Packet::PubRec(ack)) => {
                    self.known = true;
                    if let Some((_, pending)) =
                        self.pending.iter_mut().find(|(id, _)| *id == ack.packet_id)
                    {
                        pending.received = true;
                        if pending.retained {
                            let number = pending.number;
                            world.retained_acknowledged[self.index]
                                .fetch_max(number, Ordering::SeqCst);
                        }
                    }
                    line.send(Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::Success)))?;
                }
                Some(Packet::PubComp(ack)) => self.settle(world, ack.packet_id),
                Some(Packet::Disconnect(_)) if world.disk_fails => return Err(Gone),
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    fn packet(&self, packet_id: PacketId, pending: Pending) -> Publish {
        let topic = match pending.retained {
            true => format!("r/{}", self.index),
            false => format!("t/{}", self.index),
        };
        let topic = TopicName::new(topic).expect("topic");
        Publish {
            qos: self.qos,
            packet_id: Some(packet_id),
            retain: pending.retained,
            ..Publish::new(topic, pending.number.to_string())
        }
    }

    fn settle(&mut self, world: &World, packet_id: PacketId) {
        let pending = self.take(packet_id);
        if pending.retained {
            world.retained_acknowledged[self.index].fetch_max(pending.number, Ordering::SeqCst);
        }
    }

    fn take(&mut self, packet_id: PacketId) -> Pending {
        let Some(index) = self.pending.iter().position(|(id, _)| *id == packet_id) else {
            panic!("an acknowledgement of nothing");
        };
        self.pending.remove(index).1
    }
}

pub struct Subscriber {
    client_id: String,
    version: ProtocolVersion,
    qos: QoS,
    random: ChaCha8Rng,
    subscribed: bool,
    complete: bool,
    /// QoS 2 messages that were received and not released.
    incoming: HashSet<PacketId>,
    /// The numbers of each publisher's messages, in the order of their delivery.
    delivered: BTreeMap<usize, Vec<(QoS, u64)>>,
    seen: HashMap<usize, HashSet<u64>>,
}

impl Subscriber {
    pub fn new(client_id: &str, version: ProtocolVersion, qos: QoS, seed: u64) -> Subscriber {
        Subscriber {
            client_id: client_id.to_owned(),
            version,
            qos,
            random: ChaCha8Rng::seed_from_u64(seed),
            subscribed: false,
            complete: false,
            incoming: HashSet::new(),
            delivered: BTreeMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Subscribes, and goes.
    pub fn subscribe(&mut self, world: &World) {
        for _ in 0..100 {
            let Ok((mut line, _)) = Line::open(world, &self.client_id, self.version) else {
                continue;
            };
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: PacketId::new(1).expect("not 0"),
                properties: SubscribeProperties::default(),
                subscriptions: vec![Subscription {
                    filter: TopicFilter::new("t/+").expect("filter"),
                    options: SubscriptionOptions::new(self.qos),
                }],
            });
            if line.send(subscribe).is_err() {
                continue;
            }
            for _ in 0..500 {
                match line.receive() {
                    Ok(Some(Packet::SubAck(_))) => {
                        self.subscribed = true;
                        return;
                    }
                    Ok(None) => {}
                    Ok(Some(other)) => panic!("{other:?}"),
                    Err(Gone) => break,
                }
            }
        }
        panic!("no subscription");
    }

    pub fn run(&mut self, world: &World) {
        while !world.over.load(Ordering::SeqCst) {
            if self.connection(world).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            } else {
                let away = self.random.next_u64() % 60;
                std::thread::sleep(Duration::from_millis(away));
            }
        }
    }

    /// Until the connection ends, or for a while.
    fn connection(&mut self, world: &World) -> Result<(), Gone> {
        let (mut line, present) = Line::open(world, &self.client_id, self.version)?;
        assert!(
            present || !self.subscribed,
            "{}: its session, whose subscription was acknowledged, is gone",
            self.client_id
        );
        let packets = 1 + self.random.next_u64() % 2000;
        for _ in 0..packets {
            if world.over.load(Ordering::SeqCst) {
                return Ok(());
            }
            match line.receive()? {
                None => self.look_whether_complete(world),
                Some(Packet::Publish(publish)) => self.on_publish(&mut line, &publish)?,
                Some(Packet::PubRel(ack)) => {
                    self.incoming.remove(&ack.packet_id);
                    line.send(Packet::PubComp(Ack::new(
                        ack.packet_id,
                        ReasonCode::Success,
                    )))?;
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        if self.random.next_u64().is_multiple_of(2) {
            line.send(Packet::Disconnect(Disconnect::new(ReasonCode::Success)))?;
        }
        Ok(())
    }

    fn on_publish(&mut self, line: &mut Line, publish: &Publish) -> Result<(), Gone> {
        let packet_id = publish.packet_id.expect("QoS 1 or 2");
        let again = publish.qos == QoS::ExactlyOnce && !self.incoming.insert(packet_id);
        if !again {
            let (_, index) = publish.topic.as_str().split_once('/').expect("t/index");
            let index: usize = index.parse().expect("a number");
            let number = std::str::from_utf8(&publish.payload)
                .ok()
                .and_then(|text| text.parse().ok())
                .expect("a number");
            self.delivered
                .entry(index)
                .or_default()
                .push((publish.qos, number));
            self.seen.entry(index).or_default().insert(number);
        }
        let ack = Ack::new(packet_id, ReasonCode::Success);
        line.send(match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec(ack),
            _ => Packet::PubAck(ack),
        })
    }

    fn look_whether_complete(&mut self, world: &World) {
        if self.complete {
            return;
        }
        let expected = world.expected.lock().expect("lock");
        let Some(expected) = &*expected else {
            return;
        };
        let none = HashSet::new();
        let has = |(index, sent): (usize, &Sent)| {
            let seen = self.seen.get(&index).unwrap_or(&none);
            let wanted = sent.refused.iter().filter(|n| !seen.contains(n)).count();
            (seen.len() + wanted) as u64 >= sent.count
        };
        if expected.iter().enumerate().all(has) {
            self.complete = true;
            world.complete.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether everything that was sent has come as it should.
    pub fn check(self, sent: &[Sent]) {
        let id = &self.client_id;
        for (
            index,
            Sent {
                qos,
                count,
                refused,
            },
        ) in sent.iter().enumerate()
        {
            let delivered = self.delivered.get(&index).cloned().unwrap_or_default();
            let seen = self.seen.get(&index).cloned().unwrap_or_default();
            let missing: Vec<u64> = (1..=*count)
                .filter(|n| !seen.contains(n) && !refused.contains(n))
                .take(10)
                .collect();
            assert!(
                missing.is_empty(),
                "{id}: of publisher {index} ({qos}) it never got {missing:?} of {count}"
            );
            if *qos == QoS::ExactlyOnce {
                let came: Vec<&u64> = refused.intersection(&seen).take(10).collect();
                assert!(
                    came.is_empty(),
                    "{id}: of publisher {index} {came:?} came, which were refused"
                );
            }
            let mut last = 0;
            let mut before = HashSet::new();
            for (at, number) in delivered {
                if !before.insert(number) {
                    assert!(
                        at == QoS::AtLeastOnce,
                        "{id}: {number} of publisher {index} came twice with {at}"
                    );
                    continue;
                }
                assert!(
                    number > last && (last + 1..number).all(|n| refused.contains(&n)),
                    "{id}: of publisher {index} {number} came after {last}"
                );
                last = number;
            }
        }
    }
}
