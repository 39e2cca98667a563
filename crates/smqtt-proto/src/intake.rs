//! Cuts the bytes of a stream into batches of whole packets.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Decoder, Packet};

/// The receiving end of a connection: whole packets are taken off the caller's buffer without copying; only the
/// packet that straddles two reads is copied, into memory that is freed when it is complete.
#[derive(Debug)]
pub(crate) struct Intake {
    decoder: Decoder,
    /// Whole packets, not decoded yet.
    batches: VecDeque<Bytes>,
    /// The beginning of a packet.
    partial: BytesMut,
    /// What is wrong with the bytes after `batches`.
    error: Option<DecodeError>,
}

impl Intake {
    /// How much memory is asked for at a time for a packet that arrives in parts: what has arrived is stored, what
    /// was only announced is not.
    const STEP: usize = 16 * 1024;

    pub(crate) fn new(decoder: Decoder) -> Intake {
        Intake {
            decoder,
            batches: VecDeque::new(),
            partial: BytesMut::new(),
            error: None,
        }
    }

    pub(crate) fn version(&self) -> Option<crate::ProtocolVersion> {
        self.decoder.version()
    }

    /// Takes everything out of `input` and says whether a packet was completed.
    pub(crate) fn push(&mut self, input: &mut BytesMut) -> bool {
        let mut completed = false;
        if self.error.is_some() {
            input.clear(); // the stream is lost
            return completed;
        }
        while !self.partial.is_empty() && !input.is_empty() {
            match self.decoder.packet_len(&self.partial) {
                // The fixed header itself is split: complete it byte by byte.
                Ok(None) => self.partial.extend_from_slice(&input.split_to(1)),
                Ok(Some(len)) => {
                    let missing = len - self.partial.len();
                    let step = missing.min(input.len());
                    if self.partial.capacity() < len {
                        self.partial.reserve(step.max(missing.min(Intake::STEP)));
                    }
                    self.partial.extend_from_slice(&input.split_to(step));
                }
                Err(error) => {
                    self.error = Some(error);
                    input.clear();
                    return completed;
                }
            }
            if matches!(self.decoder.packet_len(&self.partial), Ok(Some(len)) if len == self.partial.len())
            {
                self.batches
                    .push_back(std::mem::take(&mut self.partial).freeze());
                completed = true;
            }
        }
        if input.is_empty() {
            return completed;
        }
        match self.decoder.take_whole(input) {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => {
                self.batches.push_back(batch);
                completed = true;
            }
            Err(error) => self.error = Some(error),
        }
        if !input.is_empty() && self.error.is_none() {
            // An error behind whole packets shows when the rest is looked at again.
            if let Err(error) = self.decoder.packet_len(input) {
                self.error = Some(error);
            } else {
                self.partial.extend_from_slice(input);
            }
        }
        input.clear();
        completed
    }

    /// The next packet. After an error there is nothing more.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, DecodeError> {
        while let Some(batch) = self.batches.front_mut() {
            let packet = self.decoder.decode_from(batch);
            if batch.is_empty() {
                self.batches.pop_front();
                if self.batches.is_empty() && self.batches.capacity() > 8 {
                    self.batches = VecDeque::new();
                }
            }
            match packet {
                Ok(None) => {}
                Ok(packet) => return Ok(packet),
                Err(error) => {
                    self.batches.clear();
                    return Err(error);
                }
            }
        }
        match self.error.clone() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Bytes that wait to be decoded.
    pub(crate) fn len(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum::<usize>() + self.partial.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Publish;
    use crate::{ProtocolVersion, TopicName, encode};

    fn publish(size: usize) -> Packet {
        let topic = TopicName::new("a/b").expect("a topic name");
        Packet::Publish(Publish::new(topic, vec![7; size]))
    }

    fn intake() -> Intake {
        Intake::new(Decoder::new(ProtocolVersion::V5, 100_000))
    }

    fn drain(intake: &mut Intake, packets: &mut Vec<Packet>) {
        while let Some(packet) = intake.next().expect("valid packets") {
            packets.push(packet);
        }
    }

    #[test]
    fn packets_come_out_whole_however_the_stream_is_cut() {
        let sent: Vec<Packet> = [0, 1, 200, 20_000, 3, 0, 70_000].map(publish).into();
        let mut stream = BytesMut::new();
        for packet in &sent {
            encode(packet, ProtocolVersion::V5, &mut stream).expect("encodes");
        }
        for cut in [1, 2, 3, 7, 1000, 4096, 200_000] {
            let mut intake = intake();
            let mut received = Vec::new();
            for part in stream.chunks(cut) {
                intake.push(&mut BytesMut::from(part));
                drain(&mut intake, &mut received);
            }
            assert_eq!(received, sent, "cut every {cut} bytes");
            assert_eq!(intake.len(), 0);
        }
    }

    #[test]
    fn an_announced_length_reserves_no_more_than_a_step() {
        let mut intake = intake();
        intake.push(&mut BytesMut::from(&[0x30, 0x80, 0x80, 0x06][..])); // 98,304 bytes to come
        intake.push(&mut BytesMut::from(&[0][..]));
        assert!(intake.partial.capacity() <= 2 * Intake::STEP);
    }

    #[test]
    fn packets_before_an_error_are_delivered() {
        let mut intake = intake();
        let mut stream = BytesMut::new();
        encode(&publish(1), ProtocolVersion::V5, &mut stream).expect("encodes");
        stream.extend_from_slice(&[0x00, 0x00]);
        intake.push(&mut stream);
        assert_eq!(intake.next(), Ok(Some(publish(1))));
        assert_eq!(intake.next(), Err(DecodeError::ReservedPacketType));
        let mut more = BytesMut::from(&[0xC0, 0x00][..]);
        intake.push(&mut more);
        assert!(more.is_empty(), "the stream is lost");
        assert_eq!(
            intake.next(),
            Err(DecodeError::ReservedPacketType),
            "nothing after an error"
        );
    }
}
