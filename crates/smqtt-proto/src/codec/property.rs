//! Property identifiers and which packet may have which (MQTT 5.0 §2.2.2.2).

use std::fmt;

use crate::PacketType;

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// The identifier of an MQTT 5.0 property.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum PropertyId {
            $($(#[$doc])* $name = $value,)*
        }

        impl PropertyId {
            /// The property with this identifier.
            pub const fn from_u32(value: u32) -> Option<PropertyId> {
                match value {
                    $($value => Some(PropertyId::$name),)*
                    _ => None,
                }
            }

            /// What the specification calls it, in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(PropertyId::$name => $text,)*
                }
            }
        }
    };
}

properties! {
    /// Payload format indicator.
    PayloadFormatIndicator = 1, "payload format indicator";
    /// Message expiry interval.
    MessageExpiryInterval = 2, "message expiry interval";
    /// Content type.
    ContentType = 3, "content type";
    /// Response topic.
    ResponseTopic = 8, "response topic";
    /// Correlation data.
    CorrelationData = 9, "correlation data";
    /// Subscription identifier.
    SubscriptionIdentifier = 11, "subscription identifier";
    /// Session expiry interval.
    SessionExpiryInterval = 17, "session expiry interval";
    /// Assigned client identifier.
    AssignedClientIdentifier = 18, "assigned client identifier";
    /// Server keep alive.
    ServerKeepAlive = 19, "server keep alive";
    /// Authentication method.
    AuthenticationMethod = 21, "authentication method";
    /// Authentication data.
    AuthenticationData = 22, "authentication data";
    /// Request problem information.
    RequestProblemInformation = 23, "request problem information";
    /// Will delay interval.
    WillDelayInterval = 24, "will delay interval";
    /// Request response information.
    RequestResponseInformation = 25, "request response information";
    /// Response information.
    ResponseInformation = 26, "response information";
    /// Server reference.
    ServerReference = 28, "server reference";
    /// Reason string.
    ReasonString = 31, "reason string";
    /// Receive maximum.
    ReceiveMaximum = 33, "receive maximum";
    /// Topic alias maximum.
    TopicAliasMaximum = 34, "topic alias maximum";
    /// Topic alias.
    TopicAlias = 35, "topic alias";
    /// Maximum QoS.
    MaximumQoS = 36, "maximum QoS";
    /// Retain available.
    RetainAvailable = 37, "retain available";
    /// User property.
    UserProperty = 38, "user property";
    /// Maximum packet size.
    MaximumPacketSize = 39, "maximum packet size";
    /// Wildcard subscription available.
    WildcardSubscriptionAvailable = 40, "wildcard subscription available";
    /// Subscription identifiers available.
    SubscriptionIdentifiersAvailable = 41, "subscription identifiers available";
    /// Shared subscription available.
    SharedSubscriptionAvailable = 42, "shared subscription available";
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of properties, a bit for each identifier.
#[derive(Clone, Copy)]
pub(crate) struct PropertySet(u64);

impl PropertySet {
    pub(crate) const EMPTY: PropertySet = PropertySet(0);

    const fn of(ids: &[PropertyId]) -> PropertySet {
        let mut bits = 0;
        let mut i = 0;
        while i < ids.len() {
            bits |= 1 << ids[i] as u8;
            i += 1;
        }
        PropertySet(bits)
    }

    pub(crate) fn contains(self, id: PropertyId) -> bool {
        self.0 & (1 << id as u8) != 0
    }

    /// Adds it and says whether it was there before.
    pub(crate) fn replace(&mut self, id: PropertyId) -> bool {
        let before = self.contains(id);
        self.0 |= 1 << id as u8;
        before
    }

    /// What the packet may have.
    pub(crate) const fn allowed(packet: PacketType) -> PropertySet {
        use PropertyId as P;
        match packet {
            PacketType::Connect => PropertySet::of(&[
                P::SessionExpiryInterval,
                P::ReceiveMaximum,
                P::MaximumPacketSize,
                P::TopicAliasMaximum,
                P::RequestResponseInformation,
                P::RequestProblemInformation,
                P::UserProperty,
                P::AuthenticationMethod,
                P::AuthenticationData,
            ]),
            PacketType::ConnAck => PropertySet::of(&[
                P::SessionExpiryInterval,
                P::ReceiveMaximum,
                P::MaximumQoS,
                P::RetainAvailable,
                P::MaximumPacketSize,
                P::AssignedClientIdentifier,
                P::TopicAliasMaximum,
                P::ReasonString,
                P::UserProperty,
                P::WildcardSubscriptionAvailable,
                P::SubscriptionIdentifiersAvailable,
                P::SharedSubscriptionAvailable,
                P::ServerKeepAlive,
                P::ResponseInformation,
                P::ServerReference,
                P::AuthenticationMethod,
                P::AuthenticationData,
            ]),
            PacketType::Publish => PropertySet::of(&[
                P::PayloadFormatIndicator,
                P::MessageExpiryInterval,
                P::TopicAlias,
                P::ResponseTopic,
                P::CorrelationData,
                P::UserProperty,
                P::SubscriptionIdentifier,
                P::ContentType,
            ]),
            PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::SubAck
            | PacketType::UnsubAck => PropertySet::of(&[P::ReasonString, P::UserProperty]),
            PacketType::Subscribe => PropertySet::of(&[P::SubscriptionIdentifier, P::UserProperty]),
            PacketType::Unsubscribe => PropertySet::of(&[P::UserProperty]),
            PacketType::PingReq | PacketType::PingResp => PropertySet::EMPTY,
            PacketType::Disconnect => PropertySet::of(&[
                P::SessionExpiryInterval,
                P::ReasonString,
                P::UserProperty,
                P::ServerReference,
            ]),
            PacketType::Auth => PropertySet::of(&[
                P::AuthenticationMethod,
                P::AuthenticationData,
                P::ReasonString,
                P::UserProperty,
            ]),
        }
    }

    /// What the will in a CONNECT may have.
    pub(crate) const WILL: PropertySet = PropertySet::of(&[
        PropertyId::WillDelayInterval,
        PropertyId::PayloadFormatIndicator,
        PropertyId::MessageExpiryInterval,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
        PropertyId::UserProperty,
    ]);

    /// What may be there more than once: user properties everywhere, and in PUBLISH subscription identifiers
    /// (SUBSCRIBE has at most one, MQTT 5.0 §3.8.2.1.2).
    pub(crate) const fn repeatable(packet: PacketType) -> PropertySet {
        match packet {
            PacketType::Publish => {
                PropertySet::of(&[PropertyId::UserProperty, PropertyId::SubscriptionIdentifier])
            }
            _ => PropertySet::of(&[PropertyId::UserProperty]),
        }
    }
}
