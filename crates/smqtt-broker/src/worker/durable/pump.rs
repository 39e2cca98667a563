//! From the queue of a persistent session, as the store has it, to its connection.

use std::sync::Arc;
use std::time::Instant;

use smqtt_proto::{Delivery, Message, QoS};

use super::{NEAR, push_kept};
use crate::connection::Connection;
use crate::counters::Counters;
use crate::queue::Outbound;
use crate::session::Session;
use crate::shared::Shared;
use crate::store::{ConnectionRef, Kept, Load, Op, Settlement, Settles, Tracked};
use crate::worker::share::note_sent;
use crate::worker::write::count;

/// What a pump of a persistent session's queue posts.
pub(in crate::worker) struct KeptPump<'a> {
    shared: &'a Shared,
    worker: usize,
    connection: ConnectionRef,
    ops: Vec<Op>,
    settles: Settles,
}

impl<'a> KeptPump<'a> {
    /// For this connection of a worker.
    pub(in crate::worker) fn new(
        shared: &'a Shared,
        worker: usize,
        connection: ConnectionRef,
    ) -> Self {
        KeptPump {
            shared,
            worker,
            connection,
            ops: Vec::new(),
            settles: Settles::new(),
        }
    }

    /// Whether the message at the front, which has a place in the store, may leave the queue now. If it
    /// is not in memory, it is read.
    pub(in crate::worker) fn may_send(&self, session: &mut Session, now: Instant) -> bool {
        let Some(front) = session.queue.front() else {
            return false;
        };
        let Some(place) = &front.place else {
            return true;
        };
        if !place.kept.is_committed() {
            return false;
        }
        let prepared = session
            .durable
            .as_ref()
            .map_or(0, |durable| durable.prepared);
        if prepared > 0 && front.delivery.qos != QoS::ExactlyOnce {
            // It would overtake them.
            return false;
        }
        if front.message.is_some() || is_expired(&place.kept, now) {
            return true;
        }
        if let (Some(store), Some(durable)) = (&self.shared.store, &mut session.durable)
            && !durable.loading
        {
            durable.loading = true;
            store.load(Load {
                worker: self.worker,
                session: session.reference,
                wanted: session.queue.paged_out(NEAR),
            });
        }
        false
    }

    /// Sends a message that has left the queue: at once with QoS 1, once its identifier is committed with
    /// QoS 2.
    pub(in crate::worker) fn send(
        &mut self,
        session: &mut Session,
        connection: &mut Connection,
        outbound: Outbound,
        now: Instant,
        counters: &Counters,
    ) {
        let (Some(place), Some(durable)) = (outbound.place, &mut session.durable) else {
            return;
        };
        let id = durable.id;
        let result = match &outbound.message {
            Some(message) if !is_expired(&place.kept, now) => {
                let delivery = outbound.delivery.clone();
                match delivery.qos {
                    QoS::ExactlyOnce => connection
                        .protocol
                        .prepare(now, message, delivery)
                        .map(Some),
                    _ => connection.protocol.publish(now, message, delivery),
                }
            }
            _ => Err(smqtt_proto::PublishError::Expired),
        };
        match &result {
            Ok(Some(packet_id)) => {
                let (packet_id, qos) = (*packet_id, outbound.delivery.qos);
                if let Some(group) = &outbound.group {
                    note_sent(&mut connection.shares, packet_id, qos, group);
                }
                let sent = (place.number, Some(place.kept.clone()));
                durable.sent.insert(packet_id, sent);
                self.ops.push(Op::Sent {
                    id,
                    place: place.number,
                    kept: place.kept,
                    delivery: outbound.delivery,
                    group: outbound.group,
                    packet_id,
                });
                if qos == QoS::ExactlyOnce {
                    durable.prepared += 1;
                    let settlement = Settlement::Send(self.connection, packet_id);
                    self.settles.push((self.worker, settlement));
                }
            }
            _ => self.ops.push(Op::Done {
                id,
                place: place.number,
                kept: Some(place.kept),
            }),
        }
        count(result, counters, &mut session.losses);
    }

    /// Queues a retained message.
    pub(in crate::worker) fn queue(
        &self,
        session: &mut Session,
        message: &Arc<Message>,
        delivery: Delivery,
    ) {
        if let Some(store) = &self.shared.store {
            let tracked = Tracked::new(store, message);
            push_kept(session, &tracked, message, delivery, None);
        }
    }

    /// Posts what was sent.
    pub(in crate::worker) fn post(self, session: &mut Session) {
        if self.ops.is_empty() {
            return;
        }
        if let (Some(store), Some(durable)) = (&self.shared.store, &mut session.durable) {
            durable.posted = store.post(self.ops, self.settles);
        }
    }
}

fn is_expired(kept: &Kept, now: Instant) -> bool {
    kept.expires_at.is_some_and(|at| at <= now)
}
