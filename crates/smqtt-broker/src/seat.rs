//! What a connection takes up of what there is a limit on, given back when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::shared::ListenerState;

/// One connection among those that `limits.connections` and the listener's `max_connections` allow.
#[derive(Debug)]
pub(crate) struct Seat {
    all: Arc<AtomicUsize>,
    listener: Arc<ListenerState>,
}

impl Seat {
    /// Takes one.
    ///
    /// # Errors
    /// The key of the limit that is reached.
    pub(crate) fn take(
        all: &Arc<AtomicUsize>,
        most: usize,
        listener: &Arc<ListenerState>,
        listener_most: Option<usize>,
    ) -> Result<Self, &'static str> {
        if all.fetch_add(1, Ordering::Relaxed) >= most {
            all.fetch_sub(1, Ordering::Relaxed);
            return Err("limits.connections");
        }
        // From here on, dropping it gives both back.
        let seat = Seat {
            all: all.clone(),
            listener: listener.clone(),
        };
        let before = listener.connections.fetch_add(1, Ordering::Relaxed);
        match listener_most {
            Some(most) if before >= most => Err("the listener's max_connections"),
            _ => Ok(seat),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is shaking hands.
#[derive(Debug)]
pub(crate) struct Handshake {
    all: Arc<AtomicUsize>,
    pub(crate) since: Instant,
}

impl Handshake {
    /// Begins one. Who begins has looked whether there is room; several may at once, so the limit
    /// holds but for one a worker.
    pub(crate) fn begin(all: &Arc<AtomicUsize>, now: Instant) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Handshake {
            all: all.clone(),
            since: now,
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_seats_are_given_back() {
        let all = Arc::new(AtomicUsize::new(0));
        let listener = |index| Arc::new(ListenerState::new(index, "l".into()));
        let (a, b) = (listener(0), listener(1));
        let first = Seat::take(&all, 3, &a, Some(1)).expect("free");
        assert_eq!(
            Seat::take(&all, 3, &a, Some(1)).expect_err("full"),
            "the listener's max_connections"
        );
        let _second = Seat::take(&all, 3, &b, None).expect("free");
        let _third = Seat::take(&all, 3, &b, None).expect("free");
        assert_eq!(
            Seat::take(&all, 3, &b, None).expect_err("full"),
            "limits.connections"
        );
        drop(first);
        assert_eq!(all.load(Ordering::Relaxed), 2);
        Seat::take(&all, 3, &a, Some(1)).expect("free again");
    }
}
