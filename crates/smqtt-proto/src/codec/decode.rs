//! Decoding of each packet's variable header and payload.

use bytes::{Buf, Bytes};

use super::frame::Header;
use super::property::PropertyId as P;
use super::reader::{PropertyReader, Reader};
use crate::packet::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, MessageProperties, Publish,
    PublishProperties, RetainHandling, SubAck, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeProperties, Will, WillProperties,
};
use crate::{
    DecodeError, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode, TopicError,
    TopicName,
};

/// Takes the packet with this header, which is whole, off `batch`.
#[inline]
pub(crate) fn packet(
    version: ProtocolVersion,
    header: &Header,
    batch: &mut Bytes,
) -> Result<Packet, DecodeError> {
    let v5 = version.is_v5();
    let packet = header.packet;
    if packet == PacketType::Publish {
        let frame = batch.split_to(header.total());
        return publish(frame, header, v5).map(Packet::Publish);
    }
    batch.advance(header.len);
    // Acknowledgements are mostly two bytes: read them in place, without counting a reference.
    if matches!(
        packet,
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp
    ) && header.remaining == 2
    {
        let packet_id =
            PacketId::new(batch.get_u16()).ok_or(DecodeError::ZeroPacketId { packet })?;
        let ack = Ack::new(packet_id, ReasonCode::Success);
        return Ok(acknowledgement(packet, ack));
    }
    other_packet(
        Reader::new(packet, batch.split_to(header.remaining)),
        v5,
        header.minimal,
    )
}

fn other_packet(reader: Reader, v5: bool, minimal: bool) -> Result<Packet, DecodeError> {
    let packet = reader.packet;
    match packet {
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            ack(reader, v5).map(|ack| acknowledgement(packet, ack))
        }
        PacketType::Subscribe => subscribe(reader, v5).map(Packet::Subscribe),
        PacketType::SubAck => suback(reader, v5).map(Packet::SubAck),
        PacketType::Unsubscribe => unsubscribe(reader, v5).map(Packet::Unsubscribe),
        PacketType::UnsubAck => unsuback(reader, v5).map(Packet::UnsubAck),
        PacketType::PingReq => reader.end().map(|()| Packet::PingReq),
        PacketType::PingResp => reader.end().map(|()| Packet::PingResp),
        PacketType::Disconnect => disconnect(reader, v5).map(Packet::Disconnect),
        PacketType::Auth if v5 => auth(reader).map(|auth| Packet::Auth(Box::new(auth))),
        PacketType::Auth => Err(DecodeError::NotInVersion { packet }),
        PacketType::ConnAck => {
            connack(reader, v5).map(|connack| Packet::ConnAck(Box::new(connack)))
        }
        PacketType::Connect => {
            connect_fields(reader, minimal).map(|connect| Packet::Connect(Box::new(connect)))
        }
        PacketType::Publish => unreachable!("a PUBLISH takes another way"),
    }
}

fn acknowledgement(packet: PacketType, ack: Ack) -> Packet {
    match packet {
        PacketType::PubAck => Packet::PubAck(ack),
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    }
}

/// The packet that every message takes: offsets are found in the slice, and references to the buffer are counted
/// only for what is kept.
#[inline]
fn publish(mut frame: Bytes, header: &Header, v5: bool) -> Result<Publish, DecodeError> {
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

fn ack(mut reader: Reader, v5: bool) -> Result<Ack, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut ack = Ack::new(packet_id, ReasonCode::Success);
    // Reason code and property length may be left out (MQTT 5.0 §3.4.2.1, §3.4.2.2.1).
    if v5 && !reader.is_empty() {
        ack.reason = reader.reason()?;
        if !reader.is_empty() {
            ack.properties = ack_properties(&mut reader)?;
        }
    }
    reader.end()?;
    Ok(ack)
}

fn ack_properties(reader: &mut Reader) -> Result<AckProperties, DecodeError> {
    let mut list = reader.properties()?;
    let mut p = AckProperties::default();
    while let Some(id) = list.next()? {
        match id {
            P::ReasonString => p.reason_string = Some(list.text(id)?),
            P::UserProperty => list.user(&mut p.user_properties)?,
            other => return Err(list.misplaced(other)),
        }
    }
    Ok(p)
}

fn subscribe(mut reader: Reader, v5: bool) -> Result<Subscribe, DecodeError> {
    let packet = PacketType::Subscribe;
    let packet_id = reader.packet_id()?;
    let mut properties = SubscribeProperties::default();
    if v5 {
        let mut list = reader.properties()?;
        while let Some(id) = list.next()? {
            match id {
                P::SubscriptionIdentifier => {
                    properties.subscription_id = Some(list.subscription_id()?);
                }
                P::UserProperty => list.user(&mut properties.user_properties)?,
                other => return Err(list.misplaced(other)),
            }
        }
    }
    let mut subscriptions = Vec::new();
    while !reader.is_empty() {
        let filter = reader.topic_filter()?;
        let field = "subscription options";
        let value = reader.u8(field)?;
        let reserved = if v5 { 0b1100_0000 } else { 0b1111_1100 };
        if value & reserved != 0 {
            // [MQTT-3.8.3-5], [MQTT-3-8.3-4] of 3.1.1
            return Err(DecodeError::ReservedBits {
                packet,
                field,
                value,
            });
        }
        let options = SubscriptionOptions {
            qos: QoS::from_u8(value & 0b11).ok_or(DecodeError::SubscriptionOption {
                field: "maximum QoS",
            })?,
            no_local: value & 0b100 != 0,
            retain_as_published: value & 0b1000 != 0,
            retain_handling: RetainHandling::from_u8((value >> 4) & 0b11).ok_or(
                DecodeError::SubscriptionOption {
                    field: "retain handling",
                },
            )?,
        };
        if options.no_local && filter.is_shared() {
            return Err(DecodeError::NoLocalOnSharedSubscription); // [MQTT-3.8.3-4]
        }
        subscriptions.push(Subscription { filter, options });
    }
    if subscriptions.is_empty() {
        return Err(DecodeError::NoSubscriptions { packet }); // [MQTT-3.8.3-2]
    }
    Ok(Subscribe {
        packet_id,
        properties,
        subscriptions,
    })
}

fn suback(mut reader: Reader, v5: bool) -> Result<SubAck, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = if v5 {
        ack_properties(&mut reader)?
    } else {
        AckProperties::default()
    };
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        let reason = reader.reason()?;
        // [MQTT-3.9.3-2] of 3.1.1: only 0, 1, 2 and 0x80.
        if !v5 && reason.is_error() && reason != ReasonCode::UnspecifiedError {
            return Err(DecodeError::UnknownReasonCode {
                packet: PacketType::SubAck,
                code: reason.as_u8(),
            });
        }
        reasons.push(reason);
    }
    if reasons.is_empty() {
        return Err(DecodeError::NoSubscriptions {
            packet: PacketType::SubAck,
        });
    }
    Ok(SubAck {
        packet_id,
        properties,
        reasons,
    })
}

fn unsubscribe(mut reader: Reader, v5: bool) -> Result<Unsubscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut properties = UnsubscribeProperties::default();
    if v5 {
        let mut list = reader.properties()?;
        while let Some(id) = list.next()? {
            match id {
                P::UserProperty => list.user(&mut properties.user_properties)?,
                other => return Err(list.misplaced(other)),
            }
        }
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(reader.topic_filter()?);
    }
    if filters.is_empty() {
        // [MQTT-3.10.3-2]
        return Err(DecodeError::NoSubscriptions {
            packet: PacketType::Unsubscribe,
        });
    }
    Ok(Unsubscribe {
        packet_id,
        properties,
        filters,
    })
}

fn unsuback(mut reader: Reader, v5: bool) -> Result<UnsubAck, DecodeError> {
    let packet_id = reader.packet_id()?;
    if !v5 {
        reader.end()?;
        let properties = AckProperties::default();
        return Ok(UnsubAck {
            packet_id,
            properties,
            reasons: Vec::new(),
        });
    }
    let properties = ack_properties(&mut reader)?;
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        reasons.push(reader.reason()?);
    }
    if reasons.is_empty() {
        return Err(DecodeError::NoSubscriptions {
            packet: PacketType::UnsubAck,
        });
    }
    Ok(UnsubAck {
        packet_id,
        properties,
        reasons,
    })
}

fn disconnect(mut reader: Reader, v5: bool) -> Result<Disconnect, DecodeError> {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    // Reason code and property length may be left out (MQTT 5.0 §3.14.2.1, §3.14.2.2.1).
    if v5 && !reader.is_empty() {
        disconnect.reason = reader.reason()?;
        if !reader.is_empty() {
            let mut list = reader.properties()?;
            let p: &mut DisconnectProperties = &mut disconnect.properties;
            while let Some(id) = list.next()? {
                match id {
                    P::SessionExpiryInterval => p.session_expiry_interval = Some(list.u32(id)?),
                    P::ReasonString => p.reason_string = Some(list.text(id)?),
                    P::UserProperty => list.user(&mut p.user_properties)?,
                    P::ServerReference => p.server_reference = Some(list.text(id)?),
                    other => return Err(list.misplaced(other)),
                }
            }
        }
    }
    reader.end()?;
    Ok(disconnect)
}

fn auth(mut reader: Reader) -> Result<Auth, DecodeError> {
    let mut p = AuthProperties::default();
    // An empty AUTH means success (MQTT 5.0 §3.15.2.1).
    if reader.is_empty() {
        return Ok(Auth {
            reason: ReasonCode::Success,
            properties: p,
        });
    }
    let reason = reader.reason()?;
    let mut list = reader.properties()?;
    while let Some(id) = list.next()? {
        match id {
            P::AuthenticationMethod => p.authentication_method = Some(list.text(id)?),
            P::AuthenticationData => p.authentication_data = Some(list.credential(id)?),
            P::ReasonString => p.reason_string = Some(list.text(id)?),
            P::UserProperty => list.user(&mut p.user_properties)?,
            other => return Err(list.misplaced(other)),
        }
    }
    let packet = PacketType::Auth;
    if p.authentication_method.is_none() {
        return Err(DecodeError::NoAuthenticationMethod { packet });
    }
    reader.end()?;
    Ok(Auth {
        reason,
        properties: p,
    })
}

fn connack(mut reader: Reader, v5: bool) -> Result<ConnAck, DecodeError> {
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

fn connect_fields(mut reader: Reader, minimal: bool) -> Result<Connect, DecodeError> {
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
