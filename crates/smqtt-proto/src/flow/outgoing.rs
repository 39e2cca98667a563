//! Messages to the peer: as the window allows, again after a reconnect, until they are acknowledged.

use std::sync::Arc;
use std::time::Instant;

use super::{Flow, FlowEvent, Terms, wrong_acknowledgement};
use crate::aliases::{Alias, OutgoingAliases};
use crate::packet::Ack;
use crate::session::OutgoingState;
use crate::violation::PublishError;
use crate::{Delivery, Framing, Message, Outbox, PacketId, PacketType, QoS, ReasonCode, Violation};

impl Flow {
    /// How many more QoS 1 and 2 messages may be sent now.
    pub(crate) fn room(&self) -> usize {
        if self.resend.is_empty() {
            usize::from(self.terms.window - self.in_window)
        } else {
            0
        }
    }

    /// Whether the peer should not be listened to until an acknowledgement is given: MQTT 3.1.1 has no receive
    /// maximum, so the stream itself has to wait.
    pub(crate) fn is_saturated(&self) -> bool {
        !self.terms.version.is_v5() && self.owed.len() >= usize::from(self.terms.receive_maximum)
    }

    /// What was to be sent again and can't be.
    pub(crate) fn next_undeliverable(&mut self) -> Option<FlowEvent> {
        let packet_id = self.undeliverable.pop_front()?;
        Some(FlowEvent::Acknowledged {
            packet_id,
            reason: ReasonCode::PacketTooLarge,
        })
    }

    #[inline]
    pub(crate) fn publish(
        &mut self,
        message: &Arc<Message>,
        delivery: Delivery,
        now: Instant,
    ) -> Result<Option<PacketId>, PublishError> {
        if delivery.qos == QoS::AtMostOnce {
            return self.publish_once(message, &delivery, now).map(|()| None);
        }
        self.check_window(message, now)?;
        let packet_id = self.begin_outgoing(message, delivery)?;
        if let Err(error) = self.send_entry(packet_id, false, now) {
            self.session.outgoing.end(packet_id);
            self.in_window -= 1;
            return Err(error);
        }
        Ok(Some(packet_id))
    }

    /// As [`Flow::publish`] with QoS 1 or 2, but sends nothing yet.
    pub(crate) fn prepare(
        &mut self,
        message: &Arc<Message>,
        delivery: Delivery,
        now: Instant,
    ) -> Result<PacketId, PublishError> {
        self.check_window(message, now)?;
        let framing = Framing {
            packet_id: PacketId::new(1),
            ..Framing::default()
        };
        check_size(&self.terms, message, &delivery, &framing)?;
        self.begin_outgoing(message, delivery)
    }

    /// Whether a message of QoS 1 or 2 can be sent now.
    #[inline]
    fn check_window(&self, message: &Message, now: Instant) -> Result<(), PublishError> {
        if self.room() == 0 {
            return Err(PublishError::WindowFull);
        }
        if message.is_expired(now) {
            return Err(PublishError::Expired);
        }
        Ok(())
    }

    /// Makes a message part of the session and its window.
    #[inline]
    fn begin_outgoing(
        &mut self,
        message: &Arc<Message>,
        delivery: Delivery,
    ) -> Result<PacketId, PublishError> {
        let state = OutgoingState::Published {
            message: message.clone(),
            delivery,
        };
        let packet_id = self
            .session
            .outgoing
            .begin(state, true)
            .ok_or(PublishError::WindowFull)?;
        self.in_window += 1;
        Ok(packet_id)
    }

    /// Sends what was prepared.
    pub(crate) fn send_prepared(&mut self, packet_id: PacketId, now: Instant) {
        if self.send_entry(packet_id, false, now).is_err() {
            self.undeliverable.push_back(packet_id);
            self.end_outgoing(packet_id, now);
        }
    }

    #[inline]
    pub(crate) fn publish_once(
        &mut self,
        message: &Message,
        delivery: &Delivery,
        now: Instant,
    ) -> Result<(), PublishError> {
        debug_assert_eq!(delivery.qos, QoS::AtMostOnce, "callers have looked");
        if message.is_expired(now) {
            return Err(PublishError::Expired);
        }
        let terms = self.terms;
        let aliases = &mut self.outgoing_aliases;
        send(
            &terms,
            aliases,
            &mut self.outbox,
            message,
            delivery,
            Framing::default(),
            now,
        )?;
        self.traffic.publish_sent();
        Ok(())
    }

    /// Sends the message that is stored under this identifier.
    fn send_entry(&mut self, id: PacketId, dup: bool, now: Instant) -> Result<(), PublishError> {
        let entry = self.session.outgoing.get(id).map(|entry| &entry.state);
        let Some(OutgoingState::Published { message, delivery }) = entry else {
            return Ok(());
        };
        let framing = Framing {
            packet_id: Some(id),
            dup,
            ..Framing::default()
        };
        let terms = self.terms;
        let aliases = &mut self.outgoing_aliases;
        send(
            &terms,
            aliases,
            &mut self.outbox,
            message,
            delivery,
            framing,
            now,
        )?;
        self.traffic.publish_sent();
        Ok(())
    }

    /// Sends again as the window allows.
    pub(super) fn send_again(&mut self, now: Instant) {
        while self.in_window < self.terms.window {
            let Some(id) = self.resend.pop_front() else {
                return;
            };
            if self.send_entry(id, true, now).is_ok() {
                if let Some(entry) = self.session.outgoing.get_mut(id) {
                    entry.in_window = true;
                    self.in_window += 1;
                }
            } else {
                self.session.outgoing.end(id);
                self.undeliverable.push_back(id);
            }
        }
    }

    /// Ends an outgoing delivery, which may make room for another.
    fn end_outgoing(&mut self, id: PacketId, now: Instant) {
        if self
            .session
            .outgoing
            .end(id)
            .is_some_and(|entry| entry.in_window)
        {
            self.in_window -= 1;
            self.send_again(now);
        }
    }

    pub(crate) fn puback(
        &mut self,
        ack: &Ack,
        now: Instant,
    ) -> Result<Option<FlowEvent>, Violation> {
        let packet_id = ack.packet_id;
        match self
            .session
            .outgoing
            .get(packet_id)
            .map(|entry| &entry.state)
        {
            Some(OutgoingState::Published { delivery, .. }) if delivery.qos == QoS::AtLeastOnce => {
                self.end_outgoing(packet_id, now);
                Ok(Some(FlowEvent::Acknowledged {
                    packet_id,
                    reason: ack.reason,
                }))
            }
            Some(_) => wrong_acknowledgement(PacketType::PubAck, packet_id),
            None => Ok(None),
        }
    }

    pub(crate) fn pubrec(
        &mut self,
        ack: &Ack,
        now: Instant,
    ) -> Result<Option<FlowEvent>, Violation> {
        let packet_id = ack.packet_id;
        let Some(entry) = self.session.outgoing.get_mut(packet_id) else {
            // Nothing known: tell the peer so that it can let go (MQTT 5.0 §3.6.2.1).
            self.put_ack(
                PacketType::PubRel,
                packet_id,
                ReasonCode::PacketIdentifierNotFound,
            );
            return Ok(None);
        };
        match &entry.state {
            OutgoingState::Published { delivery, .. } if delivery.qos == QoS::ExactlyOnce => {
                if ack.reason.is_error() {
                    self.end_outgoing(packet_id, now);
                    return Ok(Some(FlowEvent::Acknowledged {
                        packet_id,
                        reason: ack.reason,
                    }));
                }
                entry.state = OutgoingState::Released;
                if !self.held {
                    self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success);
                }
                Ok(Some(FlowEvent::Received { packet_id }))
            }
            OutgoingState::Released if self.held => Ok(Some(FlowEvent::Received { packet_id })),
            OutgoingState::Released => {
                self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success);
                Ok(None)
            }
            _ => wrong_acknowledgement(PacketType::PubRec, packet_id),
        }
    }

    /// Sends PUBREL for a delivery whose PUBREC came, unless it is over.
    pub(crate) fn release(&mut self, packet_id: PacketId) {
        let state = self
            .session
            .outgoing
            .get(packet_id)
            .map(|entry| &entry.state);
        if matches!(state, Some(OutgoingState::Released)) {
            self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success);
        }
    }

    pub(crate) fn pubcomp(
        &mut self,
        ack: &Ack,
        now: Instant,
    ) -> Result<Option<FlowEvent>, Violation> {
        let packet_id = ack.packet_id;
        match self
            .session
            .outgoing
            .get(packet_id)
            .map(|entry| &entry.state)
        {
            Some(OutgoingState::Released) => {
                self.end_outgoing(packet_id, now);
                Ok(Some(FlowEvent::Acknowledged {
                    packet_id,
                    reason: ReasonCode::Success,
                }))
            }
            Some(_) => wrong_acknowledgement(PacketType::PubComp, packet_id),
            None => Ok(None),
        }
    }
}

/// Whether the peer takes a packet of this size.
#[inline]
fn check_size(
    terms: &Terms,
    message: &Message,
    delivery: &Delivery,
    framing: &Framing,
) -> Result<(), PublishError> {
    let size = message.encoded_len(terms.version, delivery, framing)?;
    if size > terms.max_packet_size as usize {
        return Err(PublishError::PacketTooLarge {
            size,
            limit: terms.max_packet_size,
        });
    }
    Ok(())
}

/// Writes a message, by alias where the peer takes aliases.
#[inline]
fn send(
    terms: &Terms,
    aliases: &mut OutgoingAliases,
    outbox: &mut Outbox,
    message: &Message,
    delivery: &Delivery,
    mut framing: Framing,
    now: Instant,
) -> Result<(), PublishError> {
    let found = aliases.find(message.topic(), terms.outgoing_aliases);
    match found {
        Some(Alias::Known(alias)) => {
            framing.topic_alias = Some(alias);
            framing.omit_topic = true;
        }
        Some(Alias::New(alias)) => framing.topic_alias = Some(alias),
        None => {}
    }
    check_size(terms, message, delivery, &framing)?;
    message.write(terms.version, delivery, &framing, now, outbox)?;
    if let Some(Alias::New(alias)) = found {
        aliases.learn(message.topic(), alias);
    }
    Ok(())
}
