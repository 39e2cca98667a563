//! Where the worker meets the store: which changes it posts, and what it does once they are committed.

mod pump;
mod settle;

use std::sync::Arc;
use std::time::Instant;

use smallvec::smallvec;
use smqtt_proto::packet::Publish;
use smqtt_proto::{Delivery, Message, PacketId, QoS, ReasonCode, TopicFilter};

pub(super) use pump::KeptPump;

use super::deliver::Source;
use super::{Pass, Worker};
use crate::directory::Identity;
use crate::queue::{Outbound, Place};
use crate::session::{Session, SessionRef};
use crate::shared::Shared;
use crate::store::{
    Ended, Epoch, IdentityRecord, Kept, Op, SessionRecord, Settlement, Settles, Tracked,
    Transaction, WillRecord,
};
use crate::trie::Trie;

/// So many messages at the front of a connected client's queue are in memory; of those behind them
/// and of clients that are away only the store has the payload.
const NEAR: usize = 256;

/// Changes of one session that its client's packets brought, while they are read.
#[derive(Default)]
pub(in crate::worker) struct Noted {
    session: Option<SessionRef>,
    ops: Vec<Op>,
    settles: Settles,
}

impl Worker {
    /// Follows a message that is published now, if anything of it can have to survive a crash.
    pub(in crate::worker) fn track(&self, message: &Message) -> Option<Tracked> {
        let store = self.shared.store.as_ref()?;
        (message.qos() > QoS::AtMostOnce).then(|| Tracked::new(store, message))
    }

    /// Follows a message on its way from one session to another.
    pub(in crate::worker) fn track_again(
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
    pub(in crate::worker) fn track_will(
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
    pub(in crate::worker) fn keep(
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
    pub(in crate::worker) fn note_done(
        &mut self,
        reference: SessionRef,
        place: u64,
        kept: Option<Arc<Kept>>,
    ) {
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
    pub(in crate::worker) fn give_up_in(
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
    pub(in crate::worker) fn note_session(&mut self, reference: SessionRef) {
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
    pub(in crate::worker) fn begin_end(&self, reference: SessionRef) -> Option<Arc<Transaction>> {
        let store = self.shared.store.as_ref()?;
        self.sessions.get(reference)?.durable.as_ref()?;
        Some(Transaction::new(store))
    }

    /// Notes that a session has ended, with all that it had.
    pub(in crate::worker) fn note_end(
        &self,
        transaction: &Transaction,
        session: &Session,
        trie: &Trie,
    ) {
        if let Some(ended) = ended(session, trie) {
            transaction.add(ended);
        }
    }

    /// Acknowledges a publication when all that follows from it is committed.
    pub(in crate::worker) fn acknowledge_after(
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
    pub(in crate::worker) fn refuses_for_store(
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
    pub(in crate::worker) fn note_acknowledged(&mut self, slot: usize, packet_id: PacketId) {
        if let Some(durable) = self.durable_of(slot)
            && let Some((place, kept)) = durable.sent.remove(&packet_id)
        {
            let id = durable.id;
            self.note(slot, Op::Done { id, place, kept }, None);
        }
    }

    /// PUBREC came: PUBREL leaves when that is committed.
    pub(in crate::worker) fn note_received(&mut self, slot: usize, packet_id: PacketId) {
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
    pub(in crate::worker) fn note_released(&mut self, slot: usize, packet_id: PacketId) {
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
    pub(in crate::worker) fn post_noted(&mut self) {
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

    /// Has a CONNECT wait until everything is committed that its client must not get ahead of; `true` if
    /// it waits.
    pub(in crate::worker) fn waits_for_store(
        &self,
        slot: usize,
        reference: Option<SessionRef>,
    ) -> bool {
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
