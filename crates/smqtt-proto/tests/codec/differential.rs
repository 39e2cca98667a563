//! Our packets as an established codec, `mqtt-protocol-core`, understands and writes them.

use std::sync::Arc;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use proptest::prelude::*;
use smqtt_proto::{Packet, PacketType, ProtocolVersion, encode};

use crate::generate;

/// Where the body begins: behind the first byte and the remaining length.
fn body_offset(packet: &[u8]) -> usize {
    2 + packet[1..]
        .iter()
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
}

/// Parses with the other codec and writes what it understood.
macro_rules! through {
    ($version:ident, $packet:ident, $kind:expr) => {{
        let body = &$packet[body_offset($packet)..];
        macro_rules! plain {
            ($name:ident) => {
                $version::$name::parse(body)
                    .map(|(parsed, used)| (parsed.to_continuous_buffer(), used))
            };
        }
        let (written, used) = match $kind {
            PacketType::Connect => plain!(Connect),
            PacketType::ConnAck => plain!(Connack),
            PacketType::Publish => $version::Publish::parse($packet[0] & 0x0F, Arc::from(body))
                .map(|(parsed, used)| (parsed.to_continuous_buffer(), used)),
            PacketType::PubAck => plain!(Puback),
            PacketType::PubRec => plain!(Pubrec),
            PacketType::PubRel => plain!(Pubrel),
            PacketType::PubComp => plain!(Pubcomp),
            PacketType::Subscribe => plain!(Subscribe),
            PacketType::SubAck => plain!(Suback),
            PacketType::Unsubscribe => plain!(Unsubscribe),
            PacketType::UnsubAck => plain!(Unsuback),
            PacketType::PingReq => plain!(Pingreq),
            PacketType::PingResp => plain!(Pingresp),
            PacketType::Disconnect => plain!(Disconnect),
            PacketType::Auth => return through_auth($packet),
        }?;
        assert_eq!(used, body.len(), "it reads to the end");
        Ok(written)
    }};
}

fn through_v3_1_1(packet: &[u8], kind: PacketType) -> Result<Vec<u8>, MqttError> {
    through!(v3_1_1, packet, kind)
}

fn through_v5_0(packet: &[u8], kind: PacketType) -> Result<Vec<u8>, MqttError> {
    through!(v5_0, packet, kind)
}

fn through_auth(packet: &[u8]) -> Result<Vec<u8>, MqttError> {
    let (parsed, _) = v5_0::Auth::parse(&packet[body_offset(packet)..])?;
    Ok(parsed.to_continuous_buffer())
}

/// Where `mqtt-protocol-core` 0.7.9 is narrower than the specification.
fn is_refused_by_theirs_alone(packet: &Packet) -> bool {
    match packet {
        // MQTT 5.0 §3.1.2.9 has passwords without user names.
        Packet::Connect(connect) => connect.password.is_some() && connect.username.is_none(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn an_established_codec_understands_and_writes_the_same_bytes(
        (version, packet) in generate::version()
            .prop_flat_map(|version| (Just(version), generate::packet(version)))
    ) {
        prop_assume!(!is_refused_by_theirs_alone(&packet));
        let mut ours = BytesMut::new();
        encode(&packet, version, &mut ours).expect("generated packets can be encoded");
        let theirs = match version {
            ProtocolVersion::V3_1_1 => through_v3_1_1(&ours, packet.packet_type()),
            ProtocolVersion::V5 => through_v5_0(&ours, packet.packet_type()),
        };
        prop_assert_eq!(theirs, Ok(ours.to_vec()), "{:?}", packet);
    }
}
