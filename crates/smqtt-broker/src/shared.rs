//! What all workers share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use smqtt_proto::packet::Connect;
use smqtt_proto::{Delivery, Message, TopicFilter, server};

use crate::access::Admitted;
use crate::admin::clients::Inspection;
use crate::capture::CaptureFile;
use crate::connect_rate::ConnectRate;
use crate::counters::{Counters, DropLog};
use crate::current::Current;
use crate::directory::Directory;
use crate::hosts::Hosts;
use crate::lifecycle::{Lifecycle, Stage};
use crate::mailbox::Mailbox;
use crate::peer::Peer;
use crate::retained::RetainedStore;
use crate::seat::Seat;
use crate::session::SessionRef;
use crate::store::{Load, Settlement, Store, Tracked};
use crate::targets::Recipients;
use crate::transport::Detached;
use crate::trie::Trie;

/// The state behind all workers: read-mostly, or one entry per worker.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What is in force, for who is not a worker. A worker has its own.
    pub(crate) current: RwLock<Arc<Current>>,
    pub(crate) trie: RwLock<Trie>,
    /// [`Trie::version`], readable without the lock. Written under the write lock.
    pub(crate) trie_version: AtomicU64,
    pub(crate) retained: RwLock<RetainedStore>,
    pub(crate) directory: Directory,
    pub(crate) mailboxes: Vec<Mailbox<Mail>>,
    pub(crate) counters: Vec<Counters>,
    /// What the listeners are called, by their places.
    pub(crate) listener_names: Vec<String>,
    /// Connections of all workers, to hold against the limit.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Those that are shaking hands for TLS, WebSocket or the PROXY protocol.
    pub(crate) handshakes: Arc<AtomicUsize>,
    /// One permit for each password that may be verified at a time: that takes memory and time.
    pub(crate) password_checks: tokio::sync::Semaphore,
    pub(crate) reloads: Reloads,
    pub(crate) drop_log: Mutex<DropLog>,
    pub(crate) connect_rate: ConnectRate,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) hosts: Hosts,
    pub(crate) capture: Option<CaptureFile>,
    pub(crate) started: Instant,
    /// Sessions with a full queue, while a full queue refuses.
    pub(crate) full: FullSessions,
    /// What survives a crash; none if nothing is to.
    pub(crate) store: Option<Arc<Store>>,
}

/// Sessions with a full queue. Looked at only where `session.queue_full` is `refuse`.
#[derive(Debug, Default)]
pub(crate) struct FullSessions {
    count: AtomicUsize,
    sessions: RwLock<HashSet<SessionRef>>,
}

impl FullSessions {
    /// Notes that a session's queue is full, or is not any more.
    pub(crate) fn note(&self, session: SessionRef, full: bool) {
        let mut sessions = self.sessions.write();
        match full {
            true => sessions.insert(session),
            false => sessions.remove(&session),
        };
        self.count
            .store(sessions.len(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether any of these has a full queue.
    pub(crate) fn any(&self, mut of: impl Iterator<Item = SessionRef>) -> bool {
        if self.count.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return false;
        }
        let sessions = self.sessions.read();
        of.any(|session| sessions.contains(&session))
    }
}

/// How often the configuration was read again.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) done: AtomicU64,
    /// Refused as a whole, for a fault in it.
    pub(crate) refused: AtomicU64,
}

impl Shared {
    /// Begins to drain, unless the broker is on its way out already; tells whether it does.
    pub(crate) fn drain(&self) -> bool {
        let begins = self.lifecycle.advance(Stage::Draining);
        if begins {
            tracing::info!("draining: new clients are refused, those that are here are sent away");
            for mailbox in &self.mailboxes {
                mailbox.post(&mut vec![Mail::Drain], 0);
            }
        }
        begins
    }

    /// Bytes charged to the memory budget.
    pub(crate) fn memory_used(&self) -> u64 {
        let accounts = self
            .counters
            .iter()
            .map(|worker| worker.memory.get() as i64);
        // The store's threads let go of messages that workers have charged.
        let freed = self.store.as_ref().map_or(0, |store| {
            store
                .counters
                .memory
                .load(std::sync::atomic::Ordering::Relaxed)
        });
        u64::try_from(accounts.sum::<i64>() + freed).unwrap_or(0)
    }

    /// The sum of one counter over all workers.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(counter).sum()
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    /// Puts `next` in force, here and with every worker.
    pub(crate) fn put_in_force(&self, next: Current) {
        let next = Arc::new(next);
        // Locked until everyone has mail, so that all see several reloads in the same order.
        let mut current = self.current.write();
        *current = next.clone();
        for mailbox in &self.mailboxes {
            mailbox.post(&mut vec![Mail::Reload(next.clone())], 0);
        }
    }
}

/// What of a listener stays as long as the broker runs. Its rules may change: they are in
/// [`Current::listeners`].
#[derive(Debug)]
pub(crate) struct ListenerState {
    /// Its place among the listeners.
    pub(crate) index: usize,
    /// What logs, metrics and rules call it.
    pub(crate) name: String,
    /// Its connections, on all workers.
    pub(crate) connections: AtomicUsize,
}

impl ListenerState {
    pub(crate) fn new(index: usize, name: String) -> Self {
        ListenerState {
            index,
            name,
            connections: AtomicUsize::new(0),
        }
    }
}

/// One session that a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) session: SessionRef,
    /// The highest QoS granted, whether the retain flag is kept as published, and the identifiers of
    /// the matching subscriptions.
    pub(crate) delivery: Delivery,
}

/// The session that was chosen for a message of a shared subscription.
#[derive(Debug)]
pub(crate) struct SharedTarget {
    pub(crate) target: Target,
    /// The group that it was chosen from.
    pub(crate) group: Arc<TopicFilter>,
    /// How many sessions could not take it.
    pub(crate) hops: u8,
}

/// What one worker hands to another.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A message for sessions of the receiving worker.
    Publish {
        message: Arc<Message>,
        targets: Recipients,
        tracked: Option<Tracked>,
    },
    /// A message for the one session that was chosen from a group.
    Shared {
        message: Arc<Message>,
        target: SharedTarget,
        tracked: Option<Tracked>,
    },
    /// A connection whose session belongs to the receiving worker.
    HandOver(Box<HandedOver>),
    /// A mailbox that was full has been emptied: read on from publishers.
    Resume,
    /// The password in the CONNECT of a connection of the receiving worker was verified, or not.
    PasswordChecked {
        slot: usize,
        ticket: std::sync::Weak<()>,
        verified: bool,
    },
    /// Something is committed.
    Settled(Vec<Settlement>),
    /// Messages were read from the store: as many as could be, in the order in which they were asked
    /// for. None for one that is not there.
    Loaded(Load, Vec<Option<Message>>),
    /// What is in force from now on.
    Reload(Arc<Current>),
    /// Admit nobody, and send clients away a few at a time.
    Drain,
    /// Go to this thread.
    MoveTo(usize),
    /// Tell about sessions.
    Inspect(Inspection),
    /// Take no more connections, publish the wills of all clients, and drop the sender when what
    /// there is for other workers has been handed over.
    Quiesce(mpsc::Sender<()>),
    /// End all connections and stop.
    Stop,
}

/// A connection between two workers.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) transport: Detached,
    /// Which waits for the answer to its CONNECT.
    pub(crate) protocol: server::Connection,
    pub(crate) listener: Arc<ListenerState>,
    pub(crate) peer: Peer,
    pub(crate) seat: Seat,
    pub(crate) admission: Admission,
}

/// A client whose CONNECT has been found good, on its way to its session.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) connect: Box<Connect>,
    /// The client's own identifier, or the one that was made for it.
    pub(crate) client_id: Arc<str>,
    /// Whether it was made.
    pub(crate) assigned: bool,
    pub(crate) admitted: Admitted,
}
