//! What stands in the tables. Numbers in keys are big-endian, so that they sort as numbers.
//!
//! Values are CBOR arrays, which later versions may lengthen; messages are PUBLISH packets of MQTT 5.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use minicbor::{Decode, Encode};
use smqtt_proto::packet::{Publish, Will, WillProperties};
use smqtt_proto::{
    Decoder, Delivery, Message, Packet, PacketId, ProtocolVersion, QoS, TopicFilter, encode,
};

use crate::subscription::Subscription;

/// A session, without its subscriptions and messages.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct SessionRecord {
    #[n(0)]
    pub(crate) client_id: String,
    #[n(1)]
    pub(crate) identity: IdentityRecord,
    /// As [`smqtt_policy::AttributeSet::encode`] has it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) attributes: Vec<u8>,
    /// The name of the listener that it was admitted by.
    #[n(3)]
    pub(crate) listener: String,
    #[n(4)]
    pub(crate) certificate: Option<CertificateRecord>,
    /// Seconds that it outlives its connection, `u32::MAX` for ever.
    #[n(5)]
    pub(crate) expiry: u32,
    /// Since when it has no connection, in milliseconds after 1970; none while it has one.
    #[n(6)]
    pub(crate) away_since: Option<u64>,
    #[n(7)]
    pub(crate) will: Option<WillRecord>,
}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum IdentityRecord {
    #[n(0)]
    Anonymous,
    #[n(1)]
    Device(#[n(0)] String),
    #[n(2)]
    User(#[n(0)] String),
}

/// The certificate that an identity stands on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct CertificateRecord {
    /// SHA-256 of the root that it was verified against.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) authority: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) serial: [u8; 16],
    /// Seconds after 1970.
    #[n(2)]
    pub(crate) expires: u64,
}

/// A will.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct WillRecord {
    /// As a PUBLISH packet of MQTT 5.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) publish: Vec<u8>,
    /// Seconds.
    #[n(1)]
    pub(crate) delay: u32,
}

/// A subscription; its filter is in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct SubscriptionRecord {
    #[n(0)]
    pub(crate) qos: u8,
    #[n(1)]
    pub(crate) no_local: bool,
    #[n(2)]
    pub(crate) retain_as_published: bool,
    #[n(3)]
    pub(crate) identifier: Option<u32>,
}

impl From<&Subscription> for SubscriptionRecord {
    fn from(subscription: &Subscription) -> Self {
        SubscriptionRecord {
            qos: subscription.qos() as u8,
            no_local: subscription.no_local(),
            retain_as_published: subscription.retain_as_published(),
            identifier: subscription.identifier(),
        }
    }
}

/// A message in the queue of a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct QueueRecord {
    /// The message's number; 0 once it is forgotten because the client has it.
    #[n(0)]
    pub(crate) message: u64,
    #[n(1)]
    pub(crate) qos: u8,
    #[n(2)]
    pub(crate) retain: bool,
    #[n(3)]
    pub(crate) subscription_ids: Vec<u32>,
    /// The shared subscription that it came by.
    #[n(4)]
    pub(crate) group: Option<String>,
    /// Its packet identifier, once it was sent.
    #[n(5)]
    pub(crate) packet_id: Option<u16>,
}

impl QueueRecord {
    /// A message on its way to a session, sent under this identifier or not yet.
    pub(crate) fn new(
        message: u64,
        delivery: &Delivery,
        group: Option<&TopicFilter>,
        packet_id: Option<PacketId>,
    ) -> Self {
        QueueRecord {
            message,
            qos: delivery.qos as u8,
            retain: delivery.retain,
            subscription_ids: delivery.subscription_ids.to_vec(),
            group: group.map(|group| group.as_str().to_owned()),
            packet_id: packet_id.map(PacketId::get),
        }
    }

    /// What is left of a QoS 2 delivery once its client has the message.
    pub(crate) fn released(packet_id: PacketId) -> Self {
        QueueRecord {
            packet_id: Some(packet_id.get()),
            ..QueueRecord::new(0, &Delivery::new(QoS::ExactlyOnce), None, None)
        }
    }

    /// How it is delivered.
    pub(crate) fn delivery(&self) -> Option<Delivery> {
        Some(Delivery {
            qos: QoS::from_u8(self.qos)?,
            retain: self.retain,
            subscription_ids: self.subscription_ids.iter().copied().collect(),
        })
    }
}

/// The bytes of a record.
pub(crate) fn to_bytes<T: Encode<()>>(record: &T) -> Bytes {
    minicbor::to_vec(record)
        .expect("a vector takes all bytes")
        .into()
}

/// The key of a session.
pub(crate) fn session_key(session: u64) -> Bytes {
    Bytes::copy_from_slice(&session.to_be_bytes())
}

/// The key of something of a session.
pub(crate) fn key_of(session: u64, rest: &[u8]) -> Bytes {
    [&session.to_be_bytes()[..], rest].concat().into()
}

/// The session and the rest of a key that [`key_of`] made.
pub(crate) fn split_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (session, rest) = key.split_at_checked(8)?;
    Some((u64::from_be_bytes(session.try_into().ok()?), rest))
}

/// A moment that a running clock and the calendar agree on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    instant: Instant,
    /// Milliseconds after 1970.
    millis: u64,
}

impl Epoch {
    /// Now.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Epoch {
            instant: Instant::now(),
            millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Milliseconds after 1970 of a moment.
    pub(crate) fn millis_of(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.instant) {
            Some(later) => self.millis.saturating_add(later.as_millis() as u64),
            None => self
                .millis
                .saturating_sub(self.instant.duration_since(at).as_millis() as u64),
        }
    }

    /// The moment so many milliseconds after 1970, if it is past and the running clock reaches so far
    /// back; else this one.
    pub(crate) fn past(&self, millis: u64) -> Instant {
        let ago = Duration::from_millis(self.millis.saturating_sub(millis));
        self.instant.checked_sub(ago).unwrap_or(self.instant)
    }

    /// The moment so many milliseconds after 1970; this one if it is past.
    pub(crate) fn instant_of(&self, millis: u64) -> Instant {
        let left = Duration::from_millis(millis.saturating_sub(self.millis));
        self.instant.checked_add(left).unwrap_or(self.instant)
    }
}

/// Writes a message with the time when it expires.
pub(crate) fn message_to_bytes(message: &Message, epoch: &Epoch) -> Result<Bytes, String> {
    let expires = message.expires_at().map(|at| epoch.millis_of(at).max(1));
    let mut publish = message.to_publish(epoch.instant);
    // Where it stands in the packet the time that is left would be wrong from the next moment on.
    publish.properties.message_expiry_interval = None;
    let mut bytes = BytesMut::with_capacity(message.size() + 32);
    bytes.put_u64(expires.unwrap_or(0));
    put_publish(publish, &mut bytes)?;
    Ok(bytes.freeze())
}

/// Reads what [`message_to_bytes`] wrote; it shares the memory.
pub(crate) fn message_from_bytes(mut bytes: Bytes, epoch: &Epoch) -> Result<Message, String> {
    let expires = bytes.try_get_u64().map_err(|error| error.to_string())?;
    let publish = publish_from(bytes)?;
    let message = Message::new(&publish, epoch.instant).map_err(|error| error.to_string())?;
    Ok(match expires {
        0 => message,
        at => message.expiring(epoch.instant_of(at)),
    })
}

fn put_publish(mut publish: Publish, bytes: &mut BytesMut) -> Result<(), String> {
    publish.packet_id = (publish.qos != QoS::AtMostOnce)
        .then(|| PacketId::new(1))
        .flatten();
    encode(&Packet::Publish(publish), ProtocolVersion::V5, bytes).map_err(|error| error.to_string())
}

fn publish_from(bytes: Bytes) -> Result<Publish, String> {
    let mut input = bytes;
    match Decoder::new(ProtocolVersion::V5, u32::MAX).decode_from(&mut input) {
        Ok(Some(Packet::Publish(publish))) if input.is_empty() => Ok(publish),
        Ok(_) => Err("it is no message".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl WillRecord {
    /// Of a will.
    pub(crate) fn new(will: &Will) -> Option<Self> {
        let mut bytes = BytesMut::new();
        put_publish(will.clone().into(), &mut bytes).ok()?;
        Some(WillRecord {
            publish: bytes.to_vec(),
            delay: will.properties.will_delay_interval.unwrap_or(0),
        })
    }

    /// The will that it was made of.
    pub(crate) fn to_will(&self) -> Result<Will, String> {
        let publish = publish_from(Bytes::copy_from_slice(&self.publish))?;
        let properties = publish.properties.into_message();
        Ok(Will {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: WillProperties {
                will_delay_interval: Some(self.delay),
                payload_is_utf8: properties.payload_is_utf8,
                message_expiry_interval: properties.message_expiry_interval,
                content_type: properties.content_type,
                response_topic: properties.response_topic,
                correlation_data: properties.correlation_data,
                user_properties: properties.user_properties,
            },
        })
    }
}
