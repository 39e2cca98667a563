//! Messages whose key frame has not come yet.

use std::collections::VecDeque;
use std::sync::Arc;

use smqtt_format::KeyId;

use crate::Arrival;

/// A message that waits.
pub(crate) struct Waiting {
    pub(crate) kid: KeyId,
    pub(crate) topic: Arc<str>,
    /// The sealed message alone, without a frame in front.
    pub(crate) sealed: Box<[u8]>,
    pub(crate) arrival: Arrival,
    /// The second at which it is given up.
    pub(crate) deadline: u64,
}

impl Waiting {
    fn cost(&self) -> usize {
        size_of::<Self>() + self.topic.len() + self.sealed.len() + self.arrival.kept
    }
}

/// A queue in order of arrival, bounded by count and bytes.
pub(crate) struct WaitingRoom {
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// No message is given up before this second.
    earliest: u64,
    max_messages: usize,
    max_bytes: usize,
}

impl WaitingRoom {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            earliest: u64::MAX,
            max_messages,
            max_bytes,
        }
    }

    /// Lets `message` wait. At the bound the longest waiting are handed to `give_up`; so is `message` itself if it exceeds
    /// the bound alone.
    pub(crate) fn push(&mut self, message: Waiting, mut give_up: impl FnMut(Waiting)) {
        let cost = message.cost();
        if cost > self.max_bytes || self.max_messages == 0 {
            return give_up(message);
        }
        while self.queue.len() >= self.max_messages || self.bytes + cost > self.max_bytes {
            let Some(oldest) = self.queue.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            give_up(oldest);
        }
        self.bytes += cost;
        self.earliest = self.earliest.min(message.deadline);
        self.queue.push_back(message);
    }

    /// Takes out all messages for which `pick` holds, in order of arrival.
    pub(crate) fn take(&mut self, mut pick: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        self.earliest = self.earliest();
        if !self.queue.iter().any(&mut pick) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for message in self.queue.drain(..) {
            if pick(&message) {
                self.bytes -= message.cost();
                taken.push(message);
            } else {
                kept.push_back(message);
            }
        }
        self.queue = kept;
        self.earliest = self.earliest();
        taken
    }

    /// Gives messages that wait for `kid` at least until `deadline`.
    pub(crate) fn extend(&mut self, kid: &KeyId, deadline: u64) {
        for message in self.queue.iter_mut().filter(|m| m.kid == *kid) {
            message.deadline = message.deadline.max(deadline);
        }
    }

    /// A second before which none is given up; at or soon after it, one may be.
    pub(crate) fn deadline(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.earliest)
    }

    fn earliest(&self) -> u64 {
        self.queue
            .iter()
            .map(|m| m.deadline)
            .min()
            .unwrap_or(u64::MAX)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kid: u8, length: usize) -> Waiting {
        Waiting {
            kid: KeyId([kid; 8]),
            topic: "t".into(),
            sealed: vec![kid; length].into(),
            arrival: Arrival::default(),
            deadline: u64::from(kid),
        }
    }

    fn room(max_messages: usize, max_bytes: usize) -> WaitingRoom {
        WaitingRoom::new(max_messages, max_bytes)
    }

    /// Pushes and returns what was given up.
    fn push(room: &mut WaitingRoom, message: Waiting) -> Vec<u8> {
        let mut given_up = Vec::new();
        room.push(message, |m| given_up.push(m.kid.0[0]));
        given_up
    }

    #[test]
    fn the_longest_waiting_make_room() {
        let mut by_count = room(2, usize::MAX);
        assert_eq!(push(&mut by_count, message(1, 0)), []);
        assert_eq!(push(&mut by_count, message(2, 0)), []);
        assert_eq!(push(&mut by_count, message(3, 0)), [1]);

        let cost = message(0, 100).cost();
        let mut by_bytes = room(usize::MAX, 3 * cost);
        for kid in 1..=3 {
            assert_eq!(push(&mut by_bytes, message(kid, 100)), []);
        }
        assert_eq!(push(&mut by_bytes, message(4, 101)), [1, 2]);
        assert_eq!(by_bytes.bytes, 2 * cost + 1);
    }

    #[test]
    fn what_never_fits_displaces_nothing() {
        let mut room = room(10, message(0, 100).cost());
        push(&mut room, message(1, 50));
        assert_eq!(push(&mut room, message(2, 101)), [2]);
        assert_eq!(room.len(), 1);
    }

    #[test]
    fn messages_leave_in_order_of_arrival_and_give_their_bytes_back() {
        let mut room = room(10, 10_000);
        for (kid, length) in [(1, 1), (2, 2), (1, 3), (3, 4), (1, 5)] {
            push(&mut room, message(kid, length));
        }
        let taken = room.take(|m| m.kid.0[0] == 1);
        assert_eq!(
            taken.iter().map(|m| m.sealed.len()).collect::<Vec<_>>(),
            [1, 3, 5]
        );
        assert_eq!(room.deadline(), Some(2));
        assert_eq!(room.take(|_| true).len(), 2);
        assert_eq!(room.bytes, 0);
        assert_eq!(room.deadline(), None);
    }
}
