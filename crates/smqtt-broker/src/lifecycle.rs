//! From running to gone: what of it all threads have to know.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How far the broker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Running,
    /// It admits nobody and sends its clients away, a few at a time.
    Draining,
    /// It ends all connections.
    Stopping,
}

/// The stage of a broker.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    stage: AtomicU8,
    halted: AtomicBool,
    drain_began: Mutex<Option<Instant>>,
    drain_begins: Notify,
}

impl Lifecycle {
    /// Where it is.
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Stopping,
        }
    }

    /// Goes on to `stage`; there is no way back. Tells whether this call did it.
    pub(crate) fn advance(&self, stage: Stage) -> bool {
        let before = self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        let advanced = before < stage as u8;
        if advanced && stage == Stage::Draining {
            *self.drain_began.lock() = Some(Instant::now());
            self.drain_begins.notify_one();
        }
        advanced
    }

    /// When draining began; waits for that.
    pub(crate) async fn drain_began(&self) -> Instant {
        loop {
            if let Some(at) = *self.drain_began.lock() {
                return at;
            }
            self.drain_begins.notified().await;
        }
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Stops waiting for anything.
    pub(crate) fn halt(&self) {
        self.halted.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_go_one_way() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.stage(), Stage::Running);
        assert!(lifecycle.advance(Stage::Draining) && !lifecycle.advance(Stage::Draining));
        assert!(lifecycle.advance(Stage::Stopping) && !lifecycle.advance(Stage::Draining));
        assert_eq!(lifecycle.stage(), Stage::Stopping);
    }
}
