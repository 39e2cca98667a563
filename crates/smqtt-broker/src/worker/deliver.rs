//! From a message to the sessions that it is for.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use smqtt_proto::{Delivery, Message, QoS};

use super::write::count;
use super::{Pass, Worker};
use crate::counters::DropCause;
use crate::memory::{self, Pressure};
use crate::queue::Outbound;
use crate::session::SessionRef;
use crate::shared::{Mail, Target};
use crate::targets::Targets;

/// A message being delivered. As long as it only goes to sockets of this worker it stays where it
/// was read; the first who keeps it makes the copy that all keepers share.
pub(super) enum Source {
    Read(Box<Message>),
    Shared(Arc<Message>),
}

impl Source {
    pub(super) fn message(&self) -> &Message {
        match self {
            Source::Read(message) => message,
            Source::Shared(message) => message,
        }
    }

    pub(super) fn share(&mut self) -> &Arc<Message> {
        if let Source::Read(message) = self {
            *self = Source::Shared(Arc::new(message.detach_into(memory::charge)));
        }
        match self {
            Source::Shared(message) => message,
            Source::Read(_) => unreachable!("it was just shared"),
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
    ) -> Rc<Targets> {
        let topic = message.topic().as_str();
        let version = pass.shared.trie_version.load(Ordering::Acquire);
        if let Some(targets) = self.cache.get(version, topic.as_bytes(), publisher) {
            return targets;
        }
        let index = self.index;
        let trie = pass.trie();
        let mut targets = Targets::find(trie, topic, publisher, index);
        let version = trie.version();
        targets.prefix = self.current.config.metrics.prefix_of(topic);
        let targets = Rc::new(targets);
        self.cache.put(version, topic.as_bytes(), &targets);
        targets
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
            message: source.share().clone(),
            delivery,
            group: None,
        };
        self.enqueue(target.session, outbound);
    }

    /// Puts a message in the queue of a session of this worker.
    pub(super) fn enqueue(&mut self, reference: SessionRef, outbound: Outbound) {
        if outbound.delivery.qos == QoS::AtMostOnce && self.pressure >= Pressure::High {
            self.lost(reference, DropCause::Memory, 1);
            return;
        }
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        let limits = &self.current.config.session;
        let mut dropped: SmallVec<[DropCause; 2]> = SmallVec::new();
        session
            .queue
            .push(outbound, limits, |cause| dropped.push(cause));
        for cause in dropped {
            self.lost(reference, cause, 1);
        }
    }
}

/// What a piece of mail weighs beside its message.
pub(super) const MAIL_OVERHEAD: usize = 64;
