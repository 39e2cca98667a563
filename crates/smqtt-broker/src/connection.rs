//! One client's connection: its socket, and what the protocol says about it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use smqtt_proto::packet::Connect;
use smqtt_proto::{Traffic, server};
use tokio::task::AbortHandle;

use crate::access::Verdicts;
use crate::peer::Peer;
use crate::seat::{Handshake, Seat};
use crate::session::SessionRef;
use crate::share::Shares;
use crate::shared::{Admission, ListenerState};
use crate::store::ConnectionRef;
use crate::transport::Transport;

/// A connection. Touched by its worker only.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    pub(crate) protocol: server::Connection,
    pub(crate) listener: Arc<ListenerState>,
    /// Whom logs, limits and rules see: the client, also where a proxy stands between.
    pub(crate) peer: Peer,
    pub(crate) seat: Seat,
    /// While something has yet to happen before MQTT can be spoken.
    pub(crate) handshake: Option<Handshake>,
    pub(crate) phase: Phase,
    /// The session that it has taken up.
    pub(crate) session: Option<SessionRef>,
    /// Which of what is in flight came by shared subscriptions; the session's between connections.
    pub(crate) shares: Shares,
    /// When its client's certificate expires, if it is to end then.
    pub(crate) expires: Option<Instant>,
    /// Its CONNECT, while the password in it is verified.
    pub(crate) checking: Option<Box<Checking>>,
    /// Tells it from others that have had, or will have, its place.
    pub(crate) serial: u64,
    /// Its CONNECT, while what must come before the answer is being committed.
    pub(crate) parked: Option<Box<Admission>>,
    /// What its client may do, as far as it was asked.
    pub(crate) verdicts: Verdicts,
    /// Wakes the task of this connection.
    pub(crate) waker: Option<Waker>,
    /// Ends the task of this connection.
    pub(crate) task: Option<AbortHandle>,
    /// Whether it stands in the worker's list of connections to flush.
    pub(crate) touched: bool,
    /// The socket was full: the task waits until it takes bytes again.
    pub(crate) want_write: bool,
    /// Where its entry in the timers stands.
    pub(crate) timer: Option<Instant>,
    /// What has been added to the listener's counters.
    pub(crate) counted: Traffic,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// What its buffers held when that was last charged.
    pub(crate) charged: usize,
    /// When it was accepted, or handed over.
    pub(crate) since: Instant,
}

/// A CONNECT that waits for its password to be verified.
#[derive(Debug)]
pub(crate) struct Checking {
    pub(crate) connect: Box<Connect>,
    /// Tells this wait from others; gone when nobody waits any more.
    pub(crate) ticket: Arc<()>,
    pub(crate) verified: Option<bool>,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Bytes go both ways.
    Open,
    /// The protocol has ended. The last bytes go out; then the sending direction is shut, and what
    /// still comes is discarded, so that the peer gets to read the last packet rather than a reset.
    Closing { until: Instant, shut: bool },
    /// Nothing more can be done with the socket.
    Dead,
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        protocol: server::Connection,
        listener: Arc<ListenerState>,
        peer: Peer,
        seat: Seat,
    ) -> Self {
        Connection {
            transport,
            protocol,
            listener,
            peer,
            seat,
            handshake: None,
            phase: Phase::Open,
            session: None,
            shares: Shares::default(),
            expires: None,
            checking: None,
            serial: 0,
            parked: None,
            verdicts: Verdicts::default(),
            waker: None,
            task: None,
            touched: false,
            want_write: false,
            timer: None,
            counted: Traffic::default(),
            bytes_received: 0,
            bytes_sent: 0,
            charged: 0,
            since: Instant::now(),
        }
    }

    /// Its name, where it stands in this place.
    pub(crate) fn reference(&self, slot: usize) -> ConnectionRef {
        ConnectionRef {
            slot,
            serial: self.serial,
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// When the timers should look at this connection.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => self
                .protocol
                .poll_timeout()
                .into_iter()
                .chain(self.expires)
                .min(),
            Phase::Closing { until, .. } => Some(until),
            Phase::Dead => None,
        }
    }
}
