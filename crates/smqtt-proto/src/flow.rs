//! Deliveries in both directions: what client and server connections have in common.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use bytes::BufMut;

use crate::aliases::{Alias, OutgoingAliases};
use crate::packet::{Ack, Publish};
use crate::session::{OutgoingState, Session};
use crate::violation::PublishError;
use crate::{
    Delivery, Framing, Message, Outbox, Packet, PacketId, PacketType, ProtocolVersion, QoS,
    ReasonCode, TopicName, Traffic, Violation, encode, encoded_len,
};

/// What the two sides agreed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) version: ProtocolVersion,
    /// How many QoS 1 and 2 messages this side may have unacknowledged.
    pub(crate) window: u16,
    /// How many QoS 1 and 2 messages the peer may have unacknowledged.
    pub(crate) receive_maximum: u16,
    /// The largest packet in bytes that the peer takes.
    pub(crate) max_packet_size: u32,
    /// The highest topic alias that the peer may use.
    pub(crate) incoming_aliases: u16,
    /// The highest topic alias that this side may use.
    pub(crate) outgoing_aliases: u16,
}

/// The deliveries of one connection and the session that outlives it.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) terms: Terms,
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) traffic: Traffic,
    /// Entries of `session.outgoing` that take a place in the window.
    in_window: u16,
    /// What earlier connections left unacknowledged, in order, to be sent again as the window allows.
    resend: VecDeque<PacketId>,
    /// What was to be sent again and is too large for this connection.
    undeliverable: VecDeque<PacketId>,
    /// What the peer has unacknowledged.
    received: u16,
    /// PUBACKs and PUBRECs owed, in the order of the PUBLISHes (`[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`).
    owed: VecDeque<Owed>,
    incoming_aliases: Vec<Option<TopicName>>,
    outgoing_aliases: OutgoingAliases,
    /// PUBREL and PUBCOMP wait for the owner's word.
    pub(crate) held: bool,
}

#[derive(Debug)]
struct Owed {
    packet_id: PacketId,
    qos: QoS,
    reply: Option<ReasonCode>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowEvent {
    Acknowledged {
        packet_id: PacketId,
        reason: ReasonCode,
    },
    Received {
        packet_id: PacketId,
    },
    Released {
        packet_id: PacketId,
    },
}

impl Flow {
    /// A flow without agreement yet: nothing flows.
    pub(crate) fn new(session: Session) -> Flow {
        Flow {
            terms: Terms {
                version: ProtocolVersion::V3_1_1,
                window: 0,
                receive_maximum: 0,
                max_packet_size: u32::MAX,
                incoming_aliases: 0,
                outgoing_aliases: 0,
            },
            session,
            outbox: Outbox::default(),
            traffic: Traffic::default(),
            in_window: 0,
            resend: VecDeque::new(),
            undeliverable: VecDeque::new(),
            received: 0,
            owed: VecDeque::new(),
            incoming_aliases: Vec::new(),
            outgoing_aliases: OutgoingAliases::default(),
            held: false,
        }
    }

    /// Begins with these terms and sends what an earlier connection left unacknowledged: all PUBRELs, and as many
    /// PUBLISHes as the window allows (`[MQTT-4.4.0-1]`).
    pub(crate) fn open(&mut self, terms: Terms, session: Session, now: Instant) {
        self.terms = terms;
        self.session = session;
        self.session.incoming.uncount();
        for id in self.session.outgoing.in_order() {
            let Some(entry) = self.session.outgoing.get_mut(id) else {
                continue;
            };
            entry.in_window = false;
            match entry.state {
                OutgoingState::Published { .. } => self.resend.push_back(id),
                OutgoingState::Released => {
                    self.put_ack(PacketType::PubRel, id, ReasonCode::Success);
                }
                OutgoingState::Request { .. } => {
                    self.session.outgoing.end(id);
                }
            }
        }
        self.send_again(now);
    }

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
    fn send_again(&mut self, now: Instant) {
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

    /// Takes a PUBLISH of the peer. `None`: the message has been handed over before.
    pub(crate) fn receive(&mut self, mut publish: Publish) -> Result<Option<Publish>, Violation> {
        if let Some(alias) = publish.properties.topic_alias {
            self.resolve_alias(alias, &mut publish)?;
        }
        let Some(packet_id) = publish.packet_id else {
            return Ok(Some(publish));
        };
        let qos = publish.qos;
        if qos == QoS::ExactlyOnce && self.receive_again(packet_id)? {
            return Ok(None);
        }
        self.count_received()?;
        if qos == QoS::ExactlyOnce {
            self.session.incoming.begin(packet_id);
        }
        self.owed.push_back(Owed {
            packet_id,
            qos,
            reply: None,
        });
        Ok(Some(publish))
    }

    /// Whether the peer repeats a QoS 2 message that was handed over already (`[MQTT-4.3.3-10]`): then it is
    /// acknowledged again, now or, if the owner has not decided yet, by its decision.
    fn receive_again(&mut self, packet_id: PacketId) -> Result<bool, Violation> {
        let Some(entry) = self.session.incoming.get_mut(packet_id) else {
            return Ok(false);
        };
        let (accepted, counted) = (entry.accepted, entry.counted);
        entry.counted = true;
        if !counted {
            self.count_received()?;
        }
        let qos = QoS::ExactlyOnce;
        if accepted {
            self.owed.push_back(Owed {
                packet_id,
                qos,
                reply: Some(ReasonCode::Success),
            });
            self.settle();
        } else if !self.owed.iter().any(|owed| owed.packet_id == packet_id) {
            self.owed.push_back(Owed {
                packet_id,
                qos,
                reply: None,
            });
        }
        Ok(true)
    }

    fn count_received(&mut self) -> Result<(), Violation> {
        let limit = self.terms.receive_maximum;
        if self.terms.version.is_v5() && self.received >= limit {
            return Err(Violation::ReceiveMaximumExceeded { limit });
        }
        self.received = self.received.saturating_add(1);
        Ok(())
    }

    fn resolve_alias(&mut self, alias: NonZeroU16, publish: &mut Publish) -> Result<(), Violation> {
        let (alias, maximum) = (alias.get(), self.terms.incoming_aliases);
        if alias > maximum {
            return Err(Violation::TopicAliasAboveMaximum { alias, maximum });
        }
        let index = usize::from(alias) - 1;
        if publish.topic.is_aliased() {
            let known = self.incoming_aliases.get(index).and_then(Option::as_ref);
            publish.topic = known.ok_or(Violation::UnknownTopicAlias { alias })?.clone();
        } else {
            if self.incoming_aliases.len() <= index {
                self.incoming_aliases.resize(index + 1, None);
            }
            // A copy: it lives as long as the connection and must not keep the read buffer.
            self.incoming_aliases[index] = Some(publish.topic.detach());
        }
        publish.properties.topic_alias = None;
        Ok(())
    }

    /// The owner's answer to a message that [`Flow::receive`] gave it. Answers leave in the order of the messages,
    /// in whichever order they are given.
    #[inline]
    pub(crate) fn acknowledge(&mut self, packet_id: PacketId, reason: ReasonCode) {
        let waiting = self
            .owed
            .iter_mut()
            .find(|owed| owed.packet_id == packet_id && owed.reply.is_none());
        match waiting {
            Some(owed) => {
                let qos = owed.qos;
                owed.reply = Some(reason);
                if qos == QoS::ExactlyOnce && !reason.is_error() {
                    self.session.incoming.accept(packet_id);
                }
                self.settle();
            }
            // Handed over on an earlier connection and not repeated yet.
            None if reason.is_error() => {
                self.session.incoming.end(packet_id);
            }
            None => self.session.incoming.accept(packet_id),
        }
    }

    /// The owner has refused a message without a word, and closes: when the peer sends it again it is new.
    pub(crate) fn withdraw(&mut self, packet_id: PacketId) {
        self.owed
            .retain(|owed| owed.packet_id != packet_id || owed.reply.is_some());
        self.end_incoming(packet_id);
    }

    /// Sends the answers that are due.
    fn settle(&mut self) {
        while let Some(&Owed {
            packet_id,
            qos,
            reply: Some(reason),
        }) = self.owed.front()
        {
            self.owed.pop_front();
            if qos == QoS::ExactlyOnce {
                self.put_ack(PacketType::PubRec, packet_id, reason);
                // [MQTT-4.3.3-9]: a refused message is over.
                if reason.is_error() {
                    self.end_incoming(packet_id);
                }
            } else {
                self.put_ack(PacketType::PubAck, packet_id, reason);
                self.received = self.received.saturating_sub(1);
            }
        }
        if self.owed.is_empty() && self.owed.capacity() > 64 {
            self.owed = VecDeque::new();
        }
    }

    fn end_incoming(&mut self, packet_id: PacketId) -> bool {
        let entry = self.session.incoming.end(packet_id);
        if entry.is_some_and(|entry| entry.counted) {
            self.received = self.received.saturating_sub(1);
        }
        entry.is_some()
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

    pub(crate) fn pubrel(&mut self, ack: &Ack) -> Result<Option<FlowEvent>, Violation> {
        let packet_id = ack.packet_id;
        if self
            .session
            .incoming
            .get_mut(packet_id)
            .is_some_and(|entry| !entry.accepted)
        {
            return wrong_acknowledgement(PacketType::PubRel, packet_id);
        }
        if self.held {
            return Ok(Some(FlowEvent::Released { packet_id }));
        }
        let released = self.complete_release(packet_id);
        Ok(released.then_some(FlowEvent::Released { packet_id }))
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

    /// Forgets a received message whose PUBREL came, and sends PUBCOMP; tells whether it was known.
    pub(crate) fn complete_release(&mut self, packet_id: PacketId) -> bool {
        let known = self.end_incoming(packet_id);
        let reason = match known {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        self.put_ack(PacketType::PubComp, packet_id, reason);
        known
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

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    fn put_ack(&mut self, packet: PacketType, id: PacketId, reason: ReasonCode) {
        let first = (packet as u8) << 4 | packet.flags();
        let [high, low] = id.get().to_be_bytes();
        self.traffic.packets_sent += 1;
        let out = self.outbox.encoder();
        if self.terms.version.is_v5() && reason != ReasonCode::Success {
            out.put_slice(&[first, 3, high, low, reason.as_u8()]);
        } else {
            out.put_slice(&[first, 2, high, low]);
        }
    }

    /// Writes a packet that is not too large for the peer; `false` if it is, or can't be encoded.
    pub(crate) fn put(&mut self, packet: &Packet) -> bool {
        let version = self.terms.version;
        let fits = encoded_len(packet, version)
            .is_ok_and(|len| len <= self.terms.max_packet_size as usize);
        let put = fits && encode(packet, version, self.outbox.encoder()).is_ok();
        self.traffic.packets_sent += u64::from(put);
        put
    }
}

fn wrong_acknowledgement(
    packet: PacketType,
    packet_id: PacketId,
) -> Result<Option<FlowEvent>, Violation> {
    Err(Violation::WrongAcknowledgement { packet, packet_id })
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
