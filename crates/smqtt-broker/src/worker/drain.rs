//! Sending clients away a few at a time, and the end of all connections.

use std::time::Duration;

use smqtt_proto::ReasonCode;

use super::timers::Timer;
use super::{Pass, Worker};
use crate::connection::Phase;

/// About how often a draining worker sends clients away.
const DRAIN_TICK: Duration = Duration::from_millis(50);

impl Worker {
    /// From now on nobody is admitted, and who is there goes.
    pub(super) fn begin_drain(&mut self, pass: &mut Pass<'_>) {
        self.draining = true;
        self.drain_some(pass);
    }

    /// Sends the next few clients away, and comes back for the rest.
    pub(super) fn drain_some(&mut self, pass: &mut Pass<'_>) {
        let rate = f64::from(self.current.config.shutdown.drain_clients_per_second);
        let workers = self.shared.mailboxes.len() as f64;
        let count = (rate * DRAIN_TICK.as_secs_f64() / workers).max(1.0);
        let mut left = count as usize;
        while left > 0 {
            if self.to_drain.is_empty() {
                self.to_drain = self
                    .connections
                    .iter()
                    .filter(|(_, c)| c.phase == Phase::Open && c.session.is_some())
                    .map(|(slot, _)| slot)
                    .collect();
            }
            let Some(slot) = self.to_drain.pop() else {
                break;
            };
            if self
                .connections
                .get(slot)
                .is_some_and(|c| c.phase == Phase::Open && c.session.is_some())
            {
                self.flush(slot, pass);
                if self.connections[slot].phase == Phase::Open {
                    self.redirect(slot, pass);
                }
                left -= 1;
            }
        }
        if !self.stopping {
            let again = Duration::from_secs_f64(count.floor() * workers / rate);
            self.set_timer(pass.now + again, Timer::Drain);
        }
    }

    /// Takes no more connections and publishes the wills of those that will end: there is no store
    /// that could keep them until the broker is back (MQTT 5.0 §3.1.2.5).
    pub(super) fn quiesce(&mut self, pass: &mut Pass<'_>) {
        self.stopping = true;
        let sessions: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| session.will.is_some())
            .map(|session| session.reference)
            .collect();
        for session in sessions {
            self.on_will_due(session, pass);
        }
    }

    /// Ends the connections to which nothing is left to send; all of them if `everyone`.
    pub(super) fn stop_some(&mut self, everyone: bool) {
        let shared = self.shared.clone();
        let mut pass = Pass::new(&shared);
        let slots: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, c)| c.phase == Phase::Open)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.flush(slot, &mut pass);
            let connection = &mut self.connections[slot];
            if connection.phase != Phase::Open {
                continue;
            }
            let waits = !connection.protocol.outbox().is_empty()
                || connection
                    .session
                    .and_then(|session| self.sessions.get(session))
                    .is_some_and(|session| !session.queue.is_empty());
            if everyone || !waits {
                self.disconnect(slot, ReasonCode::ServerShuttingDown, &mut pass);
            }
        }
    }
}
