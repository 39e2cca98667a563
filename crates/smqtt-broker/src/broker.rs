//! A running broker: its worker threads and what they stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use smqtt_proto::{QoS, server};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::capture::CaptureFile;
use crate::config::{Config, ListenUrl};
use crate::counters::Counters;
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::listening::listen;
use crate::mailbox::Mailbox;
use crate::retained::RetainedStore;
use crate::shared::{ListenerState, Mail, Shared};
use crate::trie::Trie;
use crate::{Error, tls, worker};

/// A broker that listens and serves, on threads of its own, until [`Broker::stop`].
///
/// Dropping it without that leaves the threads running.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    urls: Vec<ListenUrl>,
    workers: Vec<JoinHandle<bool>>,
    worker_ended: Arc<Notify>,
    _data_dir: Option<DataDir>,
}

impl Broker {
    /// Starts a broker. When this returns, its listeners accept.
    ///
    /// # Errors
    /// [`Error`]: the configuration does not validate, a file or directory is unusable, or an
    /// address can't be listened on. Nothing is left running then.
    pub fn start(config: Config) -> Result<Broker, Error> {
        config.validate()?;
        let listeners = tls::prepare(&config)?;
        let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
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
        let mut sockets: Vec<Vec<(std::net::TcpListener, Arc<ListenerState>)>> =
            (0..count).map(|_| Vec::new()).collect();
        let mut urls = Vec::new();
        for listener in listeners {
            let bound = listen(listener.url.address(), count)?;
            let address = bound[0].local_addr().map_err(|source| Error::System {
                what: "a listener",
                source,
            })?;
            let listener = Arc::new(listener.bound_to(address));
            urls.push(listener.url);
            for (worker, socket) in sockets.iter_mut().zip(bound) {
                worker.push((socket, listener.clone()));
            }
        }
        let shared = Arc::new(Shared {
            protocol: Arc::new(protocol_config(&config)),
            trie: RwLock::new(Trie::default()),
            trie_version: AtomicU64::new(0),
            retained: RwLock::new(RetainedStore::new(
                config.retained.messages,
                config.retained.bytes,
            )),
            directory: Directory::default(),
            mailboxes: (0..count).map(|_| Mailbox::default()).collect(),
            counters: (0..count).map(|_| Counters::default()).collect(),
            connections: AtomicUsize::new(0),
            capture,
            started: Instant::now(),
            config,
        });
        let mut broker = Broker {
            shared,
            urls,
            workers: Vec::new(),
            worker_ended: Arc::new(Notify::new()),
            _data_dir: data_dir,
        };
        for (index, sockets) in sockets.into_iter().enumerate() {
            if let Err(error) = broker.start_worker(index, sockets) {
                let _ = broker.stop();
                return Err(error);
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
        config.validate()?;
        tls::prepare(config).map(drop)
    }

    /// Where it listens, with the ports that were free.
    pub fn urls(&self) -> &[ListenUrl] {
        &self.urls
    }

    /// Waits until a worker has ended by itself, which it only does by a defect.
    pub async fn worker_ended(&self) {
        self.worker_ended.notified().await;
    }

    /// Stops: MQTT 5 clients are told that the server shuts down, what has been written to
    /// connections gets two seconds to be read.
    ///
    /// # Errors
    /// [`Error::WorkerDied`] when a worker had ended by a defect.
    pub fn stop(self) -> Result<(), Error> {
        for mailbox in &self.shared.mailboxes {
            mailbox.post(&mut vec![Mail::Stop], 0);
        }
        let mut result = Ok(());
        for (index, worker) in self.workers.into_iter().enumerate() {
            if !matches!(worker.join(), Ok(true)) {
                result = Err(Error::WorkerDied(index));
            }
        }
        result
    }

    fn start_worker(
        &mut self,
        index: usize,
        sockets: Vec<(std::net::TcpListener, Arc<ListenerState>)>,
    ) -> Result<(), Error> {
        let (report, started) = mpsc::channel();
        let shared = self.shared.clone();
        let ended = EndNotice(self.worker_ended.clone());
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let _ended = ended;
                let runtime = match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = report.send(Err(error));
                        return false;
                    }
                };
                let local = LocalSet::new();
                local.block_on(&runtime, async move {
                    let listeners = sockets
                        .into_iter()
                        .map(|(socket, state)| {
                            Ok((tokio::net::TcpListener::from_std(socket)?, state))
                        })
                        .collect::<std::io::Result<Vec<_>>>();
                    match listeners {
                        Ok(listeners) => {
                            let _ = report.send(Ok(()));
                            worker::run(index, shared, listeners).await
                        }
                        Err(error) => {
                            let _ = report.send(Err(error));
                            false
                        }
                    }
                })
            })
            .map_err(|source| Error::System {
                what: "a worker thread",
                source,
            })?;
        self.workers.push(thread);
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

/// Tells that a worker thread has ended, however it did.
struct EndNotice(Arc<Notify>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn protocol_config(config: &Config) -> server::Config {
    server::Config {
        max_packet_size: u32::try_from(config.limits.max_packet_bytes).unwrap_or(u32::MAX),
        receive_maximum: config.session.receive_maximum,
        max_in_flight: config.session.max_in_flight,
        topic_alias_maximum: config.session.topic_alias_maximum,
        outgoing_topic_aliases: config.session.topic_alias_maximum,
        maximum_qos: QoS::ExactlyOnce,
        retain_available: true,
        wildcard_subscriptions: true,
        subscription_identifiers: true,
        shared_subscriptions: false,
        handshake_timeout: Duration::from_secs(config.limits.connect_timeout_seconds),
    }
}
