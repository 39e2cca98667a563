//! One local client's session: its own connection to the broker, and everything in between.
//!
//! One task owns it. In each turn it handles what has come from either side, hands over what can go to the
//! other, and waits for the next thing to happen.

mod broker;
mod device;
mod messages;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smqtt_envelope::Opener;
use smqtt_proto::packet::{Connect, Will};
use smqtt_proto::{MqttString, ReasonCode, Session as InFlight};
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::downward::Downward;
use super::local::Local;
use super::requests::Requests;
use super::upward::Upward;
use crate::connection::link::{Dialler, Link, Moved, Opened};
use crate::credentials::Credentials;
use crate::inbox::Receipt;
use crate::{Error, Identity, clock};

/// How long what a client left behind is tried to be sent once it has gone.
const GRACE: Duration = Duration::from_secs(10);
/// How long the broker may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the broker keeps the session of a client whose connection broke, at least, in seconds.
const SESSION_EXPIRY: u32 = 300;
/// How long a local client may take nothing while so much waits for it that the broker is not read.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the keys that one local client's opener holds.
const KEY_BYTES: usize = 8 << 20;

/// A local client that has said CONNECT.
pub(super) struct Arrival {
    pub(super) local: Local,
    pub(super) connect: Box<Connect>,
    /// The identifier that the gateway chose for it.
    pub(super) assigned: Option<MqttString>,
}

/// The connection to the broker.
enum Upstream {
    /// Not wanted.
    Idle(InFlight),
    /// To be tried again.
    Waiting(InFlight, Instant),
    Dialling(Pin<Box<dyn Future<Output = Dialled> + Send>>),
    Up(Box<Link>),
}

struct Dialled {
    result: Result<Opened, Error>,
    session: InFlight,
}

/// A local client that waits for the broker to let it in.
struct Admission {
    clean_start: bool,
    assigned: Option<MqttString>,
}

pub(super) struct Session {
    shared: Arc<Shared>,
    client_id: Arc<str>,
    arrivals: mpsc::Receiver<Arrival>,

    local: Option<Local>,
    /// Local connections so far.
    local_number: u64,
    /// What is in flight to and from a local client that is away.
    local_session: InFlight,
    admission: Option<Admission>,
    /// For how many seconds the session outlives its connection.
    expiry: u32,
    ends_at: Option<Instant>,
    will: Option<Will>,
    will_at: Option<Instant>,
    /// Until when what it left behind is tried to be sent.
    leave_by: Option<Instant>,

    dialler: Dialler,
    upstream: Upstream,
    /// Connections to the broker so far.
    upstream_number: u64,
    attempt: u32,

    upward: Upward,
    downward: Downward,
    requests: Requests,
    opener: Option<Opener>,
    /// What the gateway acts under, and the identity whose keys the opener has.
    credentials: watch::Receiver<Arc<Credentials>>,
    identity: Arc<Identity>,
    owed: Vec<Receipt>,
    /// Since when too much waits for the local client.
    stuck_since: Option<Instant>,
    stopping: bool,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        client_id: Arc<str>,
        dialler: Dialler,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Self {
        let mut credentials = shared.client.follow_credentials();
        let identity = Arc::clone(&credentials.borrow_and_update().identity);
        Self {
            credentials,
            identity,
            shared,
            client_id,
            arrivals,
            local: None,
            local_number: 0,
            local_session: InFlight::new(),
            admission: None,
            expiry: 0,
            ends_at: None,
            will: None,
            will_at: None,
            leave_by: None,
            dialler,
            upstream: Upstream::Idle(InFlight::new()),
            upstream_number: 0,
            attempt: 0,
            upward: Upward::default(),
            downward: Downward::default(),
            requests: Requests::default(),
            opener: None,
            owed: Vec::new(),
            stuck_since: None,
            stopping: false,
        }
    }

    /// Serves until the session has ended.
    pub(super) async fn run(mut self) {
        let mut stop = self.shared.stop.subscribe();
        loop {
            self.turn().await;
            if self.is_over() && self.shared.leave(&self.client_id, &mut self.arrivals) {
                return;
            }
            let wake = self.wake();
            let frame = self.upward.waits_for();
            let read_local = self.takes_events();
            let read_upstream = self.stuck_since.is_none();
            tokio::select! {
                arrival = self.arrivals.recv(), if !self.stopping => {
                    if let Some(arrival) = arrival {
                        self.arrive(arrival).await;
                    }
                }
                moved = progress(self.local.as_mut(), read_local) => match moved {
                    Ok(Moved::Bytes) => {}
                    Ok(Moved::EndOfStream) | Err(_) => {
                        if let Some(local) = &mut self.local {
                            local.mqtt.handle_end_of_stream();
                        }
                    }
                },
                news = self.upstream.news(read_upstream) => match news {
                    News::Moved(Ok(Moved::Bytes)) => {}
                    News::Moved(Ok(Moved::EndOfStream)) => self.upstream.end_of_stream(),
                    News::Moved(Err(error)) => self.lose_upstream(&error.to_string()).await,
                    News::Dialled(dialled) => self.dialled(*dialled),
                },
                () = acknowledged(frame) => {}
                () = changed(&mut self.credentials) => self.renewed(),
                () = crate::connection::sleep_until(wake) => self.handle_timeout(),
                () = told_to_stop(&mut stop), if !self.stopping => self.stop(),
            }
        }
    }

    /// Handles everything that is there, on both sides.
    async fn turn(&mut self) {
        // What one side is rid of may let the other go on with what was read long ago.
        loop {
            let local = self.handle_local();
            let upstream = match self.handle_upstream() {
                Ok(handled) => handled,
                Err(reason) => {
                    self.lose_upstream(&reason).await;
                    true
                }
            };
            self.pump();
            if !local && !upstream {
                break;
            }
        }
        if self.local.is_some() && self.downward.is_full() {
            self.stuck_since.get_or_insert_with(Instant::now);
        } else {
            self.stuck_since = None;
        }
        let open = matches!(self.upstream, Upstream::Waiting(..) | Upstream::Up(_));
        if open && !self.wants_upstream() {
            self.close_upstream().await;
        }
        if self.wants_upstream() && matches!(self.upstream, Upstream::Idle(_)) {
            self.dial();
        }
    }

    /// When to look again, whatever happens until then.
    fn wake(&self) -> Option<Instant> {
        let local = self
            .local
            .as_ref()
            .and_then(|local| local.mqtt.poll_timeout());
        let upstream = match &self.upstream {
            Upstream::Waiting(_, at) => Some(*at),
            Upstream::Up(link) => link.mqtt.poll_timeout(),
            Upstream::Idle(_) | Upstream::Dialling(_) => None,
        };
        let opener = self
            .opener
            .as_ref()
            .and_then(Opener::poll_timeout)
            .map(|at| {
                let left = at.as_secs().saturating_sub(clock::now().as_secs());
                // The opener counts in whole seconds.
                Instant::now() + Duration::from_secs(left.max(1))
            });
        let absent = if self.local.is_none() {
            [
                self.ends_at,
                self.will_at,
                self.leave_by.filter(|_| !self.upward.is_settled()),
            ]
        } else {
            [None; 3]
        };
        let stuck = self.stuck_since.map(|since| since + PATIENCE);
        let all = [local, upstream, opener, stuck].into_iter().chain(absent);
        all.flatten().min()
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if let Some(local) = &mut self.local {
            local.mqtt.handle_timeout(now);
        }
        if let Upstream::Up(link) = &mut self.upstream {
            link.mqtt.handle_timeout(now);
        }
        if let Upstream::Waiting(_, at) = &self.upstream
            && *at <= now
        {
            self.dial();
        }
        if let Some(opener) = &mut self.opener {
            opener.handle_timeout(clock::now());
            self.handle_verdicts();
        }
        if self
            .stuck_since
            .is_some_and(|since| since + PATIENCE <= now)
        {
            if let Some(suppressed) = self.shared.account.admit("slow") {
                tracing::warn!(
                    client = %self.client_id.escape_debug(),
                    suppressed,
                    "ended a local connection: the client does not take what is sent to it"
                );
            }
            self.end_local(ReasonCode::QuotaExceeded);
        }
        if self.will_at.is_some_and(|at| at <= now) {
            self.publish_will();
        }
        if self.leave_by.is_some_and(|by| by <= now) {
            self.leave_by = None;
        }
    }

    /// The gateway ends: for its clients that is a connection that broke.
    fn stop(&mut self) {
        self.stopping = true;
        self.end_local(ReasonCode::ServerShuttingDown);
    }

    fn is_over(&self) -> bool {
        let away = self.local.is_none() && matches!(self.upstream, Upstream::Idle(_));
        let ended = || {
            let will = self.will.is_some();
            self.expiry == 0 && !will || self.ends_at.is_some_and(|at| at <= Instant::now())
        };
        away && !self.wants_upstream() && (self.stopping || ended())
    }
}

/// What has happened on the way to the broker.
enum News {
    Moved(std::io::Result<Moved>),
    Dialled(Box<Dialled>),
}

impl Upstream {
    /// May be dropped at any time.
    async fn news(&mut self, read: bool) -> News {
        match self {
            Upstream::Idle(_) | Upstream::Waiting(..) => std::future::pending().await,
            Upstream::Dialling(dialling) => News::Dialled(Box::new(dialling.await)),
            Upstream::Up(link) => News::Moved(link.progress(read).await),
        }
    }

    fn end_of_stream(&mut self) {
        if let Upstream::Up(link) = self {
            link.mqtt.handle_end_of_stream();
        }
    }
}

async fn progress(local: Option<&mut Local>, read: bool) -> std::io::Result<Moved> {
    match local {
        Some(local) => local.progress(read).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the gateway acts under something new.
async fn changed(credentials: &mut watch::Receiver<Arc<Credentials>>) {
    if credentials.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as this session.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Resolves when the broker has the key frame, or never will.
async fn acknowledged(frame: Option<super::seals::Announced>) {
    match frame {
        Some(mut frame) => {
            let _ = frame.wait_for(Option::is_some).await;
        }
        None => std::future::pending().await,
    }
}
