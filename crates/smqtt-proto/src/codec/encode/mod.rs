//! Encoding of packets.

mod bodies;
mod connect;

use bytes::{BufMut, BytesMut};

pub(crate) use bodies::write_message_properties;
use bodies::{
    ack_body, auth_body, disconnect_body, publish_body, suback_body, subscribe_body, unsuback_body,
    unsubscribe_body,
};
use connect::{connack_body, connect_body};

use super::property::PropertyId as P;
use super::varint;
use crate::packet::UserProperties;
use crate::{EncodeError, MqttString, Packet, PacketType, ProtocolVersion, QoS, TopicName};

/// Appends a packet to `out`. Nothing is appended if it fails.
///
/// # Errors
/// The packet holds what MQTT, or its version 3.1.1, has no bytes for. Fields that only MQTT 5.0 has are left out
/// for MQTT 3.1.1 without an error.
pub fn encode(
    packet: &Packet,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let remaining = remaining_len(packet, version)?;
    out.reserve(1 + varint::len(remaining) + remaining as usize);
    out.put_u8((packet.packet_type() as u8) << 4 | flags(packet));
    put_varint(out, remaining);
    body(packet, version, out)
}

/// The length of the packet in bytes, fixed header included.
///
/// # Errors
/// As [`encode`].
pub fn encoded_len(packet: &Packet, version: ProtocolVersion) -> Result<usize, EncodeError> {
    let remaining = remaining_len(packet, version)?;
    Ok(1 + varint::len(remaining) + remaining as usize)
}

fn remaining_len(packet: &Packet, version: ProtocolVersion) -> Result<u32, EncodeError> {
    let mut count = Count(0);
    body(packet, version, &mut count)?;
    match u32::try_from(count.0) {
        Ok(length) if length <= varint::MAX => Ok(length),
        _ => Err(EncodeError::PacketTooLong { length: count.0 }),
    }
}

fn flags(packet: &Packet) -> u8 {
    match packet {
        Packet::Publish(publish) => publish_flags(publish.dup, publish.qos, publish.retain),
        other => other.packet_type().flags(),
    }
}

/// The lower four bits of a PUBLISH (MQTT 5.0 §3.3.1).
pub(crate) fn publish_flags(dup: bool, qos: QoS, retain: bool) -> u8 {
    u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain)
}

/// Where encoded bytes go: a buffer, or a counter that tells the length beforehand.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn text(&mut self, text: &MqttString) {
        let length = u16::try_from(text.len()).expect("an MqttString is at most 65535 bytes long");
        self.u16(length);
        self.put(text.as_bytes());
    }

    fn topic(&mut self, topic: &TopicName) {
        self.text(topic.text());
    }

    fn binary(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong {
            field,
            length: bytes.len(),
        })?;
        self.u16(length);
        self.put(bytes);
        Ok(())
    }

    fn property_u32(&mut self, id: P, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.u32(value);
        }
    }

    fn property_u16(&mut self, id: P, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.u16(value);
        }
    }

    fn property_flag(&mut self, id: P, value: Option<bool>) {
        if let Some(value) = value {
            self.put(&[id as u8, u8::from(value)]);
        }
    }

    fn property_text(&mut self, id: P, value: Option<&MqttString>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.text(value);
        }
    }

    fn property_binary(&mut self, id: P, value: Option<&[u8]>) -> Result<(), EncodeError> {
        if let Some(value) = value {
            self.u8(id as u8);
            self.binary(id.name(), value)?;
        }
        Ok(())
    }

    fn response_topic(&mut self, topic: Option<&TopicName>) -> Result<(), EncodeError> {
        match topic {
            Some(topic) if topic.is_aliased() => Err(EncodeError::NoTopic),
            topic => {
                self.property_text(P::ResponseTopic, topic.map(TopicName::text));
                Ok(())
            }
        }
    }

    fn user_properties(&mut self, properties: &UserProperties) {
        for (name, value) in properties {
            self.u8(P::UserProperty as u8);
            self.text(name);
            self.text(value);
        }
    }

    fn subscription_id(&mut self, value: u32) -> Result<(), EncodeError> {
        if value == 0 || value > varint::MAX {
            return Err(EncodeError::Value {
                field: P::SubscriptionIdentifier.name(),
                value,
            });
        }
        self.u8(P::SubscriptionIdentifier as u8);
        put_varint(self, value);
        Ok(())
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Counts instead of writing.
struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

fn put_varint<S: Sink + ?Sized>(out: &mut S, value: u32) {
    let (bytes, len) = varint::bytes(value);
    out.put(&bytes[..len]);
}

/// Writes a property list behind its length.
fn property_list<S: Sink>(
    out: &mut S,
    write: impl Fn(&mut dyn Sink) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut count = Count(0);
    write(&mut count)?;
    let length = u32::try_from(count.0)
        .ok()
        .filter(|length| *length <= varint::MAX)
        .ok_or(EncodeError::PacketTooLong { length: count.0 })?;
    put_varint(out, length);
    if length > 0 {
        write(out)?;
    }
    Ok(())
}

fn body<S: Sink>(
    packet: &Packet,
    version: ProtocolVersion,
    out: &mut S,
) -> Result<(), EncodeError> {
    let v5 = version.is_v5();
    match packet {
        Packet::Connect(connect) if connect.version != version => {
            return Err(EncodeError::VersionMismatch);
        }
        Packet::Connect(connect) => connect_body(connect, v5, out)?,
        Packet::ConnAck(connack) => connack_body(connack, v5, out)?,
        Packet::Publish(publish) => publish_body(publish, v5, out)?,
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack_body(ack, v5, out)?;
        }
        Packet::Subscribe(subscribe) => subscribe_body(subscribe, v5, out)?,
        Packet::SubAck(suback) => suback_body(suback, v5, out)?,
        Packet::Unsubscribe(unsubscribe) => unsubscribe_body(unsubscribe, v5, out)?,
        Packet::UnsubAck(unsuback) => unsuback_body(unsuback, v5, out)?,
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) if v5 => disconnect_body(disconnect, out)?,
        Packet::Disconnect(_) => {}
        Packet::Auth(auth) if v5 => auth_body(auth, out)?,
        Packet::Auth(_) => {
            return Err(EncodeError::NotInVersion {
                packet: PacketType::Auth,
            });
        }
    }
    Ok(())
}
