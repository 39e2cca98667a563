//! The broker's side of a session: the connection to it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use smqtt_proto::packet::{ConnAckProperties, DisconnectProperties};
use smqtt_proto::{ReasonCode, Session as InFlight};

use super::super::account::count;
use super::{Admission, Dialled, FAREWELL, SESSION_EXPIRY, Session, Upstream};
use crate::Error;
use crate::connection::link::Opened;

impl Session {
    /// Whether a connection to the broker is needed.
    pub(super) fn wants_upstream(&self) -> bool {
        self.local.is_some()
            || (!self.upward.is_settled() && self.leave_by.is_some_and(|by| Instant::now() < by))
    }

    /// Begins to connect, with the session that there is.
    pub(super) fn dial(&mut self) {
        let session = match std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new())) {
            Upstream::Idle(session) | Upstream::Waiting(session, _) => session,
            dialling @ Upstream::Dialling(_) => {
                self.upstream = dialling;
                return;
            }
            Upstream::Up(mut link) => link.mqtt.take_session(),
        };
        let mut dialler = self.dialler.clone();
        dialler.tls = self.shared.tls();
        let connect = &mut dialler.mqtt.connect;
        let v5 = connect.version.is_v5();
        let clean_start = self.admission.as_ref().is_some_and(|a| a.clean_start);
        let mut ends_first = false;
        if v5 {
            connect.clean_start = clean_start;
            connect.properties.session_expiry_interval = Some(self.expiry.max(SESSION_EXPIRY));
        } else {
            connect.clean_start = self.expiry == 0;
            // MQTT 3.1.1 cannot begin anew and stay: that takes a connection before the connection.
            ends_first = clean_start && self.expiry > 0;
        }
        self.upstream = Upstream::Dialling(Box::pin(async move {
            let mut session = session;
            if ends_first {
                let mut first = dialler.clone();
                first.mqtt.connect.clean_start = true;
                match first.dial(&mut InFlight::new()).await {
                    Ok(opened) => {
                        let _ = tokio::time::timeout(FAREWELL, opened.link.close(None)).await;
                    }
                    Err(error) => {
                        return Dialled {
                            result: Err(error),
                            session,
                        };
                    }
                }
            }
            let result = dialler.dial(&mut session).await;
            Dialled { result, session }
        }));
    }

    pub(super) fn dialled(&mut self, dialled: Dialled) {
        let Dialled { result, session } = dialled;
        match result {
            Ok(opened) => self.begin(opened),
            Err(error) => {
                self.upstream = Upstream::Idle(session);
                self.not_connected(&error);
            }
        }
    }

    pub(super) fn not_connected(&mut self, error: &Error) {
        if let Some(suppressed) = self.shared.account.admit("no-upstream") {
            tracing::warn!(
                client = %self.client_id.escape_debug(),
                suppressed,
                "no connection to the broker: {error}"
            );
        }
        let transient = error.is_transient();
        if self.admission.is_some() {
            let reason = if transient {
                ReasonCode::ServerUnavailable
            } else {
                ReasonCode::NotAuthorized
            };
            count(&self.shared.account.clients_refused);
            if let Some(local) = &mut self.local {
                local.mqtt.reject(reason, ConnAckProperties::default());
            }
            self.handle_local();
            return;
        }
        if !transient {
            self.end_local(ReasonCode::NotAuthorized);
            self.give_up();
            return;
        }
        let backoff = &self.shared.backoff;
        let wait = backoff.wait(self.attempt, &mut rand::rng());
        self.attempt = self.attempt.saturating_add(1);
        if let Upstream::Idle(session) = &mut self.upstream {
            let session = std::mem::take(session);
            self.upstream = Upstream::Waiting(session, Instant::now() + wait);
        }
    }

    /// A connection to the broker stands.
    pub(super) fn begin(&mut self, opened: Opened) {
        let Opened {
            link,
            connack,
            forgotten,
        } = opened;
        self.upstream = Upstream::Up(Box::new(link));
        self.upstream_number += 1;
        self.attempt = 0;
        let present = connack.session_present;
        let mut settled = Vec::new();
        self.upward.send_again(forgotten, &mut settled);
        self.settle(settled);
        if let Some(admission) = self.admission.take() {
            self.let_in(admission, present);
        } else if !present && self.requests.unknown {
            // What it had subscribed to is not known: it has to do so again.
            self.expiry = 0;
            self.end_local(ReasonCode::UnspecifiedError);
            return;
        }
        self.requests.reconnected(present);
    }

    /// The broker has let the client in, and so does the gateway.
    pub(super) fn let_in(&mut self, admission: Admission, present: bool) {
        let fresh = self.opener.is_none();
        if !present {
            self.forget();
        } else if fresh && self.local_number == 1 {
            // The broker remembers more than this program.
            self.requests.unknown = true;
            self.requests.ask_for_all_key_frames(&self.shared.rules);
        }
        count(&self.shared.account.clients);
        let properties = ConnAckProperties {
            assigned_client_identifier: admission.assigned,
            ..ConnAckProperties::default()
        };
        let session = std::mem::take(&mut self.local_session);
        if let Some(local) = &mut self.local {
            tracing::info!(client = %self.client_id.escape_debug(), peer = %local.peer, session_present = present, "local client connected");
            local
                .mqtt
                .accept(Instant::now(), session, present, properties);
        }
    }

    pub(super) async fn lose_upstream(&mut self, reason: &str) {
        if let Some(suppressed) = self.shared.account.admit("lost-upstream") {
            tracing::warn!(
                client = %self.client_id.escape_debug(),
                suppressed,
                "lost the connection to the broker: {reason}"
            );
        }
        self.hang_up().await;
        let wait = self.shared.backoff.wait(self.attempt, &mut rand::rng());
        self.attempt = self.attempt.saturating_add(1);
        if let Upstream::Idle(session) = &mut self.upstream {
            let session = std::mem::take(session);
            self.upstream = Upstream::Waiting(session, Instant::now() + wait);
        }
    }

    /// Ends the connection to the broker at once, and keeps what is in flight.
    pub(super) async fn hang_up(&mut self) {
        let before = std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new()));
        self.upstream = match before {
            Upstream::Up(mut link) => {
                link.say_last_words().await;
                Upstream::Idle(link.mqtt.take_session())
            }
            other => other,
        };
    }

    /// Says goodbye to the broker: nobody is there for whom the connection would be.
    pub(super) async fn close_upstream(&mut self) {
        let before = std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new()));
        self.upstream = match before {
            Upstream::Waiting(session, _) => Upstream::Idle(session),
            Upstream::Up(mut link) => {
                let properties = DisconnectProperties {
                    session_expiry_interval: Some(self.expiry),
                    ..DisconnectProperties::default()
                };
                link.mqtt.disconnect(ReasonCode::Success, properties);
                let session = link.mqtt.take_session();
                let _ = tokio::time::timeout(FAREWELL, link.close(None)).await;
                Upstream::Idle(session)
            }
            other => other,
        };
        if self.expiry == 0 {
            self.give_up();
        }
    }

    /// What could not be sent is lost.
    pub(super) fn give_up(&mut self) {
        let lost = self.upward.give_up();
        self.shared
            .account
            .dropped
            .fetch_add(lost as u64, Ordering::Relaxed);
    }
}
