//! What a worker tells others about itself: its sessions, its losses, and that it moves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::timers::Timer;
use super::{Pass, Worker};
use crate::admin::clients::{ClientReport, Inspection, Page};
use crate::counters::DropCause;
use crate::hosts::move_workers;
use crate::session::{SessionRef, is_roomy};
use crate::trie::Trie;

/// Places looked at for one page, so that a sparse table costs no more than a full one.
const LOOK_AT: usize = 4_096;

impl Worker {
    /// Adds what a connection has carried since the last time to its listener's counters.
    pub(super) fn settle(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let now = connection.protocol.traffic();
        let before = std::mem::replace(&mut connection.counted, now);
        let counters = &self.shared.counters[self.index].listeners[connection.listener.index];
        counters
            .packets_received
            .add(now.packets_received - before.packets_received);
        counters
            .packets_sent
            .add(now.packets_sent - before.packets_sent);
        counters
            .publishes_received
            .add(now.publishes_received - before.publishes_received);
        counters
            .publishes_sent
            .add(now.publishes_sent - before.publishes_sent);
    }

    /// Once a second: shows that this worker moves, and logs what was dropped without a line of its
    /// own.
    pub(super) fn on_tick(&mut self, pass: &mut Pass<'_>) {
        let up = pass.now.saturating_duration_since(self.shared.started);
        self.counters().alive_at.set(up.as_secs());
        self.weigh(pass.now);
        if self.index == 0 && pass.shared.hosts.have_too_little(pass.now) {
            move_workers(pass.shared, false);
        }
        self.log_drops(pass);
        self.shrink(pass);
        self.set_timer(pass.now + Duration::from_secs(1), Timer::Tick);
    }

    /// Gives back the memory of a crowd of clients that has gone.
    fn shrink(&mut self, pass: &mut Pass<'_>) {
        self.sessions.shrink();
        if is_roomy(self.connections.len(), self.connections.capacity()) {
            self.connections.shrink_to_fit();
        }
        if self.index != 0 {
            return;
        }
        self.shared.directory.shrink();
        // Others wait for the trie meanwhile: once nobody has changed it for a second, and once only.
        let version = self.shared.trie_version.load(Ordering::Acquire);
        if version != std::mem::replace(&mut self.trie_seen, version)
            || version == self.trie_shrunk
            || !pass.trie().is_roomy()
        {
            return;
        }
        self.trie_shrunk = version;
        pass.change_trie(Trie::shrink);
    }

    /// Logs each cause for which messages were dropped, at most once a second over all workers.
    fn log_drops(&mut self, pass: &Pass<'_>) {
        for cause in DropCause::ALL {
            let own = self.counters().drops(*cause);
            if own == self.drops_logged[*cause as usize] {
                continue;
            }
            let dropped = self.shared.sum(|counters| counters.drops(*cause));
            let admitted = self.shared.drop_log.lock().admit(*cause, dropped, pass.now);
            let Some(messages) = admitted else {
                continue;
            };
            self.drops_logged[*cause as usize] = own;
            let loser = self.losers[*cause as usize].take();
            let client_id = loser.as_deref().map(|id| id.escape_debug().to_string());
            tracing::warn!(
                cause = cause.code(),
                messages,
                client_id,
                "dropped messages"
            );
        }
    }

    /// Counts messages that a session lost.
    pub(super) fn lost(&mut self, session: SessionRef, cause: DropCause, messages: u64) {
        self.counters().dropped(cause, messages);
        if messages > 0
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.losses.add(cause, messages);
            let loser = &mut self.losers[cause as usize];
            if loser.is_none() {
                *loser = Some(session.client_id.clone());
            }
        }
    }

    /// Answers with one page of this worker's sessions.
    pub(super) fn inspect(&self, inspection: Inspection) {
        let end = self
            .sessions
            .places()
            .min(inspection.from.saturating_add(LOOK_AT));
        let mut clients = Vec::new();
        let mut place = inspection.from;
        while place < end && clients.len() < inspection.limit {
            if let Some(session) = self.sessions.at(place)
                && inspection
                    .client_id
                    .as_deref()
                    .is_none_or(|wanted| *wanted == *session.client_id)
            {
                clients.push(self.report(session));
            }
            place += 1;
        }
        let next = (place < self.sessions.places()).then_some(place);
        // Whoever asked may have gone.
        let _ = inspection.reply.send(Page { clients, next });
    }

    fn report(&self, session: &crate::session::Session) -> ClientReport {
        let connection = session
            .connection
            .and_then(|slot| self.connections.get(slot));
        let traffic = connection.map(|c| c.protocol.traffic()).unwrap_or_default();
        ClientReport {
            client_id: session.client_id.to_string(),
            identity: session.admitted.identity.to_string(),
            connected: connection.is_some(),
            peer: connection.map(|c| c.peer.to_string()),
            listener: connection.map(|c| c.listener.name.clone()),
            protocol: connection
                .and_then(|c| c.protocol.version())
                .map(|version| version.to_string()),
            connected_seconds: connection.map(|c| c.since.elapsed().as_secs()),
            worker: self.index,
            subscriptions: session.subscriptions.len(),
            queued_messages: session.queue.len(),
            queued_bytes: session.queue.bytes(),
            in_flight: connection.map_or(session.in_flight.in_flight(), |c| {
                c.protocol.session().in_flight()
            }),
            packets_received: traffic.packets_received,
            packets_sent: traffic.packets_sent,
            messages_received: traffic.publishes_received,
            messages_sent: traffic.publishes_sent,
            bytes_received: connection.map_or(0, |c| c.bytes_received),
            bytes_sent: connection.map_or(0, |c| c.bytes_sent),
            dropped: session
                .losses
                .iter()
                .map(|(cause, count)| (cause.code(), count))
                .collect(),
        }
    }
}
