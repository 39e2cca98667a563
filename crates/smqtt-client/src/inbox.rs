//! The bounded queue between the connection task and one subscriber.
//!
//! The task appends under one lock; the subscriber takes everything that is there under one lock.
//! What a subscriber has taken is acknowledged to the broker, not before: the broker's window of
//! unacknowledged messages is what bounds the queue for QoS 1 and 2, without keeping the connection
//! from reading acknowledgements and signs of life. QoS 0 has no such window: there, what does not
//! fit is dropped, as QoS 0 allows, and missed by its sequence number.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use smqtt_proto::packet::Publish;
use tokio::sync::Notify;

use crate::Loss;

/// The most messages that wait before those of QoS 0 are dropped.
const MAX_WAITING: usize = 16_384;
/// Payload bytes that wait before the connection stops reading: far more than a window of sensible
/// messages.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// What the connection task tells a subscriber.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A PUBLISH matched the subscription.
    Publish(Publish, Option<Receipt>),
    /// The connection was lost; the task is trying to get it back.
    Lost(Loss),
    /// The connection is back and the subscription was made again.
    Restored,
    /// Nothing will follow.
    Ended(Loss),
}

/// What is owed to the broker for a message of QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) packet_id: smqtt_proto::PacketId,
    pub(crate) qos: smqtt_proto::QoS,
    /// The connection on which the message came, counted from 0.
    pub(crate) connection: u64,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Inbound>,
    bytes: usize,
    /// Receipts of messages that were taken.
    taken: Vec<Receipt>,
    dropped: u64,
    abandoned: bool,
}

/// Shared by the connection task (producer) and one subscriber (consumer).
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    ready: Notify,
    /// The connection task waits on this; one for all inboxes of a connection.
    taken: Arc<Notify>,
    /// Receipts are not owed when a message is taken, but when the subscriber says so.
    settled_by_hand: bool,
}

impl Inbox {
    pub(crate) fn new(taken: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            ready: Notify::new(),
            taken,
            settled_by_hand: false,
        }
    }

    /// One whose messages stay the broker's until they are [settled](Self::settle), whoever goes.
    #[cfg(feature = "session")]
    pub(crate) fn settled_by_hand(taken: Arc<Notify>) -> Self {
        Self {
            settled_by_hand: true,
            ..Self::new(taken)
        }
    }

    /// These messages are dealt with.
    #[cfg(feature = "session")]
    pub(crate) fn settle(&self, receipts: Vec<Receipt>) {
        self.state.lock().taken.extend(receipts);
        self.taken.notify_one();
    }

    /// Whether a subscriber that goes leaves its subscription to the next one.
    pub(crate) fn is_kept(&self) -> bool {
        self.settled_by_hand
    }

    /// Appends. A message that comes with a receipt is never dropped; nor is news of the connection.
    pub(crate) fn push(&self, inbound: Inbound) {
        let mut state = self.state.lock();
        if state.abandoned {
            if let Inbound::Publish(_, Some(receipt)) = inbound
                && !self.settled_by_hand
            {
                state.taken.push(receipt);
                drop(state);
                self.taken.notify_one();
            }
            return;
        }
        if let Inbound::Publish(publish, receipt) = &inbound {
            if receipt.is_none() && state.queue.len() >= MAX_WAITING {
                state.dropped += 1;
                return;
            }
            state.bytes += publish.payload.len();
        }
        state.queue.push_back(inbound);
        drop(state);
        self.ready.notify_one();
    }

    /// Whether the connection should not read on.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().bytes >= MAX_WAITING_BYTES
    }

    /// Whether the consumer has gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// Moves the receipts of what was taken since the last call to `into`.
    pub(crate) fn receipts(&self, into: &mut Vec<Receipt>) {
        into.append(&mut self.state.lock().taken);
    }

    /// Takes everything that waits into `into`, which must be empty. Returns whether there was
    /// anything.
    pub(crate) fn take(&self, into: &mut VecDeque<Inbound>) -> bool {
        debug_assert!(into.is_empty(), "what was taken before is still there");
        let mut state = self.state.lock();
        let state = &mut *state;
        std::mem::swap(&mut state.queue, into);
        state.bytes = 0;
        let before = state.taken.len();
        if !self.settled_by_hand {
            state.taken.extend(into.iter().filter_map(receipt));
        }
        if state.taken.len() > before || !into.is_empty() {
            self.taken.notify_one();
        }
        !into.is_empty()
    }

    /// Messages of QoS 0 that did not fit.
    pub(crate) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Waits until `take` may find something.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// The consumer goes: nothing is queued any more and the task ends the subscription.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.abandoned = true;
        state.bytes = 0;
        let queue = std::mem::take(&mut state.queue);
        if !self.settled_by_hand {
            state.taken.extend(queue.iter().filter_map(receipt));
        }
        self.taken.notify_one();
    }
}

fn receipt(inbound: &Inbound) -> Option<Receipt> {
    match inbound {
        Inbound::Publish(_, receipt) => *receipt,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smqtt_proto::{PacketId, QoS, TopicName};

    fn publish(number: u16) -> Inbound {
        let publish = Publish::new(TopicName::new("a").unwrap(), vec![0; 10]);
        let receipt = PacketId::new(number).map(|packet_id| Receipt {
            packet_id,
            qos: QoS::AtLeastOnce,
            connection: 0,
        });
        Inbound::Publish(publish, receipt)
    }

    fn receipts(inbox: &Inbox) -> Vec<u16> {
        let mut receipts = Vec::new();
        inbox.receipts(&mut receipts);
        receipts
            .iter()
            .map(|receipt| receipt.packet_id.get())
            .collect()
    }

    #[test]
    fn a_message_is_acknowledged_when_it_is_taken_and_not_before() {
        let inbox = Inbox::new(Arc::default());
        inbox.push(publish(7));
        inbox.push(publish(0));
        inbox.push(publish(8));
        assert!(receipts(&inbox).is_empty());
        let mut taken = VecDeque::new();
        assert!(inbox.take(&mut taken));
        assert_eq!(taken.len(), 3);
        assert_eq!(receipts(&inbox), [7, 8]);
        assert!(receipts(&inbox).is_empty(), "each once");
    }

    #[test]
    fn what_is_left_by_a_subscriber_that_goes_is_acknowledged() {
        let inbox = Inbox::new(Arc::default());
        inbox.push(publish(1));
        inbox.abandon();
        inbox.push(publish(2));
        assert_eq!(receipts(&inbox), [1, 2]);
        assert!(!inbox.take(&mut VecDeque::new()));
    }

    #[test]
    fn only_qos_0_is_dropped_when_nobody_reads() {
        let inbox = Inbox::new(Arc::default());
        for _ in 0..MAX_WAITING + 5 {
            inbox.push(publish(0));
        }
        inbox.push(publish(9));
        inbox.push(Inbound::Restored);
        assert_eq!(inbox.dropped(), 5);
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), MAX_WAITING + 2);
        assert_eq!(receipts(&inbox), [9]);
    }
}
