//! Deliveries in both directions: what client and server connections have in common.

mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BufMut;

use crate::aliases::OutgoingAliases;
use crate::session::{OutgoingState, Session};
use crate::{
    Outbox, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode, TopicName, Traffic,
    Violation, encode, encoded_len,
};

/// What the two sides agreed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) version: ProtocolVersion,
    /// How many QoS 1 and 2 messages this side may have unacknowledged.
    pub(crate) window: u16,
    /// How many QoS 1 and 2 messages the peer may have unacknowledged.
    pub(crate) receive_maximum: u16,
    /// The largest packet in bytes that the peer takes.
    pub(crate) max_packet_size: u32,
    /// The highest topic alias that the peer may use.
    pub(crate) incoming_aliases: u16,
    /// The highest topic alias that this side may use.
    pub(crate) outgoing_aliases: u16,
}

/// The deliveries of one connection and the session that outlives it.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) terms: Terms,
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) traffic: Traffic,
    /// Entries of `session.outgoing` that take a place in the window.
    in_window: u16,
    /// What earlier connections left unacknowledged, in order, to be sent again as the window allows.
    resend: VecDeque<PacketId>,
    /// What was to be sent again and is too large for this connection.
    undeliverable: VecDeque<PacketId>,
    /// What the peer has unacknowledged.
    received: u16,
    /// PUBACKs and PUBRECs owed, in the order of the PUBLISHes (`[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`).
    owed: VecDeque<Owed>,
    incoming_aliases: Vec<Option<TopicName>>,
    outgoing_aliases: OutgoingAliases,
    /// PUBREL and PUBCOMP wait for the owner's word.
    pub(crate) held: bool,
}

#[derive(Debug)]
struct Owed {
    packet_id: PacketId,
    qos: QoS,
    reply: Option<ReasonCode>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowEvent {
    Acknowledged {
        packet_id: PacketId,
        reason: ReasonCode,
    },
    Received {
        packet_id: PacketId,
    },
    Released {
        packet_id: PacketId,
    },
}

impl Flow {
    /// A flow without agreement yet: nothing flows.
    pub(crate) fn new(session: Session) -> Flow {
        Flow {
            terms: Terms {
                version: ProtocolVersion::V3_1_1,
                window: 0,
                receive_maximum: 0,
                max_packet_size: u32::MAX,
                incoming_aliases: 0,
                outgoing_aliases: 0,
            },
            session,
            outbox: Outbox::default(),
            traffic: Traffic::default(),
            in_window: 0,
            resend: VecDeque::new(),
            undeliverable: VecDeque::new(),
            received: 0,
            owed: VecDeque::new(),
            incoming_aliases: Vec::new(),
            outgoing_aliases: OutgoingAliases::default(),
            held: false,
        }
    }

    /// Begins with these terms and sends what an earlier connection left unacknowledged: all PUBRELs, and as many
    /// PUBLISHes as the window allows (`[MQTT-4.4.0-1]`).
    pub(crate) fn open(&mut self, terms: Terms, session: Session, now: Instant) {
        self.terms = terms;
        self.session = session;
        self.session.incoming.uncount();
        for id in self.session.outgoing.in_order() {
            let Some(entry) = self.session.outgoing.get_mut(id) else {
                continue;
            };
            entry.in_window = false;
            match entry.state {
                OutgoingState::Published { .. } => self.resend.push_back(id),
                OutgoingState::Released => {
                    self.put_ack(PacketType::PubRel, id, ReasonCode::Success);
                }
                OutgoingState::Request { .. } => {
                    self.session.outgoing.end(id);
                }
            }
        }
        self.send_again(now);
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    fn put_ack(&mut self, packet: PacketType, id: PacketId, reason: ReasonCode) {
        let first = (packet as u8) << 4 | packet.flags();
        let [high, low] = id.get().to_be_bytes();
        self.traffic.packets_sent += 1;
        let out = self.outbox.encoder();
        if self.terms.version.is_v5() && reason != ReasonCode::Success {
            out.put_slice(&[first, 3, high, low, reason.as_u8()]);
        } else {
            out.put_slice(&[first, 2, high, low]);
        }
    }

    /// Writes a packet that is not too large for the peer; `false` if it is, or can't be encoded.
    pub(crate) fn put(&mut self, packet: &Packet) -> bool {
        let version = self.terms.version;
        let fits = encoded_len(packet, version)
            .is_ok_and(|len| len <= self.terms.max_packet_size as usize);
        let put = fits && encode(packet, version, self.outbox.encoder()).is_ok();
        self.traffic.packets_sent += u64::from(put);
        put
    }
}

fn wrong_acknowledgement(
    packet: PacketType,
    packet_id: PacketId,
) -> Result<Option<FlowEvent>, Violation> {
    Err(Violation::WrongAcknowledgement { packet, packet_id })
}
