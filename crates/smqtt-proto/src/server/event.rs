//! What a server learns from a connection.

use crate::packet::{Auth, Connect, Publish, Subscribe, Unsubscribe};
use crate::{Closed, PacketId, ReasonCode};

/// What happened on a connection. Getting one may leave bytes in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client wants in: answer with [`accept`](super::Connection::accept), [`reject`](super::Connection::reject) or
    /// [`authenticate`](super::Connection::authenticate). Nothing else of it is read until then.
    Connect(Box<Connect>),
    /// A message, its topic alias resolved. With QoS 1 and 2 it needs an
    /// [`acknowledge`](super::Connection::acknowledge), after it is as safe as the server promises.
    Publish(Publish),
    /// Answer with [`suback`](super::Connection::suback).
    Subscribe(Subscribe),
    /// Answer with [`unsuback`](super::Connection::unsuback).
    Unsubscribe(Unsubscribe),
    /// A QoS 1 or 2 delivery to the client is over, with success or not; there is room in the window. Too large to
    /// be sent again after a reconnect is [`ReasonCode::PacketTooLarge`].
    Acknowledged {
        /// What [`publish`](super::Connection::publish) returned.
        packet_id: PacketId,
        /// How it went.
        reason: ReasonCode,
    },
    /// The client has a QoS 2 message (PUBREC): it must never be sent again. PUBREL is on its way, or, where answers are
    /// held, waits for [`release`](super::Connection::release).
    Received {
        /// What [`publish`](super::Connection::publish) returned.
        packet_id: PacketId,
    },
    /// The client has let go of a QoS 2 message that it published (PUBREL): its identifier is free again, or, where
    /// answers are held, is so with [`complete`](super::Connection::complete).
    Released {
        /// The identifier of the PUBLISH.
        packet_id: PacketId,
    },
    /// A step of extended authentication: answer with [`authenticate`](super::Connection::authenticate),
    /// [`accept`](super::Connection::accept) (in the handshake), or end the connection.
    Auth(Auth),
    /// It is over: nothing follows. Write what is in the outbox, then close the stream. A will is to be published
    /// unless this is [`Closed::Disconnected`] with [`ReasonCode::Success`] (`[MQTT-3.1.2-8]`, `[MQTT-3.14.4-3]`).
    Closed(Closed),
}
