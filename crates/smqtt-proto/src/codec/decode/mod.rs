//! Decoding of each packet's variable header and payload.

mod connect;
mod publish;
mod subscribe;

use bytes::{Buf, Bytes};

use connect::{connack, connect_fields};
pub(crate) use connect::{connect, connect_version};
pub(crate) use publish::message_properties;
use publish::publish;
use subscribe::{suback, subscribe, unsuback, unsubscribe};

use super::frame::Header;
use super::property::PropertyId as P;
use super::reader::Reader;
use crate::packet::{Ack, AckProperties, Auth, AuthProperties, Disconnect, DisconnectProperties};
use crate::{DecodeError, Packet, PacketId, PacketType, ProtocolVersion, ReasonCode};

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
