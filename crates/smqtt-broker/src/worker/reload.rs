//! A configuration takes the place of another while connections stay.

use std::sync::Arc;
use std::time::Duration;

use smqtt_pki::{Revocations, UnixTime};
use smqtt_proto::ReasonCode;

use super::timers::Timer;
use super::{Pass, Worker};
use crate::access::Admitted;
use crate::current::Current;
use crate::session::SessionRef;

/// Sessions that a reload ends are logged one by one, at most so many a worker.
const NAMED: usize = 100;
/// How often it is looked whether the revocation list is about to expire.
const LOOK_AT_LIST: Duration = Duration::from_secs(3600);

impl Worker {
    /// Goes by `current` from now on.
    pub(super) fn on_reload(&mut self, current: Arc<Current>, pass: &mut Pass<'_>) {
        let before = std::mem::replace(&mut self.current, current);
        if self.index == 0 {
            self.reload_shared(&before, pass);
        }
        self.judge_again(pass);
        self.withdraw_subscriptions(pass);
        self.expire_again(pass);
    }

    /// Ends every session, and its connection with it, whose client would not be admitted any more.
    pub(super) fn judge_again(&mut self, pass: &mut Pass<'_>) {
        let refused: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|session| {
                let why = self
                    .still_admits(&session.admitted, &session.client_id)
                    .err()?;
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
    pub(super) fn still_admits(
        &self,
        admitted: &Admitted,
        client_id: &str,
    ) -> Result<(), &'static str> {
        let rules = &self.current.listeners[admitted.listener];
        if let Some(shown) = &admitted.certificate {
            shown.judge(rules.tls.as_ref())?;
        }
        self.current
            .access
            .still_admits(rules, &admitted.identity, client_id)
    }

    /// Ends a session and its connection at once. A will is due then `[MQTT-3.1.2-8]`: it was
    /// accepted from a client that was admitted, and tells others that this one is gone.
    fn expel(&mut self, reference: SessionRef, pass: &mut Pass<'_>) {
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        session.expiry = 0;
        self.shared.counters[self.index].expelled.add(1);
        match session.connection {
            Some(slot) => self.disconnect(slot, ReasonCode::AdministrativeAction, pass),
            None => self.end_session(reference, pass),
        }
    }

    /// Sets anew when connections end because of their certificates.
    fn expire_again(&mut self, pass: &mut Pass<'_>) {
        let wanted = self.current.config.tls.end_at_expiry;
        let expiring: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|session| {
                let shown = session.admitted.certificate.as_ref()?;
                Some((session.connection?, shown.expires_at(pass.now)))
            })
            .collect();
        for (slot, expires) in expiring {
            self.connections[slot].expires = expires.filter(|_| wanted);
            self.arm(slot);
        }
    }

    /// A certificate was to expire about now. Its client may come back with the next one, to the same
    /// session.
    pub(super) fn on_certificate_expired(&mut self, slot: usize, pass: &mut Pass<'_>) {
        let expires = self.connections[slot]
            .session
            .and_then(|session| self.sessions.get(session))
            .and_then(|session| session.admitted.certificate.as_ref())
            .and_then(|shown| shown.expires_at(pass.now));
        // The clock may have been set back meanwhile.
        self.connections[slot].expires = expires.filter(|at| *at > pass.now);
        if self.connections[slot].expires.is_none() {
            let peer = self.connections[slot].peer;
            tracing::info!(%peer, "ended a connection: its client's certificate has expired");
            self.disconnect(slot, ReasonCode::MaximumConnectTime, pass);
        }
    }

    /// Warns of a revocation list that is about to let nobody in.
    pub(super) fn on_look_at_revocation_list(&mut self, pass: &mut Pass<'_>) {
        self.set_timer(pass.now + LOOK_AT_LIST, Timer::RevocationList);
        self.warn_of_revocation_list();
    }

    fn warn_of_revocation_list(&self) {
        let Some(validity) = self.current.revocations().map(Revocations::validity) else {
            return;
        };
        let (begin, end) = (
            validity.not_before().as_secs(),
            validity.not_after().as_secs(),
        );
        match end.saturating_sub(UnixTime::now().as_secs()) {
            0 => tracing::error!(
                "the revocation list has expired: no device is admitted until tls.crl is renewed"
            ),
            left if left <= (end - begin) / 4 => tracing::warn!(
                hours = left / 3600,
                "the revocation list expires soon, and no device is admitted then: renew tls.crl"
            ),
            _ => {}
        }
    }

    /// What the first worker does for all.
    fn reload_shared(&mut self, before: &Current, pass: &mut Pass<'_>) {
        self.warn_of_revocation_list();
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
