//! The end of connections and sessions, and the wills that go with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::CertificateError;
use smqtt_proto::packet::{DisconnectProperties, Publish};
use smqtt_proto::{Closed, Message, ReasonCode};

use super::deliver::Source;
use super::share::note_presence;
use super::timers::Timer;
use super::{Pass, Worker};
use crate::connection::Phase;
use crate::counters::DropCause;
use crate::session::SessionRef;
use crate::store::{Settlement, Transaction};
use crate::transport;

/// How long a peer has to read the last packet.
const LINGER: Duration = Duration::from_secs(2);

impl Worker {
    /// The socket has ended or failed: nothing can be written any more.
    pub(super) fn lose(&mut self, slot: usize, pass: &mut Pass<'_>) {
        let connection = &mut self.connections[slot];
        if connection.phase == Phase::Dead {
            return;
        }
        if connection.phase == Phase::Open {
            connection.protocol.handle_end_of_stream();
            while let Some(event) = self.connections[slot].protocol.poll_event() {
                if let smqtt_proto::server::Event::Closed(closed) = event {
                    self.on_closed(slot, &closed, pass);
                }
            }
        }
        let connection = &mut self.connections[slot];
        connection.phase = Phase::Dead;
        connection.protocol.outbox().clear();
        connection.wake();
    }

    /// Ends a connection from this side.
    pub(super) fn disconnect(&mut self, slot: usize, reason: ReasonCode, pass: &mut Pass<'_>) {
        self.disconnect_with(slot, reason, DisconnectProperties::default(), pass);
    }

    /// Ends a connection from this side, and tells an MQTT 5 client more than the reason: in a
    /// DISCONNECT, or in the CONNACK of a client that has none yet. An MQTT 3.1.1 client sees its
    /// connection close.
    pub(super) fn disconnect_with(
        &mut self,
        slot: usize,
        reason: ReasonCode,
        properties: DisconnectProperties,
        pass: &mut Pass<'_>,
    ) {
        self.connections[slot]
            .protocol
            .disconnect(reason, properties);
        while let Some(event) = self.connections[slot].protocol.poll_event() {
            if let smqtt_proto::server::Event::Closed(closed) = event {
                self.on_closed(slot, &closed, pass);
            }
        }
    }

    /// The protocol has ended: the session goes its own way, the socket gets its last bytes.
    pub(super) fn on_closed(&mut self, slot: usize, closed: &Closed, pass: &mut Pass<'_>) {
        let connection = &mut self.connections[slot];
        let peer = connection.peer;
        connection.phase = Phase::Closing {
            until: pass.now + LINGER,
            shut: false,
        };
        let session = connection.session.take();
        match closed {
            Closed::Violation(violation) => {
                self.counters().peer_errors.add(1);
                if let Some(suppressed) = self.log_limit.admit("protocol", pass.now) {
                    tracing::warn!(%peer, suppressed, "closed a connection: {violation}");
                }
            }
            Closed::HandshakeTimeout => {
                self.counters().peer_errors.add(1);
                if let Some(suppressed) = self.log_limit.admit("connect-timeout", pass.now) {
                    tracing::warn!(%peer, suppressed, "closed a connection: no CONNECT in time");
                }
            }
            closed => tracing::debug!(%peer, "connection ended: {closed}"),
        }
        if let Some(session) = session {
            self.leave_session(slot, session, closed, pass);
        }
        self.touch(slot);
        self.arm(slot);
    }

    /// A connection lets go of its session.
    fn leave_session(
        &mut self,
        slot: usize,
        reference: SessionRef,
        closed: &Closed,
        pass: &mut Pass<'_>,
    ) {
        self.post_noted();
        let limits = &self.current.config.session;
        let in_flight = self.connections[slot].protocol.take_session();
        let shares = std::mem::take(&mut self.connections[slot].shares);
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        session.in_flight = in_flight;
        session.connection = None;
        session.away_since = Some(pass.now);
        session.shares = shares;
        session.queue.page_out();
        note_presence(session, false);
        self.shared.counters[self.index].clients_connected.sub(1);
        if !limits.queue_qos0 {
            let forgotten = session.queue.forget_qos0();
            self.shared.counters[self.index].dropped(DropCause::Disconnected, forgotten as u64);
            session
                .losses
                .add(DropCause::Disconnected, forgotten as u64);
        }
        if let Closed::Disconnected(disconnect) = closed {
            if let Some(seconds) = disconnect.properties.session_expiry_interval {
                session.expiry = seconds.min(limits.max_expiry_seconds);
            }
            if disconnect.reason == ReasonCode::Success {
                // [MQTT-3.14.4-3]
                session.will = None;
            }
        }
        let expiry = session.expiry;
        if expiry == 0 {
            self.end_session(reference, pass);
            return;
        }
        self.note_session(reference);
        self.hand_on_queue(reference, pass);
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        if expiry != u32::MAX {
            let at = pass.now + Duration::from_secs(expiry.into());
            session.ends_at = Some(at);
            self.set_timer(at, Timer::SessionEnd(reference));
        }
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        let delay = session
            .will
            .as_ref()
            .map(|will| will.properties.will_delay_interval.unwrap_or(0));
        match delay {
            None => {}
            // [MQTT-3.1.2-8]
            Some(0) => self.publish_will(reference, None, pass),
            // The end of the session comes with the will, if it comes first [MQTT-3.1.3-9].
            Some(seconds) => {
                let at = pass.now + Duration::from_secs(seconds.into());
                session.will_at = Some(at);
                self.set_timer(at, Timer::Will(reference));
            }
        }
    }

    pub(super) fn on_will_due(&mut self, reference: SessionRef, pass: &mut Pass<'_>) {
        if let Some(session) = self.sessions.get_mut(reference) {
            session.will_at = None;
            self.publish_will(reference, None, pass);
        }
    }

    /// Publishes a session's will, if it has one; in this transaction, which ends the session, or in
    /// one that notes that the will is published.
    fn publish_will(
        &mut self,
        reference: SessionRef,
        ending: Option<&Arc<Transaction>>,
        pass: &mut Pass<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(reference) else {
            return;
        };
        let Some(will) = session.will.take() else {
            return;
        };
        // The rules may have changed since its CONNECT.
        let (admitted, client_id) = (session.admitted.clone(), session.client_id.clone());
        if let Err((_, why)) = self.judge_will(&admitted, &client_id, &will) {
            self.counters().denied.add(1);
            tracing::debug!(client_id = %client_id.escape_debug(), "did not publish a will: {why}");
            return;
        }
        match Message::new(&Publish::from(*will), pass.now) {
            Ok(message) => {
                let tracked = self.track_will(&message, reference, ending);
                let mut source = Source::shared(message.into(), tracked);
                // A full store has been counted; the will is delivered nevertheless.
                let _ = self.retain(&mut source, pass.now);
                self.route(&mut source, Some(reference), pass);
            }
            Err(error) => tracing::error!(%error, "cannot publish a will"),
        }
    }

    /// Ends a session: its will is due, its subscriptions and what waited for it are forgotten.
    pub(super) fn end_session(&mut self, reference: SessionRef, pass: &mut Pass<'_>) {
        self.end_session_before(reference, None, pass);
    }

    /// Ends a session, and has what waits for that settled once it is committed; `false` if nothing is
    /// to be committed.
    pub(super) fn end_session_before(
        &mut self,
        reference: SessionRef,
        settlement: Option<Settlement>,
        pass: &mut Pass<'_>,
    ) -> bool {
        let transaction = self.begin_end(reference);
        self.publish_will(reference, transaction.as_ref(), pass);
        let Some(mut session) = self.sessions.remove(reference) else {
            return false;
        };
        if let (Some(transaction), Some(settlement)) = (&transaction, settlement) {
            transaction.settle(self.index, settlement);
        }
        if let Some(transaction) = &transaction {
            self.note_end(transaction, &session, pass.trie());
        }
        if session.noted_full {
            self.shared.full.note(reference, false);
        }
        if let Some(at) = session.will_at {
            self.timers.unset(at, Timer::Will(reference));
        }
        if let Some(at) = session.ends_at {
            self.timers.unset(at, Timer::SessionEnd(reference));
        }
        self.counters()
            .subscriptions
            .sub(session.subscriptions.len() as u64);
        if !session.subscriptions.is_empty() {
            pass.change_trie(|trie| {
                session.subscriptions.clear(reference, trie);
            });
        }
        self.shared.directory.release(&session.client_id);
        let lost = self.hand_on_all(session, transaction.as_ref(), pass);
        self.counters()
            .dropped(DropCause::SessionEnded, lost as u64);
        self.counters().sessions.sub(1);
        transaction.is_some()
    }

    pub(super) fn on_connection_timer(&mut self, slot: usize, pass: &mut Pass<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.timer = None;
        if connection.deadline().is_some_and(|at| at <= pass.now) {
            match connection.phase {
                Phase::Open if connection.expires.is_some_and(|at| at <= pass.now) => {
                    self.on_certificate_expired(slot, pass);
                }
                Phase::Open => {
                    connection.protocol.handle_timeout(pass.now);
                    connection.wake();
                    return;
                }
                Phase::Closing { .. } | Phase::Dead => self.lose(slot, pass),
            }
        }
        self.arm(slot);
    }

    /// Logs a read that failed for a reason other than a connection that went away.
    pub(super) fn log_read_error(&mut self, slot: usize, error: &std::io::Error) {
        if error.kind() != std::io::ErrorKind::InvalidData {
            return;
        }
        self.counters().peer_errors.add(1);
        let peer = self.connections[slot].peer;
        let (kind, hint) = match smqtt_pki::tls::tls_error(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => {
                self.counters().revoked.add(1);
                ("revoked", "; the authority has taken it back")
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. },
            )) => (
                "crl-expired",
                "; no device is admitted until tls.crl is renewed",
            ),
            Some(_) => ("tls", ""),
            None => (transport::kind_of(error), ""),
        };
        if let Some(suppressed) = self.log_limit.admit(kind, Instant::now()) {
            tracing::warn!(%peer, suppressed, "closed a connection: {error}{hint}");
        }
    }
}
