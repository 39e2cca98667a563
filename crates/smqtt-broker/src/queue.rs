//! The messages that wait for one session: because its client is away, reads slowly, or has its
//! window full. Bounded by count and bytes; what is dropped has a cause.

use std::collections::VecDeque;
use std::sync::Arc;

use smqtt_proto::{Delivery, Message, QoS};

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
        loop {
            let cause = if self.waiting.len() >= limits.queue_messages {
                DropCause::QueueMessages
            } else if self.bytes + size > limits.queue_bytes {
                DropCause::QueueBytes
            } else {
                break;
            };
            dropped(cause);
            match limits.queue_full {
                QueueFull::Oldest if self.pop().is_some() => {}
                _ => return,
            }
        }
        self.bytes += size;
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
