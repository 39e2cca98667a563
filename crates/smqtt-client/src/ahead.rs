//! The news that messages wait for a renewal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smqtt_policy::Epoch;
use tokio::sync::Notify;

/// The newest epoch of which a subscriber has met a message and has no key, told to whoever renews.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<(AtomicU64, Notify)>);

impl Ahead {
    pub(crate) fn tell(&self, epoch: Epoch) {
        self.0.0.fetch_max(epoch.get(), Ordering::AcqRel);
        self.0.1.notify_one();
    }

    /// Resolves when it was told of an epoch since the last time.
    pub(crate) async fn wanted(&self) -> Epoch {
        self.0.1.notified().await;
        Epoch::new(self.0.0.load(Ordering::Acquire))
    }
}
