//! A worker's part in the memory budget.

use std::time::Instant;

use smqtt_proto::packet::Publish;
use smqtt_proto::{PacketId, ReasonCode};

use super::{Pass, Worker};
use crate::connection::Phase;
use crate::memory::{CONNECTION, Pressure, SESSION, SUBSCRIPTION};

/// A packet of which so much has arrived is not waited for when the budget is used up.
const LARGE_INPUT: usize = 64 * 1024;

impl Worker {
    /// Charges what a connection's buffers hold now.
    pub(super) fn charge(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot) {
            let protocol = &mut connection.protocol;
            let held = protocol.undecoded() + protocol.outbox().len();
            self.account.buffers += held as i64 - connection.charged as i64;
            connection.charged = held;
        }
    }

    /// The same after a read, which may be of a packet that is far from complete.
    pub(super) fn charge_input(&mut self, slot: usize, pass: &mut Pass<'_>) {
        self.charge(slot);
        if self.pressure < Pressure::Critical {
            return;
        }
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.phase == Phase::Open && connection.protocol.undecoded() > LARGE_INPUT {
            let peer = connection.peer;
            self.counters().peer_errors.add(1);
            self.log_peer(
                peer,
                "memory",
                "closed a connection: limits.memory_bytes are used up, and it sends a large packet",
            );
            self.disconnect(slot, ReasonCode::QuotaExceeded, pass);
        }
    }

    /// Why no session can be opened now, with the kind of that event. A session that exists is always
    /// resumed: its client comes for what waits in it, which is how room comes back.
    pub(super) fn no_room_for_a_session(&self) -> Option<(&'static str, &'static str)> {
        if self.pressure_now() >= Pressure::Critical {
            return Some(("memory", "limits.memory_bytes are used up"));
        }
        let sessions = self.shared.sum(|counters| counters.sessions.get());
        (sessions >= self.current.config.limits.sessions as u64)
            .then_some(("session-limit", "limits.sessions are open"))
    }

    /// How full the budget is at this moment, also for a worker that had nothing to do for a while.
    pub(super) fn pressure_now(&self) -> Pressure {
        let used = self.shared.memory_used();
        Pressure::of(used, self.current.memory, self.pressure)
    }

    /// Publishes this worker's account, and looks at the sum of all if it may have changed.
    pub(super) fn weigh(&mut self, now: Instant) {
        let balance = self.account.balance();
        let counters = &self.shared.counters[self.index];
        let things = counters.connections.get() as i64 * CONNECTION
            + counters.sessions.get() as i64 * SESSION
            + counters.subscriptions.get() as i64 * SUBSCRIPTION;
        counters.memory.set((balance + things) as u64);
        if !self.account.is_time(balance, now) {
            return;
        }
        let used = self.shared.memory_used();
        let before = self.pressure;
        self.pressure = Pressure::of(used, self.current.memory, before);
        if before != self.pressure && self.index == 0 {
            let budget = self.current.memory;
            let consequence = self.pressure.consequence();
            match self.pressure {
                Pressure::None => tracing::info!(used, budget, "memory budget: {consequence}"),
                _ => tracing::warn!(used, budget, "memory budget: {consequence}"),
            }
        }
    }

    /// Whether a publication was refused because it would have to be kept: an MQTT 5 client is told,
    /// an MQTT 3.1.1 client is disconnected, so that it still has what was not taken.
    pub(super) fn refuses_for_memory(
        &mut self,
        slot: usize,
        publish: &Publish,
        pass: &mut Pass<'_>,
    ) -> bool {
        let Some(packet_id) = publish.packet_id else {
            return false;
        };
        if self.pressure < Pressure::Critical {
            return false;
        }
        let why = "closed a connection: limits.memory_bytes are used up, and it publishes";
        self.refuse_for_quota(slot, packet_id, ("memory", why), pass);
        true
    }

    /// Refuses a publication that there is no room for. MQTT 3.1.1 has no word for that: its client is
    /// disconnected, which is logged as `kind` and `why`.
    pub(super) fn refuse_for_quota(
        &mut self,
        slot: usize,
        packet_id: PacketId,
        (kind, why): (&'static str, &str),
        pass: &mut Pass<'_>,
    ) {
        self.counters().publish_refused.add(1);
        if self.is_v5(slot) {
            self.connections[slot]
                .protocol
                .acknowledge(packet_id, ReasonCode::QuotaExceeded);
        } else {
            let peer = self.connections[slot].peer;
            self.log_peer(peer, kind, why);
            self.connections[slot].protocol.withdraw(packet_id);
            self.disconnect(slot, ReasonCode::QuotaExceeded, pass);
        }
    }
}
