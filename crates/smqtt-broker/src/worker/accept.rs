//! Accepting connections: who is let in at all, and what lies between its socket and MQTT.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smqtt_proto::server;

use super::run::{Handle, spawn_connection};
use super::{Pass, Worker};
use crate::connection::Connection;
use crate::counters::Refusal;
use crate::memory::Pressure;
use crate::peer::Peer;
use crate::seat::{Handshake, Seat};
use crate::shared::ListenerState;
use crate::socket::{Acceptor, Socket};
use crate::transport::{Layers, Transport};

/// How often a connection that waits for `limits.handshakes` looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a handshake may take before it can be ended for one that waits.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

impl Worker {
    /// Takes a freshly accepted connection, unless its listener or a limit says otherwise. Returns
    /// its place.
    fn accept(
        &mut self,
        socket: Socket,
        peer: Peer,
        listener: &Arc<ListenerState>,
    ) -> Option<usize> {
        if self.stopping {
            return None;
        }
        let (current, now) = (self.current.clone(), Instant::now());
        let settings = &current.config.listeners[listener.index];
        let proxies = &settings.proxy_from;
        if !proxies.is_empty() && !peer.is_one_of(proxies) {
            let why = "refused a connection: it is from none of the proxies in proxy_from";
            self.refuse(peer, listener, Refusal::Proxy, why);
            return None;
        }
        // Behind a proxy, its address says nothing about who connects.
        let held_to_rate = proxies.is_empty().then(|| peer.ip()).flatten();
        if let Some(ip) = held_to_rate
            && !self
                .shared
                .connect_rate
                .admit(ip, now, &current.config.limits)
        {
            let why = "refused a connection: its address connects more often than limits.connect_rate_per_address";
            self.refuse(peer, listener, Refusal::Rate, why);
            return None;
        }
        if self.pressure_now() == Pressure::Full {
            let why = "refused a connection: limits.memory_bytes are used up";
            self.refuse(peer, listener, Refusal::Memory, why);
            return None;
        }
        let seat = match Seat::take(
            &self.shared.connections,
            current.config.limits.connections,
            listener,
            settings.max_connections,
        ) {
            Ok(seat) => seat,
            Err(limit) => {
                let why = format!("refused a connection: {limit} are open");
                self.refuse(peer, listener, Refusal::Connections, &why);
                return None;
            }
        };
        let rules = &current.listeners[listener.index];
        let mut layers = Layers::default();
        if !proxies.is_empty() {
            layers = layers.with_proxy();
        }
        if let Some(tls) = &rules.tls {
            match rustls::ServerConnection::new(tls.config.clone()) {
                Ok(state) => layers = layers.with_tls(state),
                Err(error) => {
                    tracing::error!(%error, "cannot begin a TLS handshake");
                    return None;
                }
            }
        }
        if let Some(web) = &rules.web {
            layers = layers.with_websocket(web.clone());
        }
        let transport = Transport::new(socket, layers);
        let handshake = transport
            .is_handshaking()
            .then(|| Handshake::begin(&self.shared.handshakes, now));
        let protocol = server::Connection::new(rules.protocol.clone(), now);
        self.counters().connections_accepted.add(1);
        self.counters().listeners[listener.index].accepted.add(1);
        let mut connection = Connection::new(transport, protocol, listener.clone(), peer, seat);
        connection.handshake = handshake;
        Some(self.insert(connection))
    }

    fn refuse(&mut self, peer: Peer, listener: &ListenerState, cause: Refusal, why: &str) {
        self.counters().refused(cause);
        self.log_peer(
            peer,
            cause.code(),
            &format!("{why}; listener {}", listener.name),
        );
    }

    /// Whether a connection to this listener may begin now to shake hands.
    fn has_room_for_handshake(&self, listener: &ListenerState) -> bool {
        let rules = &self.current.listeners[listener.index];
        let settings = &self.current.config.listeners[listener.index];
        let shakes_hands =
            rules.tls.is_some() || rules.web.is_some() || !settings.proxy_from.is_empty();
        !shakes_hands
            || self.shared.handshakes.load(Ordering::Relaxed)
                < self.current.config.limits.handshakes
    }

    /// Ends handshakes that had their time, those that have taken the longest: whoever connects and
    /// is silent does not keep others out.
    fn end_slow_handshakes(&mut self) {
        let mut slow: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(slot, connection)| Some((connection.handshake.as_ref()?.since, slot)))
            .filter(|(since, _)| since.elapsed() >= HANDSHAKE_GRACE)
            .collect();
        slow.sort_unstable();
        // Some at once, so that not every connection that comes looks through them all.
        slow.truncate(slow.len().div_ceil(8));
        let shared = self.shared.clone();
        let mut pass = Pass::new(&shared);
        for (_, slot) in slow {
            let peer = self.connections[slot].peer;
            self.counters().peer_errors.add(1);
            self.log_peer(
                peer,
                "handshake-limit",
                "closed a connection: limits.handshakes are in progress, and it is one of the slowest",
            );
            self.connections[slot].handshake = None;
            self.lose(slot, &mut pass);
        }
    }
}

/// Accepts until the worker stops.
pub(super) async fn accept_connections(
    worker: Handle,
    acceptor: Acceptor,
    listener: Arc<ListenerState>,
) {
    loop {
        match acceptor.accept().await {
            Ok((socket, peer)) => {
                wait_for_handshakes(&worker, &listener).await;
                let slot = worker.with(|worker| worker.accept(socket, peer, &listener));
                if let Some(slot) = slot.flatten() {
                    spawn_connection(&worker, slot);
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets some connection end.
                let admitted =
                    worker.with(|worker| worker.log_limit.admit("accept", Instant::now()));
                if let Some(suppressed) = admitted.flatten() {
                    tracing::error!(%error, suppressed, listener = %listener.name, "cannot accept a connection");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits until there is room for one more handshake. Those behind wait in the system's backlog.
async fn wait_for_handshakes(worker: &Handle, listener: &ListenerState) {
    let has_room = || worker.with(|worker| worker.has_room_for_handshake(listener));
    while has_room() == Some(false) {
        worker.with(Worker::end_slow_handshakes);
        if has_room() != Some(false) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
