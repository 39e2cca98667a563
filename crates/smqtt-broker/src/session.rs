//! Sessions: what a client's connection takes up and leaves behind (MQTT 5.0 §4.1).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use slab::Slab;
use smqtt_proto::packet::Will;
use smqtt_proto::{PacketId, TopicFilter, TopicName};

use crate::access::Admitted;
use crate::counters::Losses;
use crate::queue::Queue;
use crate::share::{Presence, Shares};
use crate::store::{Kept, Latest};
use crate::subscription::Subscription;
use crate::subscriptions::Subscriptions;

/// Names a session anywhere in the broker: its worker, its place there, and which of the sessions
/// that have had that place. Orders by worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionRef {
    worker: u16,
    generation: u16,
    slot: u32,
}

impl SessionRef {
    /// The session at `slot` of `worker`.
    pub fn new(worker: u16, slot: u32, generation: u16) -> Self {
        SessionRef {
            worker,
            generation,
            slot,
        }
    }

    /// Its worker.
    pub fn worker(self) -> usize {
        usize::from(self.worker)
    }

    /// Its place in the worker's table.
    pub fn slot(self) -> u32 {
        self.slot
    }
}

/// A session's state. Touched by its worker only.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its own name.
    pub(crate) reference: SessionRef,
    /// The client id that it belongs to.
    pub(crate) client_id: Arc<str>,
    /// Whose it is: who took it up last, and by what right.
    pub(crate) admitted: Admitted,
    /// Seconds that it outlives its connection; 0 for not at all, `u32::MAX` for ever.
    pub(crate) expiry: u32,
    /// The connection that has taken it up.
    pub(crate) connection: Option<usize>,
    /// What it subscribes to.
    pub(crate) subscriptions: Subscriptions,
    /// What waits to be sent.
    pub(crate) queue: Queue,
    /// What is in flight, while no connection has it.
    pub(crate) in_flight: smqtt_proto::Session,
    /// Which of that came by shared subscriptions.
    pub(crate) shares: Shares,
    /// What the groups that it is in know of it; none before it joins one.
    pub(crate) presence: Option<Arc<Presence>>,
    /// Subscriptions whose retained messages are still being sent.
    pub(crate) retained: VecDeque<RetainedCursor>,
    /// The will of its connection, or of the connection before while its delay runs.
    pub(crate) will: Option<Box<Will>>,
    /// When the will is published, after its connection ended.
    pub(crate) will_at: Option<Instant>,
    /// When the session ends, after its connection ended.
    pub(crate) ends_at: Option<Instant>,
    /// Since when it has no connection.
    pub(crate) away_since: Option<Instant>,
    /// Its queue is among those that are known to be full.
    pub(crate) noted_full: bool,
    /// What it lost.
    pub(crate) losses: Losses,
    /// Its side of the store, if it is persistent and there is one.
    pub(crate) durable: Option<Box<Durable>>,
}

/// What a session that is in the store knows of that.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// Its number there.
    pub(crate) id: u64,
    /// The next place in its queue there.
    pub(crate) next_place: u64,
    /// The places of what is in flight; nothing kept once the client has the message.
    pub(crate) sent: HashMap<PacketId, (u64, Option<Arc<Kept>>), RandomState>,
    /// The number of the last post that its client must not get ahead of.
    pub(crate) posted: u64,
    /// Which of its states was posted last.
    pub(crate) version: u64,
    pub(crate) latest: Arc<Latest>,
    /// Messages are being read back for it.
    pub(crate) loading: bool,
    /// QoS 2 messages that have left the queue and wait for the commit of their identifiers.
    pub(crate) prepared: usize,
}

/// How far the retained messages of a subscription have been sent.
#[derive(Debug)]
pub(crate) struct RetainedCursor {
    /// What was subscribed to.
    pub(crate) filter: TopicFilter,
    /// With which options.
    pub(crate) subscription: Subscription,
    /// The topic that was sent last.
    pub(crate) after: Option<TopicName>,
}

/// A worker's sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    worker: u16,
    next_generation: u16,
    slots: Slab<Session>,
    by_client: HashMap<Arc<str>, u32, RandomState>,
}

impl Sessions {
    /// The empty table of worker number `worker`.
    pub(crate) fn new(worker: usize) -> Self {
        Sessions {
            worker: u16::try_from(worker).expect("at most 64 workers"),
            next_generation: 0,
            slots: Slab::new(),
            by_client: HashMap::default(),
        }
    }

    /// Opens a session for a client that has none.
    pub(crate) fn open(&mut self, client_id: &str, admitted: Admitted) -> &mut Session {
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("fewer than 2^32 sessions fit in memory");
        let client_id: Arc<str> = client_id.into();
        self.by_client.insert(client_id.clone(), slot);
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(Session {
            reference: SessionRef::new(self.worker, slot, self.next_generation),
            client_id,
            admitted,
            expiry: 0,
            connection: None,
            subscriptions: Subscriptions::default(),
            queue: Queue::default(),
            in_flight: smqtt_proto::Session::new(),
            shares: Shares::default(),
            presence: None,
            retained: VecDeque::new(),
            will: None,
            will_at: None,
            ends_at: None,
            away_since: None,
            noted_full: false,
            losses: Losses::default(),
            durable: None,
        })
    }

    /// The session of a client.
    pub(crate) fn of_client(&self, client_id: &str) -> Option<SessionRef> {
        self.by_client
            .get(client_id)
            .map(|slot| self.slots[*slot as usize].reference)
    }

    /// The session of this name, unless it has ended.
    pub(crate) fn get_mut(&mut self, reference: SessionRef) -> Option<&mut Session> {
        self.slots
            .get_mut(reference.slot as usize)
            .filter(|session| session.reference == reference)
    }

    /// The session of this name, unless it has ended.
    pub(crate) fn get(&self, reference: SessionRef) -> Option<&Session> {
        self.slots
            .get(reference.slot as usize)
            .filter(|session| session.reference == reference)
    }

    /// The one at this place.
    pub(crate) fn at(&self, slot: usize) -> Option<&Session> {
        self.slots.get(slot)
    }

    /// The number of places, of which some may be empty.
    pub(crate) fn places(&self) -> usize {
        self.slots
            .iter()
            .next_back()
            .map_or(0, |(slot, _)| slot + 1)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().map(|(_, session)| session)
    }

    /// Takes a session out of the table.
    pub(crate) fn remove(&mut self, reference: SessionRef) -> Option<Session> {
        self.get(reference)?;
        let session = self.slots.remove(reference.slot as usize);
        self.by_client.remove(&session.client_id);
        Some(session)
    }

    /// Gives back the memory of a crowd that has gone. Takes time in proportion to it: not for every
    /// session that ends.
    pub(crate) fn shrink(&mut self) {
        if is_roomy(self.slots.len(), self.slots.capacity()) {
            // Those in use keep their places; only what lies behind the last one can go.
            self.slots.shrink_to_fit();
        }
        if is_roomy(self.by_client.len(), self.by_client.capacity()) {
            self.by_client.shrink_to_fit();
        }
    }
}

/// Whether a table has so much more room than entries that the room is worth giving back.
pub(crate) fn is_roomy(entries: usize, room: usize) -> bool {
    room > 64 && room / 4 > entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_its_session_without_meaning_the_next_one() {
        assert_eq!(size_of::<SessionRef>(), 8);
        let mut sessions = Sessions::new(1);
        let nobody = Admitted {
            identity: crate::directory::Identity::Anonymous,
            certificate: None,
            attributes: crate::access::no_attributes(),
            listener: 0,
        };
        let first = sessions.open("a", nobody.clone()).reference;
        assert_eq!(sessions.of_client("a"), Some(first));
        assert_eq!(
            sessions.remove(first).map(|s| s.client_id.to_string()),
            Some("a".to_owned())
        );
        let second = sessions.open("b", nobody).reference;
        assert_eq!(first.slot(), second.slot());
        assert!(sessions.get(first).is_none() && sessions.remove(first).is_none());
        assert!(sessions.get_mut(second).is_some());
        assert_eq!((sessions.slots.len(), sessions.of_client("a")), (1, None));
    }

    #[test]
    fn names_order_by_worker() {
        assert!(SessionRef::new(0, 9, 9) < SessionRef::new(1, 0, 0));
    }
}
