//! The fixed header (MQTT 5.0 §2.1.1).

use super::varint;
use crate::{DecodeError, PacketType};

/// A fixed header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) packet: PacketType,
    /// The lower four bits of the first byte.
    pub(crate) flags: u8,
    /// Bytes of the fixed header.
    pub(crate) len: usize,
    /// Bytes after the fixed header.
    pub(crate) remaining: usize,
    /// Whether the remaining length has no superfluous byte (`[MQTT-1.5.5-1]`).
    pub(crate) minimal: bool,
}

impl Header {
    /// Bytes of the whole packet.
    pub(crate) fn total(&self) -> usize {
        self.len + self.remaining
    }
}

/// Reads the fixed header that `bytes` begin with; `None` if it is not whole. What can be judged by the first
/// byte or the length is judged before the rest arrives.
#[inline]
pub(crate) fn header(bytes: &[u8], max_packet_size: u32) -> Result<Option<Header>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let packet = PacketType::from_u8(first >> 4).ok_or(DecodeError::ReservedPacketType)?;
    let flags = first & 0x0F;
    if packet == PacketType::Publish {
        if flags & 0b0110 == 0b0110 {
            return Err(DecodeError::InvalidQoS { packet }); // [MQTT-3.3.1-4]
        }
        if flags & 0b1110 == 0b1000 {
            return Err(DecodeError::DupWithQoS0); // [MQTT-3.3.1-2]
        }
    } else if flags != packet.flags() {
        return Err(DecodeError::ReservedFlags { packet, flags }); // [MQTT-2.1.3-1]
    }
    let Some(remaining) = varint::read(rest)? else {
        return Ok(None);
    };
    let header = Header {
        packet,
        flags,
        len: 1 + remaining.len,
        remaining: remaining.value as usize,
        minimal: remaining.minimal,
    };
    if header.total() > max_packet_size as usize {
        return Err(DecodeError::PacketTooLarge {
            size: header.total() as u64,
            limit: max_packet_size,
        });
    }
    Ok(Some(header))
}
