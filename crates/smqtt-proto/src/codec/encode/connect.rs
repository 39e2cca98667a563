//! CONNECT and CONNACK.

use super::super::property::PropertyId as P;
use super::{Sink, property_list};
use crate::packet::{ConnAck, Connect, Will};
use crate::{Credential, EncodeError, QoS};

pub(super) fn connack_body<S: Sink>(c: &ConnAck, v5: bool, out: &mut S) -> Result<(), EncodeError> {
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
        let data = p.authentication_data.as_ref().map(Credential::expose);
        out.property_binary(P::AuthenticationData, data)
    })
}

pub(super) fn connect_body<S: Sink>(c: &Connect, v5: bool, out: &mut S) -> Result<(), EncodeError> {
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
            let data = p.authentication_data.as_ref().map(Credential::expose);
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

fn above_zero<T: Copy + Into<u32>>(field: P, value: Option<T>) -> Result<(), EncodeError> {
    match value.map(Into::into) {
        Some(0) => Err(EncodeError::Value {
            field: field.name(),
            value: 0,
        }),
        _ => Ok(()),
    }
}
