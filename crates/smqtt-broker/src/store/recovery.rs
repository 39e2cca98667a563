//! What the broker knows again after a start.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smqtt_proto::{Delivery, Message, PacketId, TopicFilter};

use super::engine::{Engine, Reader, Table};
use super::place::last_commit;
use super::record::{
    self, Epoch, QueueRecord, SessionRecord, SubscriptionRecord, message_from_bytes, split_key,
};
use super::{COMMITTED, Kept, Op, Store};
use crate::queue::{Outbound, Place, Queue};

/// A store that is open, with all that it had.
pub(crate) struct Recovered {
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) wanted: std::sync::mpsc::Receiver<super::Load>,
    /// The number of the last commit.
    pub(crate) last: u64,
    pub(crate) state: State,
}

/// What was in the store.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: Vec<RecoveredSession>,
    pub(crate) retained: Vec<Message>,
}

/// A session that was in the store.
pub(crate) struct RecoveredSession {
    pub(crate) id: u64,
    pub(crate) record: SessionRecord,
    pub(crate) subscriptions: Vec<(TopicFilter, SubscriptionRecord)>,
    /// Sent and not acknowledged whole, in order.
    pub(crate) in_flight: Vec<RecoveredInFlight>,
    pub(crate) queue: Queue,
    pub(crate) next_place: u64,
    pub(crate) incoming: Vec<PacketId>,
}

/// A delivery that had begun.
pub(crate) struct RecoveredInFlight {
    pub(crate) place: u64,
    pub(crate) packet_id: PacketId,
    pub(crate) delivery: Delivery,
    pub(crate) group: Option<Arc<TopicFilter>>,
    /// None if its client has it: then only PUBREL is owed.
    pub(crate) message: Option<(Arc<Kept>, Arc<Message>)>,
}

/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(1);

struct Progress {
    began: Instant,
    logged: Instant,
    entries: u64,
}

impl Progress {
    fn count(&mut self, table: Table) {
        self.entries += 1;
        if self.entries.is_multiple_of(4096) && self.logged.elapsed() >= PROGRESS {
            self.logged = Instant::now();
            tracing::info!(
                entries = self.entries,
                table = table.name(),
                seconds = self.began.elapsed().as_secs(),
                "reading the store"
            );
        }
    }
}

/// Reads everything that the engine has.
///
/// # Errors
/// What is there does not fit together, or cannot be read: nothing is left out silently.
pub(crate) fn recover(engine: Box<dyn Engine>, sync: bool) -> io::Result<Recovered> {
    let began = Instant::now();
    let mut progress = Progress {
        began,
        logged: began,
        entries: 0,
    };
    let epoch = Epoch::now();
    let last = last_commit(&*engine)?;
    let (store, wanted) = Store::new(sync);
    let store = Arc::new(store);
    let messages = read_messages(&*engine, &store, &epoch, &mut progress)?;
    let mut sessions = read_sessions(&*engine, &mut progress)?;
    let mut left_over = LeftOver::default();
    read_subscriptions(&*engine, &mut sessions, &mut left_over, &mut progress)?;
    read_queues(
        &*engine,
        &messages,
        &mut sessions,
        &mut left_over,
        &epoch,
        &mut progress,
    )?;
    read_incoming(&*engine, &mut sessions, &mut left_over, &mut progress)?;
    let mut retained = Vec::new();
    engine.scan(Table::Retained, &mut |key, value| {
        progress.count(Table::Retained);
        let message = message_from_bytes(Bytes::copy_from_slice(value), &epoch)
            .map_err(|error| damaged("retained message", key, &error))?;
        retained.push(message);
        Ok(())
    })?;
    let next = messages.last().map_or(1, |kept| kept.number + 1);
    store.next_message.store(next, Ordering::Relaxed);
    let next = sessions.keys().max().map_or(1, |id| id + 1);
    store
        .next_session
        .store(next.max(left_over.next_session), Ordering::Relaxed);
    if !left_over.ops.is_empty() {
        tracing::info!(
            entries = left_over.ops.len(),
            "freeing what is left of sessions that had ended"
        );
        store.post(left_over.ops, super::Settles::new());
    }
    let orphans = messages
        .iter()
        .filter(|kept| kept.places.load(Ordering::Relaxed) == 0)
        .count();
    tracing::info!(
        sessions = sessions.len(),
        messages = messages.len() - orphans,
        retained = retained.len(),
        freed = orphans,
        milliseconds = began.elapsed().as_millis() as u64,
        "read the store"
    );
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_unstable_by_key(|session| session.id);
    Ok(Recovered {
        store,
        engine,
        wanted,
        last,
        state: State { sessions, retained },
    })
}

fn damaged(what: &str, key: &[u8], why: &dyn std::fmt::Display) -> io::Error {
    let key: String = key
        .iter()
        .take(64)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the {what} under key {key} is damaged: {why}"),
    )
}

fn number(key: &[u8]) -> io::Result<u64> {
    let number = key
        .try_into()
        .map_err(|_| damaged("number", key, &"it has the wrong length"))?;
    Ok(u64::from_be_bytes(number))
}

fn decode<'b, T: minicbor::Decode<'b, ()>>(
    what: &str,
    key: &[u8],
    value: &'b [u8],
) -> io::Result<T> {
    minicbor::decode(value).map_err(|error| damaged(what, key, &error))
}

/// All messages, by number.
fn read_messages(
    engine: &dyn Engine,
    store: &Arc<Store>,
    epoch: &Epoch,
    progress: &mut Progress,
) -> io::Result<Vec<Arc<Kept>>> {
    let mut messages = Vec::new();
    engine.scan(Table::Messages, &mut |key, value| {
        progress.count(Table::Messages);
        let message = message_from_bytes(Bytes::copy_from_slice(value), epoch)
            .map_err(|error| damaged("message", key, &error))?;
        let size = u32::try_from(message.size()).unwrap_or(u32::MAX);
        messages.push(store.kept(number(key)?, size, message.expires_at(), COMMITTED));
        Ok(())
    })?;
    Ok(messages)
}

/// What was on its way to a session when that ended.
#[derive(Default)]
struct LeftOver {
    ops: Vec<Op>,
    /// A number must not be given to another session before everything under it is gone.
    next_session: u64,
}

impl LeftOver {
    fn add(&mut self, id: u64, op: Op) {
        self.ops.push(op);
        self.next_session = self.next_session.max(id + 1);
    }
}

type Sessions = HashMap<u64, RecoveredSession>;

fn read_sessions(engine: &dyn Engine, progress: &mut Progress) -> io::Result<Sessions> {
    let mut sessions = Sessions::new();
    engine.scan(Table::Sessions, &mut |key, value| {
        progress.count(Table::Sessions);
        let id = number(key)?;
        let session = RecoveredSession {
            id,
            record: decode("session", key, value)?,
            subscriptions: Vec::new(),
            in_flight: Vec::new(),
            queue: Queue::default(),
            next_place: 1,
            incoming: Vec::new(),
        };
        sessions.insert(id, session);
        Ok(())
    })?;
    Ok(sessions)
}

fn read_subscriptions(
    engine: &dyn Engine,
    sessions: &mut Sessions,
    left_over: &mut LeftOver,
    progress: &mut Progress,
) -> io::Result<()> {
    engine.scan(Table::Subscriptions, &mut |key, value| {
        progress.count(Table::Subscriptions);
        let damage = |why: &dyn std::fmt::Display| damaged("subscription", key, why);
        let (id, filter) = split_key(key).ok_or_else(|| damage(&"its key is too short"))?;
        let filter = TopicFilter::from_bytes(Bytes::copy_from_slice(filter))
            .map_err(|error| damage(&error))?;
        let record: SubscriptionRecord = decode("subscription", key, value)?;
        if smqtt_proto::QoS::from_u8(record.qos).is_none() {
            return Err(damage(&"it has no QoS"));
        }
        match sessions.get_mut(&id) {
            Some(session) => session.subscriptions.push((filter, record)),
            None => left_over.add(id, Op::Unsubscribed { id, filter }),
        }
        Ok(())
    })
}

fn read_queues(
    engine: &dyn Engine,
    messages: &[Arc<Kept>],
    sessions: &mut Sessions,
    left_over: &mut LeftOver,
    epoch: &Epoch,
    progress: &mut Progress,
) -> io::Result<()> {
    let reader = engine.reader();
    engine.scan(Table::Queue, &mut |key, value| {
        progress.count(Table::Queue);
        let damage = |why: &dyn std::fmt::Display| damaged("place in a queue", key, why);
        let (id, rest) = split_key(key).ok_or_else(|| damage(&"its key is too short"))?;
        let place = number(rest)?;
        let Some(session) = sessions.get_mut(&id) else {
            // Its session had ended while the message was on its way there.
            let kept = None;
            left_over.add(id, Op::Done { id, place, kept });
            return Ok(());
        };
        session.next_place = place + 1;
        let record: QueueRecord = decode("place in a queue", key, value)?;
        let delivery = record.delivery().ok_or_else(|| damage(&"it has no QoS"))?;
        let packet_id = match record.packet_id {
            None => None,
            Some(id) => Some(PacketId::new(id).ok_or_else(|| damage(&"it has no identifier"))?),
        };
        let group = match record.group {
            None => None,
            Some(group) => Some(Arc::new(
                TopicFilter::new(group).map_err(|error| damage(&error))?,
            )),
        };
        let kept = match record.message {
            0 => None,
            number => {
                let index = messages
                    .binary_search_by_key(&number, |kept| kept.number)
                    .map_err(|_| {
                        damage(&format!("message {number}, which it names, is missing"))
                    })?;
                messages[index].places.fetch_add(1, Ordering::Relaxed);
                Some(messages[index].clone())
            }
        };
        match (packet_id, kept) {
            (Some(packet_id), kept) => {
                let message = match kept {
                    None => None,
                    Some(kept) => {
                        let message = read_message(&*reader, kept.number, epoch)?;
                        Some((kept, Arc::new(message)))
                    }
                };
                session.in_flight.push(RecoveredInFlight {
                    place,
                    packet_id,
                    delivery,
                    group,
                    message,
                });
            }
            (None, Some(kept)) => {
                // What others may get in its place is wanted in memory.
                let message = match group {
                    None => None,
                    Some(_) => Some(Arc::new(read_message(&*reader, kept.number, epoch)?)),
                };
                session.queue.restore(Outbound {
                    message,
                    delivery,
                    group,
                    place: Some(Place {
                        number: place,
                        kept,
                    }),
                });
            }
            (None, None) => return Err(damage(&"it names no message")),
        }
        Ok(())
    })
}

fn read_message(reader: &dyn Reader, number: u64, epoch: &Epoch) -> io::Result<Message> {
    let key = number.to_be_bytes();
    let bytes = reader
        .get(Table::Messages, &key)?
        .ok_or_else(|| damaged("message", &key, &"it is missing"))?;
    record::message_from_bytes(bytes, epoch).map_err(|error| damaged("message", &key, &error))
}

fn read_incoming(
    engine: &dyn Engine,
    sessions: &mut Sessions,
    left_over: &mut LeftOver,
    progress: &mut Progress,
) -> io::Result<()> {
    engine.scan(Table::Incoming, &mut |key, _| {
        progress.count(Table::Incoming);
        let damage = || damaged("packet identifier", key, &"it is none");
        let (id, rest) = split_key(key).ok_or_else(damage)?;
        let packet_id = rest
            .try_into()
            .ok()
            .and_then(|bytes| PacketId::new(u16::from_be_bytes(bytes)))
            .ok_or_else(damage)?;
        match sessions.get_mut(&id) {
            Some(session) => session.incoming.push(packet_id),
            None => left_over.add(id, Op::Completed { id, packet_id }),
        }
        Ok(())
    })
}
