//! The store: what must survive a crash, on disk before the acknowledgement that promises it.
//!
//! What is in memory stays the source of everything; the store is told of changes, and only
//! [recovery](recovery) reads it, but for the payloads of long queues. Workers [post](Store::post) changes; one
//! thread takes all that has gathered, makes one commit of it, and only then posts the settlements
//! that waited for it: acknowledgements, PUBRELs, permission to send. So one sync is shared by
//! everything that came while the sync before was under way.
//!
//! **Invariants.**
//! - Changes take effect in the order in which they were posted, and a crash leaves a beginning of
//!   that order.
//! - All that follows from one publication is one [`Transaction`], however many workers take part:
//!   after a crash it has happened, or its publisher has no acknowledgement and sends it again.
//! - A message leaves for a persistent session only when its place in that session's queue is
//!   committed, so no client ever acknowledges what a crash takes back.
//! - A commit that fails is tried again until it succeeds: nothing is undone. Meanwhile nothing waits that
//!   could be refused: see [`Store::refuses`].

mod committer;
mod disk;
mod engine;
#[cfg(test)]
mod faults;
mod journal;
mod migration;
mod place;
mod record;
mod recovery;
#[cfg(test)]
mod tests;
pub(crate) mod tools;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;
use smqtt_proto::packet::{SubAck, UnsubAck};
use smqtt_proto::{Delivery, Message, PacketId, QoS, ReasonCode, TopicFilter};

use crate::memory::OnDisk;
use crate::session::SessionRef;
use crate::subscription::Subscription;

pub(crate) use committer::{Committer, Loader};
pub(crate) use place::open;
pub(crate) use record::{CertificateRecord, Epoch, IdentityRecord, SessionRecord, WillRecord};
pub(crate) use recovery::{Recovered, RecoveredSession, State, recover};

/// Where workers post their changes.
pub(crate) struct Store {
    /// Whether a commit waits for the medium, or for the system only.
    sync: bool,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// Numbers of posts up to this one are committed.
    committed: AtomicU64,
    /// A commit has failed and has not succeeded since.
    failing: AtomicBool,
    next_message: AtomicU64,
    next_session: AtomicU64,
    /// Numbers of messages that no queue refers to any more.
    garbage: Mutex<Vec<u64>>,
    /// Gone once the store is stopped.
    loads: Mutex<Option<std::sync::mpsc::Sender<Load>>>,
    pub(crate) counters: StoreCounters,
}

/// What the store counts.
#[derive(Debug, Default)]
pub(crate) struct StoreCounters {
    pub(crate) commits: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Microseconds that the commits took.
    pub(crate) commit_micros: AtomicU64,
    /// What the store's thread has let go of, as a worker's account has it.
    pub(crate) memory: AtomicI64,
}

#[derive(Default)]
struct Inbox {
    posts: Vec<Post>,
    /// The number of the last post.
    number: u64,
    stop: bool,
}

/// Changes that are committed together, and what waits for that.
#[derive(Debug)]
struct Post {
    number: u64,
    ops: Vec<Op>,
    settles: Settles,
}

/// A change.
#[derive(Debug)]
pub(crate) enum Op {
    /// A session has come to be, or is another.
    Session {
        id: u64,
        /// Which of its states this is.
        version: u64,
        record: Box<SessionRecord>,
        latest: Arc<Latest>,
    },
    /// A session has ended.
    Ended(Box<Ended>),
    Subscribed {
        id: u64,
        filter: TopicFilter,
        subscription: Subscription,
    },
    Unsubscribed {
        id: u64,
        filter: TopicFilter,
    },
    /// A message has a place in a session's queue.
    Queued {
        id: u64,
        place: u64,
        session: SessionRef,
        kept: Arc<Kept>,
        message: Arc<Message>,
        delivery: Delivery,
        group: Option<Arc<TopicFilter>>,
    },
    /// It is sent under this identifier.
    Sent {
        id: u64,
        place: u64,
        kept: Arc<Kept>,
        delivery: Delivery,
        group: Option<Arc<TopicFilter>>,
        packet_id: PacketId,
    },
    /// The client has it, and is about to be told to forget its identifier.
    Released {
        id: u64,
        place: u64,
        packet_id: PacketId,
        kept: Option<Arc<Kept>>,
    },
    /// It is delivered, or dropped.
    Done {
        id: u64,
        place: u64,
        kept: Option<Arc<Kept>>,
    },
    /// A QoS 2 message of a client was taken.
    Received {
        id: u64,
        packet_id: PacketId,
    },
    /// Its identifier is free again.
    Completed {
        id: u64,
        packet_id: PacketId,
    },
    /// The retained message of a topic, or none.
    Retained {
        topic: smqtt_proto::TopicName,
        message: Option<Arc<Message>>,
    },
}

/// All of a session that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) latest: Arc<Latest>,
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) places: Vec<(u64, Option<Arc<Kept>>)>,
    pub(crate) incoming: Vec<PacketId>,
}

/// The latest state of a session that is in the store: what takes longer than its successor on the
/// way there is too late.
#[derive(Debug, Default)]
pub(crate) struct Latest(AtomicU64);

impl Latest {
    /// Whether this version is not too late. The store's thread asks.
    fn admits(&self, version: u64) -> bool {
        self.0.fetch_max(version, Ordering::Relaxed) <= version
    }
}

/// A connection of a worker: its place, and which of those that have had that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionRef {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
}

/// What waits for a commit, for the worker that does it.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// PUBACK or PUBREC.
    Acknowledge {
        connection: ConnectionRef,
        session: SessionRef,
        packet_id: PacketId,
        qos: QoS,
        reason: ReasonCode,
    },
    SubAck(ConnectionRef, Box<SubAck>),
    UnsubAck(ConnectionRef, Box<UnsubAck>),
    /// A CONNECT can be answered.
    Connect(ConnectionRef),
    /// A QoS 2 message may be sent.
    Send(ConnectionRef, PacketId),
    /// PUBREL.
    Release(ConnectionRef, PacketId),
    /// PUBCOMP.
    Complete(ConnectionRef, PacketId),
    /// What waits in a session's queue may be sent.
    Ready(SessionRef),
}

/// Messages that are to be read back.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) worker: usize,
    pub(crate) session: SessionRef,
    /// Places and numbers of the messages.
    pub(crate) wanted: Vec<(u64, u64)>,
}

/// A message in the store. Gone from there once no place in a queue there names it, and nobody here
/// could make one.
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) size: u32,
    /// Places that name it. Changed by the store's thread, as it makes and frees them.
    places: AtomicU32,
    pub(crate) expires_at: Option<Instant>,
    state: AtomicU8,
    store: Arc<Store>,
    _charge: OnDisk,
}

const PENDING: u8 = 0;
const COMMITTED: u8 = 1;

impl Kept {
    /// Whether its places in queues are committed, so that it may be sent.
    pub(crate) fn is_committed(&self) -> bool {
        self.state.load(Ordering::Acquire) == COMMITTED
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // However it comes that a worker lets go of it: what a place names stays.
        if *self.state.get_mut() == COMMITTED && *self.places.get_mut() == 0 {
            self.store.garbage.lock().push(self.number);
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("number", &self.number)
            .field("committed", &self.is_committed())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn new(sync: bool) -> (Self, std::sync::mpsc::Receiver<Load>) {
        let (loads, wanted) = std::sync::mpsc::channel();
        let store = Store {
            sync,
            inbox: Mutex::default(),
            wake: Condvar::new(),
            committed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            next_message: AtomicU64::new(1),
            next_session: AtomicU64::new(1),
            garbage: Mutex::default(),
            loads: Mutex::new(Some(loads)),
            counters: StoreCounters::default(),
        };
        (store, wanted)
    }

    /// Posts changes, and what a worker is to be told when they are committed. Returns the number of
    /// the post.
    pub(crate) fn post(&self, ops: Vec<Op>, settles: Settles) -> u64 {
        let mut inbox = self.inbox.lock();
        inbox.number += 1;
        let number = inbox.number;
        inbox.posts.push(Post {
            number,
            ops,
            settles,
        });
        let first = inbox.posts.len() == 1;
        drop(inbox);
        if first {
            self.wake.notify_one();
        }
        number
    }

    /// Posts one change that nobody waits for.
    pub(crate) fn note(&self, op: Op) -> u64 {
        self.post(vec![op], Settles::new())
    }

    /// Whether the post with this number is committed.
    pub(crate) fn is_committed(&self, number: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= number
    }

    /// Whether commits fail at present, so that what asks for durability is better refused.
    pub(crate) fn refuses(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// A number for a new session.
    pub(crate) fn session_number(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps a message, once it is posted with a place in a queue.
    pub(crate) fn keep(self: &Arc<Self>, message: &Message) -> Arc<Kept> {
        let number = self.next_message.fetch_add(1, Ordering::Relaxed);
        let size = u32::try_from(message.size()).unwrap_or(u32::MAX);
        self.kept(number, size, message.expires_at(), PENDING)
    }

    fn kept(
        self: &Arc<Self>,
        number: u64,
        size: u32,
        expires_at: Option<Instant>,
        state: u8,
    ) -> Arc<Kept> {
        Arc::new(Kept {
            number,
            size,
            places: AtomicU32::new(0),
            expires_at,
            state: AtomicU8::new(state),
            store: self.clone(),
            _charge: OnDisk::charge(),
        })
    }

    /// Has messages read back, for a worker that gets them as mail.
    pub(crate) fn load(&self, load: Load) {
        if let Some(loads) = &*self.loads.lock() {
            // Fails only when the broker stops.
            let _ = loads.send(load);
        }
    }

    /// Commits what was posted and ends the store's thread.
    pub(crate) fn stop(&self) {
        self.inbox.lock().stop = true;
        self.wake.notify_one();
        *self.loads.lock() = None;
    }
}

/// For a worker, by its index.
pub(crate) type Settles = SmallVec<[(usize, Settlement); 1]>;

/// Everything that follows from one publication: gathered by all workers that take part, and posted
/// when the last of them has let go of it.
pub(crate) struct Transaction {
    store: Arc<Store>,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    ops: Vec<Op>,
    settles: Settles,
}

impl Transaction {
    /// An empty one.
    pub(crate) fn new(store: &Arc<Store>) -> Arc<Self> {
        Arc::new(Transaction {
            store: store.clone(),
            gathered: Mutex::default(),
        })
    }

    /// Adds a change.
    pub(crate) fn add(&self, op: Op) {
        self.gathered.lock().ops.push(op);
    }

    /// Whether nobody else takes part and nothing is to be changed.
    pub(crate) fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && self.gathered.lock().ops.is_empty()
    }

    /// Has a worker told of the commit.
    pub(crate) fn settle(&self, worker: usize, settlement: Settlement) {
        self.gathered.lock().settles.push((worker, settlement));
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Gathered { ops, settles } = std::mem::take(self.gathered.get_mut());
        if !ops.is_empty() || !settles.is_empty() {
            self.store.post(ops, settles);
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// A message whose consequences are committed together.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) transaction: Arc<Transaction>,
    pub(crate) kept: Arc<Kept>,
}

impl Tracked {
    /// A message that is new to the store.
    pub(crate) fn new(store: &Arc<Store>, message: &Message) -> Self {
        Tracked {
            transaction: Transaction::new(store),
            kept: store.keep(message),
        }
    }
}
