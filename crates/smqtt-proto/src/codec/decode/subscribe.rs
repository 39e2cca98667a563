//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::super::property::PropertyId as P;
use super::super::reader::Reader;
use super::ack_properties;
use crate::packet::{
    AckProperties, RetainHandling, SubAck, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeProperties,
};
use crate::{DecodeError, PacketType, QoS, ReasonCode};

pub(super) fn subscribe(mut reader: Reader, v5: bool) -> Result<Subscribe, DecodeError> {
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

pub(super) fn suback(mut reader: Reader, v5: bool) -> Result<SubAck, DecodeError> {
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

pub(super) fn unsubscribe(mut reader: Reader, v5: bool) -> Result<Unsubscribe, DecodeError> {
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

pub(super) fn unsuback(mut reader: Reader, v5: bool) -> Result<UnsubAck, DecodeError> {
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
