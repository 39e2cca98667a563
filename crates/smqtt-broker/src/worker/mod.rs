//! A worker: owns its connections and sessions and drives them in passes, on one thread at a time.
//!
//! A pass reads what a socket has, handles every packet in it, and leaves what is to be written in
//! the output of each touched connection and in one outbox per other worker. When the tasks that
//! were ready have run, the flush task writes each touched connection once and posts each outbox
//! once. Nothing in here waits or blocks but the tasks in `run`.

mod accept;
mod connect;
mod deliver;
mod drain;
mod durable;
mod ending;
mod inspect;
mod memory;
mod publish;
mod read;
mod redirect;
mod reload;
mod rules;
mod run;
mod share;
mod subscribe;
mod sys;
mod timers;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::RwLockReadGuard;
use slab::Slab;
use tokio::sync::Notify;

use crate::connection::{Connection, Phase};
use crate::counters::{Counters, DropCause, LogLimit};
use crate::current::Current;
use crate::memory::{Account, Pressure};
use crate::peer::Peer;
use crate::restore::Restored;
use crate::session::Sessions;
use crate::shared::{Mail, Shared};
use crate::store::Op;
use crate::targets::TargetCache;
use crate::trie::Trie;
pub(crate) use run::{Outcome, run};
use timers::{Timer, Timers};

/// One worker's state.
pub(crate) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    /// What is in force. Replaced by a reload, between two passes.
    current: Arc<Current>,
    connections: Slab<Box<Connection>>,
    sessions: Sessions,
    /// Connections with something to write, or to take from their session's queue.
    touched: Vec<usize>,
    /// What goes to each other worker at the end of the pass.
    outboxes: Vec<Posting>,
    /// Workers whose mailbox was full when it was posted to, as a mask.
    full: u64,
    /// Connections that are not read because of `full`.
    stalled: Vec<usize>,
    cache: TargetCache,
    timers: Timers,
    /// What sockets are read into; empty between reads.
    read_buffer: BytesMut,
    log_limit: LogLimit,
    /// The trie's version at the last tick, and the one whose unused memory was given back.
    trie_seen: u64,
    trie_shrunk: u64,
    flusher: Option<Waker>,
    timer_changed: Arc<Notify>,
    /// When the retained store is looked through for expired messages next.
    retained_sweep: Option<Instant>,
    /// When the `$SYS` topics are due next.
    sys_due: Option<Instant>,
    /// The values of `$SYS` topics as last published.
    sys_published: HashMap<String, String>,
    /// What the `$SYS` topics tell of the past.
    sys_history: sys::History,
    account: Account,
    pressure: Pressure,
    /// Nobody is admitted, and who is there is sent away.
    draining: bool,
    /// Places of connections that are to be sent away next.
    to_drain: Vec<usize>,
    /// For each cause, one session that has lost something since it was last logged.
    losers: [Option<Arc<str>>; DropCause::ALL.len()],
    /// What this worker had dropped when it last logged that.
    drops_logged: [u64; DropCause::ALL.len()],
    /// No connection is taken any more, and no message.
    stopping: bool,
    /// Dropped when the mail of quiescing is posted.
    quiesced: Option<std::sync::mpsc::Sender<()>>,
    /// The last mail has come.
    stopped: bool,
    /// The thread that it is to go to.
    moves_to: Option<usize>,
    /// How many connections it has had.
    serial: u64,
    /// Changes for the store, and what waits for them, of the connection that is being read.
    noted: durable::Noted,
}

/// Mail collected for one worker.
#[derive(Debug, Default)]
struct Posting {
    mail: Vec<Mail>,
    bytes: usize,
}

/// What the handling of one batch of packets shares: the time, and the trie, locked at most once.
struct Pass<'a> {
    shared: &'a Shared,
    now: Instant,
    trie: Option<RwLockReadGuard<'a, Trie>>,
}

impl<'a> Pass<'a> {
    fn new(shared: &'a Shared) -> Self {
        Pass {
            shared,
            now: Instant::now(),
            trie: None,
        }
    }

    /// The trie, locked for reading from here to the end of the pass.
    fn trie(&mut self) -> &Trie {
        self.trie.get_or_insert_with(|| self.shared.trie.read())
    }

    /// Changes the trie.
    fn change_trie<R>(&mut self, change: impl FnOnce(&mut Trie) -> R) -> R {
        self.trie = None;
        let mut trie = self.shared.trie.write();
        let result = change(&mut trie);
        self.shared
            .trie_version
            .store(trie.version(), Ordering::Release);
        result
    }
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, restored: Restored) -> Self {
        let current = shared.current();
        let sys = current.config.sys.interval_seconds;
        let mut worker = Worker {
            index,
            current,
            connections: Slab::new(),
            sessions: Sessions::new(index),
            touched: Vec::new(),
            outboxes: shared
                .mailboxes
                .iter()
                .map(|_| Posting::default())
                .collect(),
            full: 0,
            stalled: Vec::new(),
            cache: TargetCache::default(),
            timers: Timers::default(),
            read_buffer: BytesMut::new(),
            log_limit: LogLimit::default(),
            trie_seen: 0,
            trie_shrunk: 0,
            flusher: None,
            timer_changed: Arc::new(Notify::new()),
            retained_sweep: None,
            sys_due: None,
            sys_published: HashMap::new(),
            sys_history: sys::History::default(),
            account: Account::default(),
            pressure: Pressure::default(),
            draining: false,
            to_drain: Vec::new(),
            losers: Default::default(),
            drops_logged: [0; DropCause::ALL.len()],
            stopping: false,
            quiesced: None,
            stopped: false,
            moves_to: None,
            serial: 0,
            noted: durable::Noted::default(),
            shared,
        };
        worker.take_restored(restored);
        worker.timers.set(Instant::now(), Timer::Tick);
        if index == 0 && sys > 0 {
            worker.set_sys_timer(Instant::now() + Duration::from_secs(1));
        }
        if index == 0 {
            worker.set_timer(Instant::now(), Timer::RevocationList);
        }
        worker
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }

    /// Gives a connection a place. The caller spawns its task.
    fn insert(&mut self, mut connection: Connection) -> usize {
        self.serial += 1;
        connection.serial = self.serial;
        self.counters().connections.add(1);
        self.counters().listeners[connection.listener.index]
            .connections
            .add(1);
        let slot = self.connections.insert(Box::new(connection));
        self.arm(slot);
        slot
    }

    /// Takes a connection out; its task ends with this.
    fn remove(&mut self, slot: usize) -> Connection {
        self.settle(slot);
        self.account.buffers -= self.connections[slot].charged as i64;
        let connection = *self.connections.remove(slot);
        if let Some(at) = connection.timer {
            self.timers.unset(at, Timer::Connection(slot));
        }
        self.counters().connections.sub(1);
        self.counters().listeners[connection.listener.index]
            .connections
            .sub(1);
        connection
    }

    /// Sets the timer of a connection, unless one that is set comes first; that one will see.
    fn arm(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let Some(deadline) = connection.deadline() else {
            return;
        };
        if let Some(at) = connection.timer {
            if at <= deadline {
                return;
            }
            self.timers.unset(at, Timer::Connection(slot));
        }
        connection.timer = Some(deadline);
        self.set_timer(deadline, Timer::Connection(slot));
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        if self.timers.set(at, timer) {
            self.timer_changed.notify_one();
        }
    }

    /// Logs something that a peer caused, at most once a second and kind.
    fn log_peer(&mut self, peer: Peer, kind: &'static str, what: &str) {
        if let Some(suppressed) = self.log_limit.admit(kind, Instant::now()) {
            tracing::warn!(%peer, kind, suppressed, "{what}");
        }
    }

    /// Does what is due.
    fn on_timers(&mut self) {
        let shared = self.shared.clone();
        let mut pass = Pass::new(&shared);
        while let Some(timer) = self.timers.pop(pass.now) {
            match timer {
                Timer::Connection(slot) => self.on_connection_timer(slot, &mut pass),
                Timer::Will(session) => self.on_will_due(session, &mut pass),
                Timer::SessionEnd(session) => self.end_session(session, &mut pass),
                Timer::RetainedExpiry => self.on_retained_expiry(&mut pass),
                Timer::Sys => self.on_sys_due(&mut pass),
                Timer::RevocationList => self.on_look_at_revocation_list(&mut pass),
                Timer::Drain => self.drain_some(&mut pass),
                Timer::Tick => self.on_tick(&mut pass),
            }
        }
    }

    fn on_retained_expiry(&mut self, pass: &mut Pass<'_>) {
        let next = {
            let mut retained = pass.shared.retained.write();
            let store = pass.shared.store.as_ref();
            let expired = retained.take_expired(pass.now, |message| {
                if let Some(store) = store {
                    let topic = message.topic().detach();
                    store.note(Op::Retained {
                        topic,
                        message: None,
                    });
                }
            });
            self.counters()
                .dropped(crate::counters::DropCause::Expired, expired as u64);
            retained.next_expiry()
        };
        self.retained_sweep = next.map(|at| at.max(pass.now + RETAINED_SWEEP));
        if let Some(at) = self.retained_sweep {
            self.set_timer(at, Timer::RetainedExpiry);
        }
    }

    /// Handles one piece of mail; a connection that came with it is returned for its task.
    fn on_mail(&mut self, mail: Mail, pass: &mut Pass<'_>) -> Option<usize> {
        match mail {
            Mail::Publish {
                message,
                targets,
                tracked,
            } => {
                let mut source = deliver::Source::shared(message, tracked);
                self.deliver_all(targets.as_slice(), &mut source, pass);
                None
            }
            Mail::Shared {
                message,
                target,
                tracked,
            } => {
                let mut source = deliver::Source::shared(message, tracked);
                self.deliver_shared(target, &mut source, pass);
                None
            }
            Mail::Settled(settlements) => {
                self.on_settled(settlements, pass);
                None
            }
            Mail::Loaded(load, messages) => {
                self.on_loaded(load, messages);
                None
            }
            Mail::HandOver(handed) => self.take_over(*handed, pass),
            Mail::Resume => {
                for slot in std::mem::take(&mut self.stalled) {
                    if let Some(connection) = self.connections.get(slot) {
                        connection.wake();
                    }
                }
                None
            }
            Mail::PasswordChecked {
                slot,
                ticket,
                verified,
            } => {
                self.on_password_checked(slot, &ticket, verified);
                None
            }
            Mail::Reload(current) => {
                self.on_reload(current, pass);
                None
            }
            Mail::Drain => {
                self.begin_drain(pass);
                None
            }
            Mail::MoveTo(thread) => {
                self.moves_to = Some(thread);
                None
            }
            Mail::Inspect(inspection) => {
                self.inspect(inspection);
                None
            }
            Mail::Quiesce(done) => {
                self.quiesce(pass);
                self.quiesced = Some(done);
                None
            }
            Mail::Stop => {
                self.stopped = true;
                None
            }
        }
    }

    /// Whether there are connections, and whether any of them has something to send.
    fn connections_left(&self) -> (bool, bool) {
        let unsent = |phase| !matches!(phase, Phase::Dead | Phase::Closing { shut: true, .. });
        (
            !self.connections.is_empty(),
            self.connections.iter().any(|(_, c)| unsent(c.phase)),
        )
    }

    fn post(&mut self, worker: usize, mail: Mail, bytes: usize) {
        let posting = &mut self.outboxes[worker];
        posting.mail.push(mail);
        posting.bytes += bytes;
        self.wake_flusher();
    }

    /// Takes all sockets off this thread's runtime, to go to another.
    fn lift(&mut self) {
        self.flusher = None;
        for (_, connection) in &mut self.connections {
            connection.waker = None;
            if let Some(task) = connection.task.take() {
                task.abort();
            }
            connection.transport.lift();
        }
    }

    /// Puts all sockets on this thread's runtime; returns their places, for their tasks.
    fn land(&mut self, shared: &Shared) -> Vec<usize> {
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        let mut pass = Pass::new(shared);
        for slot in &slots {
            if let Err(error) = self.connections[*slot].transport.land() {
                let peer = self.connections[*slot].peer;
                tracing::error!(%error, %peer, "a connection was lost between two threads");
                self.lose(*slot, &mut pass);
            }
        }
        slots
    }

    fn wake_flusher(&self) {
        if let Some(waker) = &self.flusher {
            waker.wake_by_ref();
        }
    }
}

/// Retained messages are looked through for expired ones at most this often.
const RETAINED_SWEEP: Duration = Duration::from_secs(10);
