//! CONNECT: who it is, which worker has the session, and what the session is.

use std::sync::Arc;

use smqtt_proto::packet::{ConnAckProperties, Connect};
use smqtt_proto::{MqttString, ProtocolVersion, ReasonCode};

use super::publish::SYS_PREFIX;
use super::share::note_presence;
use super::timers::Timer;
use super::{Pass, Worker};
use crate::access::{self, Admitted, Proof};
use crate::certificate;
use crate::connection::Connection;
use crate::directory::{Claim, Identity};
use crate::session::Durable;
use crate::shared::{Admission, HandedOver, Mail};
use crate::store::Settlement;
use crate::transport::Transport;

/// By how many connections a worker must be ahead of another before it gives new clients away.
const IMBALANCE: u64 = 8;

/// The user property that tells what the acknowledgements of a persistent session promise.
const DURABILITY: &str = "smqtt-durability";

impl Worker {
    /// Judges a CONNECT. Returns the worker that the client's session belongs to, unless the client
    /// was refused.
    pub(super) fn on_connect(
        &mut self,
        slot: usize,
        connect: Box<Connect>,
        pass: &mut Pass<'_>,
    ) -> Option<(usize, Admission)> {
        self.judge_connect(slot, connect, None, pass)
    }

    /// The same, once the password in it was `verified`, or not.
    pub(super) fn judge_connect(
        &mut self,
        slot: usize,
        connect: Box<Connect>,
        verified: Option<bool>,
        pass: &mut Pass<'_>,
    ) -> Option<(usize, Admission)> {
        match self.admit(slot, &connect, verified) {
            Ok(None) => {
                self.check_password(slot, connect);
                None
            }
            Ok(Some((worker, client_id, assigned, admitted))) => Some((
                worker,
                Admission {
                    connect,
                    client_id,
                    assigned,
                    admitted,
                },
            )),
            Err((reason, detail)) => {
                let properties = self.refusal_properties(reason);
                let connection = &mut self.connections[slot];
                let peer = connection.peer;
                connection.protocol.reject(reason, properties);
                self.counters().peer_errors.add(1);
                if let Some(suppressed) = self.log_limit.admit("refused", pass.now) {
                    tracing::warn!(%peer, suppressed, "refused a client: {detail}");
                }
                None
            }
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "the parts of an admission, in the one place that makes it"
    )]
    fn admit(
        &mut self,
        slot: usize,
        connect: &Connect,
        verified: Option<bool>,
    ) -> Result<Option<(usize, Arc<str>, bool, Admitted)>, (ReasonCode, String)> {
        if let Some(refusal) = self.turns_everyone_away() {
            return Err(refusal);
        }
        let connection = &self.connections[slot];
        let listener = connection.listener.index;
        if !self.current.config.listeners[listener].accepts(connect.version) {
            return Err((
                ReasonCode::UnsupportedProtocolVersion,
                format!(
                    "listener {} does not accept its MQTT version",
                    connection.listener.name
                ),
            ));
        }
        let rules = &self.current.listeners[listener];
        let tls = connection.transport.tls_state();
        let (device, shown) = certificate::verify(rules, tls)
            .map_err(|why| (ReasonCode::NotAuthorized, why))?
            .unzip();
        let access = &self.current.access;
        let identity = match (access.identify(rules, device.as_ref(), connect)?, verified) {
            (Proof::Given(identity), _) => identity,
            (Proof::Password(_), None) => return Ok(None),
            (Proof::Password(user), Some(true)) => Identity::User(user),
            (Proof::Password(user), Some(false)) => {
                return Err((
                    ReasonCode::BadUserNameOrPassword,
                    format!(
                        "wrong user name or password, user \"{}\"",
                        user.escape_debug()
                    ),
                ));
            }
        };
        let attributes = device
            .as_ref()
            .map_or_else(access::no_attributes, access::attributes_of);
        // [MQTT-4.12.0-1]: there is no extended authentication.
        if connect.properties.authentication_method.is_some() {
            return Err((
                ReasonCode::BadAuthenticationMethod,
                "it asks for extended authentication".into(),
            ));
        }
        if let Some(will) = &connect.will
            && (will.topic.as_str().starts_with(SYS_PREFIX)
                || will.topic.levels().count() > self.current.config.limits.topic_levels)
        {
            return Err((
                ReasonCode::TopicNameInvalid,
                "its will has a topic that no client may publish to".into(),
            ));
        }
        let assigned = connect.client_id.is_empty();
        if assigned && connect.version == ProtocolVersion::V3_1_1 && !connect.clean_start {
            // [MQTT-3.1.3-8] of 3.1.1
            return Err((
                ReasonCode::ClientIdentifierNotValid,
                "it has no client id and wants to keep its session".into(),
            ));
        }
        let client_id: Arc<str> = match assigned {
            true => access.assign(&identity, make_client_id()?).into(),
            false => connect.client_id.as_str().into(),
        };
        if !self.current.access.binds(&identity, &client_id) {
            return Err((
                ReasonCode::ClientIdentifierNotValid,
                format!(
                    "client id \"{}\" is not one that {identity} may take: see access.client_id",
                    client_id.escape_debug()
                ),
            ));
        }
        let admitted = Admitted {
            identity: identity.clone(),
            certificate: shown,
            attributes,
            listener,
        };
        if let Some(will) = &connect.will {
            self.judge_will(&admitted, &client_id, will)?;
        }
        let preferred = || self.preferred_worker();
        match self
            .shared
            .directory
            .claim(&client_id, &identity, preferred)
        {
            Claim::Owner(worker) => Ok(Some((worker, client_id, assigned, admitted))),
            Claim::Foreign => Err((
                ReasonCode::NotAuthorized,
                format!(
                    "client id \"{}\" belongs to another identity than {identity}",
                    client_id.escape_debug()
                ),
            )),
        }
    }

    /// Where a new session should live: here, unless another worker has much less to do.
    fn preferred_worker(&self) -> usize {
        let load = |worker: usize| self.shared.counters[worker].connections.get();
        let here = load(self.index);
        (0..self.shared.counters.len())
            .min_by_key(|worker| load(*worker))
            .filter(|least| here > load(*least) + IMBALANCE + here / 8)
            .unwrap_or(self.index)
    }

    /// Gives a connection to the worker that has its session.
    pub(super) fn hand_over(&mut self, slot: usize, worker: usize, admission: Admission) {
        let Connection {
            transport,
            protocol,
            listener,
            peer,
            seat,
            ..
        } = self.remove(slot);
        match transport.detach() {
            Ok(transport) => {
                let handed = HandedOver {
                    transport,
                    protocol,
                    listener,
                    peer,
                    seat,
                    admission,
                };
                self.post(worker, Mail::HandOver(Box::new(handed)), 0);
            }
            Err(error) => {
                tracing::error!(%error, %peer, "cannot hand a connection to another worker");
            }
        }
    }

    /// Takes a connection from another worker. Returns its place, for its task.
    pub(super) fn take_over(&mut self, handed: HandedOver, pass: &mut Pass<'_>) -> Option<usize> {
        let HandedOver {
            transport,
            protocol,
            listener,
            peer,
            seat,
            admission,
        } = handed;
        let transport = match Transport::attach(transport) {
            Ok(transport) if !self.stopping => transport,
            _ => {
                self.forget_claim(&admission.client_id);
                return None;
            }
        };
        let slot = self.insert(Connection::new(transport, protocol, listener, peer, seat));
        // The session may have ended, and another worker may have opened a new one, meanwhile.
        let index = self.index;
        match self.shared.directory.claim(
            &admission.client_id,
            &admission.admitted.identity,
            || index,
        ) {
            Claim::Owner(worker) if worker == index => {
                // The rules may have changed on its way.
                match self.still_admits(&admission.admitted, &admission.client_id) {
                    Ok(()) => self.open_session(slot, admission, pass),
                    Err(why) => {
                        self.forget_claim(&admission.client_id);
                        self.counters().peer_errors.add(1);
                        self.connections[slot]
                            .protocol
                            .reject(ReasonCode::NotAuthorized, ConnAckProperties::default());
                        self.log_peer(peer, "refused", &format!("refused a client: {why}"));
                    }
                }
            }
            Claim::Owner(worker) => {
                self.hand_over(slot, worker, admission);
                return None;
            }
            Claim::Foreign => {
                self.connections[slot]
                    .protocol
                    .reject(ReasonCode::NotAuthorized, ConnAckProperties::default());
            }
        }
        Some(slot)
    }

    /// Takes back a claim that no session followed.
    fn forget_claim(&self, client_id: &str) {
        if self.sessions.of_client(client_id).is_none() {
            self.shared.directory.release(client_id);
        }
    }

    /// Ends the connection that a client's session has, and the session if the client wants a new one.
    /// `None`: the admission waits until that is committed, and whatever the client knows of its
    /// session before.
    fn settle_session_before(
        &mut self,
        slot: usize,
        admission: Admission,
        pass: &mut Pass<'_>,
    ) -> Option<Admission> {
        let Some(old) = self.sessions.of_client(&admission.client_id) else {
            return Some(admission);
        };
        if let Some(connected) = self
            .sessions
            .get(old)
            .and_then(|session| session.connection)
        {
            // [MQTT-3.1.4-3]
            self.disconnect(connected, ReasonCode::SessionTakenOver, pass);
        }
        // It may have ended with its connection just now.
        let existing = self.sessions.get(old).map(|session| session.reference);
        let waits = match existing {
            Some(old) if admission.connect.clean_start => {
                // [MQTT-3.1.2-4]
                let settlement = Settlement::Connect(self.connections[slot].reference(slot));
                self.end_session_before(old, Some(settlement), pass)
            }
            existing => self.waits_for_store(slot, existing),
        };
        if waits {
            self.connections[slot].parked = Some(Box::new(admission));
            return None;
        }
        Some(admission)
    }

    /// Lets a client in: resumes its session or opens a new one.
    pub(super) fn open_session(&mut self, slot: usize, admission: Admission, pass: &mut Pass<'_>) {
        let Some(admission) = self.settle_session_before(slot, admission, pass) else {
            return;
        };
        let Admission {
            connect,
            client_id,
            assigned,
            admitted,
        } = admission;
        let Connect {
            version,
            clean_start,
            keep_alive,
            will,
            properties: wanted,
            ..
        } = *connect;
        let existing = self.sessions.of_client(&client_id);
        let limits = &self.current.config.session;
        let expiry = match version {
            ProtocolVersion::V5 => wanted
                .session_expiry_interval
                .unwrap_or(0)
                .min(limits.max_expiry_seconds),
            ProtocolVersion::V3_1_1 if clean_start => 0,
            ProtocolVersion::V3_1_1 => limits.max_expiry_seconds,
        };
        let maximum = limits.max_keep_alive_seconds;
        let shortened = maximum > 0 && (keep_alive == 0 || keep_alive > maximum);
        let mut user_properties = self.current.access.announcement().to_vec();
        if expiry > 0 && version == ProtocolVersion::V5 {
            let text = |text| MqttString::new(text).expect("a short ASCII text");
            let durability = self.current.config.durability().name();
            user_properties.push((text(DURABILITY), text(durability)));
        }
        let properties = ConnAckProperties {
            session_expiry_interval: (wanted.session_expiry_interval.unwrap_or(0) != expiry)
                .then_some(expiry),
            assigned_client_identifier: assigned
                .then(|| MqttString::new(&*client_id).expect("a made client id is short ASCII")),
            server_keep_alive: shortened.then_some(maximum),
            response_information: self
                .current
                .config
                .protocol
                .response_information_for(&client_id),
            user_properties,
            ..ConnAckProperties::default()
        };
        if existing.is_none() {
            // Ending the session before gave its claim back. A third connection with this client id
            // may have taken it to another worker in that moment: then this client has lost the race.
            let index = self.index;
            if self
                .shared
                .directory
                .claim(&client_id, &admitted.identity, || index)
                != Claim::Owner(index)
            {
                self.connections[slot]
                    .protocol
                    .reject(ReasonCode::ServerBusy, ConnAckProperties::default());
                return;
            }
        }
        let no_store = expiry > 0 && self.shared.store.as_ref().is_some_and(|s| s.refuses());
        if existing.is_none()
            && let Some((kind, why)) = self
                .no_room_for_a_session()
                .or(no_store.then_some(("store", "the store cannot be written")))
        {
            self.shared.directory.release(&client_id);
            let peer = self.connections[slot].peer;
            self.log_peer(peer, kind, &format!("refused a client: {why}"));
            self.connections[slot]
                .protocol
                .reject(ReasonCode::QuotaExceeded, ConnAckProperties::default());
            return;
        }
        let stored = self.shared.store.clone().filter(|_| expiry > 0);
        let session = match existing {
            Some(session) => self.sessions.get_mut(session).expect("it was found above"),
            None => {
                self.shared.counters[self.index].sessions.add(1);
                self.sessions.open(&client_id, admitted.clone())
            }
        };
        let timers = [
            (session.will_at.take(), Timer::Will(session.reference)),
            (session.ends_at.take(), Timer::SessionEnd(session.reference)),
        ];
        // [MQTT-3.1.3-9]: the will of the connection before is not sent any more.
        session.will = will.map(|will| Box::new(detach_will(will)));
        let expires = match (&admitted.certificate, self.current.config.tls.end_at_expiry) {
            (Some(shown), true) => shown.expires_at(pass.now),
            _ => None,
        };
        session.admitted = admitted;
        session.expiry = expiry;
        session.connection = Some(slot);
        session.away_since = None;
        if let Some(store) = &stored {
            session.durable.get_or_insert_with(|| {
                Box::new(Durable {
                    id: store.session_number(),
                    next_place: 1,
                    ..Durable::default()
                })
            });
        }
        let reference = session.reference;
        let in_flight = std::mem::take(&mut session.in_flight);
        let shares = std::mem::take(&mut session.shares);
        note_presence(session, false);
        let connection = &mut self.connections[slot];
        connection.shares = shares;
        connection.session = Some(session.reference);
        connection.expires = expires;
        if let Some(durable) = &mut session.durable {
            durable.prepared = 0;
            connection.protocol.hold_answers();
        }
        connection
            .protocol
            .accept(pass.now, in_flight, existing.is_some(), properties);
        for (at, timer) in timers {
            if let Some(at) = at {
                self.timers.unset(at, timer);
            }
        }
        self.note_session(reference);
        self.counters().clients_connected.add(1);
        self.counters().clients_admitted.add(1);
        tracing::debug!(client_id = %client_id.escape_debug(), peer = %self.connections[slot].peer, resumed = existing.is_some(), "client connected");
        self.touch(slot);
    }
}

/// A client id that nobody can guess: who knows a client id may take its session over.
fn make_client_id() -> Result<String, (ReasonCode, String)> {
    let mut random = [0; 12];
    smqtt_pki::tls::provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| {
            (
                ReasonCode::ServerUnavailable,
                "the system has no randomness for a client id".to_owned(),
            )
        })?;
    Ok(random
        .iter()
        .fold("auto-".to_owned(), |id, byte| format!("{id}{byte:02x}")))
}

/// A will in memory of its own: it outlives the read buffer.
fn detach_will(mut will: smqtt_proto::packet::Will) -> smqtt_proto::packet::Will {
    fn copy(data: &mut bytes::Bytes) {
        *data = bytes::Bytes::copy_from_slice(data);
    }
    will.topic = will.topic.detach();
    copy(&mut will.payload);
    let p = &mut will.properties;
    p.content_type = p.content_type.as_ref().map(MqttString::detach);
    p.response_topic = p
        .response_topic
        .as_ref()
        .map(smqtt_proto::TopicName::detach);
    p.correlation_data.iter_mut().for_each(copy);
    for (name, value) in &mut p.user_properties {
        (*name, *value) = (name.detach(), value.detach());
    }
    will
}
