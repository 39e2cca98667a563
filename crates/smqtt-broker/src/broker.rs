//! A running broker: its worker threads and what they stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio::task::LocalSet;

use crate::Error;
use crate::activation::Activation;
use crate::admin::AdminServer;
use crate::capture::CaptureFile;
use crate::config::{Config, Durability, ListenUrl};
use crate::connect_rate::ConnectRate;
use crate::counters::Counters;
use crate::current::Current;
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::hosts::{Hosts, Resident, host};
use crate::lifecycle::{Lifecycle, Stage};
use crate::listening::{SocketFile, listen};
use crate::mailbox::Mailbox;
use crate::restore::{Restored, restore};
use crate::retained::RetainedStore;
use crate::shared::{FullSessions, ListenerState, Mail, Reloads, Shared};
use crate::socket::ListenSocket;
use crate::store::{self, Committer, Loader, Recovered};
use crate::trie::Trie;
use crate::worker::Worker;

/// A broker that listens and serves, on threads of its own, until [`Broker::stop`].
///
/// Dropping it without that leaves the threads running.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    urls: Vec<ListenUrl>,
    workers: Vec<JoinHandle<bool>>,
    worker_ended: Arc<Notify>,
    /// Removed when the broker is gone.
    _socket_files: Vec<SocketFile>,
    admin: Option<AdminServer>,
    /// The store's threads.
    store: Vec<JoinHandle<()>>,
    _data_dir: Option<DataDir>,
}

/// What came of [`Broker::reload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new values are not in force, because they cannot change while the broker runs.
    pub needs_restart: Vec<&'static str>,
}

impl Broker {
    /// Starts a broker. When this returns, its listeners accept.
    ///
    /// # Errors
    /// [`Error`]: the configuration does not validate, a file or directory is unusable, or an
    /// address can't be listened on. Nothing is left running then.
    pub fn start(config: Config) -> Result<Broker, Error> {
        let current = Current::load(config)?;
        let config = &current.config;
        let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
        let mut recovered = open_store(config)?;
        let capture = match &config.capture.file {
            None => None,
            Some(path) => {
                let capture =
                    CaptureFile::open(path, config.capture.max_bytes).map_err(|source| {
                        Error::Capture {
                            path: path.clone(),
                            source,
                        }
                    })?;
                tracing::warn!(file = %path.display(), "capturing all traffic after TLS: for diagnosis only");
                Some(capture)
            }
        };
        let count = config.worker_count();
        let mut sockets: Vec<Vec<(ListenSocket, Arc<ListenerState>)>> =
            (0..count).map(|_| Vec::new()).collect();
        let mut socket_files = Vec::new();
        let mut passed = Activation::from_environment()?;
        let mut urls = Vec::new();
        let mut listener_names = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            // One for all its sockets: systemd may pass several.
            let mut state = None;
            for bound in listen(listener, &config.tcp, count, &mut passed)? {
                let name = listener
                    .name
                    .clone()
                    .unwrap_or_else(|| bound.url.to_string());
                urls.push(bound.url.clone());
                if listener_names.len() == index {
                    listener_names.push(name.clone());
                }
                let state = state.get_or_insert_with(|| Arc::new(ListenerState::new(index, name)));
                for (worker, socket) in sockets.iter_mut().zip(bound.sockets) {
                    worker.push((socket, state.clone()));
                }
                socket_files.extend(bound.file);
            }
        }
        passed.finish()?;
        let admin = AdminServer::bind(&config.admin)?;
        let shared = Arc::new(Shared {
            trie: RwLock::new(Trie::default()),
            trie_version: AtomicU64::new(0),
            retained: RwLock::new(RetainedStore::new(
                config.retained.messages,
                config.retained.bytes,
            )),
            directory: Directory::default(),
            mailboxes: (0..count).map(|_| Mailbox::default()).collect(),
            connections: Arc::default(),
            handshakes: Arc::default(),
            password_checks: Semaphore::new(count.min(PASSWORD_CHECKS)),
            counters: (0..count)
                .map(|_| Counters::new(config.listeners.len(), config.metrics.topic_prefixes.len()))
                .collect(),
            listener_names,
            reloads: Reloads::default(),
            drop_log: Mutex::default(),
            connect_rate: ConnectRate::default(),
            lifecycle: Lifecycle::default(),
            hosts: Hosts::new(count),
            capture,
            started: Instant::now(),
            full: FullSessions::default(),
            store: recovered.as_ref().map(|recovered| recovered.store.clone()),
            current: RwLock::new(Arc::new(current)),
        });
        let state = recovered
            .as_mut()
            .map(|recovered| std::mem::take(&mut recovered.state))
            .unwrap_or_default();
        let restored = restore(&shared, state).map_err(|reason| Error::Store {
            path: shared.current().config.data_dir.clone().unwrap_or_default(),
            reason,
        })?;
        let mut broker = Broker {
            shared,
            urls,
            workers: Vec::new(),
            worker_ended: Arc::new(Notify::new()),
            _socket_files: socket_files,
            admin: None,
            store: Vec::new(),
            _data_dir: data_dir,
        };
        if let Some(recovered) = recovered
            && let Err(error) = broker.start_store(recovered)
        {
            let _ = broker.stop();
            return Err(error);
        }
        for index in 0..count {
            if let Err(error) = broker.start_thread(index) {
                let _ = broker.stop();
                return Err(error);
            }
        }
        for (index, (sockets, restored)) in sockets.into_iter().zip(restored).enumerate() {
            if let Err(error) = broker.start_worker(index, sockets, restored) {
                let _ = broker.stop();
                return Err(error);
            }
        }
        if broker.shared.store.is_none() {
            tracing::info!(
                "durability is none: sessions and retained messages are in memory, and end with the broker; to keep them, set data_dir and [store] durability"
            );
        }
        if let Some(admin) = admin {
            match AdminServer::start(admin, broker.shared.clone()) {
                Ok(server) => broker.admin = Some(server),
                Err(error) => {
                    let _ = broker.stop();
                    return Err(error);
                }
            }
        }
        Ok(broker)
    }

    /// Checks everything that [`Broker::start`] checks before it touches the data directory or an
    /// address.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn check(config: &Config) -> Result<(), Error> {
        Current::load(config.clone()).map(drop)
    }

    /// Puts another configuration in force, without ending a connection that it still admits: limits
    /// and rules at once, TLS files for handshakes that begin from now on. All files that it names
    /// are read again, so the same configuration reloads what has changed in them.
    ///
    /// # Errors
    /// [`Error`], as [`Broker::check`]: then everything stays as it was.
    pub fn reload(&self, mut config: Config) -> Result<Reloaded, Error> {
        config.validate()?;
        let before = self.shared.current();
        let needs_restart = config.keep_fixed(&before.config);
        let next = Current::load(config)?;
        next.check_follows(&before)?;
        self.shared.put_in_force(next);
        self.shared.reloads.done.fetch_add(1, Ordering::Relaxed);
        Ok(Reloaded { needs_restart })
    }

    /// Counts a reload that was asked for and not done.
    pub(crate) fn count_refused_reload(&self) {
        self.shared.reloads.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Where it listens, with the ports that were free.
    pub fn urls(&self) -> &[ListenUrl] {
        &self.urls
    }

    /// Waits until a worker has ended by itself, which it only does by a defect.
    pub async fn worker_ended(&self) {
        self.worker_ended.notified().await;
    }

    /// Where the admin listener is, with the port that was free.
    pub fn admin(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().map(AdminServer::address)
    }

    /// Admits nobody from now on and sends clients away, a few at a time.
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// Waits until a drained broker has no clients left, or has waited for them long enough; for
    /// ever if it is not drained. Needs a runtime with time.
    pub async fn drained(&self) {
        let began = self.shared.lifecycle.drain_began().await;
        loop {
            let seconds = self.shared.current().config.shutdown.drain_deadline_seconds;
            let clients = self.shared.sum(|c| c.clients_connected.get());
            if clients == 0 || began.elapsed() >= Duration::from_secs(seconds) {
                tracing::info!(clients, "drained");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether all workers move.
    pub fn is_alive(&self) -> bool {
        crate::admin::is_alive(&self.shared)
    }

    /// Ends the waiting of a [`Broker::stop`] on another thread.
    pub fn halt(&self) -> Halt {
        Halt(self.shared.clone())
    }

    /// Stops: no connection is accepted any more, wills are published, what waits for clients that
    /// read gets `shutdown.grace_seconds` to be sent, and MQTT 5 clients are told that the server
    /// shuts down.
    ///
    /// # Errors
    /// [`Error::WorkerDied`] when a worker had ended by a defect.
    pub fn stop(self) -> Result<(), Error> {
        self.shared.lifecycle.advance(Stage::Stopping);
        let (posting, posted) = mpsc::channel();
        for mailbox in &self.shared.mailboxes {
            mailbox.post(&mut vec![Mail::Quiesce(posting.clone())], 0);
        }
        drop(posting);
        // Ends when every worker has let go of its sender; a worker that died has none.
        let _ = posted.recv_timeout(QUIESCE);
        for mailbox in &self.shared.mailboxes {
            mailbox.post(&mut vec![Mail::Stop], 0);
        }
        self.shared.hosts.end();
        let mut result = Ok(());
        for (index, worker) in self.workers.into_iter().enumerate() {
            if !matches!(worker.join(), Ok(true)) {
                result = Err(Error::WorkerDied(index));
            }
        }
        drop(self.admin);
        // After the workers, which may have posted something to the last.
        if let Some(store) = &self.shared.store {
            store.stop();
        }
        for thread in self.store {
            let _ = thread.join();
        }
        result
    }

    fn start_store(&mut self, recovered: Recovered) -> Result<(), Error> {
        let Recovered {
            store,
            engine,
            wanted,
            last,
            ..
        } = recovered;
        let reader = engine.reader();
        let shared = self.shared.clone();
        let committer = Committer {
            store,
            engine,
            last,
            workers: shared.mailboxes.len(),
            deliver: Box::new(move |worker, settlements| {
                shared.mailboxes[worker].post(&mut vec![Mail::Settled(settlements)], 0);
            }),
        };
        let shared = self.shared.clone();
        let loader = Loader {
            reader,
            wanted,
            deliver: Box::new(move |load, messages| {
                let worker = load.worker;
                shared.mailboxes[worker].post(&mut vec![Mail::Loaded(load, messages)], 0);
            }),
        };
        let system = |source| Error::System {
            what: "a thread of the store",
            source,
        };
        let thread = |name: &str| thread::Builder::new().name(name.into());
        let commits = thread("store").spawn(move || committer.run());
        self.store.push(commits.map_err(system)?);
        let reads = thread("store-reader").spawn(move || loader.run());
        self.store.push(reads.map_err(system)?);
        Ok(())
    }

    /// Starts a thread; workers arrive on it.
    fn start_thread(&mut self, index: usize) -> Result<(), Error> {
        let shared = self.shared.clone();
        let arriving = shared.hosts.open(index);
        let (falling_asleep, waking) = (shared.clone(), shared.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(move || falling_asleep.hosts.sleeps(index))
            .on_thread_unpark(move || waking.hosts.wakes(index))
            .build()
            .map_err(|source| Error::System {
                what: "a worker's runtime",
                source,
            })?;
        let ended = EndNotice(self.worker_ended.clone());
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let _ended = ended;
                LocalSet::new().block_on(&runtime, host(index, shared, arriving))
            })
            .map_err(|source| Error::System {
                what: "a worker thread",
                source,
            })?;
        self.workers.push(thread);
        Ok(())
    }

    /// Starts a worker, on the first thread.
    fn start_worker(
        &mut self,
        index: usize,
        listeners: Vec<(ListenSocket, Arc<ListenerState>)>,
        restored: Restored,
    ) -> Result<(), Error> {
        let (report, started) = mpsc::channel();
        let resident = Resident {
            worker: Box::new(Worker::new(index, self.shared.clone(), restored)),
            listeners,
            started: Some(report),
        };
        if !self.shared.hosts.start(resident) {
            return Err(Error::WorkerDied(index));
        }
        match started.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(Error::System {
                what: "a worker's runtime",
                source,
            }),
            Err(_) => Err(Error::WorkerDied(index)),
        }
    }
}

/// Opens the store that is configured and reads it.
fn open_store(config: &Config) -> Result<Option<Recovered>, Error> {
    let durability = config.durability();
    let (Some(data_dir), true) = (&config.data_dir, durability != Durability::None) else {
        return Ok(None);
    };
    let opened = store::open(data_dir)?;
    // What this thread has charged before is nobody's.
    crate::memory::take();
    let recovered =
        store::recover(opened.engine, durability == Durability::Sync).map_err(|error| {
            opened.place.error(format!(
                "{error}; nothing was changed. Run: smqtt-broker store check --data-dir {}",
                data_dir.display()
            ))
        })?;
    Ok(Some(recovered))
}

/// Cuts a stop short: see [`Broker::halt`].
#[derive(Debug, Clone)]
pub struct Halt(Arc<Shared>);

impl Halt {
    /// Nothing is waited for any more.
    pub fn now(&self) {
        self.0.lifecycle.halt();
    }
}

/// How long a stop waits for workers to publish wills.
const QUIESCE: Duration = Duration::from_secs(2);

/// Passwords verified at a time, at most: each takes 19 MiB.
const PASSWORD_CHECKS: usize = 4;

/// Tells that a worker thread has ended, however it did.
struct EndNotice(Arc<Notify>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
