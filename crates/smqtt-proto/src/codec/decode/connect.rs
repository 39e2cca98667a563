//! CONNECT and CONNACK.

use bytes::Bytes;

use super::super::property::PropertyId as P;
use super::super::reader::Reader;
use crate::packet::{ConnAck, ConnAckProperties, Connect, ConnectProperties, Will, WillProperties};
use crate::{DecodeError, PacketType, ProtocolVersion, QoS, ReasonCode};

pub(super) fn connack(mut reader: Reader, v5: bool) -> Result<ConnAck, DecodeError> {
    let packet = PacketType::ConnAck;
    let field = "acknowledge flags";
    let value = reader.u8(field)?;
    if value > 1 {
        return Err(DecodeError::ReservedBits {
            packet,
            field,
            value,
        }); // [MQTT-3.2.2-1]
    }
    let session_present = value == 1;
    let reason = if v5 {
        reader.reason()?
    } else {
        let code = reader.u8("return code")?;
        ReasonCode::from_connect_return_code(code)
            .ok_or(DecodeError::UnknownReasonCode { packet, code })?
    };
    if session_present && reason.is_error() {
        return Err(DecodeError::SessionPresentWithError); // [MQTT-3.2.2-6]
    }
    let properties = if v5 {
        connack_properties(&mut reader)?
    } else {
        ConnAckProperties::default()
    };
    reader.end()?;
    Ok(ConnAck {
        session_present,
        reason,
        properties,
    })
}

fn connack_properties(reader: &mut Reader) -> Result<ConnAckProperties, DecodeError> {
    let mut list = reader.properties()?;
    let mut p = ConnAckProperties::default();
    while let Some(id) = list.next()? {
        match id {
            P::SessionExpiryInterval => p.session_expiry_interval = Some(list.u32(id)?),
            P::ReceiveMaximum => p.receive_maximum = Some(list.u16_above_zero(id)?.get()),
            P::MaximumQoS => p.maximum_qos = Some(list.maximum_qos()?),
            P::RetainAvailable => p.retain_available = Some(list.flag(id)?),
            P::MaximumPacketSize => p.maximum_packet_size = Some(list.u32_above_zero(id)?),
            P::AssignedClientIdentifier => p.assigned_client_identifier = Some(list.text(id)?),
            P::TopicAliasMaximum => p.topic_alias_maximum = Some(list.u16(id)?),
            P::ReasonString => p.reason_string = Some(list.text(id)?),
            P::UserProperty => list.user(&mut p.user_properties)?,
            P::WildcardSubscriptionAvailable => {
                p.wildcard_subscription_available = Some(list.flag(id)?);
            }
            P::SubscriptionIdentifiersAvailable => {
                p.subscription_identifiers_available = Some(list.flag(id)?);
            }
            P::SharedSubscriptionAvailable => {
                p.shared_subscription_available = Some(list.flag(id)?);
            }
            P::ServerKeepAlive => p.server_keep_alive = Some(list.u16(id)?),
            P::ResponseInformation => p.response_information = Some(list.text(id)?),
            P::ServerReference => p.server_reference = Some(list.text(id)?),
            P::AuthenticationMethod => p.authentication_method = Some(list.text(id)?),
            P::AuthenticationData => p.authentication_data = Some(list.credential(id)?),
            other => return Err(list.misplaced(other)),
        }
    }
    Ok(p)
}

/// The version that the body of a CONNECT asks for, if it is one of ours.
pub(crate) fn connect_version(body: &[u8]) -> Option<ProtocolVersion> {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(ProtocolVersion::V3_1_1),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(ProtocolVersion::V5),
        _ => None,
    }
}

/// CONNECT, which says its version itself.
pub(crate) fn connect(body: Bytes, minimal: bool) -> Result<Connect, DecodeError> {
    connect_fields(Reader::new(PacketType::Connect, body), minimal)
}

pub(super) fn connect_fields(mut reader: Reader, minimal: bool) -> Result<Connect, DecodeError> {
    let packet = PacketType::Connect;
    // [MQTT-3.1.2-1]; "MQIsdp" is MQTT 3.1, refused by its level.
    let name = reader.binary("protocol name")?;
    if name != "MQTT" && name != "MQIsdp" {
        return Err(DecodeError::UnknownProtocolName);
    }
    let version = match (reader.u8("protocol level")?, name.len()) {
        (4, 4) => ProtocolVersion::V3_1_1,
        (5, 4) => ProtocolVersion::V5,
        (level, _) => return Err(DecodeError::UnsupportedProtocolLevel { level }),
    };
    let v5 = version.is_v5();
    if v5 && !minimal {
        return Err(DecodeError::VariableIntegerNotMinimal);
    }
    let field = "connect flags";
    let flags = reader.u8(field)?;
    if flags & 1 != 0 {
        return Err(DecodeError::ReservedBits {
            packet,
            field,
            value: flags,
        }); // [MQTT-3.1.2-3]
    }
    let will_qos = QoS::from_u8((flags >> 3) & 0b11).ok_or(DecodeError::InvalidQoS { packet })?; // [MQTT-3.1.2-12]
    let will_retain = flags & 0b10_0000 != 0;
    let has_will = flags & 0b100 != 0;
    if !has_will && (will_retain || will_qos != QoS::AtMostOnce) {
        return Err(DecodeError::WillFlagsWithoutWill); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    }
    let (has_username, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if !v5 && has_password && !has_username {
        return Err(DecodeError::PasswordWithoutUserName); // [MQTT-3.1.2-22] of 3.1.1
    }
    let keep_alive = reader.u16("keep alive")?;
    let properties = if v5 {
        connect_properties(&mut reader)?
    } else {
        ConnectProperties::default()
    };
    // [MQTT-3.1.3-1]: client identifier, will, user name, password in this order.
    let client_id = reader.text("client identifier")?;
    let will = if has_will {
        Some(will(&mut reader, v5, will_qos, will_retain)?)
    } else {
        None
    };
    let username = if has_username {
        Some(reader.text("user name")?)
    } else {
        None
    };
    let password = if has_password {
        Some(reader.credential("password")?)
    } else {
        None
    };
    reader.end()?;
    Ok(Connect {
        version,
        clean_start: flags & 0b10 != 0,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn connect_properties(reader: &mut Reader) -> Result<ConnectProperties, DecodeError> {
    let mut list = reader.properties()?;
    let mut p = ConnectProperties::default();
    while let Some(id) = list.next()? {
        match id {
            P::SessionExpiryInterval => p.session_expiry_interval = Some(list.u32(id)?),
            P::ReceiveMaximum => p.receive_maximum = Some(list.u16_above_zero(id)?.get()),
            P::MaximumPacketSize => p.maximum_packet_size = Some(list.u32_above_zero(id)?),
            P::TopicAliasMaximum => p.topic_alias_maximum = Some(list.u16(id)?),
            P::RequestResponseInformation => {
                p.request_response_information = Some(list.flag(id)?);
            }
            P::RequestProblemInformation => p.request_problem_information = Some(list.flag(id)?),
            P::UserProperty => list.user(&mut p.user_properties)?,
            P::AuthenticationMethod => p.authentication_method = Some(list.text(id)?),
            P::AuthenticationData => p.authentication_data = Some(list.credential(id)?),
            other => return Err(list.misplaced(other)),
        }
    }
    if p.authentication_data.is_some() && p.authentication_method.is_none() {
        return Err(DecodeError::NoAuthenticationMethod {
            packet: PacketType::Connect,
        });
    }
    Ok(p)
}

fn will(reader: &mut Reader, v5: bool, qos: QoS, retain: bool) -> Result<Will, DecodeError> {
    let mut p = WillProperties::default();
    if v5 {
        let mut list = reader.will_properties()?;
        while let Some(id) = list.next()? {
            match id {
                P::WillDelayInterval => p.will_delay_interval = Some(list.u32(id)?),
                P::PayloadFormatIndicator => p.payload_is_utf8 = Some(list.flag(id)?),
                P::MessageExpiryInterval => p.message_expiry_interval = Some(list.u32(id)?),
                P::ContentType => p.content_type = Some(list.text(id)?),
                P::ResponseTopic => p.response_topic = Some(list.response_topic()?),
                P::CorrelationData => p.correlation_data = Some(list.binary(id)?),
                P::UserProperty => list.user(&mut p.user_properties)?,
                other => return Err(list.misplaced(other)),
            }
        }
    }
    let topic = reader.topic_name("will topic")?;
    let payload = reader.binary("will payload")?;
    Ok(Will {
        topic,
        payload,
        qos,
        retain,
        properties: p,
    })
}
