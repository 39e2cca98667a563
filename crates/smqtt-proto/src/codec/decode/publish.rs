//! PUBLISH.

use bytes::{Buf, Bytes};

use super::super::frame::Header;
use super::super::property::PropertyId as P;
use super::super::reader::{PropertyReader, Reader};
use crate::packet::{MessageProperties, Publish, PublishProperties};
use crate::{DecodeError, PacketId, PacketType, QoS, TopicError, TopicName};

/// The packet that every message takes: offsets are found in the slice, and references to the buffer are counted
/// only for what is kept.
#[inline]
pub(super) fn publish(mut frame: Bytes, header: &Header, v5: bool) -> Result<Publish, DecodeError> {
    let packet = PacketType::Publish;
    let qos = QoS::from_u8((header.flags >> 1) & 0b11).ok_or(DecodeError::InvalidQoS { packet })?;
    let truncated = |field| DecodeError::Truncated { packet, field };
    let body = &frame[header.len..];
    let (length, rest) = body
        .split_first_chunk::<2>()
        .ok_or(truncated("topic name"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    if rest.len() < length {
        return Err(truncated("topic name"));
    }
    let mut rest = &rest[length..];
    let mut packet_id = None;
    let mut id_len = 0;
    if qos != QoS::AtMostOnce {
        // [MQTT-2.2.1-2]
        let (id, after) = rest
            .split_first_chunk::<2>()
            .ok_or(truncated("packet identifier"))?;
        let id =
            PacketId::new(u16::from_be_bytes(*id)).ok_or(DecodeError::ZeroPacketId { packet })?;
        packet_id = Some(id);
        id_len = 2;
        rest = after;
    }
    let no_properties = !v5 || rest.first() == Some(&0);
    frame.advance(header.len + 2);
    let topic = publish_topic(frame.split_to(length), v5)?;
    frame.advance(id_len);
    let mut properties = PublishProperties::default();
    let payload = if no_properties {
        frame.advance(usize::from(v5));
        // An empty slice would keep the read buffer alive for nothing.
        if frame.is_empty() {
            Bytes::new()
        } else {
            frame
        }
    } else {
        let mut reader = Reader::new(packet, frame);
        properties = publish_properties(&mut reader)?;
        reader.rest()
    };
    if topic.is_aliased() && properties.topic_alias.is_none() {
        return Err(DecodeError::NoTopic); // [MQTT-3.3.2-8]
    }
    Ok(Publish {
        dup: header.flags & 0b1000 != 0,
        qos,
        retain: header.flags & 0b0001 != 0,
        topic,
        packet_id,
        properties,
        payload,
    })
}

/// The topic of a PUBLISH: with MQTT 5.0 it may be empty in favour of a topic alias.
#[inline]
fn publish_topic(bytes: Bytes, v5: bool) -> Result<TopicName, DecodeError> {
    if bytes.is_empty() && v5 {
        return Ok(TopicName::ALIASED);
    }
    TopicName::from_bytes(bytes).map_err(|error| {
        let (packet, field) = (PacketType::Publish, "topic name");
        match error {
            TopicError::Text(error) => DecodeError::Text {
                packet,
                field,
                error,
            },
            error => DecodeError::Topic {
                packet,
                field,
                error,
            },
        }
    })
}

fn publish_properties(reader: &mut Reader) -> Result<PublishProperties, DecodeError> {
    publish_property_list(reader.properties()?)
}

/// The properties in a list that is not preceded by its length.
pub(crate) fn message_properties(list: Bytes) -> Result<PublishProperties, DecodeError> {
    publish_property_list(PropertyReader::of_publish(list))
}

fn publish_property_list(mut list: PropertyReader) -> Result<PublishProperties, DecodeError> {
    let mut properties = PublishProperties::default();
    while let Some(id) = list.next()? {
        if id == P::TopicAlias {
            properties.topic_alias = Some(list.u16_above_zero(id)?);
            continue;
        }
        let p: &mut MessageProperties = &mut properties;
        match id {
            P::PayloadFormatIndicator => p.payload_is_utf8 = Some(list.flag(id)?),
            P::MessageExpiryInterval => p.message_expiry_interval = Some(list.u32(id)?),
            P::ResponseTopic => p.response_topic = Some(list.response_topic()?),
            P::CorrelationData => p.correlation_data = Some(list.binary(id)?),
            P::UserProperty => list.user(&mut p.user_properties)?,
            P::SubscriptionIdentifier => p.subscription_ids.push(list.subscription_id()?),
            P::ContentType => p.content_type = Some(list.text(id)?),
            other => return Err(list.misplaced(other)),
        }
    }
    Ok(properties)
}
