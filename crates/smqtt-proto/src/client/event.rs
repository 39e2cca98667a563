//! What a client learns from a connection.

use crate::packet::{Auth, ConnAck, Publish, SubAck, UnsubAck};
use crate::{Closed, InFlight, PacketId, ReasonCode};

/// What happened on a connection. Getting one may leave bytes in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server let the client in. If it has a session (`connack.session_present`), everything unacknowledged is
    /// being sent again.
    Connected {
        /// What the server said.
        connack: Box<ConnAck>,
        /// What was unacknowledged and is dropped because the server has no session (`[MQTT-3.2.2-5]`), in the order
        /// of sending: publish it anew if it must not be lost.
        lost: Vec<(PacketId, InFlight)>,
    },
    /// A message, its topic alias resolved. With QoS 1 and 2 it needs an
    /// [`acknowledge`](super::Connection::acknowledge).
    Publish(Publish),
    /// The answer to [`subscribe`](super::Connection::subscribe), with as many codes as there were subscriptions.
    SubAck(SubAck),
    /// The answer to [`unsubscribe`](super::Connection::unsubscribe); on MQTT 5.0 with as many codes as there were
    /// filters, on MQTT 3.1.1 without any.
    UnsubAck(UnsubAck),
    /// A QoS 1 or 2 delivery to the server is over, with success or not; there is room in the window. Too large to
    /// be sent again after a reconnect is [`ReasonCode::PacketTooLarge`].
    Acknowledged {
        /// What [`publish`](super::Connection::publish) returned.
        packet_id: PacketId,
        /// How it went.
        reason: ReasonCode,
    },
    /// The server has a QoS 2 message (PUBREC): it must never be sent again. PUBREL is on its way.
    Received {
        /// What [`publish`](super::Connection::publish) returned.
        packet_id: PacketId,
    },
    /// The server has let go of a QoS 2 message that it sent (PUBREL): its identifier is free again.
    Released {
        /// The identifier of the PUBLISH.
        packet_id: PacketId,
    },
    /// A step of extended authentication: answer with [`authenticate`](super::Connection::authenticate) if its reason
    /// is [`ReasonCode::ContinueAuthentication`].
    Auth(Auth),
    /// It is over: nothing follows. Write what is in the outbox, then close the stream.
    Closed(Closed),
}
