//! What a connection has to send: bytes in order, large payloads by reference.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Bytes waiting for one peer, in order.
///
/// Small packets are written one behind the other into one buffer; payloads from [`Outbox::SHARE_FROM`] bytes on
/// are referenced, so that a large message costs each of its subscribers a pointer. It is a [`Buf`] whose
/// [`Buf::chunks_vectored`] fits a vectored write; [`Outbox::drain_into`] does the loop around one.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Complete pieces, before `tail`.
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    pieces_len: usize,
    /// What small packets are appended to.
    tail: BytesMut,
}

impl Outbox {
    /// Payloads of so many bytes or more are referenced: below, copying costs less than the reference count and
    /// the place in the vectored write.
    pub const SHARE_FROM: usize = 1024;

    /// A drained buffer larger than this many bytes is freed rather than kept for the next packet.
    pub const KEEP_CAPACITY: usize = 1024;

    /// How many slices [`Outbox::drain_into`] hands to one vectored write at most.
    const SLICES: usize = 32;

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.pieces_len == 0 && self.tail.is_empty()
    }

    /// Where small packets are encoded to, behind everything that waits already.
    pub fn encoder(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes, by reference from [`Outbox::SHARE_FROM`] bytes on.
    #[inline]
    pub fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < Outbox::SHARE_FROM {
            self.tail.extend_from_slice(bytes);
        } else {
            self.push_shared(bytes.clone());
        }
    }

    fn push_shared(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let piece = self.tail.split().freeze();
            self.pieces_len += piece.len();
            self.pieces.push_back(piece);
        }
        self.pieces_len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Forgets everything that waits and frees its memory.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }

    /// Hands what is waiting to `write`, for example `|slices| stream.try_write_vectored(slices)`, until nothing
    /// is left or `write` fails, and forgets what it took. `Ok` means drained.
    ///
    /// # Errors
    /// What `write` returned, [`io::ErrorKind::WouldBlock`] of a socket that is full among it;
    /// [`io::ErrorKind::WriteZero`] if it took nothing. [`io::ErrorKind::Interrupted`] is tried again.
    pub fn drain_into(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let result = if self.pieces.is_empty() {
                write(&[IoSlice::new(&self.tail)])
            } else {
                let mut slices = [IoSlice::new(&[]); Outbox::SLICES];
                let used = self.chunks_vectored(&mut slices);
                write(&slices[..used])
            };
            let taken = match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(taken);
        }
        Ok(())
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let all = self
            .pieces
            .iter()
            .map(|piece| &piece[..])
            .chain(std::iter::once(&self.tail[..]).filter(|tail| !tail.is_empty()));
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(all) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        used
    }

    /// # Panics
    /// If `count` is more than is waiting.
    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            let step = count.min(piece.len());
            piece.advance(step);
            self.pieces_len -= step;
            count -= step;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if count < self.tail.len() {
            self.tail.advance(count);
            return;
        }
        assert!(count == self.tail.len(), "advanced beyond what is waiting");
        if self.tail.capacity() > Outbox::KEEP_CAPACITY {
            self.tail = BytesMut::new();
        } else {
            self.tail.clear();
        }
        if self.pieces.is_empty() && self.pieces.capacity() > Outbox::SLICES {
            self.pieces = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> (Outbox, Vec<u8>) {
        let large = Bytes::from(vec![7; Outbox::SHARE_FROM]);
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for small in [&b"one"[..], b"two", b"three"] {
            outbox.encoder().extend_from_slice(small);
            outbox.push(&large);
            expected.extend_from_slice(small);
            expected.extend_from_slice(&large);
        }
        outbox.push(&Bytes::from_static(b"end"));
        expected.extend_from_slice(b"end");
        (outbox, expected)
    }

    #[test]
    fn bytes_leave_in_order_whatever_a_write_takes() {
        for step in [1, 2, 1000, 1027, 10_000] {
            let (mut outbox, expected) = filled();
            let mut written = Vec::new();
            outbox
                .drain_into(|slices| {
                    let all: Vec<u8> = slices
                        .iter()
                        .flat_map(|slice| slice.iter().copied())
                        .collect();
                    let taken = step.min(all.len());
                    written.extend_from_slice(&all[..taken]);
                    Ok(taken)
                })
                .expect("the writer never fails");
            assert_eq!(written, expected, "step {step}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn large_payloads_are_shared() {
        let large = Bytes::from(vec![7; Outbox::SHARE_FROM]);
        let mut outbox = Outbox::default();
        outbox.push(&large);
        assert_eq!(outbox.chunk().as_ptr(), large.as_ptr());
    }

    #[test]
    fn a_full_socket_keeps_the_rest() {
        let (mut outbox, expected) = filled();
        let mut calls = 0;
        let result = outbox.drain_into(|_| {
            calls += 1;
            if calls == 1 {
                Ok(5)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        assert_eq!(
            result.map_err(|error| error.kind()),
            Err(io::ErrorKind::WouldBlock)
        );
        assert_eq!(outbox.len(), expected.len() - 5);
    }

    #[test]
    fn a_drained_large_buffer_is_freed() {
        let mut outbox = Outbox::default();
        outbox.encoder().extend_from_slice(&[0; 100_000]);
        outbox.advance(100_000);
        assert_eq!(outbox.encoder().capacity(), 0);
    }
}
