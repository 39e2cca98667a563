//! Reason codes of MQTT 5.0 and the return codes of MQTT 3.1.1 that they stand for.

use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// A reason code (MQTT 5.0 §2.4). Codes below 0x80 tell of success.
        ///
        /// On MQTT 3.1.1 connections the codec translates them to and from CONNACK return codes and
        /// SUBACK failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// Every reason code, ascending.
            pub const ALL: &[ReasonCode] = &[$(ReasonCode::$name),*];

            /// The reason code with this number, or `None` if MQTT 5.0 has none.
            pub const fn from_u8(value: u8) -> Option<ReasonCode> {
                match value {
                    $($value => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }

            /// What the specification calls it, in lower case.
            pub const fn description(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; in DISCONNECT a normal disconnection, in SUBACK QoS 0 granted.
    Success = 0x00, "success";
    /// QoS 1 granted.
    GrantedQoS1 = 0x01, "granted QoS 1";
    /// QoS 2 granted.
    GrantedQoS2 = 0x02, "granted QoS 2";
    /// The client disconnects and wants its will published.
    DisconnectWithWill = 0x04, "disconnect with will message";
    /// Accepted, but nobody subscribes.
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    /// There was no such subscription to end.
    NoSubscriptionExisted = 0x11, "no subscription existed";
    /// Another step of authentication follows.
    ContinueAuthentication = 0x18, "continue authentication";
    /// Authenticate again.
    ReAuthenticate = 0x19, "re-authenticate";
    /// Refused without a reason that can be told.
    UnspecifiedError = 0x80, "unspecified error";
    /// The packet does not parse.
    MalformedPacket = 0x81, "malformed packet";
    /// The packet parses but is not allowed here.
    ProtocolError = 0x82, "protocol error";
    /// Valid, but not accepted by this implementation.
    ImplementationSpecificError = 0x83, "implementation specific error";
    /// The server does not speak this version.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    /// The client identifier is not allowed.
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    /// User name or password are wrong.
    BadUserNameOrPassword = 0x86, "bad user name or password";
    /// Not authorised.
    NotAuthorized = 0x87, "not authorized";
    /// The server is not available.
    ServerUnavailable = 0x88, "server unavailable";
    /// The server is busy, try later.
    ServerBusy = 0x89, "server busy";
    /// The client is banned.
    Banned = 0x8A, "banned";
    /// The server shuts down.
    ServerShuttingDown = 0x8B, "server shutting down";
    /// The authentication method is not supported or not the agreed one.
    BadAuthenticationMethod = 0x8C, "bad authentication method";
    /// Nothing came for one and a half keep-alives.
    KeepAliveTimeout = 0x8D, "keep alive timeout";
    /// Another connection took the session over.
    SessionTakenOver = 0x8E, "session taken over";
    /// The topic filter is well-formed but not accepted.
    TopicFilterInvalid = 0x8F, "topic filter invalid";
    /// The topic name is well-formed but not accepted.
    TopicNameInvalid = 0x90, "topic name invalid";
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    /// No such packet identifier.
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    /// More unacknowledged publications than the receive maximum allows.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    /// The topic alias is zero or above the topic alias maximum.
    TopicAliasInvalid = 0x94, "topic alias invalid";
    /// The packet is larger than the maximum packet size.
    PacketTooLarge = 0x95, "packet too large";
    /// The message rate is too high.
    MessageRateTooHigh = 0x96, "message rate too high";
    /// A quota is exceeded.
    QuotaExceeded = 0x97, "quota exceeded";
    /// Ended by an administrator.
    AdministrativeAction = 0x98, "administrative action";
    /// The payload is not of the format that it must have.
    PayloadFormatInvalid = 0x99, "payload format invalid";
    /// The server does not support retained messages.
    RetainNotSupported = 0x9A, "retain not supported";
    /// The QoS is above the server's maximum.
    QoSNotSupported = 0x9B, "QoS not supported";
    /// Use another server for now.
    UseAnotherServer = 0x9C, "use another server";
    /// The server has moved.
    ServerMoved = 0x9D, "server moved";
    /// The server does not support shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
    /// The connection rate is too high.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    /// The longest time allowed for a connection is over.
    MaximumConnectTime = 0xA0, "maximum connect time";
    /// The server does not support subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
    /// The server does not support wildcards.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// The number on the wire of MQTT 5.0.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether it tells of failure: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The SUBACK code that grants this QoS.
    pub const fn granted(qos: crate::QoS) -> ReasonCode {
        match qos {
            crate::QoS::AtMostOnce => ReasonCode::Success,
            crate::QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            crate::QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// The MQTT 3.1.1 CONNACK return code that says it best, 0 to 5 (MQTT 3.1.1 §3.2.2.3).
    pub const fn connect_return_code(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword => 4,
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => 5,
            _ => 3,
        }
    }

    /// The reason that an MQTT 3.1.1 CONNACK return code stands for, or `None` above 5.
    pub const fn from_connect_return_code(code: u8) -> Option<ReasonCode> {
        Some(match code {
            0 => ReasonCode::Success,
            1 => ReasonCode::UnsupportedProtocolVersion,
            2 => ReasonCode::ClientIdentifierNotValid,
            3 => ReasonCode::ServerUnavailable,
            4 => ReasonCode::BadUserNameOrPassword,
            5 => ReasonCode::NotAuthorized,
            _ => return None,
        })
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.description(), self.as_u8())
    }
}
