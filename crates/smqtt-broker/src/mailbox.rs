//! What workers hand to each other: one push and one wake per pass and destination.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A worker's mailbox. Any thread may post; only its worker drains it.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    mail: Mutex<Vec<M>>,
    wake: Notify,
    /// Bytes posted and not yet drained, as the senders count them.
    bytes: AtomicUsize,
    /// One bit for each worker that waits for this mailbox to empty.
    waiting: AtomicU64,
}

/// Bytes from which on senders should stop reading from their publishers.
const HIGH_WATER: usize = 8 * 1024 * 1024;

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Mailbox {
            mail: Mutex::new(Vec::new()),
            wake: Notify::new(),
            bytes: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
        }
    }
}

impl<M> Mailbox<M> {
    /// Appends all of `batch`, which counts as `bytes`, and wakes the worker if the mailbox was
    /// empty. `batch` keeps its capacity where that costs nothing.
    pub(crate) fn post(&self, batch: &mut Vec<M>, bytes: usize) {
        if batch.is_empty() {
            return;
        }
        let was_empty = {
            let mut mail = self.mail.lock();
            self.bytes.fetch_add(bytes, Ordering::SeqCst);
            let was_empty = mail.is_empty();
            if was_empty {
                std::mem::swap(&mut *mail, batch);
            } else {
                mail.append(batch);
            }
            was_empty
        };
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits until there is mail.
    pub(crate) async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Swaps the mail into `into`, which must be empty, and returns the mask of the workers that
    /// were waiting for that.
    pub(crate) fn drain(&self, into: &mut Vec<M>) -> u64 {
        debug_assert!(into.is_empty(), "mail would be lost");
        {
            let mut mail = self.mail.lock();
            std::mem::swap(&mut *mail, into);
            self.bytes.store(0, Ordering::SeqCst);
        }
        // Sequentially consistent against `is_full`: either the waiter sees the room or we see it.
        self.waiting.swap(0, Ordering::SeqCst)
    }

    /// Whether so much is waiting that senders should pause. If so, `worker` is among those that
    /// the next [`Mailbox::drain`] returns.
    pub(crate) fn is_full(&self, worker: usize) -> bool {
        if self.bytes.load(Ordering::Relaxed) < HIGH_WATER {
            return false;
        }
        self.waiting.fetch_or(1 << worker, Ordering::SeqCst);
        self.bytes.load(Ordering::SeqCst) >= HIGH_WATER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_arrives_in_order_and_capacity_comes_back() {
        let mailbox = Mailbox::default();
        let mut batch = vec![1, 2];
        mailbox.post(&mut batch, 10);
        batch.push(3);
        mailbox.post(&mut batch, 10);
        let mut mail = Vec::new();
        mailbox.drain(&mut mail);
        assert_eq!(mail, [1, 2, 3]);
        mail.clear();
        mailbox.drain(&mut mail);
        assert!(mail.is_empty());
    }

    #[test]
    fn a_full_mailbox_remembers_who_waits() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.is_full(2));
        mailbox.post(&mut vec![1], HIGH_WATER);
        assert!(mailbox.is_full(2) && mailbox.is_full(63));
        assert_eq!(mailbox.drain(&mut Vec::new()), 1 << 2 | 1 << 63);
        assert!(!mailbox.is_full(2));
        assert_eq!(mailbox.drain(&mut Vec::new()), 0);
    }
}
