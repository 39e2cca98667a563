//! A worker's timers: one ordered set, and one sleeping task for all of them.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::session::SessionRef;

/// What a timer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Connect timeout, keep-alive, or end of closing of the connection at this place.
    Connection(usize),
    /// The will of a session whose connection is gone.
    Will(SessionRef),
    /// The end of a session whose connection is gone.
    SessionEnd(SessionRef),
    /// Retained messages may have expired.
    RetainedExpiry,
    /// The `$SYS` topics are due.
    Sys,
    /// The revocation list is looked at.
    RevocationList,
    /// The next clients are to be sent away.
    Drain,
    /// A second has passed.
    Tick,
}

/// Timers in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets a timer; tells whether it is now the first.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) -> bool {
        self.due.insert((at, timer));
        self.due.first() == Some(&(at, timer))
    }

    /// Takes back a timer that was set for `at`.
    pub(super) fn unset(&mut self, at: Instant, timer: Timer) {
        self.due.remove(&(at, timer));
    }

    /// When the first timer is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first timer if it is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.due.first()?.0 > now {
            return None;
        }
        self.due.pop_first().map(|(_, timer)| timer)
    }
}
