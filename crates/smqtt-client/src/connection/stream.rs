//! Moves bytes between a stream and the buffers of a protocol's state machine.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use smqtt_proto::Outbox;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Slices of one vectored write.
const SLICES: usize = 32;

/// How a read buffer grows, in bytes.
pub(crate) struct Room {
    /// What is read at a time.
    pub(crate) size: usize,
    /// Free room below which the buffer gets new memory.
    pub(crate) least: usize,
}

/// Writes of `outbox` what the stream takes now; tells whether it took anything.
pub(crate) fn write_out(
    stream: &mut (impl AsyncWrite + Unpin),
    outbox: &mut Outbox,
    cx: &mut Context<'_>,
) -> io::Result<bool> {
    let mut moved = false;
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = outbox.chunks_vectored(&mut slices);
        match Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..used])? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => {
                outbox.advance(count);
                moved = true;
            }
            Poll::Pending => break,
        }
    }
    Ok(moved)
}

/// Reads what is there, behind what `input` holds already; 0 is the stream's end.
pub(crate) fn poll_read_in(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    room: &Room,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if input.capacity() - input.len() < room.least {
        input.reserve(room.size);
    }
    pin!(stream.read_buf(input)).poll(cx)
}
