//! A broker that refuses this device: the way from the connection task to whoever renews, which may have a certificate that the
//! broker accepts.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    /// There is another certificate.
    Renewed,
    /// There is none, and there will be none.
    None,
    /// The authority does not answer now.
    Later,
}

/// Where to answer a call.
pub(crate) type Answer = oneshot::Sender<Help>;

/// Connects one that calls with one that answers. Nobody answers at first.
#[derive(Clone, Default)]
pub(crate) struct Distress(Arc<Mutex<Option<mpsc::Sender<Answer>>>>);

impl Distress {
    /// From now on, calls come here, and no longer to who had them before.
    pub(crate) fn calls(&self) -> mpsc::Receiver<Answer> {
        let (sender, calls) = mpsc::channel(1);
        *self.0.lock() = Some(sender);
        calls
    }

    /// Calls, and waits for the answer.
    pub(crate) async fn call(&self) -> Help {
        let listener = self.0.lock().clone();
        let Some(listener) = listener else {
            return Help::None;
        };
        let (answer, answered) = oneshot::channel();
        if listener.send(answer).await.is_err() {
            return Help::None;
        }
        // Who has gone with the call in hand has no answer.
        answered.await.unwrap_or(Help::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_nobody_hears_has_no_answer() {
        let distress = Distress::default();
        assert_eq!(distress.call().await, Help::None);
        drop(distress.calls());
        assert_eq!(distress.call().await, Help::None);
    }

    #[tokio::test]
    async fn the_last_one_that_listens_answers() {
        let distress = Distress::default();
        let before = distress.calls();
        let mut calls = distress.calls();
        drop(before);
        let answering = tokio::spawn(async move {
            let answer = calls.recv().await.expect("a call");
            answer.send(Help::Renewed).expect("somebody waits");
            // The next one is heard, and dropped.
            let _ = calls.recv().await;
        });
        assert_eq!(distress.call().await, Help::Renewed);
        assert_eq!(distress.call().await, Help::None);
        answering.await.expect("no panic");
    }
}
