//! Reads the fields of one packet without copying.

use bytes::{Buf, Bytes};

use super::property::{PropertyId, PropertySet};
use super::varint;
use crate::packet::UserProperties;
use crate::{
    Credential, DecodeError, MqttString, PacketId, PacketType, QoS, ReasonCode, TopicError,
    TopicFilter, TopicName,
};

/// What is left of one packet.
pub(crate) struct Reader {
    pub(crate) packet: PacketType,
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(packet: PacketType, bytes: Bytes) -> Reader {
        Reader { packet, bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Everything that is left: the payload of a PUBLISH.
    pub(crate) fn rest(self) -> Bytes {
        // An empty slice would keep the read buffer alive for nothing.
        if self.bytes.is_empty() {
            Bytes::new()
        } else {
            self.bytes
        }
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes {
                packet: self.packet,
                count,
            }),
        }
    }

    fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated {
            packet: self.packet,
            field,
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| self.truncated(field))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| self.truncated(field))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().map_err(|_| self.truncated(field))
    }

    /// A variable byte integer inside a packet.
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let int = varint::read(&self.bytes)?.ok_or_else(|| self.truncated(field))?;
        if !int.minimal {
            return Err(DecodeError::VariableIntegerNotMinimal);
        }
        self.bytes.advance(int.len);
        Ok(int.value)
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < len {
            return Err(self.truncated(field));
        }
        Ok(self.bytes.split_to(len))
    }

    /// Binary data: two bytes of length, then as many bytes.
    pub(crate) fn binary(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u16(field)?;
        self.take(usize::from(len), field)
    }

    pub(crate) fn credential(&mut self, field: &'static str) -> Result<Credential, DecodeError> {
        self.binary(field).map(Credential::new)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<MqttString, DecodeError> {
        let packet = self.packet;
        MqttString::from_bytes(self.binary(field)?).map_err(|error| DecodeError::Text {
            packet,
            field,
            error,
        })
    }

    pub(crate) fn topic_name(&mut self, field: &'static str) -> Result<TopicName, DecodeError> {
        let text = self.text(field)?;
        TopicName::from_text(text).map_err(|error| self.topic_error(field, error))
    }

    pub(crate) fn topic_filter(&mut self) -> Result<TopicFilter, DecodeError> {
        let text = self.text("topic filter")?;
        TopicFilter::from_text(text).map_err(|error| self.topic_error("topic filter", error))
    }

    fn topic_error(&self, field: &'static str, error: TopicError) -> DecodeError {
        match error {
            TopicError::Text(error) => DecodeError::Text {
                packet: self.packet,
                field,
                error,
            },
            error => DecodeError::Topic {
                packet: self.packet,
                field,
                error,
            },
        }
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        let id = self.u16("packet identifier")?;
        PacketId::new(id).ok_or(DecodeError::ZeroPacketId {
            packet: self.packet,
        })
    }

    pub(crate) fn reason(&mut self) -> Result<ReasonCode, DecodeError> {
        let code = self.u8("reason code")?;
        ReasonCode::from_u8(code)
            .filter(|reason| super::reasons::belongs(*reason, self.packet))
            .ok_or(DecodeError::UnknownReasonCode {
                packet: self.packet,
                code,
            })
    }

    /// The property list with its length, limited to what the packet may have.
    pub(crate) fn properties(&mut self) -> Result<PropertyReader, DecodeError> {
        self.property_list(PropertySet::allowed(self.packet))
    }

    /// The property list of the will.
    pub(crate) fn will_properties(&mut self) -> Result<PropertyReader, DecodeError> {
        self.property_list(PropertySet::WILL)
    }

    fn property_list(&mut self, allowed: PropertySet) -> Result<PropertyReader, DecodeError> {
        let length = self.varint("property length")? as usize;
        // Nearly always empty: then no reference to the buffer is counted.
        let bytes = if length == 0 {
            Bytes::new()
        } else {
            self.take(length, "properties")?
        };
        Ok(PropertyReader {
            fields: Reader {
                packet: self.packet,
                bytes,
            },
            allowed,
            seen: PropertySet::EMPTY,
        })
    }
}

/// Reads a property list, each property by its type.
pub(crate) struct PropertyReader {
    pub(crate) fields: Reader,
    allowed: PropertySet,
    seen: PropertySet,
}

impl PropertyReader {
    /// The properties of a PUBLISH, without the length before them.
    pub(crate) fn of_publish(bytes: Bytes) -> PropertyReader {
        PropertyReader {
            fields: Reader {
                packet: PacketType::Publish,
                bytes,
            },
            allowed: PropertySet::allowed(PacketType::Publish),
            seen: PropertySet::EMPTY,
        }
    }

    /// The identifier of the next property, known to belong here; its value must be read next.
    pub(crate) fn next(&mut self) -> Result<Option<PropertyId>, DecodeError> {
        if self.fields.is_empty() {
            return Ok(None);
        }
        let packet = self.fields.packet;
        let id = self.fields.varint("property identifier")?;
        let property =
            PropertyId::from_u32(id).ok_or(DecodeError::UnknownProperty { packet, id })?;
        if !self.allowed.contains(property) {
            return Err(DecodeError::MisplacedProperty { packet, property });
        }
        if self.seen.replace(property) && !PropertySet::repeatable(packet).contains(property) {
            return Err(DecodeError::DuplicateProperty { packet, property });
        }
        Ok(Some(property))
    }

    /// Not reachable as long as the decoders handle all that [`PropertySet::allowed`] lets through.
    pub(crate) fn misplaced(&self, property: PropertyId) -> DecodeError {
        DecodeError::MisplacedProperty {
            packet: self.fields.packet,
            property,
        }
    }

    fn refuse(&self, property: PropertyId, value: u32) -> DecodeError {
        DecodeError::PropertyValue {
            packet: self.fields.packet,
            property,
            value,
        }
    }

    pub(crate) fn flag(&mut self, property: PropertyId) -> Result<bool, DecodeError> {
        match self.fields.u8(property.name())? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(self.refuse(property, value.into())),
        }
    }

    pub(crate) fn maximum_qos(&mut self) -> Result<QoS, DecodeError> {
        let property = PropertyId::MaximumQoS;
        match self.fields.u8(property.name())? {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            value => Err(self.refuse(property, value.into())),
        }
    }

    pub(crate) fn u16(&mut self, property: PropertyId) -> Result<u16, DecodeError> {
        self.fields.u16(property.name())
    }

    pub(crate) fn u16_above_zero(
        &mut self,
        property: PropertyId,
    ) -> Result<std::num::NonZeroU16, DecodeError> {
        let value = self.fields.u16(property.name())?;
        std::num::NonZeroU16::new(value).ok_or_else(|| self.refuse(property, 0))
    }

    pub(crate) fn u32(&mut self, property: PropertyId) -> Result<u32, DecodeError> {
        self.fields.u32(property.name())
    }

    pub(crate) fn u32_above_zero(&mut self, property: PropertyId) -> Result<u32, DecodeError> {
        match self.fields.u32(property.name())? {
            0 => Err(self.refuse(property, 0)),
            value => Ok(value),
        }
    }

    pub(crate) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        let property = PropertyId::SubscriptionIdentifier;
        match self.fields.varint(property.name())? {
            0 => Err(self.refuse(property, 0)),
            value => Ok(value),
        }
    }

    pub(crate) fn text(&mut self, property: PropertyId) -> Result<MqttString, DecodeError> {
        self.fields.text(property.name())
    }

    pub(crate) fn binary(&mut self, property: PropertyId) -> Result<Bytes, DecodeError> {
        self.fields.binary(property.name())
    }

    pub(crate) fn credential(&mut self, property: PropertyId) -> Result<Credential, DecodeError> {
        self.fields.credential(property.name())
    }

    /// The response topic, which must not contain wildcards (`[MQTT-3.3.2-14]`).
    pub(crate) fn response_topic(&mut self) -> Result<TopicName, DecodeError> {
        let text = self.text(PropertyId::ResponseTopic)?;
        let packet = self.fields.packet;
        TopicName::from_text(text).map_err(|error| DecodeError::ResponseTopic { packet, error })
    }

    pub(crate) fn user(&mut self, properties: &mut UserProperties) -> Result<(), DecodeError> {
        let name = self.fields.text("user property name")?;
        let value = self.fields.text("user property value")?;
        properties.push((name, value));
        Ok(())
    }
}
