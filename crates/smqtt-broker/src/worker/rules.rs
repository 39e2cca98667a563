//! What clients may do: messages and subscriptions before the rules, passwords before their file.

use std::sync::{Arc, Weak};
use std::time::Instant;

use smqtt_format::announce;
use smqtt_pki::DeviceId;
use smqtt_proto::packet::{Connect, Will};
use smqtt_proto::{PacketId, ProtocolVersion, ReasonCode};
use zeroize::Zeroizing;

use super::{Pass, Worker};
use crate::access::{
    Access, Action, Admitted, Subject, Unsealed, announcer, check_announcement, check_sealed,
};
use crate::config::SealedMode;
use crate::connection::{Checking, Phase};
use crate::retained::RetainedStore;
use crate::session::SessionRef;
use crate::shared::{Admission, Mail};

impl Worker {
    /// Whether a client's message is accepted. Takes no lock and makes no copy, but the first time for
    /// a topic, a key or an announcement.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge_message(
        &mut self,
        slot: usize,
        publish: &smqtt_proto::packet::Publish,
        now: Instant,
    ) -> Result<(), ReasonCode> {
        let topic = publish.topic.as_str();
        let access = &self.current.access;
        if !access.judges_messages() && !announce::is_reserved(topic) {
            return Ok(());
        }
        let connection = &mut self.connections[slot];
        let Some(session) = connection
            .session
            .and_then(|session| self.sessions.get(session))
        else {
            return Err(ReasonCode::NotAuthorized);
        };
        let subject = subject(&session.admitted, &session.client_id);
        let known = connection.verdicts.of(access.generation(), topic, || {
            access.verdict(&subject, topic)
        });
        let verdict = known.verdict;
        let mut denied = (!verdict.publish || (publish.retain && !verdict.retain))
            .then_some("the rules do not allow it");
        if denied.is_none() && topic.starts_with(announce::PREFIX) {
            let retained = || announced_by(&self.shared.retained.read(), topic);
            denied = check_announcement(subject.identity, topic, &publish.payload, retained).err();
        }
        if let Some(why) = denied {
            let identity = session.admitted.identity.clone();
            self.note_denied(slot, &identity, topic, why, now);
            return Err(ReasonCode::NotAuthorized);
        }
        // What a device announces is checked above, and is sealed by nature; an empty retained message
        // only clears.
        let clears = publish.retain && publish.payload.is_empty();
        if verdict.sealed == SealedMode::Off || clears || announce::is_reserved(topic) {
            return Ok(());
        }
        let mut seen = None;
        let retained = &self.shared.retained;
        let sealed = check_sealed(subject.identity, &publish.payload, |key, publisher| {
            if known.key == Some(*key) {
                return false;
            }
            seen = Some(*key);
            is_anothers(&retained.read(), topic, key, publisher)
        });
        match sealed {
            Ok(()) => {
                if let Some(key) = seen {
                    connection.verdicts.note_key(topic, key);
                }
                Ok(())
            }
            Err(why) => self.note_unsealed(slot, verdict.sealed, topic, why, now),
        }
    }

    /// Counts and logs a message that was not sealed.
    ///
    /// # Errors
    /// If it is to be refused.
    fn note_unsealed(
        &mut self,
        slot: usize,
        mode: SealedMode,
        topic: &str,
        why: Unsealed,
        now: Instant,
    ) -> Result<(), ReasonCode> {
        let refuse = mode == SealedMode::Enforce;
        let counters = self.counters();
        match refuse {
            true => counters.unsealed_refused.add(1),
            false => counters.unsealed_accepted.add(1),
        }
        let (kind, verb) = match refuse {
            true => ("unsealed-refused", "refused"),
            false => ("unsealed-accepted", "accepted"),
        };
        if let Some(suppressed) = self.log_limit.admit(kind, now) {
            let peer = self.connections[slot].peer;
            tracing::warn!(%peer, topic = %topic.escape_debug(), suppressed, "{verb} a message at a sealed topic: {why}");
        }
        match refuse {
            true => Err(ReasonCode::PayloadFormatInvalid),
            false => Ok(()),
        }
    }

    fn note_denied(
        &mut self,
        slot: usize,
        identity: &crate::directory::Identity,
        topic: &str,
        why: &str,
        now: Instant,
    ) {
        self.counters().denied.add(1);
        if let Some(suppressed) = self.log_limit.admit("denied", now) {
            let peer = self.connections[slot].peer;
            tracing::warn!(%peer, %identity, topic = %topic.escape_debug(), suppressed, "denied a message: {why}");
        }
    }

    /// Whether a will may be published, at its CONNECT and again when it is due.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge_will(
        &self,
        admitted: &Admitted,
        client_id: &str,
        will: &Will,
    ) -> Result<(), (ReasonCode, String)> {
        let topic = will.topic.as_str();
        let subject = subject(admitted, client_id);
        let verdict = self.current.access.verdict(&subject, topic);
        let denied = || {
            (
                ReasonCode::NotAuthorized,
                "its will has a topic that it may not publish to".to_owned(),
            )
        };
        if !verdict.publish || (will.retain && !verdict.retain) {
            return Err(denied());
        }
        if topic.starts_with(announce::PREFIX) {
            let retained = || announced_by(&self.shared.retained.read(), topic);
            return check_announcement(subject.identity, topic, &will.payload, retained)
                .map_err(|_| denied());
        }
        if verdict.sealed != SealedMode::Enforce || (will.retain && will.payload.is_empty()) {
            return Ok(());
        }
        check_sealed(subject.identity, &will.payload, |key, publisher| {
            is_anothers(&self.shared.retained.read(), topic, key, publisher)
        })
        .map_err(|why| {
            self.counters().unsealed_refused.add(1);
            (
                ReasonCode::PayloadFormatInvalid,
                format!("its will is for a sealed topic: {why}"),
            )
        })
    }

    /// Ends the subscriptions that the rules of today do not grant any more.
    pub(super) fn withdraw_subscriptions(&mut self, pass: &mut Pass<'_>) {
        let access = &self.current.access;
        if access.acl().is_none() {
            return;
        }
        let mut withdrawn: Vec<(SessionRef, smqtt_proto::TopicFilter)> = Vec::new();
        for session in self.sessions.iter() {
            let subject = subject(&session.admitted, &session.client_id);
            for filter in session.subscriptions.filters(pass.trie()) {
                if !access.allows(&subject, Action::Subscribe, filter.filter()) {
                    withdrawn.push((session.reference, filter));
                }
            }
        }
        if withdrawn.is_empty() {
            return;
        }
        tracing::warn!(
            subscriptions = withdrawn.len(),
            "ended subscriptions that are not granted any more"
        );
        pass.change_trie(|trie| {
            for (reference, filter) in withdrawn {
                if let Some(session) = self.sessions.get_mut(reference) {
                    session.subscriptions.remove(&filter, reference, trie);
                    session.retained.retain(|cursor| cursor.filter != filter);
                }
            }
        });
    }

    /// Has the password in a CONNECT verified, on another thread. The connection waits.
    pub(super) fn check_password(&mut self, slot: usize, connect: Box<Connect>) {
        let Some(passwords) = self.current.access.passwords().cloned() else {
            return;
        };
        let user = connect
            .username
            .as_ref()
            .map_or("", |user| user.as_str())
            .to_owned();
        let password = connect
            .password
            .as_ref()
            .map_or(&[][..], |password| password.expose());
        let password = Zeroizing::new(password.to_vec());
        let ticket = Arc::new(());
        let waiting = Arc::downgrade(&ticket);
        self.connections[slot].checking = Some(Box::new(Checking {
            connect,
            ticket,
            verified: None,
        }));
        let (shared, index) = (self.shared.clone(), self.index);
        tokio::task::spawn_local(async move {
            let Ok(_turn) = shared.password_checks.acquire().await else {
                return;
            };
            // Its client may have given up, or its time may have run out, meanwhile.
            if waiting.strong_count() == 0 {
                return;
            }
            let check = tokio::task::spawn_blocking(move || passwords.verify(&user, &password));
            let verified = check.await.unwrap_or(false);
            let mail = Mail::PasswordChecked {
                slot,
                ticket: waiting,
                verified,
            };
            shared.mailboxes[index].post(&mut vec![mail], 0);
        });
    }

    /// A password was verified, or not.
    pub(super) fn on_password_checked(&mut self, slot: usize, ticket: &Weak<()>, verified: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        // Another connection may have taken the place.
        if let Some(checking) = &mut connection.checking
            && Arc::as_ptr(&checking.ticket) == ticket.as_ptr()
        {
            checking.verified = Some(verified);
            connection.wake();
        }
    }

    /// Goes on with a CONNECT whose password was verified, or not.
    pub(super) fn resume_connect(
        &mut self,
        slot: usize,
        pass: &mut Pass<'_>,
    ) -> Option<(usize, Admission)> {
        let connection = &mut self.connections[slot];
        if connection.phase != Phase::Open {
            connection.checking = None;
            return None;
        }
        let verified = connection.checking.as_ref()?.verified?;
        let checking = connection.checking.take()?;
        if !verified {
            self.counters().passwords_refused.add(1);
        }
        self.judge_connect(slot, checking.connect, Some(verified), pass)
    }

    /// Ends a connection for a message that its client could not be told of in an acknowledgement.
    /// Whether it was.
    pub(super) fn ends_for(
        &mut self,
        slot: usize,
        reason: ReasonCode,
        packet_id: Option<PacketId>,
        pass: &mut Pass<'_>,
    ) -> bool {
        let v5 = self.connections[slot].protocol.version() == Some(ProtocolVersion::V5);
        if reason != ReasonCode::PayloadFormatInvalid || (v5 && packet_id.is_some()) {
            return false;
        }
        if let Some(packet_id) = packet_id {
            self.connections[slot].protocol.withdraw(packet_id);
        }
        self.counters().publish_refused.add(1);
        self.disconnect(slot, reason, pass);
        true
    }
}

/// How the rules see a client.
pub(super) fn subject<'a>(admitted: &'a Admitted, client_id: &'a str) -> Subject<'a> {
    Subject {
        identity: &admitted.identity,
        client_id,
        attributes: &admitted.attributes,
    }
}

/// Whether a session may have a subscription.
pub(super) fn may_subscribe(
    access: &Access,
    admitted: &Admitted,
    client_id: &str,
    filter: &smqtt_proto::TopicFilter,
) -> bool {
    access.acl().is_none()
        || access.allows(
            &subject(admitted, client_id),
            Action::Subscribe,
            filter.filter(),
        )
}

/// The device of the announcement that is retained at `topic`.
fn announced_by(retained: &RetainedStore, topic: &str) -> Option<DeviceId> {
    announcer(retained.get(topic)?.payload())
}

fn is_anothers(
    retained: &RetainedStore,
    topic: &str,
    key: &smqtt_format::KeyId,
    publisher: &DeviceId,
) -> bool {
    announced_by(retained, &announce::topic(topic, key)).is_some_and(|device| device != *publisher)
}
