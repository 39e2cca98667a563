//! Messages of shared subscriptions (MQTT 5.0 §4.8.2): one member of each group gets each.
//!
//! The worker that has the message chooses the member, the worker that has the member's session
//! delivers it. Where that finds the session gone, away or full, it chooses again, so a choice by
//! old knowledge loses nothing. What a session still owes when it ends goes to the other members:
//! its queue, and what it has not acknowledged with QoS 1. What was sent with QoS 2 does not
//! `[MQTT-4.8.2-5]`, and neither does what the client refused `[MQTT-4.8.2-6]`.

use std::sync::Arc;

use smqtt_proto::{Delivery, InFlight, Message, PacketId, PublishError, QoS, TopicFilter};

use super::deliver::{MAIL_OVERHEAD, Source};
use super::write::count;
use super::{Pass, Worker};
use crate::counters::DropCause;
use crate::queue::{Outbound, Place};
use crate::session::{Session, SessionRef};
use crate::share::{Group, Shares};
use crate::shared::{Mail, SharedTarget, Target};
use crate::store::Transaction;
use crate::targets::combine;

/// How often a message is passed on at most; then who has it keeps it.
const MAX_HOPS: u8 = 8;

impl Worker {
    /// Gives a message to one member of each of these groups.
    pub(super) fn route_shared(
        &mut self,
        groups: &[Arc<Group>],
        source: &mut Source,
        pass: &mut Pass<'_>,
    ) {
        for group in groups {
            self.share_out(group, source, None, 0, pass);
        }
    }

    /// Gives a message to the member whose turn it is, but not to `skip`. Tells whether there was
    /// one.
    fn share_out(
        &mut self,
        group: &Arc<Group>,
        source: &mut Source,
        skip: Option<SessionRef>,
        hops: u8,
        pass: &mut Pass<'_>,
    ) -> bool {
        let Some(member) = group.choose(source.message().qos(), skip) else {
            return false;
        };
        let target = SharedTarget {
            target: combine(&[member.subscription]),
            group: group.name.clone(),
            hops,
        };
        let worker = target.target.session.worker();
        if worker == self.index {
            self.deliver_shared(target, source, pass);
        } else {
            let message = source.share().clone();
            let bytes = message.size() + MAIL_OVERHEAD;
            let tracked = source.tracked.clone();
            let mail = Mail::Shared {
                message,
                target,
                tracked,
            };
            self.post(worker, mail, bytes);
        }
        true
    }

    /// Delivers a message to a session of this worker that was chosen for it.
    pub(super) fn deliver_shared(
        &mut self,
        chosen: SharedTarget,
        source: &mut Source,
        pass: &mut Pass<'_>,
    ) {
        let SharedTarget {
            target: Target { session, delivery },
            group,
            hops,
        } = chosen;
        let Some(state) = self.sessions.get_mut(session) else {
            if !self.pass_on(&group, source, session, hops, pass) {
                self.counters().dropped(DropCause::SessionEnded, 1);
            }
            return;
        };
        let message = source.message();
        let delivery = Delivery {
            qos: message.qos().min(delivery.qos),
            retain: message.retain() && delivery.retain,
            subscription_ids: delivery.subscription_ids,
        };
        let config = &self.current.config;
        let (room, queue_qos0) = (config.limits.write_buffer_bytes, config.session.queue_qos0);
        let mut fits = !state.queue.is_full(message.size(), &config.session);
        let kept = delivery.qos > QoS::AtMostOnce && state.durable.is_some();
        if kept {
            fits |= state.connection.is_some() && state.queue.is_empty();
        } else if let Some(slot) = state.connection {
            let connection = &mut *self.connections[slot];
            let protocol = &mut connection.protocol;
            let clear = match delivery.qos {
                QoS::AtMostOnce => !state.queue.has_qos0(),
                _ => state.queue.is_empty() && protocol.room() > 0,
            };
            if clear && protocol.outbox().len() < room {
                let qos = delivery.qos;
                let result = protocol.publish(pass.now, source.share(), delivery);
                if let Ok(Some(id)) = result {
                    note_sent(&mut connection.shares, id, qos, &group);
                }
                let too_large = matches!(result, Err(PublishError::PacketTooLarge { .. }));
                self.touch(slot);
                if !(too_large && self.pass_on(&group, source, session, hops, pass)) {
                    let counters = &self.shared.counters[self.index];
                    if let Some(state) = self.sessions.get_mut(session) {
                        count(result, counters, &mut state.losses);
                    }
                }
                return;
            }
        } else {
            fits &= delivery.qos != QoS::AtMostOnce || queue_qos0;
        }
        note_presence(state, !fits);
        if (state.connection.is_none() || !fits)
            && hops < MAX_HOPS
            && pass
                .trie()
                .group(&group)
                .is_some_and(|group| group.has_ready_beside(session))
            && self.pass_on(&group, source, session, hops, pass)
        {
            return;
        }
        let Some(state) = self.sessions.get_mut(session) else {
            return;
        };
        if state.connection.is_none() && delivery.qos == QoS::AtMostOnce && !queue_qos0 {
            // At most once: not for who is away.
            return;
        }
        if kept {
            self.keep(session, source, delivery, Some(group));
            return;
        }
        let outbound = Outbound {
            message: Some(source.share().clone()),
            delivery,
            group: Some(group),
            place: None,
        };
        self.enqueue(session, outbound);
    }

    /// Gives a message that `session` cannot take to another member, if there is one.
    fn pass_on(
        &mut self,
        group: &TopicFilter,
        source: &mut Source,
        session: SessionRef,
        hops: u8,
        pass: &mut Pass<'_>,
    ) -> bool {
        if hops >= MAX_HOPS {
            return false;
        }
        match pass.trie().group(group).cloned() {
            Some(group) => self.share_out(&group, source, Some(session), hops + 1, pass),
            None => false,
        }
    }

    /// Gives what waits for a session without a connection to members that are ready, if there are
    /// any.
    pub(super) fn hand_on_queue(&mut self, session: SessionRef, pass: &mut Pass<'_>) {
        let Some(state) = self.sessions.get_mut(session) else {
            return;
        };
        let ready = |group: &TopicFilter| {
            pass.trie()
                .group(group)
                .is_some_and(|group| group.has_ready_beside(session))
        };
        for outbound in state.queue.take_shared(ready) {
            let (Some(message), Some(group)) = (outbound.message, outbound.group) else {
                continue;
            };
            let tracked = self.track_again(&message, outbound.place.as_ref(), None);
            if let (Some(tracked), Some(place)) = (&tracked, outbound.place) {
                self.give_up_in(&tracked.transaction, session, place);
            }
            let mut source = Source::shared(message, tracked);
            if !self.pass_on(&group, &mut source, session, 0, pass) {
                self.counters().dropped(DropCause::SessionEnded, 1);
            }
        }
    }

    /// Gives what a session that has ended still had to do to the other members of its groups, in this
    /// transaction. Returns how many messages found nobody.
    pub(super) fn hand_on_all(
        &mut self,
        mut ended: Session,
        transaction: Option<&Arc<Transaction>>,
        pass: &mut Pass<'_>,
    ) -> usize {
        let waiting = ended.queue.len() + ended.in_flight.in_flight();
        let mut owed: Vec<(Arc<Message>, Arc<TopicFilter>, Option<Place>)> = Vec::new();
        if !ended.shares.is_empty() {
            for (id, state) in ended.in_flight.outgoing() {
                if let InFlight::Published { message, .. } = state
                    && let Some(group) = ended.shares.remove(&id)
                {
                    let sent = ended.durable.as_ref().and_then(|own| own.sent.get(&id));
                    let place = sent.and_then(|(number, kept)| {
                        Some(Place {
                            number: *number,
                            kept: kept.clone()?,
                        })
                    });
                    owed.push((message, group, place));
                }
            }
        }
        for outbound in ended.queue.take_shared(|_| true) {
            if let (Some(message), Some(group)) = (outbound.message, outbound.group) {
                owed.push((message, group, outbound.place));
            }
        }
        let found = owed.into_iter().filter(|(message, group, place)| {
            let tracked = self.track_again(message, place.as_ref(), transaction);
            let mut source = Source::shared(message.clone(), tracked);
            self.pass_on(group, &mut source, ended.reference, 0, pass)
        });
        waiting - found.count()
    }

    /// A message is not the client's to acknowledge any more.
    pub(super) fn forget_share(&mut self, slot: usize, packet_id: PacketId) {
        let shares = &mut self.connections[slot].shares;
        if !shares.is_empty() {
            shares.remove(&packet_id);
        }
    }
}

/// Notes the group of a message that another member should get if this one never acknowledges it.
pub(super) fn note_sent(shares: &mut Shares, id: PacketId, qos: QoS, group: &Arc<TopicFilter>) {
    if qos == QoS::AtLeastOnce {
        shares.insert(id, group.clone());
    }
}

/// Tells the other workers whether a session takes messages.
pub(super) fn note_presence(session: &Session, full: bool) {
    if let Some(presence) = &session.presence {
        presence.set(session.connection.is_some(), full);
    }
}
