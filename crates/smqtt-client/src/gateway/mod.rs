//! A local MQTT listener for unchanged devices and programs: what they publish is sealed, what they
//! subscribe to is opened, and everything else is refused.
//!
//! Each local client has a connection to the broker of its own, named after the device and the client
//! (`DEVICE-CLIENT`), and a reader of its own with its keys and replay windows. So retained messages,
//! sessions, quality of service and overlapping subscriptions are the broker's business, as they were
//! before, and what an acknowledgement says is true from end to end: a PUBACK goes to the local client
//! only after the broker's has come, and to the broker only after the local client's. What is sealed
//! under a rule shares that rule's key frames, which the gateway announces on a connection of its own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use smqtt_client::{Identity, Options, gateway::{Gateway, Listen, Rules}};
//!
//! let options = Options::new(Identity::load("keys/home".as_ref())?)?;
//! let rules = Rules::from_file("gateway.toml".as_ref())?;
//! let gateway = Gateway::start(options, rules, "mqtt://127.0.0.1:1883".parse::<Listen>()?).await?;
//! gateway.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Bounds
//!
//! Clients, present or expected back: [`Listen::max_clients`]. Of each client: 32 messages of QoS 1 and 2
//! in flight in either direction; to the broker, while it is away, 256 messages of QoS 0 or 1 MiB, then they are
//! dropped and counted; to the client, 256 messages or 1 MiB, then its connection to the broker is not read,
//! and after half a minute without any progress the client is let go; 4,096 messages or 4 MiB that wait for
//! their key frames; 8 MiB of keys; 1,024 subscriptions.

mod account;
mod downward;
mod listen;
mod local;
mod requests;
mod rules;
mod seals;
mod session;
mod upward;
mod users;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use smqtt_proto::packet::{ConnAckProperties, Connect};
use smqtt_proto::{MqttString, ReasonCode, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

pub use account::Counts;
pub use listen::Listen;
pub use rules::{Rules, RulesError};

use account::{Account, count};
use local::Local;
use rules::Retained;
use seals::Seals;
use session::{Arrival, Session};

use crate::connection::link::{Dialler, Moved};
use crate::{Backoff, Client, Error, Identity, Options, Renewal, Renewals};

/// Messages of QoS 1 and 2 in flight, in each direction.
const IN_FLIGHT: u16 = 32;
/// Local connections that have not said CONNECT yet.
const GREETING: usize = 64;
/// The longest client identifier of a local client, in bytes.
const MAX_CLIENT_ID: usize = 512;
/// Local connections of one client that wait for its session.
const ARRIVALS: usize = 4;
/// How long sessions may take to settle when the gateway ends.
const FAREWELL: Duration = Duration::from_secs(15);

/// A gateway that listens and is connected to its broker.
pub struct Gateway {
    listener: TcpListener,
    shared: Arc<Shared>,
    /// Keeps the identity renewed, under all that uses it.
    renewals: Renewals,
    /// Closed when every session has ended.
    ended: mpsc::Receiver<()>,
}

/// What all sessions share.
struct Shared {
    rules: Rules,
    seals: Arc<Seals>,
    client: Client,
    account: Account,
    backoff: Backoff,
    stop: watch::Sender<bool>,
    dialler: Dialler,
    /// How to connect from now on, and the identity that it was made of.
    tls: Mutex<(Arc<Identity>, Arc<rustls::ClientConfig>)>,
    device: String,
    max_clients: usize,
    protocol: Arc<server::Config>,
    sessions: Mutex<HashMap<Arc<str>, mpsc::Sender<Arrival>>>,
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

impl Gateway {
    /// Listens, and connects to the broker. While the broker cannot be reached, it is tried again and again.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for a listener beyond this machine without users, or an address that cannot be
    /// listened at; those of [`Client::connect`] that trying again does not help.
    pub async fn start(options: Options, rules: Rules, listen: Listen) -> Result<Self, Error> {
        listen.check(&rules)?;
        let listener = listen.bind().await?;
        let backoff = Backoff {
            first: Duration::from_millis(500),
            most: Duration::from_secs(10),
            ..Backoff::default()
        };
        let options = options
            .reconnect(Some(backoff))
            .max_packet(listen.max_packet);
        let dialler = crate::connection::dialler(&options.clone().max_in_flight(IN_FLIGHT))?;
        let client = connect(&options, &backoff).await?;
        let seals = Seals::new(&client, &rules)?;
        let renewals = client.keep_renewed(Renewal::default());
        let (alive, ended) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            device: client.identity().device().to_string(),
            rules,
            seals,
            client,
            account: Account::default(),
            backoff,
            stop: watch::Sender::new(false),
            max_clients: listen.max_clients,
            protocol: Arc::new(server::Config {
                max_packet_size: listen.max_packet,
                receive_maximum: IN_FLIGHT,
                max_in_flight: IN_FLIGHT,
                subscription_identifiers: options.protocol.is_v5(),
                ..server::Config::default()
            }),
            tls: Mutex::new((Arc::clone(&options.identity), Arc::clone(&dialler.tls))),
            dialler,
            sessions: Mutex::default(),
            alive: Mutex::new(Some(alive)),
        });
        Ok(Self {
            listener,
            shared,
            renewals,
            ended,
        })
    }

    /// How the identity is kept renewed. By default the gateway asks the authority by itself, as
    /// [`Client::keep_renewed`] does. What it has then is what all rules seal with and all local clients read with.
    #[must_use]
    pub fn renewal(mut self, renewal: Renewal) -> Self {
        self.renewals = self.shared.client.keep_renewed(renewal);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.account.read()
    }

    /// Serves local clients until `stop` resolves. Then their connections are ended, their wills published,
    /// and the announced key frames cleared.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLost`] if the broker has ended the gateway's own connection for good.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Counts, Error> {
        let greeting = Arc::new(Semaphore::new(GREETING));
        let commands = self.shared.client.commands();
        tokio::pin!(stop);
        let lost = loop {
            let permit = Arc::clone(&greeting).acquire_owned();
            let accepted = async {
                // The semaphore is never closed.
                let permit = permit.await.ok();
                (self.listener.accept().await, permit)
            };
            tokio::select! {
                (accepted, permit) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let shared = Arc::clone(&self.shared);
                        tokio::spawn(async move {
                            shared.greet(stream, peer).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        if let Some(suppressed) = self.shared.account.admit("accept") {
                            tracing::warn!(suppressed, "cannot accept a connection: {error}");
                        }
                        // Out of file descriptors, most often: they come back as connections end.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                () = &mut stop => break false,
                () = commands.closed() => break true,
            }
        };
        drop(self.listener);
        drop(self.renewals);
        self.shared.alive.lock().take();
        self.shared.stop.send_replace(true);
        let all_gone = async { while self.ended.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, all_gone).await;
        let counts = self.shared.account.read();
        if lost {
            return Err(self.shared.client.ended().error());
        }
        self.shared.seals.end().await;
        // What was to be said is said; a broker that does not answer changes nothing.
        let _ = self.shared.client.clone().disconnect().await;
        Ok(counts)
    }
}

/// Connects, as often as it takes.
async fn connect(options: &Options, backoff: &Backoff) -> Result<Client, Error> {
    for attempt in 0u32.. {
        match Client::connect(options.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) if error.is_transient() => {
                if attempt == 0 {
                    tracing::warn!("{error}; trying until it is there");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff.wait(attempt, &mut rand::rng())).await;
    }
    Err(Error::Option("the broker cannot be reached".to_owned()))
}

impl Shared {
    /// Reads a local client's CONNECT and hands it to its session.
    async fn greet(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let mut local = Local::new(stream, peer, Arc::clone(&self.protocol));
        let connect = loop {
            match local.mqtt.poll_event() {
                Some(server::Event::Connect(connect)) => break connect,
                Some(server::Event::Closed(closed)) => {
                    tracing::debug!(%peer, "no CONNECT: {closed}");
                    return local.close().await;
                }
                Some(_) => {}
                None => {
                    let deadline = local.mqtt.poll_timeout();
                    tokio::select! {
                        moved = local.progress(true) => match moved {
                            Ok(Moved::Bytes) => {}
                            Ok(Moved::EndOfStream) | Err(_) => local.mqtt.handle_end_of_stream(),
                        },
                        () = crate::connection::sleep_until(deadline) => {
                            local.mqtt.handle_timeout(std::time::Instant::now());
                        }
                    }
                }
            }
        };
        let refused = match self.examine(&connect) {
            Ok(()) => match self.hand_over(local, connect) {
                Ok(()) => return,
                Err((refused, reason)) => {
                    local = refused;
                    reason
                }
            },
            Err(reason) => reason,
        };
        count(&self.account.clients_refused);
        if let Some(suppressed) = self.account.admit("client-refused") {
            tracing::warn!(%peer, suppressed, "refused a local client: {refused}");
        }
        local.mqtt.reject(refused, ConnAckProperties::default());
        local.close().await;
    }

    /// Whether a client is let in, as far as it depends on this side.
    fn examine(&self, connect: &Connect) -> Result<(), ReasonCode> {
        if connect.properties.authentication_method.is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let (name, password) = (connect.username.as_ref(), connect.password.as_ref());
        if !self.rules.users.admit(name, password) {
            return Err(ReasonCode::BadUserNameOrPassword);
        }
        let nameless = connect.client_id.is_empty();
        let stays = !connect.version.is_v5() && !connect.clean_start;
        if (nameless && stays) || connect.client_id.as_str().len() > MAX_CLIENT_ID {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if let Some(will) = &connect.will {
            let (_, sealing) = self
                .rules
                .publishing(&will.topic)
                .ok_or(ReasonCode::NotAuthorized)?;
            if will.retain && sealing.retained == Retained::Refuse {
                return Err(ReasonCode::RetainNotSupported);
            }
        }
        Ok(())
    }

    /// Hands a client to its session, which is made if there is none.
    #[allow(clippy::result_large_err)] // the client comes back once at most, to be refused
    fn hand_over(
        self: &Arc<Self>,
        local: Local,
        connect: Box<Connect>,
    ) -> Result<(), (Local, ReasonCode)> {
        let mut assigned = None;
        let client_id: Arc<str> = if connect.client_id.is_empty() {
            let number: u64 = rand::rng().random();
            let name = format!("auto-{number:016x}");
            assigned = MqttString::new(name.as_str()).ok();
            name.into()
        } else {
            connect.client_id.as_str().into()
        };
        let mut arrival = Arrival {
            local,
            connect,
            assigned,
        };
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get(&client_id) {
            arrival = match session.try_send(arrival) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(arrival)) => {
                    return Err((arrival.local, ReasonCode::ServerBusy));
                }
                // Its task is gone; it should have said so.
                Err(mpsc::error::TrySendError::Closed(arrival)) => arrival,
            };
        } else if sessions.len() >= self.max_clients {
            return Err((arrival.local, ReasonCode::ServerBusy));
        }
        let name = format!("{}-{client_id}", self.device);
        let Ok(name) = MqttString::new(name) else {
            return Err((arrival.local, ReasonCode::ClientIdentifierNotValid));
        };
        let Some(alive) = self.alive.lock().clone() else {
            return Err((arrival.local, ReasonCode::ServerShuttingDown));
        };
        let mut dialler = self.dialler.clone();
        dialler.mqtt.connect.client_id = name;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        if let Err(error) = sender.try_send(arrival) {
            let (mpsc::error::TrySendError::Full(arrival)
            | mpsc::error::TrySendError::Closed(arrival)) = error;
            return Err((arrival.local, ReasonCode::ServerBusy));
        }
        sessions.insert(Arc::clone(&client_id), sender);
        let session = Session::new(Arc::clone(self), client_id, dialler, arrivals);
        tokio::spawn(async move {
            session.run().await;
            drop(alive);
        });
        Ok(())
    }

    /// How to connect with the certificate that there is now.
    fn tls(&self) -> Arc<rustls::ClientConfig> {
        let identity = self.client.identity();
        let mut tls = self.tls.lock();
        if !Arc::ptr_eq(&tls.0, &identity) {
            match crate::credentials::tls(&identity, &self.dialler.address) {
                Ok(renewed) => *tls = (identity, renewed),
                Err(error) => tracing::warn!(%error, "the renewed certificate can not be used"),
            }
        }
        Arc::clone(&tls.1)
    }

    /// A session ends, unless a client has just come for it.
    fn leave(&self, client_id: &str, arrivals: &mut mpsc::Receiver<Arrival>) -> bool {
        let mut sessions = self.sessions.lock();
        if !arrivals.is_empty() && !*self.stop.borrow() {
            return false;
        }
        sessions.remove(client_id);
        true
    }
}
