//! What outlives a connection: the state of deliveries in both directions.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::{Delivery, Message, PacketId, PacketType, QoS};

/// Session state of either side (MQTT 5.0 §4.1), apart from subscriptions and queued messages: the QoS 1 and 2
/// messages that were sent and not acknowledged whole, and the identifiers of the QoS 2 messages that were received
/// and not released.
///
/// Plain data: a connection owns it while it lives ([`server::Connection::accept`], [`client::Connection::new`]) and
/// gives it back ([`server::Connection::take_session`], [`client::Connection::take_session`]). It may move to another
/// thread in between.
///
/// It holds no more messages than the window of its connections allowed, and at most 65,535 identifiers of a few
/// bytes each.
///
/// [`server::Connection::accept`]: crate::server::Connection::accept
/// [`server::Connection::take_session`]: crate::server::Connection::take_session
/// [`client::Connection::new`]: crate::client::Connection::new
/// [`client::Connection::take_session`]: crate::client::Connection::take_session
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

/// A delivery that is not acknowledged whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InFlight {
    /// The message was sent and is sent again, with DUP, on a later connection (`[MQTT-4.4.0-1]`).
    Published {
        /// What was sent.
        message: Arc<Message>,
        /// How.
        delivery: Delivery,
    },
    /// PUBREC came: PUBREL is sent again on a later connection; the message is forgotten (`[MQTT-4.3.3-4]`).
    Released,
}

impl Session {
    /// A session without state.
    pub fn new() -> Session {
        Session::default()
    }

    /// Whether nothing is in flight in either direction.
    pub fn is_empty(&self) -> bool {
        self.outgoing.used == 0 && self.incoming.ids.is_empty()
    }

    /// How many messages were sent and not acknowledged whole.
    pub fn in_flight(&self) -> usize {
        self.outgoing.used
    }

    /// What was sent and not acknowledged whole, in the order of sending: what a store has to keep.
    pub fn outgoing(&self) -> Vec<(PacketId, InFlight)> {
        self.outgoing
            .in_order()
            .into_iter()
            .filter_map(|id| match &self.outgoing.get(id)?.state {
                OutgoingState::Published { message, delivery } => Some((
                    id,
                    InFlight::Published {
                        message: message.clone(),
                        delivery: delivery.clone(),
                    },
                )),
                OutgoingState::Released => Some((id, InFlight::Released)),
                OutgoingState::Request { .. } => None,
            })
            .collect()
    }

    /// The identifiers of QoS 2 messages that were received and not released, in no order: what a store has to keep.
    pub fn incoming(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.incoming.ids.keys().copied()
    }

    /// Puts back what [`Session::outgoing`] gave, in its order. What was there under this identifier is replaced.
    /// A delivery with QoS 0 has no such state and is ignored.
    pub fn restore_outgoing(&mut self, id: PacketId, state: InFlight) {
        let state = match state {
            InFlight::Published { delivery, .. } if delivery.qos == QoS::AtMostOnce => return,
            InFlight::Published { message, delivery } => {
                OutgoingState::Published { message, delivery }
            }
            InFlight::Released => OutgoingState::Released,
        };
        self.outgoing.insert(id, state);
    }

    /// Puts back what [`Session::incoming`] gave.
    pub fn restore_incoming(&mut self, id: PacketId) {
        self.incoming.ids.insert(
            id,
            IncomingEntry {
                accepted: true,
                counted: false,
            },
        );
    }

    /// Notes that the owner is done with a QoS 2 message whose connection has ended meanwhile: the PUBREC follows when
    /// the sender repeats it on a later connection. On a connection that lives, use its `acknowledge`.
    pub fn acknowledge(&mut self, id: PacketId) {
        self.incoming.accept(id);
    }
}

/// What is sent and waits for an answer, by packet identifier.
///
/// Identifiers are places in a table, the one that has been free for longest first: lookups cost an index, and the
/// table is no longer than what was ever in flight at a time.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The entry of identifier `n` is at `n - 1`.
    entries: Vec<Option<OutgoingEntry>>,
    free: VecDeque<u16>,
    used: usize,
    next_sequence: u64,
}

#[derive(Debug)]
pub(crate) struct OutgoingEntry {
    /// Order of sending (`[MQTT-4.6.0-1]`).
    sequence: u64,
    /// Whether it takes a place in the window of the present connection.
    pub(crate) in_window: bool,
    pub(crate) state: OutgoingState,
}

#[derive(Debug)]
pub(crate) enum OutgoingState {
    Published {
        message: Arc<Message>,
        delivery: Delivery,
    },
    Released,
    /// A SUBSCRIBE or UNSUBSCRIBE of this connection: the packet that answers it, and with how many codes.
    Request {
        answer: PacketType,
        codes: u32,
    },
}

impl Outgoing {
    /// From this many places on, the table is freed when nothing is in flight.
    const KEEP: usize = 16;

    /// Takes a free identifier; `None` if all 65,535 are in use.
    pub(crate) fn begin(&mut self, state: OutgoingState, in_window: bool) -> Option<PacketId> {
        let id = match self.free.pop_front() {
            Some(id) => id,
            None => {
                let id = u16::try_from(self.entries.len() + 1).ok()?;
                self.entries.push(None);
                id
            }
        };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.entries[usize::from(id) - 1] = Some(OutgoingEntry {
            sequence,
            in_window,
            state,
        });
        self.used += 1;
        PacketId::new(id)
    }

    fn insert(&mut self, id: PacketId, state: OutgoingState) {
        let index = usize::from(id.get()) - 1;
        while self.entries.len() <= index {
            self.entries.push(None);
            let new =
                u16::try_from(self.entries.len()).expect("a packet identifier fits in 16 bits");
            self.free.push_back(new);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let entry = OutgoingEntry {
            sequence,
            in_window: false,
            state,
        };
        if self.entries[index].replace(entry).is_none() {
            self.free.retain(|free| *free != id.get());
            self.used += 1;
        }
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&OutgoingEntry> {
        self.entries.get(usize::from(id.get()) - 1)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut OutgoingEntry> {
        self.entries.get_mut(usize::from(id.get()) - 1)?.as_mut()
    }

    pub(crate) fn end(&mut self, id: PacketId) -> Option<OutgoingEntry> {
        let entry = self.entries.get_mut(usize::from(id.get()) - 1)?.take()?;
        self.used -= 1;
        if self.used == 0 && self.entries.len() > Outgoing::KEEP {
            self.entries = Vec::new();
            self.free = VecDeque::new();
        } else {
            self.free.push_back(id.get());
        }
        Some(entry)
    }

    /// Forgets the requests of a connection that is over: nobody will answer them.
    pub(crate) fn end_requests(&mut self) {
        for id in self.in_order() {
            if matches!(
                self.get(id),
                Some(OutgoingEntry {
                    state: OutgoingState::Request { .. },
                    ..
                })
            ) {
                self.end(id);
            }
        }
    }

    /// All identifiers in the order of sending.
    pub(crate) fn in_order(&self) -> Vec<PacketId> {
        let mut ids: Vec<(u64, PacketId)> = (1..=u16::MAX)
            .filter_map(PacketId::new)
            .zip(&self.entries)
            .filter_map(|(id, entry)| Some((entry.as_ref()?.sequence, id)))
            .collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }
}

/// The QoS 2 messages that were received and not released.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    ids: HashMap<PacketId, IncomingEntry, BuildHasherDefault<PacketIdHasher>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct IncomingEntry {
    /// Whether the owner has acknowledged it: PUBREC is sent, or is sent when the sender asks again. Before that
    /// the owner has the message and makes up its mind.
    pub(crate) accepted: bool,
    /// Whether it counts against the receive maximum of the present connection.
    pub(crate) counted: bool,
}

impl Incoming {
    /// From this many places on, the table is freed when nothing is in flight.
    const KEEP: usize = 28;

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut IncomingEntry> {
        self.ids.get_mut(&id)
    }

    /// Notes a message that is handed to the owner.
    pub(crate) fn begin(&mut self, id: PacketId) {
        self.ids.insert(
            id,
            IncomingEntry {
                accepted: false,
                counted: true,
            },
        );
    }

    pub(crate) fn accept(&mut self, id: PacketId) {
        if let Some(entry) = self.ids.get_mut(&id) {
            entry.accepted = true;
        }
    }

    pub(crate) fn end(&mut self, id: PacketId) -> Option<IncomingEntry> {
        let entry = self.ids.remove(&id);
        if self.ids.is_empty() && self.ids.capacity() > Incoming::KEEP {
            self.ids = HashMap::default();
        }
        entry
    }

    /// A new connection begins with its whole receive maximum.
    pub(crate) fn uncount(&mut self) {
        for entry in self.ids.values_mut() {
            entry.counted = false;
        }
    }
}

/// Spreads 16-bit keys by one multiplication; there are too few of them for collisions to hurt.
#[derive(Debug, Default)]
struct PacketIdHasher(u64);

impl Hasher for PacketIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u16(byte.into());
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.0 = (self.0.rotate_left(16) ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits: let the high ones speak there.
        self.0 ^ (self.0 >> 32)
    }
}
