//! A worker: owns its connections and sessions and drives them in passes, on one thread at a time.
//!
//! A pass reads what a socket has, handles every packet in it, and leaves what is to be written in
//! the output of each touched connection and in one outbox per other worker. When the tasks that
//! were ready have run, the flush task writes each touched connection once and posts each outbox
//! once. Nothing in here waits or blocks; the tasks at the end of this file do.

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
mod share;
mod subscribe;
mod sys;
mod timers;
mod write;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::RwLockReadGuard;
use slab::Slab;
use tokio::sync::Notify;

use crate::connection::{Connection, Phase};
use crate::counters::{Counters, DropCause, LogLimit};
use crate::current::Current;
use crate::hosts::Resident;
use crate::memory::{Account, Pressure};
use crate::peer::Peer;
use crate::restore::Restored;
use crate::session::Sessions;
use crate::shared::{Mail, Shared};
use crate::socket::Acceptor;
use crate::store::Op;

use crate::targets::TargetCache;
use crate::trie::Trie;
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
/// How long a stopping worker waits for sockets to take the last packets.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long it waits for clients to close their side once everything was sent.
const STOP_LINGER: Duration = Duration::from_millis(250);

/// A worker on the thread that runs it, until it leaves.
#[derive(Clone)]
struct Handle(Rc<RefCell<Option<Box<Worker>>>>);

impl Handle {
    /// Does something with the worker, if it is still here.
    fn with<R>(&self, act: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        self.0.borrow_mut().as_deref_mut().map(act)
    }
}

/// How a worker has left its thread.
pub(crate) enum Outcome {
    /// It was told to stop.
    Stopped,
    /// It goes to another thread.
    Moves(usize, Resident),
    /// By a defect.
    Failed,
}

/// Runs a worker on this thread until it is told to stop, or to go to another thread: must be called in a
/// [`tokio::task::LocalSet`].
pub(crate) async fn run(thread: usize, shared: Arc<Shared>, resident: Resident) -> Outcome {
    let Resident {
        worker,
        listeners,
        mut started,
    } = resident;
    let index = worker.index;
    let acceptors = listeners
        .iter()
        .map(|(socket, state)| Ok((Acceptor::attach(socket.try_clone()?)?, state.clone())))
        .collect::<std::io::Result<Vec<_>>>();
    let acceptors = match acceptors {
        Ok(acceptors) => acceptors,
        Err(error) => {
            match started.take() {
                Some(started) => drop(started.send(Err(error))),
                None => tracing::error!(%error, "cannot listen on another thread"),
            }
            return Outcome::Failed;
        }
    };
    let worker = Handle(Rc::new(RefCell::new(Some(worker))));
    if started.is_some() {
        worker.with(|worker| {
            if worker.sessions.places() > 0 {
                let mut pass = Pass::new(&shared);
                worker.judge_again(&mut pass);
            }
        });
    }
    let landed = worker.with(|worker| worker.land(&shared));
    let mut tasks: Vec<_> = acceptors
        .into_iter()
        .map(|(listener, state)| {
            tokio::task::spawn_local(accept::accept_connections(worker.clone(), listener, state))
        })
        .collect();
    let mut flusher = tokio::task::spawn_local(flush_when_touched(worker.clone()));
    let mut timer = tokio::task::spawn_local(keep_time(worker.clone()));
    for slot in landed.into_iter().flatten() {
        spawn_connection(&worker, slot);
    }
    if let Some(started) = started.take() {
        let _ = started.send(Ok(()));
    }
    let mut mail = Vec::new();
    loop {
        tokio::select! {
            () = shared.mailboxes[index].ready() => {}
            // They never end: one of them has panicked, and nothing would move any more.
            _ = &mut flusher => return Outcome::Failed,
            _ = &mut timer => return Outcome::Failed,
        }
        let waiting = shared.mailboxes[index].drain(&mut mail);
        for other in (0..shared.mailboxes.len()).filter(|other| waiting & 1 << other != 0) {
            shared.mailboxes[other].post(&mut vec![Mail::Resume], 0);
        }
        let mut taken_over = Vec::new();
        let ended = worker.with(|worker| {
            let mut pass = Pass::new(&shared);
            for item in mail.drain(..) {
                taken_over.extend(worker.on_mail(item, &mut pass));
            }
            if let Some(done) = worker.quiesced.take() {
                worker.flush_touched();
                drop(done);
            }
            worker.stopped
        });
        if mail.capacity() > KEEP_MAIL {
            mail = Vec::new();
        }
        for slot in taken_over {
            spawn_connection(&worker, slot);
        }
        if ended != Some(false) {
            break;
        }
        let to = worker.with(|worker| worker.moves_to.take().filter(|_| !worker.stopping));
        if let Some(to) = to.flatten().filter(|to| *to != thread) {
            tasks.extend([flusher, timer]);
            for task in tasks {
                task.abort();
            }
            let Some(mut worker) = worker.0.borrow_mut().take() else {
                return Outcome::Failed;
            };
            worker.lift();
            let resident = Resident {
                worker,
                listeners,
                started: None,
            };
            return Outcome::Moves(to, resident);
        }
    }
    for task in tasks {
        task.abort();
    }
    let begin = Instant::now();
    let patience = worker.with(|worker| worker.current.config.shutdown.grace_seconds);
    let patience = Duration::from_secs(patience.unwrap_or(0));
    loop {
        let impatient = begin.elapsed() >= patience || shared.lifecycle.is_halted();
        let left = worker.with(|worker| {
            worker.stop_some(impatient);
            worker.connections_left()
        });
        let (open, unsent) = left.unwrap_or((false, false));
        let grace = match unsent {
            true => patience + STOP_GRACE,
            false => STOP_LINGER,
        };
        if !open || begin.elapsed() >= grace || shared.lifecycle.is_halted() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    flusher.abort();
    timer.abort();
    Outcome::Stopped
}

/// A drained mailbox with more capacity than this is freed.
const KEEP_MAIL: usize = 4_096;

fn spawn_connection(worker: &Handle, slot: usize) {
    let handle = worker.clone();
    let task = tokio::task::spawn_local(poll_fn(move |cx| {
        let polled = handle.with(|worker| worker.poll_connection(slot, cx));
        polled.unwrap_or(Poll::Ready(()))
    }));
    worker.with(|worker| {
        if let Some(connection) = worker.connections.get_mut(slot) {
            connection.task = Some(task.abort_handle());
        }
    });
}

async fn flush_when_touched(worker: Handle) {
    poll_fn(|cx| {
        worker.with(|worker| {
            if worker
                .flusher
                .as_ref()
                .is_none_or(|waker| !waker.will_wake(cx.waker()))
            {
                worker.flusher = Some(cx.waker().clone());
            }
            worker.flush_touched();
        });
        Poll::Pending
    })
    .await
}

async fn keep_time(worker: Handle) {
    let Some(changed) = worker.with(|worker| worker.timer_changed.clone()) else {
        return;
    };
    loop {
        let next = worker.with(|worker| worker.timers.next()).flatten();
        match next {
            None => changed.notified().await,
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {
                        worker.with(Worker::on_timers);
                    }
                    () = changed.notified() => {}
                }
            }
        }
    }
}
