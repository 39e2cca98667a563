//! Where the worker meets the store: which changes it posts, and what it does once they are committed.

use std::sync::Arc;
use std::time::Instant;

use smallvec::smallvec;
use smqtt_proto::packet::Publish;
use smqtt_proto::{Delivery, Message, PacketId, QoS, ReasonCode, TopicFilter};

use super::deliver::Source;
use super::share::note_sent;
use super::timers::Timer;
use super::write::count;
use super::{Pass, Worker};
use crate::connection::{Connection, Phase};
use crate::counters::{Counters, DropCause};
use crate::directory::Identity;
use crate::memory;
use crate::queue::{Outbound, Place};
use crate::restore::Restored;
use crate::session::{Session, SessionRef};
use crate::shared::Shared;
use crate::store::{
    ConnectionRef, Ended, Epoch, IdentityRecord, Kept, Load, Op, SessionRecord, Settlement,
    Settles, Tracked, Transaction, WillRecord,
};
use crate::trie::Trie;

/// So many messages at the front of a connected client's queue are in memory; of those behind them
/// and of clients that are away only the store has the payload.
const NEAR: usize = 256;

/// Changes of one session that its client's packets brought, while they are read.
#[derive(Default)]
pub(super) struct Noted {
    session: Option<SessionRef>,
    ops: Vec<Op>,
    settles: Settles,
}

impl Worker {
    /// Follows a message that is published now, if anything of it can have to survive a crash.
    pub(super) fn track(&self, message: &Message) -> Option<Tracked> {
        let store = self.shared.store.as_ref()?;
        (message.qos() > QoS::AtMostOnce).then(|| Tracked::new(store, message))
    }

    /// Follows a message on its way from one session to another.
    pub(super) fn track_again(
        &self,
        message: &Message,
        place: Option<&Place>,
        transaction: Option<&Arc<Transaction>>,
    ) -> Option<Tracked> {
        let store = self.shared.store.as_ref()?;
        if message.qos() == QoS::AtMostOnce {
            return None;
        }
        Some(Tracked {
            transaction: transaction
                .cloned()
                .unwrap_or_else(|| Transaction::new(store)),
            kept: place.map_or_else(|| store.keep(message), |place| place.kept.clone()),
        })
    }

    /// Follows the will of a session, which has been taken out of it: in the transaction that ends the
    /// session, or in one that notes that there is no will any more.
    pub(super) fn track_will(
        &mut self,
        message: &Message,
        reference: SessionRef,
        ending: Option<&Arc<Transaction>>,
    ) -> Option<Tracked> {
        let store = self.shared.store.clone()?;
        let transaction = match ending {
            Some(transaction) => transaction.clone(),
            None => {
                let transaction = Transaction::new(&store);
                if let Some(op) = self.session_op(reference) {
                    transaction.add(op);
                }
                transaction
            }
        };
        Some(Tracked {
            transaction,
            kept: store.keep(message),
        })
    }

    /// Queues a message for a persistent session.
    pub(super) fn keep(
        &mut self,
        reference: SessionRef,
        source: &mut Source,
        delivery: Delivery,
        group: Option<Arc<TopicFilter>>,
    ) {
        if !self.room_for(reference, source.message().size()) {
            return;
        }
        // Whoever publishes with QoS 1 or 2 follows what becomes of it.
        let Some(tracked) = source.tracked.clone() else {
            debug_assert!(false, "a message for the store that nobody follows");
            return;
        };
        if let Some(session) = self.sessions.get_mut(reference) {
            push_kept(session, &tracked, source.share(), delivery, group);
            self.note_full(reference);
        }
    }

    /// A place in the queue of a session is not needed any more.
    pub(super) fn note_done(&mut self, reference: SessionRef, place: u64, kept: Option<Arc<Kept>>) {
        if let Some(store) = &self.shared.store
            && let Some(durable) = self
                .sessions
                .get(reference)
                .and_then(|session| session.durable.as_ref())
        {
            let id = durable.id;
            store.note(Op::Done { id, place, kept });
        }
    }

    /// The same, as part of a transaction.
    pub(super) fn give_up_in(
        &self,
        transaction: &Transaction,
        reference: SessionRef,
        place: Place,
    ) {
        if let Some(durable) = self
            .sessions
            .get(reference)
            .and_then(|session| session.durable.as_ref())
        {
            transaction.add(Op::Done {
                id: durable.id,
                place: place.number,
                kept: Some(place.kept),
            });
        }
    }

    /// Notes that a session has come to be, or is another.
    pub(super) fn note_session(&mut self, reference: SessionRef) {
        let Some(store) = self.shared.store.clone() else {
            return;
        };
        if let Some(op) = self.session_op(reference) {
            let posted = store.note(op);
            if let Some(durable) = self
                .sessions
                .get_mut(reference)
                .and_then(|session| session.durable.as_mut())
            {
                durable.posted = posted;
            }
        }
    }

    /// The next state of a session for the store.
    fn session_op(&mut self, reference: SessionRef) -> Option<Op> {
        let session = self.sessions.get_mut(reference)?;
        let record = Box::new(record_of(session, &self.shared));
        let durable = session.durable.as_mut()?;
        durable.version += 1;
        Some(Op::Session {
            id: durable.id,
            version: durable.version,
            record,
            latest: durable.latest.clone(),
        })
    }

    /// The transaction in which a session ends, if it is in the store.
    pub(super) fn begin_end(&self, reference: SessionRef) -> Option<Arc<Transaction>> {
        let store = self.shared.store.as_ref()?;
        self.sessions.get(reference)?.durable.as_ref()?;
        Some(Transaction::new(store))
    }

    /// Notes that a session has ended, with all that it had.
    pub(super) fn note_end(&self, transaction: &Transaction, session: &Session, trie: &Trie) {
        if let Some(ended) = ended(session, trie) {
            transaction.add(ended);
        }
    }

    /// Acknowledges a publication when all that follows from it is committed.
    pub(super) fn acknowledge_after(
        &mut self,
        transaction: Arc<Transaction>,
        slot: usize,
        packet_id: PacketId,
        publish: &Publish,
        reason: ReasonCode,
    ) {
        let connection = &self.connections[slot];
        let Some(session) = connection
            .session
            .and_then(|session| self.sessions.get(session))
        else {
            return;
        };
        if publish.qos == QoS::ExactlyOnce
            && let Some(durable) = &session.durable
        {
            let id = durable.id;
            transaction.add(Op::Received { id, packet_id });
        }
        if transaction.is_idle() && !publish.retain {
            self.acknowledge(slot, packet_id, reason);
            return;
        }
        let settlement = Settlement::Acknowledge {
            connection: connection.reference(slot),
            session: session.reference,
            packet_id,
            qos: publish.qos,
            reason,
        };
        transaction.settle(self.index, settlement);
    }

    /// Whether a publication was refused because the store cannot be written: an MQTT 5 client is told,
    /// an MQTT 3.1.1 client is disconnected, so that it still has what was not taken.
    pub(super) fn refuses_for_store(
        &mut self,
        slot: usize,
        publish: &Publish,
        pass: &mut Pass<'_>,
    ) -> bool {
        let (Some(store), Some(packet_id)) = (&self.shared.store, publish.packet_id) else {
            return false;
        };
        if !store.refuses() {
            return false;
        }
        let why = "closed a connection: the store cannot be written, and it publishes";
        self.refuse_for_quota(slot, packet_id, ("store", why), pass);
        true
    }

    /// A delivery to the client is over.
    pub(super) fn note_acknowledged(&mut self, slot: usize, packet_id: PacketId) {
        if let Some(durable) = self.durable_of(slot)
            && let Some((place, kept)) = durable.sent.remove(&packet_id)
        {
            let id = durable.id;
            self.note(slot, Op::Done { id, place, kept }, None);
        }
    }

    /// PUBREC came: PUBREL leaves when that is committed.
    pub(super) fn note_received(&mut self, slot: usize, packet_id: PacketId) {
        let Some(durable) = self.durable_of(slot) else {
            return;
        };
        let id = durable.id;
        let Some((place, kept)) = durable.sent.get_mut(&packet_id) else {
            return;
        };
        let op = Op::Released {
            id,
            place: *place,
            packet_id,
            kept: kept.take(),
        };
        let this = self.connections[slot].reference(slot);
        self.note(slot, op, Some(Settlement::Release(this, packet_id)));
    }

    /// PUBREL came: PUBCOMP leaves when that is committed.
    pub(super) fn note_released(&mut self, slot: usize, packet_id: PacketId) {
        if let Some(durable) = self.durable_of(slot) {
            let id = durable.id;
            let this = self.connections[slot].reference(slot);
            let settlement = Settlement::Complete(this, packet_id);
            self.note(slot, Op::Completed { id, packet_id }, Some(settlement));
        }
    }

    fn note(&mut self, slot: usize, op: Op, settlement: Option<Settlement>) {
        self.noted.session = self.connections[slot].session;
        self.noted.ops.push(op);
        let settlement = settlement.map(|settlement| (self.index, settlement));
        self.noted.settles.extend(settlement);
    }

    fn durable_of(&mut self, slot: usize) -> Option<&mut crate::session::Durable> {
        let session = self.connections[slot].session?;
        self.sessions.get_mut(session)?.durable.as_deref_mut()
    }

    /// Posts what was noted while a connection was read: before its session goes on in any other way, so that
    /// changes are posted in the order in which they happened and the session's next client waits for them.
    pub(super) fn post_noted(&mut self) {
        let Some(reference) = self.noted.session else {
            return;
        };
        let Noted { ops, settles, .. } = std::mem::take(&mut self.noted);
        let Some(store) = &self.shared.store else {
            return;
        };
        let posted = store.post(ops, settles);
        let session = self.sessions.get_mut(reference);
        if let Some(durable) = session.and_then(|session| session.durable.as_deref_mut()) {
            durable.posted = posted;
        }
    }

    /// Does what waited for a commit.
    pub(super) fn on_settled(&mut self, settlements: Vec<Settlement>, pass: &mut Pass<'_>) {
        for settlement in settlements {
            self.settle_one(settlement, pass);
        }
    }

    fn settle_one(&mut self, settlement: Settlement, pass: &mut Pass<'_>) {
        match settlement {
            Settlement::Acknowledge {
                connection,
                session,
                packet_id,
                qos,
                reason,
            } => {
                let mut slot = self.place_of(connection);
                if slot.is_none() && qos == QoS::ExactlyOnce {
                    // The client repeats a QoS 2 message on its next connection.
                    let Some(session) = self.sessions.get_mut(session) else {
                        return;
                    };
                    slot = session.connection;
                    if slot.is_none() {
                        session.in_flight.acknowledge(packet_id);
                    }
                }
                if let Some(slot) = slot {
                    let stalled = !self.connections[slot].protocol.wants_input();
                    self.acknowledge(slot, packet_id, reason);
                    self.touch(slot);
                    if stalled {
                        self.connections[slot].wake();
                    }
                }
            }
            Settlement::Connect(connection) => {
                if let Some(slot) = self.place_of(connection)
                    && let Some(admission) = self.connections[slot].parked.take()
                    && self.connections[slot].phase == Phase::Open
                    && !self.connections[slot].protocol.is_closed()
                {
                    self.open_session(slot, *admission, pass);
                    self.touch(slot);
                    self.arm(slot);
                    // What came behind the CONNECT.
                    self.connections[slot].wake();
                }
            }
            Settlement::Ready(session) => {
                if let Some(slot) = self
                    .sessions
                    .get(session)
                    .and_then(|session| session.connection)
                {
                    self.touch(slot);
                }
            }
            Settlement::SubAck(connection, suback) => {
                self.answer(connection, |c| c.protocol.suback(*suback));
            }
            Settlement::UnsubAck(connection, unsuback) => {
                self.answer(connection, |c| c.protocol.unsuback(*unsuback));
            }
            Settlement::Send(connection, packet_id) => {
                let now = pass.now;
                if let Some(slot) = self.place_of(connection)
                    && let Some(durable) = self.durable_of(slot)
                {
                    durable.prepared = durable.prepared.saturating_sub(1);
                }
                self.answer(connection, |c| {
                    c.protocol.send_prepared(now, packet_id);
                    // It may have become undeliverable, which is an event.
                    c.wake();
                });
            }
            Settlement::Release(connection, packet_id) => {
                self.answer(connection, |c| c.protocol.release(packet_id));
            }
            Settlement::Complete(connection, packet_id) => {
                self.answer(connection, |c| c.protocol.complete(packet_id));
            }
        }
    }

    /// The place of a connection, if that is still there.
    fn place_of(&self, connection: ConnectionRef) -> Option<usize> {
        let at = self.connections.get(connection.slot)?;
        (at.serial == connection.serial).then_some(connection.slot)
    }

    fn answer(&mut self, connection: ConnectionRef, answer: impl FnOnce(&mut Connection)) {
        if let Some(slot) = self.place_of(connection) {
            answer(&mut self.connections[slot]);
            self.touch(slot);
        }
    }

    /// Puts messages into a queue that were read from the store for it.
    pub(super) fn on_loaded(&mut self, load: Load, messages: Vec<Option<Message>>) {
        let Some(session) = self.sessions.get_mut(load.session) else {
            return;
        };
        let Some(durable) = session.durable.as_mut() else {
            return;
        };
        durable.loading = false;
        let connection = session.connection;
        for ((place, _), message) in load.wanted.into_iter().zip(messages) {
            match message {
                Some(message) if connection.is_some() => {
                    let message = Arc::new(message.detach_into(memory::charge));
                    if let Some(session) = self.sessions.get_mut(load.session) {
                        session.queue.page_in(place, message);
                    }
                }
                Some(_) => {}
                None => {
                    self.lost(load.session, DropCause::StoreDamaged, 1);
                    let gone = self
                        .sessions
                        .get_mut(load.session)
                        .and_then(|session| session.queue.take_place(place));
                    if let Some(place) = gone {
                        self.note_done(load.session, place.number, Some(place.kept));
                    }
                }
            }
        }
        if let Some(slot) = connection {
            self.touch(slot);
        }
    }

    /// Takes up what was in the store.
    pub(super) fn take_restored(&mut self, restored: Restored) {
        self.sessions = restored.sessions;
        self.account.messages += restored.charged;
        let mut timers = Vec::new();
        let (mut sessions, mut subscriptions) = (0, 0);
        for session in self.sessions.iter() {
            sessions += 1;
            subscriptions += session.subscriptions.len() as u64;
            let reference = session.reference;
            timers.extend(session.will_at.map(|at| (at, Timer::Will(reference))));
            timers.extend(session.ends_at.map(|at| (at, Timer::SessionEnd(reference))));
        }
        self.counters().sessions.add(sessions);
        self.counters().subscriptions.add(subscriptions);
        for (at, timer) in timers {
            self.timers.set(at, timer);
        }
        for reference in restored.changed {
            self.note_session(reference);
        }
    }
}

/// A session as the store keeps it.
fn record_of(session: &Session, shared: &Shared) -> SessionRecord {
    let admitted = &session.admitted;
    let epoch = Epoch::now();
    let away = session.connection.is_none();
    SessionRecord {
        client_id: session.client_id.to_string(),
        identity: match &admitted.identity {
            Identity::Anonymous => IdentityRecord::Anonymous,
            Identity::Device(id) => IdentityRecord::Device(id.to_string()),
            Identity::User(user) => IdentityRecord::User(user.to_string()),
        },
        attributes: admitted.attributes.encode(),
        listener: shared.listener_names[admitted.listener].clone(),
        certificate: admitted
            .certificate
            .as_ref()
            .map(crate::certificate::Shown::to_record),
        expiry: session.expiry,
        away_since: away.then(|| epoch.millis_of(session.away_since.unwrap_or_else(Instant::now))),
        will: session.will.as_deref().and_then(WillRecord::new),
    }
}

/// The end of a session for the store, if it is there.
fn ended(session: &Session, trie: &Trie) -> Option<Op> {
    let durable = session.durable.as_ref()?;
    let queued = session
        .queue
        .iter()
        .filter_map(|outbound| outbound.place.as_ref())
        .map(|place| (place.number, Some(place.kept.clone())));
    let sent = durable.sent.values().cloned();
    Some(Op::Ended(Box::new(Ended {
        id: durable.id,
        latest: durable.latest.clone(),
        filters: session.subscriptions.filters(trie).collect(),
        places: queued.chain(sent).collect(),
        incoming: session.in_flight.incoming().collect(),
    })))
}

/// Appends a message to the queue of a session in the store.
fn push_kept(
    session: &mut Session,
    tracked: &Tracked,
    message: &Arc<Message>,
    delivery: Delivery,
    group: Option<Arc<TopicFilter>>,
) {
    let Some(durable) = &mut session.durable else {
        return;
    };
    let number = durable.next_place;
    durable.next_place += 1;
    tracked.transaction.add(Op::Queued {
        id: durable.id,
        place: number,
        session: session.reference,
        kept: tracked.kept.clone(),
        message: message.clone(),
        delivery: delivery.clone(),
        group: group.clone(),
    });
    let near = session.connection.is_some() && session.queue.len() < NEAR;
    session.queue.push(Outbound {
        message: (near || group.is_some()).then(|| message.clone()),
        delivery,
        group,
        place: Some(Place {
            number,
            kept: tracked.kept.clone(),
        }),
    });
}

/// What a pump of a persistent session's queue posts.
pub(super) struct KeptPump<'a> {
    shared: &'a Shared,
    worker: usize,
    connection: ConnectionRef,
    ops: Vec<Op>,
    settles: Settles,
}

impl<'a> KeptPump<'a> {
    /// For this connection of a worker.
    pub(super) fn new(shared: &'a Shared, worker: usize, connection: ConnectionRef) -> Self {
        KeptPump {
            shared,
            worker,
            connection,
            ops: Vec::new(),
            settles: Settles::new(),
        }
    }

    /// Whether the message at the front, which has a place in the store, may leave the queue now. If it
    /// is not in memory, it is read.
    pub(super) fn may_send(&self, session: &mut Session, now: Instant) -> bool {
        let Some(front) = session.queue.front() else {
            return false;
        };
        let Some(place) = &front.place else {
            return true;
        };
        if !place.kept.is_committed() {
            return false;
        }
        let prepared = session
            .durable
            .as_ref()
            .map_or(0, |durable| durable.prepared);
        if prepared > 0 && front.delivery.qos != QoS::ExactlyOnce {
            // It would overtake them.
            return false;
        }
        if front.message.is_some() || is_expired(&place.kept, now) {
            return true;
        }
        if let (Some(store), Some(durable)) = (&self.shared.store, &mut session.durable)
            && !durable.loading
        {
            durable.loading = true;
            store.load(Load {
                worker: self.worker,
                session: session.reference,
                wanted: session.queue.paged_out(NEAR),
            });
        }
        false
    }

    /// Sends a message that has left the queue: at once with QoS 1, once its identifier is committed with
    /// QoS 2.
    pub(super) fn send(
        &mut self,
        session: &mut Session,
        connection: &mut Connection,
        outbound: Outbound,
        now: Instant,
        counters: &Counters,
    ) {
        let (Some(place), Some(durable)) = (outbound.place, &mut session.durable) else {
            return;
        };
        let id = durable.id;
        let result = match &outbound.message {
            Some(message) if !is_expired(&place.kept, now) => {
                let delivery = outbound.delivery.clone();
                match delivery.qos {
                    QoS::ExactlyOnce => connection
                        .protocol
                        .prepare(now, message, delivery)
                        .map(Some),
                    _ => connection.protocol.publish(now, message, delivery),
                }
            }
            _ => Err(smqtt_proto::PublishError::Expired),
        };
        match &result {
            Ok(Some(packet_id)) => {
                let (packet_id, qos) = (*packet_id, outbound.delivery.qos);
                if let Some(group) = &outbound.group {
                    note_sent(&mut connection.shares, packet_id, qos, group);
                }
                let sent = (place.number, Some(place.kept.clone()));
                durable.sent.insert(packet_id, sent);
                self.ops.push(Op::Sent {
                    id,
                    place: place.number,
                    kept: place.kept,
                    delivery: outbound.delivery,
                    group: outbound.group,
                    packet_id,
                });
                if qos == QoS::ExactlyOnce {
                    durable.prepared += 1;
                    let settlement = Settlement::Send(self.connection, packet_id);
                    self.settles.push((self.worker, settlement));
                }
            }
            _ => self.ops.push(Op::Done {
                id,
                place: place.number,
                kept: Some(place.kept),
            }),
        }
        count(result, counters, &mut session.losses);
    }

    /// Queues a retained message.
    pub(super) fn queue(&self, session: &mut Session, message: &Arc<Message>, delivery: Delivery) {
        if let Some(store) = &self.shared.store {
            let tracked = Tracked::new(store, message);
            push_kept(session, &tracked, message, delivery, None);
        }
    }

    /// Posts what was sent.
    pub(super) fn post(self, session: &mut Session) {
        if self.ops.is_empty() {
            return;
        }
        if let (Some(store), Some(durable)) = (&self.shared.store, &mut session.durable) {
            durable.posted = store.post(self.ops, self.settles);
        }
    }
}

fn is_expired(kept: &Kept, now: Instant) -> bool {
    kept.expires_at.is_some_and(|at| at <= now)
}

impl Worker {
    /// Has a CONNECT wait until everything is committed that its client must not get ahead of; `true` if
    /// it waits.
    pub(super) fn waits_for_store(&self, slot: usize, reference: Option<SessionRef>) -> bool {
        let (Some(store), Some(durable)) = (
            &self.shared.store,
            reference
                .and_then(|reference| self.sessions.get(reference))
                .and_then(|session| session.durable.as_ref()),
        ) else {
            return false;
        };
        if store.is_committed(durable.posted) {
            return false;
        }
        let this = self.connections[slot].reference(slot);
        store.post(
            Vec::new(),
            smallvec![(self.index, Settlement::Connect(this))],
        );
        true
    }
}
