//! From a message to the sessions that it is for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use smqtt_proto::{Delivery, Message, QoS};

use super::write::count;
use super::{Pass, Worker};
use crate::config::QueueFull;
use crate::counters::DropCause;
use crate::memory::{self, Pressure};
use crate::queue::Outbound;
use crate::session::SessionRef;
use crate::shared::{Mail, Target};
use crate::store::Tracked;
use crate::targets::Targets;

/// A message being delivered. As long as it only goes to sockets of this worker it stays where it
/// was read; the first who keeps it makes the copy that all keepers share.
pub(super) struct Source {
    body: Body,
    /// What is committed of it together; none if nothing of it is to survive a crash.
    pub(super) tracked: Option<Tracked>,
}

enum Body {
    Read(Box<Message>),
    Shared(Arc<Message>),
}

impl Source {
    /// A message that lies in a read buffer.
    pub(super) fn read(message: Message, tracked: Option<Tracked>) -> Self {
        Source {
            body: Body::Read(Box::new(message)),
            tracked,
        }
    }

    /// A message in memory of its own.
    pub(super) fn shared(message: Arc<Message>, tracked: Option<Tracked>) -> Self {
        Source {
            body: Body::Shared(message),
            tracked,
        }
    }

    pub(super) fn message(&self) -> &Message {
        match &self.body {
            Body::Read(message) => message,
            Body::Shared(message) => message,
        }
    }

    pub(super) fn share(&mut self) -> &Arc<Message> {
        if let Body::Read(message) = &self.body {
            self.body = Body::Shared(Arc::new(message.detach_into(memory::charge)));
        }
        match &self.body {
            Body::Shared(message) => message,
            Body::Read(_) => unreachable!("it was just shared"),
        }
    }
}

impl Worker {
    /// Delivers a message to everyone who subscribes to its topic, and tells whether anyone does.
    pub(super) fn route(
        &mut self,
        source: &mut Source,
        publisher: Option<SessionRef>,
        pass: &mut Pass<'_>,
    ) -> bool {
        let targets = self.targets(source.message(), publisher, pass);
        if let Some(prefix) = targets.prefix {
            let counters = &self.counters().prefixes[prefix];
            counters.messages.add(1);
            counters.bytes.add(source.message().payload().len() as u64);
            counters.deliveries.add(targets.sessions() as u64);
        }
        self.deliver_all(&targets.local, source, pass);
        for (worker, list) in &targets.remote {
            let message = source.share().clone();
            let bytes = message.size() + MAIL_OVERHEAD;
            self.post(
                *worker,
                Mail::Publish {
                    message,
                    targets: list.clone(),
                    tracked: source.tracked.clone(),
                },
                bytes,
            );
        }
        if !targets.groups.is_empty() {
            self.route_shared(&targets.groups, source, pass);
        }
        !targets.is_empty()
    }

    fn targets(
        &mut self,
        message: &Message,
        publisher: Option<SessionRef>,
        pass: &mut Pass<'_>,
    ) -> Arc<Targets> {
        let topic = message.topic().as_str();
        let version = pass.shared.trie_version.load(Ordering::Acquire);
        if let Some(targets) = self.cache.get(version, topic.as_bytes(), publisher) {
            return targets;
        }
        let prefix = self.current.config.metrics.prefix_of(topic);
        self.cache
            .find(pass.trie(), topic, publisher, self.index, prefix)
    }

    /// Delivers a message to sessions of this worker.
    pub(super) fn deliver_all(&mut self, targets: &[Target], source: &mut Source, pass: &Pass<'_>) {
        for target in targets {
            self.deliver(target, source, pass);
        }
    }

    fn deliver(&mut self, target: &Target, source: &mut Source, pass: &Pass<'_>) {
        let Some(session) = self.sessions.get_mut(target.session) else {
            return;
        };
        let counters = &self.shared.counters[self.index];
        let message = source.message();
        let delivery = Delivery {
            qos: message.qos().min(target.delivery.qos),
            retain: message.retain() && target.delivery.retain,
            subscription_ids: target.delivery.subscription_ids.clone(),
        };
        let limits = &self.current.config.session;
        if delivery.qos > QoS::AtMostOnce && session.durable.is_some() {
            self.keep(target.session, source, delivery, None);
            return;
        }
        if let Some(slot) = session.connection {
            let protocol = &mut self.connections[slot].protocol;
            // Nothing may pass what waits with the same QoS [MQTT-4.6.0-6].
            let clear = match delivery.qos {
                QoS::AtMostOnce => !session.queue.has_qos0(),
                _ => session.queue.is_empty() && protocol.room() > 0,
            };
            if clear && protocol.outbox().len() < self.current.config.limits.write_buffer_bytes {
                if delivery.qos == QoS::AtMostOnce {
                    count(
                        protocol.publish_once(pass.now, message, &delivery),
                        counters,
                        &mut session.losses,
                    );
                } else {
                    count(
                        protocol.publish(pass.now, source.share(), delivery),
                        counters,
                        &mut session.losses,
                    );
                }
                self.touch(slot);
                return;
            }
        } else if delivery.qos == QoS::AtMostOnce && !limits.queue_qos0 {
            // At most once: not for who is away.
            return;
        }
        let outbound = Outbound {
            message: Some(source.share().clone()),
            delivery,
            group: None,
            place: None,
        };
        self.enqueue(target.session, outbound);
    }

    /// Puts a message in the queue of a session of this worker.
    pub(super) fn enqueue(&mut self, reference: SessionRef, outbound: Outbound) {
        if outbound.delivery.qos == QoS::AtMostOnce && self.pressure >= Pressure::High {
            self.lost(reference, DropCause::Memory, 1);
            return;
        }
        if self.room_for(reference, outbound.size())
            && let Some(session) = self.sessions.get_mut(reference)
        {
            session.queue.push(outbound);
            self.note_full(reference);
        }
    }

    /// Whether somebody with a full queue would get a message, while a full queue refuses.
    pub(super) fn is_refused_for(
        &mut self,
        message: &Message,
        publisher: Option<SessionRef>,
        pass: &mut Pass<'_>,
    ) -> bool {
        if self.current.config.session.queue_full != QueueFull::Refuse
            || message.qos() == QoS::AtMostOnce
        {
            return false;
        }
        let targets = self.targets(message, publisher, pass);
        let remote = targets.remote.iter().flat_map(|(_, list)| list.as_slice());
        let all = targets.local.iter().chain(remote);
        let wanting = all.filter(|target| target.delivery.qos > QoS::AtMostOnce);
        let refused = self.shared.full.any(wanting.map(|target| target.session));
        if refused {
            self.counters().dropped(DropCause::QueueRefused, 1);
        }
        refused
    }

    /// Notes whether a session's queue is full, while a full queue refuses.
    pub(super) fn note_full(&mut self, reference: SessionRef) {
        let limits = &self.current.config.session;
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        let full = limits.queue_full == QueueFull::Refuse && session.queue.is_full(0, limits);
        if full != session.noted_full {
            session.noted_full = full;
            self.shared.full.note(reference, full);
        }
    }

    /// Makes room in a session's queue for a message of this size, and counts what has to go for that;
    /// `false` if it is the message itself.
    pub(super) fn room_for(&mut self, reference: SessionRef, size: usize) -> bool {
        let Some(session) = self.sessions.get_mut(reference) else {
            return false;
        };
        let limits = &self.current.config.session;
        if !session.queue.is_full(size, limits) {
            return true;
        }
        let mut gone: SmallVec<[(DropCause, Option<Outbound>); 2]> = SmallVec::new();
        let room = session.queue.make_room(size, limits, |cause, outbound| {
            gone.push((cause, Some(outbound)))
        });
        if let Err(cause) = room {
            gone.push((cause, None));
        }
        for (cause, outbound) in gone {
            self.lost(reference, cause, 1);
            if let Some(place) = outbound.and_then(|outbound| outbound.place) {
                self.note_done(reference, place.number, Some(place.kept));
            }
        }
        room.is_ok()
    }
}

/// What a piece of mail weighs beside its message.
pub(super) const MAIL_OVERHEAD: usize = 64;
