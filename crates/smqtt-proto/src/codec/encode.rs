//! Encoding of packets.

use bytes::{BufMut, BytesMut};

use super::property::PropertyId as P;
use super::varint;
use crate::packet::{
    Ack, AckProperties, Auth, ConnAck, Connect, Disconnect, Publish, PublishProperties, SubAck,
    Subscribe, UnsubAck, Unsubscribe, UserProperties, Will,
};
use crate::{
    EncodeError, MqttString, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, TopicName,
};

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

fn above_zero<T: Copy + Into<u32>>(field: P, value: Option<T>) -> Result<(), EncodeError> {
    match value.map(Into::into) {
        Some(0) => Err(EncodeError::Value {
            field: field.name(),
            value: 0,
        }),
        _ => Ok(()),
    }
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

fn publish_body<S: Sink>(publish: &Publish, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    let wants_id = publish.qos != QoS::AtMostOnce;
    if wants_id != publish.packet_id.is_some() || (publish.dup && !wants_id) {
        return Err(EncodeError::PublishIdentifier);
    }
    if publish.topic.is_aliased() && !(v5 && publish.properties.topic_alias.is_some()) {
        return Err(EncodeError::NoTopic);
    }
    out.topic(&publish.topic);
    if let Some(id) = publish.packet_id {
        out.u16(id.get());
    }
    if v5 {
        let p = &publish.properties;
        property_list(out, |out| {
            out.property_u32(P::MessageExpiryInterval, p.message_expiry_interval);
            out.property_u16(P::TopicAlias, p.topic_alias.map(std::num::NonZeroU16::get));
            for &id in &p.subscription_ids {
                out.subscription_id(id)?;
            }
            write_message_properties(p, out)
        })?;
    }
    out.put(&publish.payload);
    Ok(())
}

/// The properties of a message that are the same for every subscriber: all but message expiry interval,
/// topic alias and subscription identifiers.
pub(crate) fn write_message_properties<S: Sink + ?Sized>(
    p: &PublishProperties,
    out: &mut S,
) -> Result<(), EncodeError> {
    out.property_flag(P::PayloadFormatIndicator, p.payload_is_utf8);
    out.response_topic(p.response_topic.as_ref())?;
    out.property_binary(P::CorrelationData, p.correlation_data.as_deref())?;
    out.property_text(P::ContentType, p.content_type.as_ref());
    out.user_properties(&p.user_properties);
    Ok(())
}

fn ack_body<S: Sink>(ack: &Ack, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    out.u16(ack.packet_id.get());
    if !v5 {
        return Ok(());
    }
    let bare = ack.properties == AckProperties::default();
    // Both may be left out from the end (MQTT 5.0 §3.4.2.1, §3.4.2.2.1).
    if bare && ack.reason == ReasonCode::Success {
        return Ok(());
    }
    out.u8(ack.reason.as_u8());
    if bare {
        Ok(())
    } else {
        ack_properties(&ack.properties, out)
    }
}

fn ack_properties<S: Sink>(p: &AckProperties, out: &mut S) -> Result<(), EncodeError> {
    property_list(out, |out| {
        out.property_text(P::ReasonString, p.reason_string.as_ref());
        out.user_properties(&p.user_properties);
        Ok(())
    })
}

fn subscribe_body<S: Sink>(s: &Subscribe, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    if s.subscriptions.is_empty() {
        return Err(EncodeError::NoSubscriptions {
            packet: PacketType::Subscribe,
        });
    }
    out.u16(s.packet_id.get());
    if v5 {
        property_list(out, |out| {
            if let Some(id) = s.properties.subscription_id {
                out.subscription_id(id)?;
            }
            out.user_properties(&s.properties.user_properties);
            Ok(())
        })?;
    }
    for subscription in &s.subscriptions {
        out.text(subscription.filter.text());
        let options = &subscription.options;
        let mut byte = options.qos as u8;
        if v5 {
            byte |= u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | (options.retain_handling as u8) << 4;
        }
        out.u8(byte);
    }
    Ok(())
}

fn suback_body<S: Sink>(s: &SubAck, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    if s.reasons.is_empty() {
        return Err(EncodeError::NoSubscriptions {
            packet: PacketType::SubAck,
        });
    }
    out.u16(s.packet_id.get());
    if v5 {
        ack_properties(&s.properties, out)?;
    }
    for reason in &s.reasons {
        // [MQTT-3.9.3-2] of 3.1.1: failure has one code.
        out.u8(if v5 || !reason.is_error() {
            reason.as_u8()
        } else {
            0x80
        });
    }
    Ok(())
}

fn unsubscribe_body<S: Sink>(u: &Unsubscribe, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    if u.filters.is_empty() {
        return Err(EncodeError::NoSubscriptions {
            packet: PacketType::Unsubscribe,
        });
    }
    out.u16(u.packet_id.get());
    if v5 {
        property_list(out, |out| {
            out.user_properties(&u.properties.user_properties);
            Ok(())
        })?;
    }
    for filter in &u.filters {
        out.text(filter.text());
    }
    Ok(())
}

fn unsuback_body<S: Sink>(u: &UnsubAck, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    out.u16(u.packet_id.get());
    if v5 {
        if u.reasons.is_empty() {
            return Err(EncodeError::NoSubscriptions {
                packet: PacketType::UnsubAck,
            });
        }
        ack_properties(&u.properties, out)?;
        for reason in &u.reasons {
            out.u8(reason.as_u8());
        }
    }
    Ok(())
}

fn disconnect_body<S: Sink>(d: &Disconnect, out: &mut S) -> Result<(), EncodeError> {
    let p = &d.properties;
    let bare = *p == crate::packet::DisconnectProperties::default();
    // Both may be left out from the end (MQTT 5.0 §3.14.2.1, §3.14.2.2.1).
    if bare && d.reason == ReasonCode::Success {
        return Ok(());
    }
    out.u8(d.reason.as_u8());
    if bare {
        return Ok(());
    }
    property_list(out, |out| {
        out.property_u32(P::SessionExpiryInterval, p.session_expiry_interval);
        out.property_text(P::ReasonString, p.reason_string.as_ref());
        out.user_properties(&p.user_properties);
        out.property_text(P::ServerReference, p.server_reference.as_ref());
        Ok(())
    })
}

fn auth_body<S: Sink>(auth: &Auth, out: &mut S) -> Result<(), EncodeError> {
    let p = &auth.properties;
    if auth.reason == ReasonCode::Success && *p == crate::packet::AuthProperties::default() {
        return Ok(());
    }
    if p.authentication_method.is_none() {
        return Err(EncodeError::NoAuthenticationMethod);
    }
    out.u8(auth.reason.as_u8());
    property_list(out, |out| {
        out.property_text(P::AuthenticationMethod, p.authentication_method.as_ref());
        let data = p
            .authentication_data
            .as_ref()
            .map(crate::Credential::expose);
        out.property_binary(P::AuthenticationData, data)?;
        out.property_text(P::ReasonString, p.reason_string.as_ref());
        out.user_properties(&p.user_properties);
        Ok(())
    })
}

fn connack_body<S: Sink>(c: &ConnAck, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    out.u8(u8::from(c.session_present));
    if !v5 {
        out.u8(c.reason.connect_return_code());
        return Ok(());
    }
    out.u8(c.reason.as_u8());
    let p = &c.properties;
    above_zero(P::ReceiveMaximum, p.receive_maximum)?;
    above_zero(P::MaximumPacketSize, p.maximum_packet_size)?;
    property_list(out, |out| {
        out.property_u32(P::SessionExpiryInterval, p.session_expiry_interval);
        out.property_u16(P::ReceiveMaximum, p.receive_maximum);
        // QoS 2 is the default and has no encoding (MQTT 5.0 §3.2.2.3.4).
        if let Some(qos) = p.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce) {
            out.put(&[P::MaximumQoS as u8, qos as u8]);
        }
        out.property_flag(P::RetainAvailable, p.retain_available);
        out.property_u32(P::MaximumPacketSize, p.maximum_packet_size);
        out.property_text(
            P::AssignedClientIdentifier,
            p.assigned_client_identifier.as_ref(),
        );
        out.property_u16(P::TopicAliasMaximum, p.topic_alias_maximum);
        out.property_text(P::ReasonString, p.reason_string.as_ref());
        out.user_properties(&p.user_properties);
        out.property_flag(
            P::WildcardSubscriptionAvailable,
            p.wildcard_subscription_available,
        );
        out.property_flag(
            P::SubscriptionIdentifiersAvailable,
            p.subscription_identifiers_available,
        );
        out.property_flag(
            P::SharedSubscriptionAvailable,
            p.shared_subscription_available,
        );
        out.property_u16(P::ServerKeepAlive, p.server_keep_alive);
        out.property_text(P::ResponseInformation, p.response_information.as_ref());
        out.property_text(P::ServerReference, p.server_reference.as_ref());
        out.property_text(P::AuthenticationMethod, p.authentication_method.as_ref());
        let data = p
            .authentication_data
            .as_ref()
            .map(crate::Credential::expose);
        out.property_binary(P::AuthenticationData, data)
    })
}

fn connect_body<S: Sink>(c: &Connect, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    if !v5 && c.password.is_some() && c.username.is_none() {
        return Err(EncodeError::PasswordWithoutUserName);
    }
    out.put(b"\x00\x04MQTT");
    out.u8(c.version.level());
    let mut flags = u8::from(c.clean_start) << 1;
    if let Some(will) = &c.will {
        flags |= 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(c.password.is_some()) << 6 | u8::from(c.username.is_some()) << 7;
    out.u8(flags);
    out.u16(c.keep_alive);
    if v5 {
        let p = &c.properties;
        above_zero(P::ReceiveMaximum, p.receive_maximum)?;
        above_zero(P::MaximumPacketSize, p.maximum_packet_size)?;
        property_list(out, |out| {
            out.property_u32(P::SessionExpiryInterval, p.session_expiry_interval);
            out.property_u16(P::ReceiveMaximum, p.receive_maximum);
            out.property_u32(P::MaximumPacketSize, p.maximum_packet_size);
            out.property_u16(P::TopicAliasMaximum, p.topic_alias_maximum);
            out.property_flag(
                P::RequestResponseInformation,
                p.request_response_information,
            );
            out.property_flag(P::RequestProblemInformation, p.request_problem_information);
            out.user_properties(&p.user_properties);
            out.property_text(P::AuthenticationMethod, p.authentication_method.as_ref());
            let data = p
                .authentication_data
                .as_ref()
                .map(crate::Credential::expose);
            out.property_binary(P::AuthenticationData, data)
        })?;
    }
    out.text(&c.client_id);
    if let Some(will) = &c.will {
        will_fields(will, v5, out)?;
    }
    if let Some(username) = &c.username {
        out.text(username);
    }
    if let Some(password) = &c.password {
        out.binary("password", password.expose())?;
    }
    Ok(())
}

fn will_fields<S: Sink>(will: &Will, v5: bool, out: &mut S) -> Result<(), EncodeError> {
    if will.topic.is_aliased() {
        return Err(EncodeError::NoTopic);
    }
    if v5 {
        let p = &will.properties;
        property_list(out, |out| {
            out.property_u32(P::WillDelayInterval, p.will_delay_interval);
            out.property_flag(P::PayloadFormatIndicator, p.payload_is_utf8);
            out.property_u32(P::MessageExpiryInterval, p.message_expiry_interval);
            out.property_text(P::ContentType, p.content_type.as_ref());
            out.response_topic(p.response_topic.as_ref())?;
            out.property_binary(P::CorrelationData, p.correlation_data.as_deref())?;
            out.user_properties(&p.user_properties);
            Ok(())
        })?;
    }
    out.topic(&will.topic);
    out.binary("will payload", &will.payload)
}
