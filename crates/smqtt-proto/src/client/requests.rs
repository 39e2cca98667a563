//! SUBSCRIBE and UNSUBSCRIBE, and what answers them.

use std::time::Instant;

use super::{Connection, State};
use crate::packet::{
    Subscribe, SubscribeProperties, Subscription, Unsubscribe, UnsubscribeProperties,
};
use crate::session::OutgoingState;
use crate::{
    EncodeError, Packet, PacketId, PacketType, TopicFilter, Violation, encode, encoded_len,
};

/// Why a SUBSCRIBE or UNSUBSCRIBE could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no connection, or no longer.
    #[error("the connection is not open")]
    NotOpen,
    /// All packet identifiers are in use.
    #[error("all 65535 packet identifiers are in use, wait for an acknowledgement")]
    NoPacketId,
    /// The packet is larger than the server takes (`[MQTT-3.2.2-15]`).
    #[error(
        "the packet is larger than the {limit} bytes that the server takes: ask for less at a time"
    )]
    PacketTooLarge {
        /// What the server takes.
        limit: u32,
    },
    /// It can't be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Connection {
    /// Sends a SUBSCRIBE and returns the packet identifier that its [`Event::SubAck`](super::Event::SubAck) has.
    ///
    /// # Errors
    /// It was not sent.
    pub fn subscribe(
        &mut self,
        now: Instant,
        subscriptions: Vec<Subscription>,
        properties: SubscribeProperties,
    ) -> Result<PacketId, RequestError> {
        let count = subscriptions.len();
        self.request(now, PacketType::SubAck, count, |packet_id| {
            Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                subscriptions,
            })
        })
    }

    /// Sends an UNSUBSCRIBE and returns the packet identifier that its [`Event::UnsubAck`](super::Event::UnsubAck) has.
    ///
    /// # Errors
    /// It was not sent.
    pub fn unsubscribe(
        &mut self,
        now: Instant,
        filters: Vec<TopicFilter>,
        properties: UnsubscribeProperties,
    ) -> Result<PacketId, RequestError> {
        let count = if self.version().is_v5() {
            filters.len()
        } else {
            0
        };
        self.request(now, PacketType::UnsubAck, count, |packet_id| {
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties,
                filters,
            })
        })
    }

    fn request(
        &mut self,
        now: Instant,
        answer: PacketType,
        count: usize,
        packet: impl FnOnce(PacketId) -> Packet,
    ) -> Result<PacketId, RequestError> {
        if self.state != State::Open {
            return Err(RequestError::NotOpen);
        }
        let limit = self.flow.terms.max_packet_size;
        let codes = u32::try_from(count).map_err(|_| RequestError::PacketTooLarge { limit })?;
        let state = OutgoingState::Request { answer, codes };
        let outgoing = &mut self.flow.session.outgoing;
        let id = outgoing
            .begin(state, false)
            .ok_or(RequestError::NoPacketId)?;
        let packet = packet(id);
        let version = self.flow.terms.version;
        let sent = match encoded_len(&packet, version) {
            Ok(len) if len > limit as usize => Err(RequestError::PacketTooLarge { limit }),
            Ok(_) => encode(&packet, version, self.flow.outbox.encoder()).map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        if sent.is_err() {
            self.flow.session.outgoing.end(id);
        }
        sent?;
        self.last_sent = now;
        Ok(id)
    }

    /// Ends the request that this answers (`[MQTT-3.8.4-2]`, `[MQTT-3.10.4-4]`).
    pub(super) fn answer(
        &mut self,
        packet: PacketType,
        id: PacketId,
        codes: usize,
    ) -> Result<(), Violation> {
        let fits = match self.flow.session.outgoing.get(id).map(|entry| &entry.state) {
            Some(&OutgoingState::Request {
                answer,
                codes: expected,
            }) => answer == packet && codes as u64 == u64::from(expected),
            _ => false,
        };
        if !fits {
            return Err(Violation::UnexpectedAnswer { packet });
        }
        self.flow.session.outgoing.end(id);
        Ok(())
    }
}
