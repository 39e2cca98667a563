//! The messages that wait for one session: because its client is away, reads slowly, or has its
//! window full. Bounded by count and bytes; what is dropped has a cause.

use std::collections::VecDeque;
use std::sync::Arc;

use smqtt_proto::{Delivery, Message, QoS, TopicFilter};

use crate::config::{QueueFull, SessionLimits};
use crate::counters::DropCause;

/// A message on its way to one session.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    /// The message, shared by all who get it.
    pub(crate) message: Arc<Message>,
    /// What differs from subscriber to subscriber; the QoS is the lesser of the message's and the
    /// subscription's `[MQTT-3.8.4-8]`.
    pub(crate) delivery: Delivery,
    /// The shared subscription that it came by: then others may get it in this session's place.
    pub(crate) group: Option<Arc<TopicFilter>>,
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
    /// Appends a message. Calls `dropped` for each message that had to go for it, which may be
    /// itself.
    pub(crate) fn push(
        &mut self,
        outbound: Outbound,
        limits: &SessionLimits,
        mut dropped: impl FnMut(DropCause),
    ) {
        let size = outbound.message.size();
        while let Some(cause) = self.obstacle(size, limits) {
            dropped(cause);
            match limits.queue_full {
                QueueFull::Oldest if self.pop().is_some() => {}
                _ => return,
            }
        }
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
    ) -> Vec<(Arc<Message>, Arc<TopicFilter>)> {
        if self.waiting.iter().all(|outbound| outbound.group.is_none()) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(outbound) = self.pop() else { break };
            match &outbound.group {
                Some(group) if wanted(group) => taken.push((outbound.message, group.clone())),
                _ => self.append(outbound),
            }
        }
        taken
    }

    fn append(&mut self, outbound: Outbound) {
        self.bytes += outbound.message.size();
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
        self.bytes -= outbound.message.size();
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
        self.bytes = self
            .waiting
            .iter()
            .map(|outbound| outbound.message.size())
            .sum();
        std::mem::take(&mut self.qos0)
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
            message,
            delivery: Delivery::new(qos),
            group: None,
        }
    }

    fn payloads(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|outbound| String::from_utf8(outbound.message.payload().to_vec()).expect("text"))
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
                queue.push(outbound(QoS::AtLeastOnce, payload), &limits, |cause| {
                    causes.push(cause)
                });
            }
            assert_eq!(causes, [DropCause::QueueMessages]);
            assert_eq!(payloads(&mut queue), expected);
            assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn bytes_are_bounded_and_a_large_message_may_push_out_several() {
        let size = outbound(QoS::AtLeastOnce, "a").message.size();
        let limits = SessionLimits {
            queue_bytes: 2 * size,
            queue_full: QueueFull::Oldest,
            ..SessionLimits::default()
        };
        let mut queue = Queue::default();
        let mut causes = Vec::new();
        for payload in ["a", "b", "cd"] {
            queue.push(outbound(QoS::AtLeastOnce, payload), &limits, |cause| {
                causes.push(cause)
            });
        }
        assert_eq!(causes, [DropCause::QueueBytes; 2]);
        assert_eq!(payloads(&mut queue), ["cd"]);
        queue.push(
            outbound(QoS::AtLeastOnce, "far too long"),
            &limits,
            |cause| causes.push(cause),
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
            queue.push(outbound, &SessionLimits::default(), |cause| {
                panic!("{cause:?}")
            });
        }
        let taken = queue.take_shared(|group| group.share_group() == Some("g"));
        let taken: Vec<_> = taken
            .iter()
            .map(|(message, _)| message.payload().clone())
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
            queue.push(outbound(qos, payload), &SessionLimits::default(), |cause| {
                panic!("{cause:?}")
            });
        }
        assert!(queue.has_qos0());
        assert_eq!(queue.forget_qos0(), 2);
        assert_eq!((queue.has_qos0(), queue.forget_qos0()), (false, 0));
        assert_eq!(queue.bytes, outbound(QoS::AtLeastOnce, "b").message.size());
        assert_eq!(payloads(&mut queue), ["b"]);
    }
}
