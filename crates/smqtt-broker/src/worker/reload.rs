//! A configuration takes the place of another while connections stay.

use std::sync::Arc;
use std::time::Duration;

use smqtt_proto::ReasonCode;

use super::timers::Timer;
use super::{Pass, Worker};
use crate::access::Admitted;
use crate::current::Current;
use crate::session::SessionRef;

/// Sessions that a reload ends are logged one by one, at most so many a worker.
const NAMED: usize = 100;

impl Worker {
    /// Goes by `current` from now on.
    pub(super) fn on_reload(&mut self, current: Arc<Current>, pass: &mut Pass<'_>) {
        let before = std::mem::replace(&mut self.current, current);
        if self.index == 0 {
            self.reload_shared(&before, pass);
        }
        self.judge_again(pass);
    }

    /// Ends every session, and its connection with it, whose client would not be admitted any more.
    fn judge_again(&mut self, pass: &mut Pass<'_>) {
        let refused: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|session| {
                let why = self.still_admits(&session.admitted).err()?;
                Some((session.reference, why))
            })
            .collect();
        if refused.len() > NAMED {
            tracing::warn!(
                sessions = refused.len(),
                "ending sessions that are not admitted any more; the first {NAMED} are named"
            );
        }
        for (count, (reference, why)) in refused.into_iter().enumerate() {
            if let Some(session) = self.sessions.get(reference)
                && count < NAMED
            {
                tracing::warn!(
                    client_id = %session.client_id.escape_debug(),
                    identity = %session.admitted.identity,
                    "ended a session: {why}"
                );
            }
            self.expel(reference, pass);
        }
    }

    /// Whether a client that was admitted under earlier rules would be admitted now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn still_admits(&self, admitted: &Admitted) -> Result<(), &'static str> {
        let rules = &self.current.listeners[admitted.listener];
        self.current.access.still_admits(rules, &admitted.identity)
    }

    /// Ends a session and its connection at once. A will is due then `[MQTT-3.1.2-8]`: it was
    /// accepted from a client that was admitted, and tells others that this one is gone.
    fn expel(&mut self, reference: SessionRef, pass: &mut Pass<'_>) {
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        session.expiry = 0;
        match session.connection {
            Some(slot) => self.disconnect(slot, ReasonCode::AdministrativeAction, pass),
            None => self.end_session(reference, pass),
        }
    }

    /// What the first worker does for all.
    fn reload_shared(&mut self, before: &Current, pass: &mut Pass<'_>) {
        let config = &self.current.config;
        let (messages, bytes) = (config.retained.messages, config.retained.bytes);
        pass.shared.retained.write().set_limits(messages, bytes);
        let interval = config.sys.interval_seconds;
        if interval != before.config.sys.interval_seconds {
            match interval {
                0 => {
                    if let Some(at) = self.sys_due.take() {
                        self.timers.unset(at, Timer::Sys);
                    }
                }
                seconds => self.set_sys_timer(pass.now + Duration::from_secs(seconds)),
            }
        }
    }
}
