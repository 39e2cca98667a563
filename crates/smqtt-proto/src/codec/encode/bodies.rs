//! The bodies of all packets but CONNECT and CONNACK.

use std::num::NonZeroU16;

use super::super::property::PropertyId as P;
use super::{Sink, property_list};
use crate::packet::{
    Ack, AckProperties, Auth, AuthProperties, Disconnect, DisconnectProperties, Publish,
    PublishProperties, SubAck, Subscribe, UnsubAck, Unsubscribe,
};
use crate::{Credential, EncodeError, PacketType, QoS, ReasonCode};

pub(super) fn publish_body<S: Sink>(
    publish: &Publish,
    v5: bool,
    out: &mut S,
) -> Result<(), EncodeError> {
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
            out.property_u16(P::TopicAlias, p.topic_alias.map(NonZeroU16::get));
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

pub(super) fn ack_body<S: Sink>(ack: &Ack, v5: bool, out: &mut S) -> Result<(), EncodeError> {
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

pub(super) fn subscribe_body<S: Sink>(
    s: &Subscribe,
    v5: bool,
    out: &mut S,
) -> Result<(), EncodeError> {
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

pub(super) fn suback_body<S: Sink>(s: &SubAck, v5: bool, out: &mut S) -> Result<(), EncodeError> {
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

pub(super) fn unsubscribe_body<S: Sink>(
    u: &Unsubscribe,
    v5: bool,
    out: &mut S,
) -> Result<(), EncodeError> {
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

pub(super) fn unsuback_body<S: Sink>(
    u: &UnsubAck,
    v5: bool,
    out: &mut S,
) -> Result<(), EncodeError> {
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

pub(super) fn disconnect_body<S: Sink>(d: &Disconnect, out: &mut S) -> Result<(), EncodeError> {
    let p = &d.properties;
    let bare = *p == DisconnectProperties::default();
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

pub(super) fn auth_body<S: Sink>(auth: &Auth, out: &mut S) -> Result<(), EncodeError> {
    let p = &auth.properties;
    if auth.reason == ReasonCode::Success && *p == AuthProperties::default() {
        return Ok(());
    }
    if p.authentication_method.is_none() {
        return Err(EncodeError::NoAuthenticationMethod);
    }
    out.u8(auth.reason.as_u8());
    property_list(out, |out| {
        out.property_text(P::AuthenticationMethod, p.authentication_method.as_ref());
        let data = p.authentication_data.as_ref().map(Credential::expose);
        out.property_binary(P::AuthenticationData, data)?;
        out.property_text(P::ReasonString, p.reason_string.as_ref());
        out.user_properties(&p.user_properties);
        Ok(())
    })
}
