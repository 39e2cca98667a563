//! Writing: what was touched in a pass goes out at its end.

use smqtt_proto::{Delivery, PublishError, QoS};

use super::durable::KeptPump;
use super::share::{note_presence, note_sent};
use super::{Pass, Worker};
use crate::connection::{Connection, Phase};
use crate::counters::{Counters, DropCause, Losses};
use crate::hosts::move_workers;
use crate::session::Session;

/// Retained messages for a persistent session wait in its queue, so many at a time.
const RETAINED_AHEAD: usize = 64;

/// Times that one connection's output is refilled and written in a row before others have their
/// turn.
const REFILLS: usize = 8;

impl Worker {
    /// Notes that a connection has something to write, or may take something from its session.
    pub(super) fn touch(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if !connection.touched {
            connection.touched = true;
            self.touched.push(slot);
            if self.touched.len() == 1 {
                self.wake_flusher();
            }
        }
    }

    /// Writes every touched connection once and posts every outbox once: the end of a pass.
    pub(super) fn flush_touched(&mut self) {
        let shared = self.shared.clone();
        let mut pass = Pass::new(&shared);
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            if let Some(connection) = self.connections.get_mut(slot)
                && std::mem::take(&mut connection.touched)
            {
                self.flush(slot, &mut pass);
                self.settle(slot);
                self.charge(slot);
            }
        }
        // Connections with more to send than their turn allows, or wills of connections that broke.
        if self.touched.is_empty() {
            self.touched = touched;
        } else {
            self.wake_flusher();
        }
        self.weigh(pass.now);
        if shared.hosts.has_too_much(pass.now) {
            move_workers(&shared, true);
        }
        for (worker, posting) in self.outboxes.iter_mut().enumerate() {
            if !posting.mail.is_empty() {
                shared.mailboxes[worker]
                    .post(&mut posting.mail, std::mem::take(&mut posting.bytes));
                if shared.mailboxes[worker].is_full(self.index) {
                    self.full |= 1 << worker;
                }
            }
        }
    }

    /// Takes what the session has for its connection and writes as much as the socket takes.
    pub(super) fn flush(&mut self, slot: usize, pass: &mut Pass<'_>) {
        let room = self.current.config.limits.write_buffer_bytes;
        for _ in 0..REFILLS {
            let connection = &mut *self.connections[slot];
            if connection.phase == Phase::Dead || connection.want_write {
                return;
            }
            let mut noted_full = None;
            if let Some(session) = connection
                .session
                .and_then(|session| self.sessions.get_mut(session))
            {
                let counters = &self.shared.counters[self.index];
                let mut kept = KeptPump::new(pass.shared, self.index, connection.reference(slot));
                pump(session, connection, room, pass, counters, &mut kept);
                kept.post(session);
                noted_full = session.noted_full.then_some(session.reference);
                if session.presence.is_some() {
                    let limits = &self.current.config.session;
                    note_presence(session, session.queue.is_full(0, limits));
                }
            }
            if let Some(session) = noted_full {
                self.note_full(session);
            }
            let connection = &mut *self.connections[slot];
            let waiting = connection.protocol.outbox().len();
            let outbox = connection.protocol.outbox();
            let result = connection
                .transport
                .flush(outbox, self.shared.capture.as_ref());
            let left = connection.protocol.outbox().len();
            let sent = (waiting - left) as u64;
            connection.bytes_sent += sent;
            let counters = &self.shared.counters[self.index];
            counters.bytes_sent.add(sent);
            counters.listeners[connection.listener.index]
                .bytes_sent
                .add(sent);
            match result {
                Ok(true) => {
                    if waiting >= room {
                        // Reading was suspended.
                        connection.wake();
                    }
                    match connection.phase {
                        Phase::Open if waiting > 0 => {}
                        Phase::Closing { until, shut: false } => {
                            connection.phase = Phase::Closing { until, shut: true };
                            connection.transport.say_goodbye();
                            connection.transport.shutdown_write();
                            connection.wake();
                            return;
                        }
                        _ => return,
                    }
                }
                Ok(false) => {
                    connection.want_write = true;
                    connection.wake();
                    return;
                }
                Err(_) => {
                    self.lose(slot, pass);
                    return;
                }
            }
        }
        self.touch(slot);
    }
}

/// Moves from a session's queue and retained messages to its connection's output, as far as the
/// output has room and the window is open.
fn pump(
    session: &mut Session,
    connection: &mut Connection,
    room: usize,
    pass: &Pass<'_>,
    counters: &Counters,
    kept: &mut KeptPump<'_>,
) {
    loop {
        let protocol = &mut connection.protocol;
        if !protocol.is_open() || protocol.outbox().len() >= room {
            break;
        }
        let Some(next) = session.queue.front() else {
            break;
        };
        if next.delivery.qos != QoS::AtMostOnce && protocol.room() == 0 {
            break;
        }
        if next.place.is_some() && !kept.may_send(session, pass.now) {
            break;
        }
        let Some(outbound) = session.queue.pop() else {
            break;
        };
        if outbound.place.is_some() {
            kept.send(session, connection, outbound, pass.now, counters);
            continue;
        }
        let Some(message) = &outbound.message else {
            continue;
        };
        let qos = outbound.delivery.qos;
        let result = protocol.publish(pass.now, message, outbound.delivery);
        if let (Some(group), Ok(Some(id))) = (&outbound.group, &result) {
            note_sent(&mut connection.shares, *id, qos, group);
        }
        count(result, counters, &mut session.losses);
    }
    if !session.retained.is_empty()
        && connection.protocol.is_open()
        && connection.protocol.outbox().len() < room
    {
        pump_retained(session, connection, room, pass, counters, kept);
    }
}

/// Sends retained messages from where the session's subscriptions have got to.
fn pump_retained(
    session: &mut Session,
    connection: &mut Connection,
    room: usize,
    pass: &Pass<'_>,
    counters: &Counters,
    kept: &mut KeptPump<'_>,
) {
    let protocol = &mut connection.protocol;
    let retained = pass.shared.retained.read();
    while protocol.outbox().len() < room
        && let Some(cursor) = session.retained.front_mut()
    {
        let after = cursor.after.as_ref().map(|topic| topic.as_str());
        let Some(message) = retained.next_match(cursor.filter.filter(), after, pass.now) else {
            session.retained.pop_front();
            continue;
        };
        let mut delivery = Delivery::new(message.qos().min(cursor.subscription.qos()));
        delivery.retain = true;
        delivery
            .subscription_ids
            .extend(cursor.subscription.identifier());
        if delivery.qos != QoS::AtMostOnce && session.durable.is_some() {
            if session.queue.len() >= RETAINED_AHEAD {
                return;
            }
            cursor.after = Some(message.topic().clone());
            kept.queue(session, message, delivery);
            continue;
        }
        if delivery.qos != QoS::AtMostOnce && protocol.room() == 0 {
            return;
        }
        count(
            protocol.publish(pass.now, message, delivery),
            counters,
            &mut session.losses,
        );
        cursor.after = Some(message.topic().clone());
    }
}

/// Counts a message that was sent, or why it was not.
pub(super) fn count<T>(result: Result<T, PublishError>, counters: &Counters, losses: &mut Losses) {
    let cause = match result {
        Ok(_) => return counters.publish_sent.add(1),
        Err(PublishError::Expired) => DropCause::Expired,
        Err(PublishError::PacketTooLarge { .. }) => DropCause::PacketTooLarge,
        Err(error) => {
            debug_assert!(false, "the caller has looked: {error}");
            DropCause::Unsendable
        }
    };
    counters.dropped(cause, 1);
    losses.add(cause, 1);
}
