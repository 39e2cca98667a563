//! The messages that wait for one session: because its client is away, reads slowly, or has its
//! window full. Bounded by count and bytes; what is dropped has a cause.

use std::collections::VecDeque;
use std::sync::Arc;

use smqtt_proto::{Delivery, Message, QoS, TopicFilter};

use crate::config::{QueueFull, SessionLimits};
use crate::counters::DropCause;
use crate::store::Kept;

/// A message on its way to one session.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    /// The message, shared by all who get it; none while it is in the store only.
    pub(crate) message: Option<Arc<Message>>,
    /// What differs from subscriber to subscriber; the QoS is the lesser of the message's and the
    /// subscription's `[MQTT-3.8.4-8]`.
    pub(crate) delivery: Delivery,
    /// The shared subscription that it came by: then others may get it in this session's place.
    pub(crate) group: Option<Arc<TopicFilter>>,
    /// Its place in the store's queue of the session, if that is persistent.
    pub(crate) place: Option<Place>,
}

/// A place in the queue of a session, as the store has it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Greater than those before it.
    pub(crate) number: u64,
    pub(crate) kept: Arc<Kept>,
}

impl Outbound {
    /// What it counts against the limit of bytes.
    pub(crate) fn size(&self) -> usize {
        match (&self.message, &self.place) {
            (Some(message), _) => message.size(),
            (None, Some(place)) => place.kept.size as usize,
            (None, None) => 0,
        }
    }
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Outbound>,
    bytes: usize,
    qos0: usize,
}

/// An empty queue with more capacity than this is freed.
const KEEP_CAPACITY: usize = 16;

impl Queue {
    /// Makes room for a message of this size. Calls `dropped` for each message that has to go for it;
    /// `Err` says why the message itself has to go.
    pub(crate) fn make_room(
        &mut self,
        size: usize,
        limits: &SessionLimits,
        mut dropped: impl FnMut(DropCause, Outbound),
    ) -> Result<(), DropCause> {
        while let Some(cause) = self.obstacle(size, limits) {
            match limits.queue_full {
                QueueFull::Oldest => dropped(cause, self.pop().ok_or(cause)?),
                QueueFull::Newest => return Err(cause),
                // Whoever publishes has been told, but for what was on its way then.
                QueueFull::Refuse => return Ok(()),
            }
        }
        Ok(())
    }

    /// Appends a message that there is room for.
    pub(crate) fn push(&mut self, outbound: Outbound) {
        self.append(outbound);
    }

    /// Appends a message that was in the queue before the broker ended.
    pub(crate) fn restore(&mut self, outbound: Outbound) {
        self.append(outbound);
    }

    fn obstacle(&self, size: usize, limits: &SessionLimits) -> Option<DropCause> {
        if self.waiting.len() >= limits.queue_messages {
            Some(DropCause::QueueMessages)
        } else if self.bytes + size > limits.queue_bytes {
            Some(DropCause::QueueBytes)
        } else {
            None
        }
    }

    /// Whether a message of this size would cost another one its place, or its own.
    pub(crate) fn is_full(&self, size: usize, limits: &SessionLimits) -> bool {
        self.obstacle(size, limits).is_some()
    }

    /// Takes out, in order, what came by shared subscriptions that `wanted` names.
    pub(crate) fn take_shared(
        &mut self,
        mut wanted: impl FnMut(&TopicFilter) -> bool,
    ) -> Vec<Outbound> {
        if self.waiting.iter().all(|outbound| outbound.group.is_none()) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(outbound) = self.pop() else { break };
            match &outbound.group {
                Some(group) if wanted(group) && outbound.message.is_some() => taken.push(outbound),
                _ => self.append(outbound),
            }
        }
        taken
    }

    fn append(&mut self, outbound: Outbound) {
        self.bytes += outbound.size();
        self.qos0 += usize::from(outbound.delivery.qos == QoS::AtMostOnce);
        self.waiting.push_back(outbound);
    }

    /// The message that has waited longest.
    pub(crate) fn front(&self) -> Option<&Outbound> {
        self.waiting.front()
    }

    /// Takes the message that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<Outbound> {
        let outbound = self.waiting.pop_front()?;
        self.bytes -= outbound.size();
        self.qos0 -= usize::from(outbound.delivery.qos == QoS::AtMostOnce);
        if self.waiting.is_empty() && self.waiting.capacity() > KEEP_CAPACITY {
            self.waiting = VecDeque::new();
        }
        Some(outbound)
    }

    /// Forgets the QoS 0 messages, which a client that is gone does not get later; returns how many
    /// those were.
    pub(crate) fn forget_qos0(&mut self) -> usize {
        if self.qos0 == 0 {
            return 0;
        }
        self.waiting
            .retain(|outbound| outbound.delivery.qos != QoS::AtMostOnce);
        self.bytes = self.waiting.iter().map(Outbound::size).sum();
        std::mem::take(&mut self.qos0)
    }

    /// All that wait, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Outbound> {
        self.waiting.iter()
    }

    /// Leaves to the store what it has of the messages.
    pub(crate) fn page_out(&mut self) {
        for outbound in &mut self.waiting {
            if outbound.group.is_none()
                && outbound
                    .place
                    .as_ref()
                    .is_some_and(|p| p.kept.is_committed())
            {
                outbound.message = None;
            }
        }
    }

    /// The first messages that are in the store only: their places and numbers, `most` at most.
    pub(crate) fn paged_out(&self, most: usize) -> Vec<(u64, u64)> {
        self.waiting
            .iter()
            .take(most)
            .filter(|outbound| outbound.message.is_none())
            .filter_map(|outbound| outbound.place.as_ref())
            .filter(|place| place.kept.is_committed())
            .map(|place| (place.number, place.kept.number))
            .collect()
    }

    /// Puts a message back that was read from the store, at the place with this number if it still
    /// waits there.
    pub(crate) fn page_in(&mut self, place: u64, message: Arc<Message>) {
        let found = self.waiting.iter_mut().find(|outbound| {
            outbound
                .place
                .as_ref()
                .is_some_and(|waiting| waiting.number == place)
        });
        if let Some(outbound) = found {
            self.bytes -= outbound.size();
            outbound.message = Some(message);
            self.bytes += outbound.size();
        }
    }

    /// Takes out the message at the place with this number.
    pub(crate) fn take_place(&mut self, number: u64) -> Option<Place> {
        let index = self.waiting.iter().position(|outbound| {
            outbound
                .place
                .as_ref()
                .is_some_and(|place| place.number == number)
        })?;
        let outbound = self.waiting.remove(index)?;
        self.bytes -= outbound.size();
        outbound.place
    }

    /// Whether a QoS 0 message waits, which no other may overtake `[MQTT-4.6.0-6]`.
    pub(crate) fn has_qos0(&self) -> bool {
        self.qos0 > 0
    }

    /// Bytes of the messages that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use smqtt_proto::TopicName;
    use smqtt_proto::packet::Publish;

    use super::*;

    fn outbound(qos: QoS, payload: &'static str) -> Outbound {
        let publish = Publish::new(TopicName::new("t").expect("topic"), payload);
        let message = Arc::new(Message::new(&publish, Instant::now()).expect("message"));
        Outbound {
            message: Some(message),
            delivery: Delivery::new(qos),
            group: None,
            place: None,
        }
    }

    fn push(
        queue: &mut Queue,
        outbound: Outbound,
        limits: &SessionLimits,
        causes: &mut Vec<DropCause>,
    ) {
        let room = queue.make_room(outbound.size(), limits, |cause, _| causes.push(cause));
        match room {
            Ok(()) => queue.push(outbound),
            Err(cause) => causes.push(cause),
        }
    }

    fn payloads(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|outbound| {
                let message = outbound.message.expect("in memory");
                String::from_utf8(message.payload().to_vec()).expect("text")
            })
            .collect()
    }

    #[test]
    fn a_full_queue_drops_by_policy_and_says_why() {
        for (policy, expected) in [
            (QueueFull::Newest, ["a", "b"]),
            (QueueFull::Oldest, ["b", "c"]),
        ] {
            let limits = SessionLimits {
                queue_messages: 2,
                queue_full: policy,
                ..SessionLimits::default()
            };
            let mut queue = Queue::default();
            let mut causes = Vec::new();
            for payload in ["a", "b", "c"] {
                push(
                    &mut queue,
                    outbound(QoS::AtLeastOnce, payload),
                    &limits,
                    &mut causes,
                );
            }
            assert_eq!(causes, [DropCause::QueueMessages]);
            assert_eq!(payloads(&mut queue), expected);
            assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn bytes_are_bounded_and_a_large_message_may_push_out_several() {
        let size = outbound(QoS::AtLeastOnce, "a").size();
        let limits = SessionLimits {
            queue_bytes: 2 * size,
            queue_full: QueueFull::Oldest,
            ..SessionLimits::default()
        };
        let mut queue = Queue::default();
        let mut causes = Vec::new();
        for payload in ["a", "b", "cd"] {
            push(
                &mut queue,
                outbound(QoS::AtLeastOnce, payload),
                &limits,
                &mut causes,
            );
        }
        assert_eq!(causes, [DropCause::QueueBytes; 2]);
        assert_eq!(payloads(&mut queue), ["cd"]);
        push(
            &mut queue,
            outbound(QoS::AtLeastOnce, "far too long"),
            &limits,
            &mut causes,
        );
        assert_eq!(causes.len(), 3);
        assert!(queue.is_empty());
    }

    #[test]
    fn shared_messages_are_taken_out_by_group() {
        let mut queue = Queue::default();
        let group = |name| Some(Arc::new(TopicFilter::new(name).expect("filter")));
        for (payload, group) in [
            ("a", group("$share/g/t")),
            ("b", None),
            ("c", group("$share/h/t")),
            ("d", group("$share/g/t")),
        ] {
            let outbound = Outbound {
                group,
                ..outbound(QoS::AtLeastOnce, payload)
            };
            queue.push(outbound);
        }
        let taken = queue.take_shared(|group| group.share_group() == Some("g"));
        let taken: Vec<_> = taken
            .iter()
            .map(|outbound| {
                outbound
                    .message
                    .as_ref()
                    .expect("in memory")
                    .payload()
                    .clone()
            })
            .collect();
        assert_eq!(taken, ["a", "d"]);
        assert_eq!(payloads(&mut queue), ["b", "c"]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn qos0_is_forgotten_alone() {
        let mut queue = Queue::default();
        for (qos, payload) in [
            (QoS::AtMostOnce, "a"),
            (QoS::AtLeastOnce, "b"),
            (QoS::AtMostOnce, "c"),
        ] {
            queue.push(outbound(qos, payload));
        }
        assert!(queue.has_qos0());
        assert_eq!(queue.forget_qos0(), 2);
        assert_eq!((queue.has_qos0(), queue.forget_qos0()), (false, 0));
        assert_eq!(queue.bytes, outbound(QoS::AtLeastOnce, "b").size());
        assert_eq!(payloads(&mut queue), ["b"]);
    }
}
