//! PUBLISH from a client.

use std::sync::Arc;
use std::time::Instant;

use smqtt_proto::packet::Publish;
use smqtt_proto::{Message, PacketId, ProtocolVersion, ReasonCode};

use super::deliver::Source;
use super::timers::Timer;
use super::{Pass, Worker};
use crate::counters::DropCause;
use crate::memory::Pressure;
use crate::store::Op;

/// The topics that the broker itself publishes to.
pub(super) const SYS_PREFIX: &str = "$SYS/";

impl Worker {
    pub(super) fn on_publish(&mut self, slot: usize, publish: &Publish, pass: &mut Pass<'_>) {
        if self.stopping {
            // Neither taken nor acknowledged: its sender has it still.
            return;
        }
        self.counters().publish_received.add(1);
        if self.refuses_for_memory(slot, publish, pass)
            || self.refuses_for_store(slot, publish, pass)
        {
            return;
        }
        let publisher = self.connections[slot].session;
        let refusal = match self.refusal(publish) {
            None => self.judge_message(slot, publish, pass.now).err(),
            refusal => refusal,
        };
        if let Some(reason) = refusal
            && self.ends_for(slot, reason, publish.packet_id, pass)
        {
            return;
        }
        let mut transaction = None;
        let reason = match refusal {
            Some(reason) => reason,
            None => match Message::new(publish, pass.now) {
                Err(_) => ReasonCode::UnspecifiedError,
                Ok(message) if self.is_refused_for(&message, publisher, pass) => {
                    if !self.is_v5(slot)
                        && let Some(packet_id) = publish.packet_id
                    {
                        let why =
                            "closed a connection: it publishes for a session whose queue is full";
                        self.refuse_for_quota(slot, packet_id, ("queue-refused", why), pass);
                        return;
                    }
                    ReasonCode::QuotaExceeded
                }
                Ok(message) => {
                    let tracked = self.track(&message);
                    transaction = tracked.as_ref().map(|tracked| tracked.transaction.clone());
                    let mut source = Source::read(message, tracked);
                    match self.retain(&mut source, pass.now) {
                        // Refused as a whole, so that the client knows; MQTT 3.1.1 could not say so.
                        Err(reason) if self.is_v5(slot) && publish.packet_id.is_some() => reason,
                        _ if self.route(&mut source, publisher, pass) => ReasonCode::Success,
                        _ => ReasonCode::NoMatchingSubscribers,
                    }
                }
            },
        };
        match (publish.packet_id, transaction) {
            (Some(packet_id), Some(transaction)) if !reason.is_error() => {
                self.acknowledge_after(transaction, slot, packet_id, publish, reason);
            }
            (Some(packet_id), _) => self.acknowledge(slot, packet_id, reason),
            (None, _) if reason.is_error() => self.counters().publish_refused.add(1),
            (None, _) => {}
        }
    }

    pub(super) fn acknowledge(&mut self, slot: usize, packet_id: PacketId, reason: ReasonCode) {
        let v5 = self.is_v5(slot);
        let protocol = &mut self.connections[slot].protocol;
        if reason.is_error() {
            self.shared.counters[self.index].publish_refused.add(1);
        }
        if reason.is_error() && !v5 {
            // [MQTT-3.3.5-2] of 3.1.1: acknowledge, or close; a client that is told nothing would
            // repeat the message for ever.
            protocol.acknowledge(packet_id, ReasonCode::Success);
        } else {
            protocol.acknowledge(packet_id, self.current.config.protocol.told(reason));
        }
    }

    pub(super) fn is_v5(&self, slot: usize) -> bool {
        self.connections[slot].protocol.version() == Some(ProtocolVersion::V5)
    }

    /// Why a message is not accepted at all.
    fn refusal(&self, publish: &Publish) -> Option<ReasonCode> {
        let topic = publish.topic.as_str();
        if topic.starts_with(SYS_PREFIX) {
            return Some(ReasonCode::NotAuthorized);
        }
        (publish.topic.levels().count() > self.current.config.limits.topic_levels)
            .then_some(ReasonCode::TopicNameInvalid)
    }

    /// Does what the retain flag asks for `[MQTT-3.3.1-5]` to `[MQTT-3.3.1-8]`. Before routing, so
    /// that who subscribes meanwhile gets the message one way or the other.
    ///
    /// # Errors
    /// The store is full: the message is not retained.
    pub(super) fn retain(&mut self, source: &mut Source, now: Instant) -> Result<(), ReasonCode> {
        let message = source.message();
        if !message.retain() {
            return Ok(());
        }
        let store = self
            .shared
            .store
            .as_ref()
            .filter(|_| !message.topic().as_str().starts_with(SYS_PREFIX));
        if store.is_some_and(|store| store.refuses()) {
            // What waits for the disk is bounded by what was acknowledged before.
            self.counters().dropped(DropCause::StoreFailing, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        if message.payload().is_empty() {
            let mut retained = self.shared.retained.write();
            let removed = retained.remove(message.topic().as_str());
            // Under the lock, so that the store sees changes in the order in which they were made.
            if let Some(store) = store.filter(|_| removed) {
                store.note(Op::Retained {
                    topic: message.topic().detach(),
                    message: None,
                });
            }
            return Ok(());
        }
        if self.pressure >= Pressure::High
            && !source.message().topic().as_str().starts_with(SYS_PREFIX)
        {
            self.counters().dropped(DropCause::Memory, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        let store = store.cloned();
        let shared: Arc<Message> = source.share().clone();
        let expires = shared.expires_at();
        let stored = {
            let mut retained = self.shared.retained.write();
            let stored = retained.insert(shared.clone());
            if let Some(store) = store.filter(|_| stored.is_ok()) {
                store.note(Op::Retained {
                    topic: shared.topic().clone(),
                    message: Some(shared),
                });
            }
            stored
        };
        if stored.is_err() {
            self.counters().dropped(DropCause::RetainedFull, 1);
            if let Some(suppressed) = self.log_limit.admit(DropCause::RetainedFull.code(), now) {
                tracing::warn!(
                    suppressed,
                    "a message was not retained: the store is full, see [retained]"
                );
            }
            return Err(ReasonCode::QuotaExceeded);
        }
        if let Some(at) = expires {
            let sweep = at.max(now + super::RETAINED_SWEEP);
            if self.retained_sweep.is_none_or(|set| sweep < set) {
                if let Some(set) = self.retained_sweep.replace(sweep) {
                    self.timers.unset(set, Timer::RetainedExpiry);
                }
                self.set_timer(sweep, Timer::RetainedExpiry);
            }
        }
        Ok(())
    }
}
