//! MQTT 5.0 by its bytes: packets are put together and taken apart here without the broker's own codec.
#![allow(
    unreachable_pub,
    reason = "what the modules of this test program share"
)]

pub use super::v3_wire::{
    CLEAN, PASSWORD, PINGREQ, PINGRESP, USERNAME, WILL, WILL_RETAIN, Wire, ack, hex, packet, string,
};

/// First bytes of packets.
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const SUBACK: u8 = 0x90;
pub const UNSUBACK: u8 = 0xB0;

/// Flags of PUBLISH.
pub const RETAIN: u8 = 0x01;
pub const QOS1: u8 = 0x02;
pub const QOS2: u8 = 0x04;
pub const DUP: u8 = 0x08;

/// Options of a subscription.
pub const NO_LOCAL: u8 = 0x04;
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
pub const RETAINED_IF_NEW: u8 = 0x10;
pub const NO_RETAINED: u8 = 0x20;

/// Identifiers of properties.
pub const PAYLOAD_FORMAT: u8 = 0x01;
pub const MESSAGE_EXPIRY: u8 = 0x02;
pub const CONTENT_TYPE: u8 = 0x03;
pub const RESPONSE_TOPIC: u8 = 0x08;
pub const CORRELATION_DATA: u8 = 0x09;
pub const SUBSCRIPTION_ID: u8 = 0x0B;
pub const SESSION_EXPIRY: u8 = 0x11;
pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub const SERVER_KEEP_ALIVE: u8 = 0x13;
pub const AUTHENTICATION_METHOD: u8 = 0x15;
pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub const WILL_DELAY: u8 = 0x18;
pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub const RESPONSE_INFORMATION: u8 = 0x1A;
pub const REASON_STRING: u8 = 0x1F;
pub const RECEIVE_MAXIMUM: u8 = 0x21;
pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub const TOPIC_ALIAS: u8 = 0x23;
pub const MAXIMUM_QOS: u8 = 0x24;
pub const RETAIN_AVAILABLE: u8 = 0x25;
pub const USER_PROPERTY: u8 = 0x26;
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;

// ---------------------------------------------------------------- putting together

pub fn byte(id: u8, value: u8) -> Vec<u8> {
    vec![id, value]
}

pub fn two(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub fn four(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

/// A property that is a string or binary data.
pub fn text(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[id][..], &string(value)].concat()
}

pub fn user(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[USER_PROPERTY][..], &string(name), &string(value)].concat()
}

/// Properties with their length, which has to fit one byte or two.
pub fn properties(all: &[Vec<u8>]) -> Vec<u8> {
    let body = all.concat();
    let length = body.len();
    let low = u8::try_from(length % 128).expect("seven bits");
    let mut bytes = match u8::try_from(length / 128).expect("two bytes of length") {
        0 => vec![low],
        high => vec![low | 0x80, high],
    };
    bytes.extend(body);
    bytes
}

/// A CONNECT with these flags, properties and fields in the payload.
pub fn connect(flags: u8, keep_alive: u16, with: &[Vec<u8>], payload: &[Vec<u8>]) -> Vec<u8> {
    let header = [&string("MQTT")[..], &[5, flags], &keep_alive.to_be_bytes()].concat();
    packet(0x10, &[&header, &properties(with), &payload.concat()])
}

/// The fields of a CONNECT's payload for a will.
pub fn will(client_id: &str, with: &[Vec<u8>], topic: &str, payload: &str) -> Vec<Vec<u8>> {
    vec![
        string(client_id),
        properties(with),
        string(topic),
        string(payload),
    ]
}

/// A CONNECT whose session is kept for a minute.
pub fn keeping(flags: u8, client_id: &str) -> Vec<u8> {
    connect(flags, 0, &[four(SESSION_EXPIRY, 60)], &[string(client_id)])
}

pub fn publish(flags: u8, topic: &str, id: u16, with: &[Vec<u8>], payload: &str) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = if flags & (QOS1 | QOS2) == 0 {
        &[][..]
    } else {
        &id
    };
    packet(
        0x30 | flags,
        &[&string(topic), id, &properties(with), payload.as_bytes()],
    )
}

pub fn subscribe(id: u16, with: &[Vec<u8>], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, options)| [&string(filter)[..], &[*options]].concat())
        .collect();
    packet(0x82, &[&id.to_be_bytes(), &properties(with), &filters])
}

pub fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(string).collect();
    packet(0xA2, &[&id.to_be_bytes(), &[0], &filters])
}

/// A packet of a packet identifier and a reason.
pub fn ack_with(first: u8, id: u16, reason: u8) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes(), &[reason]])
}

/// SUBACK and UNSUBACK without properties.
pub fn answer(first: u8, id: u16, reasons: &[u8]) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes(), &[0], reasons])
}

// ---------------------------------------------------------------- taking apart

/// Properties in the order of the packet, each with its value's bytes without a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Vec<u8>)>);

impl Properties {
    pub fn get(&self, id: u8) -> Option<&[u8]> {
        let mut values = self.0.iter().filter(|(other, _)| *other == id);
        values.next().map(|(_, value)| &value[..])
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        let value = self.get(id)?;
        Some(
            value
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    }

    pub fn text(&self, id: u8) -> Option<&str> {
        self.get(id).map(|v| std::str::from_utf8(v).expect("UTF-8"))
    }

    /// Every subscription identifier, ascending.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .0
            .iter()
            .filter(|(id, _)| *id == SUBSCRIPTION_ID)
            .map(|(_, value)| {
                let seven = |byte: &u8| u32::from(*byte & 0x7F);
                value
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 7 | seven(byte))
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The user properties, in order.
    pub fn user(&self) -> Vec<(String, String)> {
        let of = |(id, value): &(u8, Vec<u8>)| {
            (*id == USER_PROPERTY).then(|| {
                let mut reader = Reader(value);
                let mut next = || String::from_utf8(reader.string().to_vec()).expect("UTF-8");
                (next(), next())
            })
        };
        self.0.iter().filter_map(of).collect()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn string(&mut self) -> &'a [u8] {
        let length = self.two();
        self.take(length.into())
    }

    /// The bytes of a variable byte integer, which has to be as short as it can [MQTT-1.5.5-1].
    fn variable(&mut self) -> (&'a [u8], usize) {
        let length = 1 + self.0.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let bytes = self.take(length);
        let seven = |byte: &u8| usize::from(*byte & 0x7F);
        let value = bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 7 | seven(byte));
        assert!(length == 1 || bytes[length - 1] != 0, "superfluous bytes");
        (bytes, value)
    }

    fn properties(&mut self) -> Properties {
        let (_, length) = self.variable();
        let mut inner = Reader(self.take(length));
        let mut all = Vec::new();
        while !inner.0.is_empty() {
            let id = inner.take(1)[0];
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => inner.take(1),
                0x13 | 0x21 | 0x22 | 0x23 => inner.take(2),
                0x02 | 0x11 | 0x18 | 0x27 => inner.take(4),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => inner.string(),
                SUBSCRIPTION_ID => inner.variable().0,
                USER_PROPERTY => {
                    let start = inner.0;
                    inner.string();
                    inner.string();
                    &start[..start.len() - inner.0.len()]
                }
                other => panic!("there is no property {other:#04x}"),
            };
            all.push((id, value.to_vec()));
        }
        Properties(all)
    }
}

/// The fields of a packet after its fixed header.
fn body(packet: &[u8]) -> Reader<'_> {
    let mut reader = Reader(&packet[1..]);
    let (_, length) = reader.variable();
    assert_eq!(length, reader.0.len(), "the remaining length is wrong");
    reader
}

#[derive(Debug)]
pub struct ConnAck {
    pub flags: u8,
    pub reason: u8,
    pub properties: Properties,
}

#[derive(Debug)]
pub struct Publish {
    pub flags: u8,
    pub topic: String,
    /// 0 with QoS 0.
    pub id: u16,
    pub properties: Properties,
    pub payload: String,
}

/// PUBACK to UNSUBACK, and DISCONNECT, whose identifier is 0.
#[derive(Debug)]
pub struct Answer {
    pub first: u8,
    pub id: u16,
    pub reasons: Vec<u8>,
    pub properties: Properties,
}

impl Publish {
    #[track_caller]
    pub fn parse(packet: &[u8]) -> Publish {
        assert_eq!(packet[0] & 0xF0, 0x30, "not a PUBLISH: {}", hex(packet));
        let flags = packet[0] & 0x0F;
        let mut body = body(packet);
        let topic = String::from_utf8(body.string().to_vec()).expect("UTF-8");
        let id = if flags & (QOS1 | QOS2) == 0 {
            0
        } else {
            body.two()
        };
        let properties = body.properties();
        let payload = String::from_utf8(body.0.to_vec()).expect("UTF-8");
        Publish {
            flags,
            topic,
            id,
            properties,
            payload,
        }
    }
}

impl Wire {
    /// A client that starts clean, and is let in.
    pub fn join(port: u16, client_id: &str) -> Wire {
        Wire::join_with(port, client_id, &[])
    }

    pub fn join_with(port: u16, client_id: &str, with: &[Vec<u8>]) -> Wire {
        Wire::let_in(port, &connect(CLEAN, 0, with, &[string(client_id)])).0
    }

    /// A client whose session is kept for a minute, new or resumed.
    pub fn keep(port: u16, client_id: &str) -> Wire {
        Wire::let_in(port, &keeping(0, client_id)).0
    }

    /// A client that sends this CONNECT and is let in.
    #[track_caller]
    pub fn let_in(port: u16, connect: &[u8]) -> (Wire, ConnAck) {
        let mut wire = Wire::open(port);
        wire.send(connect);
        let connack = wire.connack();
        assert_eq!(connack.reason, 0, "{connack:?}");
        (wire, connack)
    }

    /// Makes sure that this CONNECT is refused with this reason, and the connection closed.
    #[track_caller]
    pub fn refused(port: u16, connect: &[u8], reason: u8) {
        let mut wire = Wire::open(port);
        wire.send(connect);
        let connack = wire.connack();
        assert_eq!(connack.reason, reason, "{}", hex(connect));
        assert_eq!(connack.flags, 0, "no session is present");
        wire.expect_closed();
    }

    #[track_caller]
    pub fn connack(&mut self) -> ConnAck {
        let packet = self.receive();
        assert_eq!(packet[0], 0x20, "not a CONNACK: {}", hex(&packet));
        let mut body = body(&packet);
        let fixed = body.take(2);
        let properties = body.properties();
        assert_eq!(body.0, [], "a CONNACK has no payload");
        ConnAck {
            flags: fixed[0],
            reason: fixed[1],
            properties,
        }
    }

    /// The next packet, which must be a PUBLISH.
    #[track_caller]
    pub fn message(&mut self) -> Publish {
        Publish::parse(&self.receive())
    }

    /// The next packet, which must be a PUBLISH of this payload.
    #[track_caller]
    pub fn message_of(&mut self, payload: &str) -> Publish {
        let publish = self.message();
        assert_eq!(publish.payload, payload);
        publish
    }

    /// The next packet, which must be an acknowledgement, or a DISCONNECT.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let packet = self.receive();
        let first = packet[0];
        let mut body = body(&packet);
        let id = if first == 0xE0 { 0 } else { body.two() };
        let mut answer = Answer {
            first,
            id,
            reasons: vec![0],
            properties: Properties(Vec::new()),
        };
        match first {
            SUBACK | UNSUBACK => {
                answer.properties = body.properties();
                answer.reasons = body.0.to_vec();
            }
            PUBACK | PUBREC | PUBREL | PUBCOMP | 0xE0 => {
                if !body.0.is_empty() {
                    answer.reasons = body.take(1).to_vec();
                }
                if !body.0.is_empty() {
                    answer.properties = body.properties();
                }
            }
            _ => panic!("no acknowledgement: {}", hex(&packet)),
        }
        answer
    }

    /// Makes sure that the next packet is this acknowledgement, whichever of its forms it has.
    #[track_caller]
    pub fn expect_answer(&mut self, first: u8, id: u16, reason: u8) {
        let answer = self.answer();
        let got = (answer.first, answer.id, &answer.reasons[..]);
        assert_eq!(got, (first, id, &[reason][..]));
    }

    /// Makes sure that the broker disconnects with this reason and closes the connection.
    #[track_caller]
    pub fn expect_disconnect(&mut self, reason: u8) {
        self.expect_answer(0xE0, 0, reason);
        self.expect_closed();
    }

    /// Subscribes with packet identifier 999, which is granted as asked.
    #[track_caller]
    pub fn listen(&mut self, filter: &str, options: u8) {
        self.send(&subscribe(999, &[], &[(filter, options)]));
        self.expect(&answer(SUBACK, 999, &[options & 3]));
    }

    /// Publishes with QoS 0, and waits until the broker has done that.
    #[track_caller]
    pub fn say(&mut self, topic: &str, payload: &str) {
        self.send(&publish(0, topic, 0, &[], payload));
        self.settle();
    }

    /// Publishes with these flags, and goes through all acknowledgements.
    #[track_caller]
    pub fn deliver(&mut self, flags: u8, topic: &str, payload: &str) {
        self.send(&publish(flags, topic, 777, &[], payload));
        if flags & (QOS1 | QOS2) == 0 {
            self.settle();
            return;
        }
        let answer = self.answer();
        let first = if flags & QOS1 != 0 { PUBACK } else { PUBREC };
        assert_eq!((answer.first, answer.id), (first, 777));
        // Success, with subscribers or without.
        assert!(matches!(answer.reasons[..], [0 | 0x10]), "{answer:?}");
        if first == PUBREC {
            self.send(&ack(PUBREL, 777));
            self.expect_answer(PUBCOMP, 777, 0);
        }
    }

    /// Acknowledges a message to the end.
    #[track_caller]
    pub fn acknowledge(&mut self, publish: &Publish) {
        if publish.flags & QOS1 != 0 {
            self.send(&ack(PUBACK, publish.id));
        } else if publish.flags & QOS2 != 0 {
            self.send(&ack(PUBREC, publish.id));
            self.expect_answer(PUBREL, publish.id, 0);
            self.send(&ack(PUBCOMP, publish.id));
        }
    }

    /// Makes sure that nothing has come by when other workers have had their time, too.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        std::thread::sleep(super::harness::QUIET);
        self.settle();
    }
}
