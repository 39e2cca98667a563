//! Packets from bytes and bytes from packets.

mod decode;
mod encode;
mod frame;
mod property;
mod reader;
mod reasons;
pub(crate) mod varint;

use bytes::{Buf, Bytes, BytesMut};

pub(crate) use decode::message_properties;
pub use encode::{encode, encoded_len};
pub(crate) use encode::{publish_flags, write_message_properties};
pub use property::PropertyId;
pub(crate) use reasons::belongs as reason_belongs;

use crate::{DecodeError, Packet, PacketType, ProtocolVersion};

/// Decodes packets from a stream, incrementally and without copying: topics, strings and payloads of the
/// packets share the bytes that they were decoded from.
///
/// One packet that is kept keeps the whole read buffer alive. What is to be stored for long (retained messages,
/// queues of absent clients) should be detached first: [`crate::Message::detach`], [`crate::TopicName::detach`].
#[derive(Debug, Clone)]
pub struct Decoder {
    version: Option<ProtocolVersion>,
    max_packet_size: u32,
}

impl Decoder {
    /// A decoder for a server: the first packet must be a CONNECT, and it says the version.
    /// `max_packet_size` is in bytes, fixed header included.
    pub fn for_server(max_packet_size: u32) -> Decoder {
        Decoder {
            version: None,
            max_packet_size,
        }
    }

    /// A decoder for a stream whose version is known.
    /// `max_packet_size` is in bytes, fixed header included.
    pub fn new(version: ProtocolVersion, max_packet_size: u32) -> Decoder {
        Decoder {
            version: Some(version),
            max_packet_size,
        }
    }

    /// The version of the stream, `None` before a CONNECT that says it.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// Takes the next packet off `input`. `Ok(None)`: it is not whole yet.
    ///
    /// # Errors
    /// The stream is not MQTT; nothing more can be decoded from it.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = frame::header(input, self.max_packet_size)? else {
            return Ok(None);
        };
        if input.len() < header.total() {
            return Ok(None);
        }
        let mut batch = input.split_to(header.total()).freeze();
        self.decode_from(&mut batch)
    }

    /// Takes all whole packets off `input` at once, to be decoded with [`Decoder::decode_from`]. The result is
    /// empty if no packet is whole.
    ///
    /// # Errors
    /// The first packet of `input` can't be one. An error in a later packet waits until those before it have
    /// been taken.
    pub fn take_whole(&self, input: &mut BytesMut) -> Result<Bytes, DecodeError> {
        let mut end = 0;
        while end < input.len() {
            match frame::header(&input[end..], self.max_packet_size) {
                Ok(Some(header)) if header.total() <= input.len() - end => end += header.total(),
                Ok(_) => break,
                Err(error) if end == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(input.split_to(end).freeze())
    }

    /// Takes the next packet off `batch`. `Ok(None)`: there is no whole packet left.
    ///
    /// # Errors
    /// The stream is not MQTT; nothing more can be decoded from it.
    pub fn decode_from(&mut self, batch: &mut Bytes) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = frame::header(batch, self.max_packet_size)? else {
            return Ok(None);
        };
        if batch.len() < header.total() {
            return Ok(None);
        }
        let Some(version) = self.version else {
            if header.packet != PacketType::Connect {
                return Err(DecodeError::ConnectExpected {
                    packet: header.packet,
                });
            }
            batch.advance(header.len);
            // Known even if the rest is malformed, so that the refusal can be worded.
            self.version = decode::connect_version(&batch[..header.remaining]);
            let connect = decode::connect(batch.split_to(header.remaining), header.minimal)?;
            self.version = Some(connect.version);
            return Ok(Some(Packet::Connect(Box::new(connect))));
        };
        if version.is_v5() && !header.minimal {
            return Err(DecodeError::VariableIntegerNotMinimal);
        }
        decode::packet(version, &header, batch).map(Some)
    }

    /// How many bytes the packet has that `input` begins with, as soon as its fixed header is there.
    ///
    /// # Errors
    /// It can't be a packet.
    pub(crate) fn packet_len(&self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
        Ok(frame::header(input, self.max_packet_size)?.map(|header| header.total()))
    }
}
