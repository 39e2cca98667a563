//! Reading a connection: from socket bytes to what the protocol makes of them.

use std::task::{Context, Poll};

use smqtt_proto::server::Event;

use super::{Pass, Worker};
use crate::connection::Phase;
use crate::peer::Peer;
use crate::proxy::Proxied;
use crate::shared::Admission;
use crate::transport::ReadOutcome;

/// Spare room for one read, and what one connection may read before others have their turn.
const READ_SIZE: usize = 64 * 1024;

/// What a read that brought no MQTT counts as.
const STEP: usize = 1024;

/// What comes after the events of a batch.
enum Next {
    /// More reading.
    Continue,
    /// The connection goes to this worker.
    HandOver(usize, Admission),
}

impl Worker {
    /// Drives a connection as far as its socket allows. Ready when it has ended and was removed.
    pub(super) fn poll_connection(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut pass = Pass::new(&shared);
        let connection = &mut self.connections[slot];
        if connection
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            connection.waker = Some(cx.waker().clone());
        }
        while self.connections[slot].want_write {
            match self.connections[slot].transport.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.connections[slot].want_write = false;
                    self.flush(slot, &mut pass);
                }
                Poll::Ready(Err(_)) => self.lose(slot, &mut pass),
                Poll::Pending => break,
            }
        }
        // What was left undecoded while the protocol waited for an answer.
        let mut next = self.handle_events(slot, &mut pass);
        let mut budget = READ_SIZE;
        loop {
            if let Next::HandOver(worker, admission) = next {
                self.hand_over(slot, worker, admission);
                return Poll::Ready(());
            }
            if self.connections[slot].phase == Phase::Dead {
                self.remove(slot);
                return Poll::Ready(());
            }
            if !self.may_read(slot) {
                return Poll::Pending;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut buffer = std::mem::take(&mut self.read_buffer);
            buffer.reserve(READ_SIZE);
            let connection = &mut self.connections[slot];
            let outcome = connection.transport.poll_read(cx, &mut buffer);
            next = match outcome {
                Poll::Pending => {
                    self.read_buffer = buffer;
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => {
                    self.log_read_error(slot, &error);
                    self.lose(slot, &mut pass);
                    Next::Continue
                }
                Poll::Ready(Ok(ReadOutcome::Closed)) => {
                    self.lose(slot, &mut pass);
                    Next::Continue
                }
                Poll::Ready(Ok(ReadOutcome::Proxied(proxied))) => {
                    if let Proxied::Client(client) = proxied {
                        connection.peer = Peer::Address(client);
                    }
                    Next::Continue
                }
                Poll::Ready(Ok(ReadOutcome::Bytes(0))) => {
                    budget = budget.saturating_sub(STEP);
                    self.flush(slot, &mut pass);
                    Next::Continue
                }
                Poll::Ready(Ok(ReadOutcome::Bytes(count))) => {
                    budget = budget.saturating_sub(count);
                    connection.bytes_received += count as u64;
                    let counters = &self.shared.counters[self.index];
                    counters.bytes_received.add(count as u64);
                    counters.listeners[connection.listener.index]
                        .bytes_received
                        .add(count as u64);
                    if let Some(capture) = &self.shared.capture {
                        capture.append(&buffer);
                    }
                    if connection.transport.wants_write() {
                        self.touch(slot);
                    }
                    let connection = &mut self.connections[slot];
                    match connection.phase {
                        Phase::Open => {
                            connection.protocol.handle_input(pass.now, &mut buffer);
                            let next = self.handle_events(slot, &mut pass);
                            self.charge_input(slot, &mut pass);
                            next
                        }
                        Phase::Closing { .. } | Phase::Dead => Next::Continue,
                    }
                }
            };
            buffer.clear();
            self.read_buffer = buffer;
            let connection = &mut self.connections[slot];
            if connection.handshake.is_some() && !connection.transport.is_handshaking() {
                connection.handshake = None;
            }
        }
    }

    /// Whether what the client sends is wanted now.
    fn may_read(&mut self, slot: usize) -> bool {
        let connection = &mut self.connections[slot];
        match connection.phase {
            Phase::Dead => return false,
            Phase::Closing { .. } => return true,
            Phase::Open => {}
        }
        if connection.transport.is_handshaking() {
            return !connection.want_write;
        }
        // A client that does not read its acknowledgements is not read either.
        if !connection.protocol.wants_input()
            || connection.protocol.outbox().len() >= self.current.config.limits.write_buffer_bytes
        {
            return false;
        }
        if self.full == 0 {
            return true;
        }
        let (index, full) = (self.index, self.full);
        self.full = (0..self.shared.mailboxes.len())
            .filter(|other| full & 1 << other != 0 && self.shared.mailboxes[*other].is_full(index))
            .fold(0, |mask, other| mask | 1 << other);
        if self.full != 0 {
            self.stalled.push(slot);
        }
        self.full == 0
    }

    /// Handles everything that the protocol has to say.
    fn handle_events(&mut self, slot: usize, pass: &mut Pass<'_>) -> Next {
        let mut any = self.connections[slot].checking.is_some();
        if any && let Some((worker, admission)) = self.resume_connect(slot, pass) {
            if worker != self.index {
                return Next::HandOver(worker, admission);
            }
            self.open_session(slot, admission, pass);
        }
        loop {
            let connection = &mut self.connections[slot];
            if connection.phase != Phase::Open {
                return Next::Continue;
            }
            let Some(event) = connection.protocol.poll_event() else {
                break;
            };
            any = true;
            match event {
                Event::Connect(connect) => {
                    if let Some((worker, admission)) = self.on_connect(slot, connect, pass) {
                        if worker != self.index {
                            return Next::HandOver(worker, admission);
                        }
                        self.open_session(slot, admission, pass);
                    }
                }
                Event::Publish(publish) => self.on_publish(slot, &publish, pass),
                Event::Subscribe(subscribe) => self.on_subscribe(slot, subscribe, pass),
                Event::Unsubscribe(unsubscribe) => self.on_unsubscribe(slot, &unsubscribe, pass),
                // The window has opened, or something was answered: the flush takes what waits.
                Event::Acknowledged { packet_id, .. } => {
                    self.forget_share(slot, packet_id);
                    self.note_acknowledged(slot, packet_id);
                }
                Event::Received { packet_id } => self.note_received(slot, packet_id),
                Event::Released { packet_id } => self.note_released(slot, packet_id),
                // CONNECTs with an authentication method are rejected, so none can follow.
                Event::Auth(_) => {}
                Event::Closed(closed) => self.on_closed(slot, &closed, pass),
            }
        }
        self.post_noted();
        // A PINGREQ is answered without an event.
        if any || !self.connections[slot].protocol.outbox().is_empty() {
            self.touch(slot);
            self.arm(slot);
        }
        Next::Continue
    }
}
