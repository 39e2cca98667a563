//! What the service manager is told (`sd_notify(3)`); nothing happens where there is none.

use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The broker listens.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] says when that is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// What the broker is about, for people.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The broker stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Shows the service manager that the broker lives, twice as often as it wants to see that.
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// One for what the service manager asked for, if it did. Must be called in a runtime.
    pub fn from_env() -> Self {
        Watchdog(sd_notify::watchdog_enabled().map(|period| {
            let mut ticks = interval(period / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits until it is time for [`Watchdog::alive`].
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(ticks) => drop(ticks.tick().await),
            None => pending().await,
        }
    }

    /// Says that all is well.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }
}
