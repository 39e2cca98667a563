//! What the worker does once something is committed, or was read from the store.

use std::sync::Arc;

use smqtt_proto::{Message, QoS};

use crate::connection::{Connection, Phase};
use crate::counters::DropCause;
use crate::memory;
use crate::restore::Restored;
use crate::store::{ConnectionRef, Load, Settlement};
use crate::worker::timers::Timer;
use crate::worker::{Pass, Worker};

impl Worker {
    /// Does what waited for a commit.
    pub(in crate::worker) fn on_settled(
        &mut self,
        settlements: Vec<Settlement>,
        pass: &mut Pass<'_>,
    ) {
        for settlement in settlements {
            self.settle_one(settlement, pass);
        }
    }

    fn settle_one(&mut self, settlement: Settlement, pass: &mut Pass<'_>) {
        match settlement {
            Settlement::Acknowledge {
                connection,
                session,
                packet_id,
                qos,
                reason,
            } => {
                let mut slot = self.place_of(connection);
                if slot.is_none() && qos == QoS::ExactlyOnce {
                    // The client repeats a QoS 2 message on its next connection.
                    let Some(session) = self.sessions.get_mut(session) else {
                        return;
                    };
                    slot = session.connection;
                    if slot.is_none() {
                        session.in_flight.acknowledge(packet_id);
                    }
                }
                if let Some(slot) = slot {
                    let stalled = !self.connections[slot].protocol.wants_input();
                    self.acknowledge(slot, packet_id, reason);
                    self.touch(slot);
                    if stalled {
                        self.connections[slot].wake();
                    }
                }
            }
            Settlement::Connect(connection) => {
                if let Some(slot) = self.place_of(connection)
                    && let Some(admission) = self.connections[slot].parked.take()
                    && self.connections[slot].phase == Phase::Open
                    && !self.connections[slot].protocol.is_closed()
                {
                    self.open_session(slot, *admission, pass);
                    self.touch(slot);
                    self.arm(slot);
                    // What came behind the CONNECT.
                    self.connections[slot].wake();
                }
            }
            Settlement::Ready(session) => {
                if let Some(slot) = self
                    .sessions
                    .get(session)
                    .and_then(|session| session.connection)
                {
                    self.touch(slot);
                }
            }
            Settlement::SubAck(connection, suback) => {
                self.answer(connection, |c| c.protocol.suback(*suback));
            }
            Settlement::UnsubAck(connection, unsuback) => {
                self.answer(connection, |c| c.protocol.unsuback(*unsuback));
            }
            Settlement::Send(connection, packet_id) => {
                let now = pass.now;
                if let Some(slot) = self.place_of(connection)
                    && let Some(durable) = self.durable_of(slot)
                {
                    durable.prepared = durable.prepared.saturating_sub(1);
                }
                self.answer(connection, |c| {
                    c.protocol.send_prepared(now, packet_id);
                    // It may have become undeliverable, which is an event.
                    c.wake();
                });
            }
            Settlement::Release(connection, packet_id) => {
                self.answer(connection, |c| c.protocol.release(packet_id));
            }
            Settlement::Complete(connection, packet_id) => {
                self.answer(connection, |c| c.protocol.complete(packet_id));
            }
        }
    }

    /// The place of a connection, if that is still there.
    fn place_of(&self, connection: ConnectionRef) -> Option<usize> {
        let at = self.connections.get(connection.slot)?;
        (at.serial == connection.serial).then_some(connection.slot)
    }

    fn answer(&mut self, connection: ConnectionRef, answer: impl FnOnce(&mut Connection)) {
        if let Some(slot) = self.place_of(connection) {
            answer(&mut self.connections[slot]);
            self.touch(slot);
        }
    }

    /// Puts messages into a queue that were read from the store for it.
    pub(in crate::worker) fn on_loaded(&mut self, load: Load, messages: Vec<Option<Message>>) {
        let Some(session) = self.sessions.get_mut(load.session) else {
            return;
        };
        let Some(durable) = session.durable.as_mut() else {
            return;
        };
        durable.loading = false;
        let connection = session.connection;
        for ((place, _), message) in load.wanted.into_iter().zip(messages) {
            match message {
                Some(message) if connection.is_some() => {
                    let message = Arc::new(message.detach_into(memory::charge));
                    if let Some(session) = self.sessions.get_mut(load.session) {
                        session.queue.page_in(place, message);
                    }
                }
                Some(_) => {}
                None => {
                    self.lost(load.session, DropCause::StoreDamaged, 1);
                    let gone = self
                        .sessions
                        .get_mut(load.session)
                        .and_then(|session| session.queue.take_place(place));
                    if let Some(place) = gone {
                        self.note_done(load.session, place.number, Some(place.kept));
                    }
                }
            }
        }
        if let Some(slot) = connection {
            self.touch(slot);
        }
    }

    /// Takes up what was in the store.
    pub(in crate::worker) fn take_restored(&mut self, restored: Restored) {
        self.sessions = restored.sessions;
        self.account.messages += restored.charged;
        let mut timers = Vec::new();
        let (mut sessions, mut subscriptions) = (0, 0);
        for session in self.sessions.iter() {
            sessions += 1;
            subscriptions += session.subscriptions.len() as u64;
            let reference = session.reference;
            timers.extend(session.will_at.map(|at| (at, Timer::Will(reference))));
            timers.extend(session.ends_at.map(|at| (at, Timer::SessionEnd(reference))));
        }
        self.counters().sessions.add(sessions);
        self.counters().subscriptions.add(subscriptions);
        for (at, timer) in timers {
            self.timers.set(at, timer);
        }
        for reference in restored.changed {
            self.note_session(reference);
        }
    }
}
