//! One local client's connection: the stream and the protocol on it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use smqtt_proto::server;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::link::Moved;

/// Bytes that are read at a time.
const READ: usize = 16 * 1024;
/// Free room below which the read buffer gets new memory.
const READ_AT_LEAST: usize = 2 * 1024;
/// Slices of one vectored write.
const SLICES: usize = 16;
/// How long a client has to take its last packet.
const LINGER: Duration = Duration::from_secs(2);

/// A stream from a local client.
pub(super) struct Local {
    stream: TcpStream,
    pub(super) mqtt: server::Connection,
    input: BytesMut,
    pub(super) peer: SocketAddr,
}

impl Local {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, config: Arc<server::Config>) -> Self {
        // A refused TCP_NODELAY costs latency, nothing else.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            mqtt: server::Connection::new(config, Instant::now()),
            input: BytesMut::new(),
            peer,
        }
    }

    /// Writes what is waiting and, if `read`, reads what is there; resolves when either moved
    /// something. May be dropped at any time.
    pub(super) async fn progress(&mut self, read: bool) -> io::Result<Moved> {
        poll_fn(|cx| self.poll_progress(cx, read)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Moved>> {
        let mut moved = false;
        while !self.mqtt.outbox().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let outbox = self.mqtt.outbox();
            let used = outbox.chunks_vectored(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..used])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    outbox.advance(count);
                    moved = true;
                }
                Poll::Pending => break,
            }
        }
        if read && self.mqtt.wants_input() {
            if self.input.capacity() - self.input.len() < READ_AT_LEAST {
                self.input.reserve(READ);
            }
            let reading = pin!(self.stream.read_buf(&mut self.input));
            match reading.poll(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(Moved::EndOfStream)),
                Poll::Ready(_) => {
                    self.mqtt.handle_input(Instant::now(), &mut self.input);
                    moved = true;
                }
                Poll::Pending => {}
            }
        }
        if moved {
            Poll::Ready(Ok(Moved::Bytes))
        } else {
            Poll::Pending
        }
    }

    /// Writes what is waiting and closes the stream, as far as the client takes it in time.
    pub(super) async fn close(mut self) {
        let last_words = async {
            while !self.mqtt.outbox().is_empty() {
                self.progress(false).await?;
            }
            self.stream.shutdown().await?;
            // A socket that is closed with bytes unread resets the connection, and the reset may
            // overtake the last packet.
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, last_words).await;
    }
}
