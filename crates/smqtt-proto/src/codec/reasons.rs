//! Which reason codes each packet may have (MQTT 5.0, the tables of §3.2.2.2 to §3.15.2.1).

use crate::{PacketType, ReasonCode};

/// Whether the packet may have this reason code.
pub(crate) fn belongs(reason: ReasonCode, packet: PacketType) -> bool {
    use ReasonCode as R;
    match packet {
        // [MQTT-3.2.2-8]
        PacketType::ConnAck => matches!(
            reason,
            R::Success
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::UnsupportedProtocolVersion
                | R::ClientIdentifierNotValid
                | R::BadUserNameOrPassword
                | R::NotAuthorized
                | R::ServerUnavailable
                | R::ServerBusy
                | R::Banned
                | R::BadAuthenticationMethod
                | R::TopicNameInvalid
                | R::PacketTooLarge
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
                | R::RetainNotSupported
                | R::QoSNotSupported
                | R::UseAnotherServer
                | R::ServerMoved
                | R::ConnectionRateExceeded
        ),
        // [MQTT-3.4.2-1], [MQTT-3.5.2-1]
        PacketType::PubAck | PacketType::PubRec => matches!(
            reason,
            R::Success
                | R::NoMatchingSubscribers
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicNameInvalid
                | R::PacketIdentifierInUse
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
        ),
        // [MQTT-3.6.2-1], [MQTT-3.7.2-1]
        PacketType::PubRel | PacketType::PubComp => {
            matches!(reason, R::Success | R::PacketIdentifierNotFound)
        }
        // [MQTT-3.9.3-2]
        PacketType::SubAck => matches!(
            reason,
            R::Success
                | R::GrantedQoS1
                | R::GrantedQoS2
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicFilterInvalid
                | R::PacketIdentifierInUse
                | R::QuotaExceeded
                | R::SharedSubscriptionsNotSupported
                | R::SubscriptionIdentifiersNotSupported
                | R::WildcardSubscriptionsNotSupported
        ),
        // [MQTT-3.11.3-2]
        PacketType::UnsubAck => matches!(
            reason,
            R::Success
                | R::NoSubscriptionExisted
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicFilterInvalid
                | R::PacketIdentifierInUse
        ),
        // [MQTT-3.14.2-1]; which side may send which is the connection's matter.
        PacketType::Disconnect => matches!(
            reason,
            R::Success
                | R::DisconnectWithWill
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::ServerBusy
                | R::ServerShuttingDown
                | R::BadAuthenticationMethod
                | R::KeepAliveTimeout
                | R::SessionTakenOver
                | R::TopicFilterInvalid
                | R::TopicNameInvalid
                | R::ReceiveMaximumExceeded
                | R::TopicAliasInvalid
                | R::PacketTooLarge
                | R::MessageRateTooHigh
                | R::QuotaExceeded
                | R::AdministrativeAction
                | R::PayloadFormatInvalid
                | R::RetainNotSupported
                | R::QoSNotSupported
                | R::UseAnotherServer
                | R::ServerMoved
                | R::SharedSubscriptionsNotSupported
                | R::ConnectionRateExceeded
                | R::MaximumConnectTime
                | R::SubscriptionIdentifiersNotSupported
                | R::WildcardSubscriptionsNotSupported
        ),
        // [MQTT-3.15.2-1]
        PacketType::Auth => {
            matches!(
                reason,
                R::Success | R::ContinueAuthentication | R::ReAuthenticate
            )
        }
        PacketType::Connect
        | PacketType::Publish
        | PacketType::Subscribe
        | PacketType::Unsubscribe
        | PacketType::PingReq
        | PacketType::PingResp => false,
    }
}
