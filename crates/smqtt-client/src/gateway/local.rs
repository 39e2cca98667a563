//! One local client's connection: the stream and the protocol on it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smqtt_proto::server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::link::Moved;
use crate::connection::stream::{Room, poll_read_in, write_out};

const ROOM: Room = Room {
    size: 16 * 1024,
    least: 2 * 1024,
};
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
        let mut moved = write_out(&mut self.stream, self.mqtt.outbox(), cx)?;
        if read && self.mqtt.wants_input() {
            match poll_read_in(&mut self.stream, &mut self.input, &ROOM, cx)? {
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
