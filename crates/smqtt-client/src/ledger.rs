//! The account of what a publisher handed over and what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{Error, Loss};

/// How far a publisher's messages have come. Every message that was handed over ends in exactly one
/// of `acknowledged`, `refused` and `lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Messages handed over to the connection.
    pub handed_over: u64,
    /// Messages that the [queue](crate::Queue) has kept: on disk, they outlive the program. None without a queue.
    pub kept: u64,
    /// Messages that the broker acknowledged (QoS 1 and 2) or that were written to the socket
    /// (QoS 0).
    pub acknowledged: u64,
    /// Messages that the broker answered with a reason code of 0x80 or higher (MQTT 5 only).
    pub refused: u64,
    /// Messages whose fate is unknown: the connection ended before the acknowledgement came.
    pub lost: u64,
    /// The broker's reason for the first message that it refused.
    pub first_refusal: Option<String>,
}

impl Tally {
    /// Messages that are neither acknowledged nor refused nor lost yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.handed_over - self.acknowledged - self.refused - self.lost
    }
}

/// What became of one message.
#[derive(Debug)]
pub(crate) enum Outcome {
    Acknowledged,
    Refused(String),
    Lost(Loss),
}

/// Counters shared by a publisher and the connection task.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    handed_over: AtomicU64,
    kept: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    first_refusal: Mutex<Option<String>>,
    settled: Notify,
}

impl Ledger {
    /// Counts a message as handed over; the entry settles it.
    pub(crate) fn enter(self: &Arc<Self>) -> Entry {
        self.handed_over.fetch_add(1, Ordering::AcqRel);
        Entry {
            ledger: Arc::clone(self),
            receipt: None,
            told: None,
            open: true,
        }
    }

    /// As `enter`, with the outcome told under a number.
    #[cfg(feature = "queue")]
    pub(crate) fn enter_told(
        self: &Arc<Self>,
        number: u64,
        told: mpsc::UnboundedSender<(u64, Outcome)>,
    ) -> Entry {
        let mut entry = self.enter();
        entry.told = Some((number, told));
        entry
    }

    fn settle(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Acknowledged => &self.acknowledged,
            Outcome::Refused(reason) => {
                self.first_refusal
                    .lock()
                    .get_or_insert_with(|| reason.clone());
                &self.refused
            }
            Outcome::Lost(_) => &self.lost,
        };
        counter.fetch_add(1, Ordering::AcqRel);
        self.settled.notify_waiters();
    }

    pub(crate) fn read(&self) -> Tally {
        // The outcomes first: read the other way round, a message could settle between the two and
        // be counted twice.
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let refused = self.refused.load(Ordering::Acquire);
        let lost = self.lost.load(Ordering::Acquire);
        Tally {
            handed_over: self.handed_over.load(Ordering::Acquire),
            kept: self.kept.load(Ordering::Acquire),
            acknowledged,
            refused,
            lost,
            first_refusal: self.first_refusal.lock().clone(),
        }
    }

    /// Waits until more than so many messages are kept; how many.
    #[cfg(feature = "queue")]
    pub(crate) async fn kept_beyond(&self, count: u64) -> u64 {
        loop {
            let changed = self.settled.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let kept = self.kept.load(Ordering::Acquire);
            if kept > count {
                return kept;
            }
            changed.await;
        }
    }

    /// Waits until every message that was handed over before the call is settled.
    pub(crate) async fn flushed(&self) -> Tally {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let tally = self.read();
            if tally.in_flight() == 0 {
                return tally;
            }
            settled.await;
        }
    }
}

/// One message's line in the ledger. Dropped unsettled (the connection task ended), it counts as lost.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    receipt: Option<oneshot::Sender<Outcome>>,
    /// Whom to tell under which number.
    told: Option<(u64, mpsc::UnboundedSender<(u64, Outcome)>)>,
    open: bool,
}

impl Entry {
    /// A receipt that resolves when this message is settled.
    pub(crate) fn receipt(&mut self) -> Receipt {
        let (sender, receiver) = oneshot::channel();
        self.receipt = Some(sender);
        Receipt(receiver)
    }

    /// The queue has it.
    #[cfg(feature = "queue")]
    pub(crate) fn kept(&self) {
        self.ledger.kept.fetch_add(1, Ordering::AcqRel);
        self.ledger.settled.notify_waiters();
    }

    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        self.ledger.settle(&outcome);
        if let Some((number, told)) = self.told.take() {
            // Whoever was to be told may be gone.
            let _ = told.send((number, outcome));
            return;
        }
        if let Some(receipt) = self.receipt.take() {
            // Whoever asked for the receipt may have stopped waiting.
            let _ = receipt.send(outcome);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close(Outcome::Lost(Loss::closed()));
    }
}

/// The promise of an acknowledgement for one message.
#[derive(Debug)]
#[must_use = "a receipt does nothing unless it is awaited"]
pub struct Receipt(oneshot::Receiver<Outcome>);

impl Receipt {
    /// Waits until the broker has acknowledged the message (QoS 1: PUBACK, QoS 2: PUBCOMP) or, for
    /// QoS 0, until it is written to the socket.
    ///
    /// # Errors
    ///
    /// [`Error::PublishRefused`] if the broker refused the message, [`Error::ConnectionLost`] if the
    /// connection ended first: the message may or may not have arrived.
    pub async fn acknowledged(mut self) -> Result<(), Error> {
        self.wait().await
    }

    /// As `acknowledged`, but may be dropped and called again until it has returned.
    pub(crate) async fn wait(&mut self) -> Result<(), Error> {
        match (&mut self.0).await {
            Ok(Outcome::Acknowledged) => Ok(()),
            Ok(Outcome::Refused(reason)) => Err(Error::PublishRefused { reason }),
            Ok(Outcome::Lost(loss)) => Err(Error::ConnectionLost(loss)),
            Err(_) => Err(Error::ConnectionLost(Loss::closed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flush_waits_for_every_message_and_counts_each_once() {
        let ledger = Arc::new(Ledger::default());
        let mut entries: Vec<_> = (0..4).map(|_| ledger.enter()).collect();
        let receipt = entries[0].receipt();
        let waiting = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.flushed().await }
        });
        entries.remove(0).settle(Outcome::Acknowledged);
        entries
            .remove(0)
            .settle(Outcome::Refused("quota exceeded".to_owned()));
        entries
            .remove(0)
            .settle(Outcome::Refused("another".to_owned()));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one message is still in flight");
        assert_eq!(ledger.read().in_flight(), 1);
        drop(entries);

        let tally = waiting.await.unwrap();
        assert_eq!((tally.handed_over, tally.acknowledged), (4, 1));
        assert_eq!((tally.refused, tally.lost), (2, 1));
        assert_eq!(tally.first_refusal.as_deref(), Some("quota exceeded"));
        receipt.acknowledged().await.unwrap();
    }

    #[tokio::test]
    async fn a_receipt_tells_what_became_of_its_message() {
        let ledger = Arc::new(Ledger::default());
        let mut refused = ledger.enter();
        let mut lost = ledger.enter();
        let (refused_receipt, lost_receipt) = (refused.receipt(), lost.receipt());
        refused.settle(Outcome::Refused("not authorized".to_owned()));
        drop(lost);
        assert!(matches!(
            refused_receipt.acknowledged().await,
            Err(Error::PublishRefused { reason }) if reason == "not authorized"
        ));
        assert!(matches!(
            lost_receipt.acknowledged().await,
            Err(Error::ConnectionLost(_))
        ));
    }
}
