//! A message on its way to any number of subscribers.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{message_properties, publish_flags, varint, write_message_properties};
use crate::packet::{Publish, PublishProperties, SubscriptionIds};
use crate::{EncodeError, Outbox, PacketId, PropertyId, ProtocolVersion, QoS, TopicName};

/// A message that is encoded once and shared by all its subscribers: topic, payload and those properties that are
/// the same for everybody.
///
/// What differs from one subscriber to the next (fixed header, packet identifier, subscription identifiers, topic
/// alias, remaining message expiry interval) is a few bytes that [`Message::write`] puts around the shared parts.
/// Of both versions and every QoS the shared parts are the same, so nothing is encoded twice.
///
/// A message made from a decoded PUBLISH shares the read buffer; [`Message::detach`] before storing it for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    topic: TopicName,
    payload: Bytes,
    /// The encoded MQTT 5.0 properties that every subscriber gets, without their length.
    properties: Bytes,
    expires_at: Option<Instant>,
    qos: QoS,
    retain: bool,
}

/// How one subscriber gets a [`Message`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// The QoS to deliver with.
    pub qos: QoS,
    /// The retain flag (`[MQTT-3.3.1-8]`, `[MQTT-3.3.1-9]`, `[MQTT-3.3.1-12]`, `[MQTT-3.3.1-13]`).
    pub retain: bool,
    /// The identifiers of the subscriptions that selected it; MQTT 5.0 only.
    pub subscription_ids: SubscriptionIds,
}

impl Delivery {
    /// A delivery without retain flag and subscription identifiers.
    pub fn new(qos: QoS) -> Delivery {
        Delivery {
            qos,
            ..Delivery::default()
        }
    }
}

/// What a connection adds to a [`Delivery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// The packet identifier: with QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// A topic alias to send; MQTT 5.0 only.
    pub topic_alias: Option<NonZeroU16>,
    /// Leaves the topic name out: the peer knows the alias.
    pub omit_topic: bool,
}

impl Message {
    /// Makes a message of a PUBLISH that came at `received`, from where its message expiry interval counts.
    /// Packet identifier, DUP, topic alias and subscription identifiers are the sender's and left behind.
    ///
    /// # Errors
    /// The topic is [`TopicName::ALIASED`], or the correlation data is longer than 65,535 bytes.
    pub fn new(publish: &Publish, received: Instant) -> Result<Message, EncodeError> {
        if publish.topic.is_aliased() {
            return Err(EncodeError::NoTopic);
        }
        let mut properties = BytesMut::new();
        write_message_properties(&publish.properties, &mut properties)?;
        let expiry = publish.properties.message_expiry_interval;
        Ok(Message {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            properties: properties.freeze(),
            expires_at: expiry
                .and_then(|seconds| received.checked_add(Duration::from_secs(seconds.into()))),
            qos: publish.qos,
            retain: publish.retain,
        })
    }

    /// The same message, which expires at `at`: one that is taken up again after it was stored.
    pub fn expiring(self, at: Instant) -> Message {
        Message {
            expires_at: Some(at),
            ..self
        }
    }

    /// Its topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Its payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The QoS that it was published with.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether it was published to be retained.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// When it expires, if ever.
    pub fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Whether its delivery must not begin any more (`[MQTT-3.3.2-5]`).
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What it takes in memory, about: topic, payload and properties in bytes.
    pub fn size(&self) -> usize {
        self.topic.bytes().len() + self.payload.len() + self.properties.len()
    }

    /// The PUBLISH that it stands for, as to store it: with the remaining message expiry interval, without packet
    /// identifier.
    pub fn to_publish(&self, now: Instant) -> Publish {
        let mut properties = message_properties(self.properties.clone())
            .expect("what write_message_properties wrote is a property list");
        if let Some(seconds) = self.remaining_expiry(now) {
            properties.message_expiry_interval = Some(seconds);
        }
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.clone(),
            packet_id: None,
            properties,
            payload: self.payload.clone(),
        }
    }

    /// The properties that every subscriber gets.
    pub fn properties(&self, now: Instant) -> PublishProperties {
        self.to_publish(now).properties
    }

    /// A copy in one piece of memory of its own, so that keeping it keeps no read buffer alive.
    pub fn detach(&self) -> Message {
        self.detach_into(Bytes::from)
    }

    /// As [`Message::detach`], in the memory that `keep` makes of these bytes: it may account for them.
    pub fn detach_into(&self, keep: impl FnOnce(Vec<u8>) -> Bytes) -> Message {
        let mut memory = Vec::with_capacity(self.size());
        memory.put_slice(self.topic.bytes());
        memory.put_slice(&self.properties);
        memory.put_slice(&self.payload);
        let mut memory = keep(memory);
        let topic = memory.split_to(self.topic.bytes().len());
        let properties = memory.split_to(self.properties.len());
        Message {
            topic: TopicName::from_bytes(topic).expect("a copy of a topic name is a topic name"),
            properties,
            payload: memory,
            ..*self
        }
    }

    /// The length of the packet in bytes that [`Message::write`] writes.
    ///
    /// # Errors
    /// The packet would be longer than MQTT can say.
    #[inline]
    pub fn encoded_len(
        &self,
        version: ProtocolVersion,
        delivery: &Delivery,
        framing: &Framing,
    ) -> Result<usize, EncodeError> {
        let remaining = self.layout(version, delivery, framing)?.remaining;
        Ok(1 + varint::len(remaining) + remaining as usize)
    }

    /// Appends this message as a PUBLISH to `out`: a few bytes of its own around topic, properties and payload;
    /// a payload from [`Outbox::SHARE_FROM`] bytes on by reference. Nothing is appended if it fails.
    ///
    /// The packet identifier must be there with QoS 1 and 2 and is left out with QoS 0.
    ///
    /// # Errors
    /// The packet would be longer than MQTT can say, a subscription identifier is out of its range, or the packet
    /// identifier is missing.
    #[inline]
    pub fn write(
        &self,
        version: ProtocolVersion,
        delivery: &Delivery,
        framing: &Framing,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), EncodeError> {
        let layout = self.layout(version, delivery, framing)?;
        let packet_id = match (delivery.qos, framing.packet_id) {
            (QoS::AtMostOnce, _) => None,
            (_, Some(id)) => Some(id),
            (_, None) => return Err(EncodeError::PublishIdentifier),
        };
        let topic = if framing.omit_topic {
            &[][..]
        } else {
            self.topic.bytes()
        };
        let dup = framing.dup && packet_id.is_some();
        // First byte, remaining length, length of the topic: at most seven bytes, put in one go.
        let mut head = [0; 7];
        head[0] = 0x30 | publish_flags(dup, delivery.qos, delivery.retain);
        let (length, n) = varint::bytes(layout.remaining);
        head[1..5].copy_from_slice(&length);
        head[1 + n..3 + n].copy_from_slice(&topic_len(topic));

        let tail = out.encoder();
        let copied = if self.payload.len() < Outbox::SHARE_FROM {
            self.payload.len()
        } else {
            0
        };
        tail.reserve(layout.remaining as usize + 5 - self.payload.len() + copied);
        tail.put_slice(&head[..3 + n]);
        tail.put_slice(topic);
        if let Some(id) = packet_id {
            tail.put_u16(id.get());
        }
        if version.is_v5() {
            let (length, n) = varint::bytes(layout.properties);
            tail.put_slice(&length[..n]);
            if layout.properties > 0 {
                self.put_properties(delivery, framing, now, tail);
            }
        }
        out.push(&self.payload);
        Ok(())
    }

    fn put_properties(
        &self,
        delivery: &Delivery,
        framing: &Framing,
        now: Instant,
        tail: &mut BytesMut,
    ) {
        if let Some(seconds) = self.remaining_expiry(now) {
            tail.put_u8(PropertyId::MessageExpiryInterval as u8);
            tail.put_u32(seconds);
        }
        if let Some(alias) = framing.topic_alias {
            tail.put_u8(PropertyId::TopicAlias as u8);
            tail.put_u16(alias.get());
        }
        for &id in &delivery.subscription_ids {
            tail.put_u8(PropertyId::SubscriptionIdentifier as u8);
            let (bytes, n) = varint::bytes(id);
            tail.put_slice(&bytes[..n]);
        }
        tail.put_slice(&self.properties);
    }

    /// Whole seconds until it expires, rounded up so that a message that is alive is never sent with 0
    /// (`[MQTT-3.3.2-6]`).
    fn remaining_expiry(&self, now: Instant) -> Option<u32> {
        let left = self.expires_at?.saturating_duration_since(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    #[inline]
    fn layout(
        &self,
        version: ProtocolVersion,
        delivery: &Delivery,
        framing: &Framing,
    ) -> Result<Layout, EncodeError> {
        let topic = if framing.omit_topic {
            0
        } else {
            self.topic.bytes().len()
        };
        let mut remaining = 2 + topic + self.payload.len();
        if delivery.qos != QoS::AtMostOnce {
            remaining += 2;
        }
        let mut properties = 0;
        if version.is_v5() {
            properties = self.properties.len();
            if self.expires_at.is_some() {
                properties += 5;
            }
            if framing.topic_alias.is_some() {
                properties += 3;
            }
            for &value in &delivery.subscription_ids {
                if value == 0 || value > varint::MAX {
                    let field = PropertyId::SubscriptionIdentifier.name();
                    return Err(EncodeError::Value { field, value });
                }
                properties += 1 + varint::len(value);
            }
            remaining += varint::len(u32::try_from(properties).unwrap_or(u32::MAX)) + properties;
        }
        match (u32::try_from(remaining), u32::try_from(properties)) {
            (Ok(remaining), Ok(properties)) if remaining <= varint::MAX => Ok(Layout {
                remaining,
                properties,
            }),
            _ => Err(EncodeError::PacketTooLong { length: remaining }),
        }
    }
}

/// The two lengths of a PUBLISH.
struct Layout {
    remaining: u32,
    properties: u32,
}

fn topic_len(topic: &[u8]) -> [u8; 2] {
    u16::try_from(topic.len())
        .expect("a topic is at most 65535 bytes long")
        .to_be_bytes()
}
