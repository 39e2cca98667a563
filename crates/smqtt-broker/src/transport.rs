//! A client's socket, with what lies between it and MQTT, driven without blocking: a PROXY header,
//! then TLS, then WebSocket, each only where the listener has it.
//!
//! All of it is driven here rather than by stream wrappers, because a connection is written to at
//! the end of a pass by whoever touched it, not only by the task that reads it.

use std::future::Future;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::ServerConnection;
use smqtt_proto::Outbox;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::capture::CaptureFile;
use crate::proxy::{self, Proxied};
use crate::socket::{DetachedSocket, Socket};
use crate::websocket::{Refused, WebRules, WebSocket};

/// A connected socket and the state of what lies over it.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    layers: Layers,
    peer_closed: bool,
}

/// What lies between a socket and MQTT, from below.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// A header that has yet to come.
    proxy: Option<Box<proxy::Reader>>,
    tls: Option<Box<ServerConnection>>,
    web: Option<Box<WebSocket>>,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// This many bytes were appended; 0 for a step that brought no MQTT.
    Bytes(usize),
    /// The PROXY header has come.
    Proxied(Proxied),
    /// The peer will send nothing more.
    Closed,
}

/// A transport taken off its runtime, to be put on another thread's.
#[derive(Debug)]
pub(crate) struct Detached {
    socket: DetachedSocket,
    layers: Layers,
}

impl Layers {
    /// A PROXY header must come first.
    pub(crate) fn with_proxy(mut self) -> Self {
        self.proxy = Some(Box::default());
        self
    }

    /// TLS that has yet to shake hands.
    pub(crate) fn with_tls(mut self, mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(TLS_BUFFER));
        self.tls = Some(Box::new(tls));
        self
    }

    /// A WebSocket that has yet to be opened.
    pub(crate) fn with_websocket(mut self, rules: Arc<WebRules>) -> Self {
        self.web = Some(Box::new(WebSocket::new(rules)));
        self
    }
}

impl Transport {
    /// A socket that was just accepted.
    pub(crate) fn new(socket: Socket, layers: Layers) -> Self {
        Transport {
            socket,
            layers,
            peer_closed: false,
        }
    }

    /// The TLS state, if this is a TLS connection.
    pub(crate) fn tls_state(&self) -> Option<&ServerConnection> {
        self.layers.tls.as_deref()
    }

    /// Whether something has yet to happen before MQTT can be spoken.
    pub(crate) fn is_handshaking(&self) -> bool {
        let Layers { proxy, tls, web } = &self.layers;
        proxy.is_some()
            || tls.as_ref().is_some_and(|tls| tls.is_handshaking())
            || web.as_ref().is_some_and(|web| web.is_opening())
    }

    /// Whether a [`Transport::flush`] has something to write even when no MQTT is waiting.
    pub(crate) fn wants_write(&self) -> bool {
        let Layers { tls, web, .. } = &self.layers;
        tls.as_ref().is_some_and(|tls| tls.wants_write())
            || web.as_ref().is_some_and(|web| web.wants_write())
    }

    /// Registers the task to be woken when the socket takes bytes again.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Appends what the socket has to `into`, at most about its spare capacity, or registers the
    /// task to be woken when there is something.
    ///
    /// A read that leaves spare capacity has emptied the socket, so that the next call costs no
    /// system call.
    ///
    /// # Errors
    /// The socket's, and [`io::ErrorKind::InvalidData`] for a peer that breaks the rules of what
    /// lies under MQTT.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<ReadOutcome>> {
        if let Some(proxy) = &mut self.layers.proxy {
            let proxied = ready!(proxy.poll(&mut self.socket, cx))?;
            self.layers.proxy = None;
            return Poll::Ready(Ok(ReadOutcome::Proxied(proxied)));
        }
        if self.layers.web.as_ref().is_some_and(|web| web.has_ended()) {
            return Poll::Ready(Ok(ReadOutcome::Closed));
        }
        let from = into.len();
        let outcome = ready!(self.poll_read_below(cx, into))?;
        let Some(web) = &mut self.layers.web else {
            return Poll::Ready(Ok(outcome));
        };
        if outcome == ReadOutcome::Closed {
            return Poll::Ready(Ok(outcome));
        }
        let received = web.receive(into, from);
        let ended = web.has_ended();
        if ended {
            // Nobody comes back to write the answer: what the socket does not take now is lost.
            let _ = self.flush(&mut Outbox::default(), None);
        }
        if let Err(refused) = received {
            let error = io::Error::new(io::ErrorKind::InvalidData, refused);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(match into.len() - from {
            0 if ended => ReadOutcome::Closed,
            n => ReadOutcome::Bytes(n),
        }))
    }

    /// Reads what lies under a WebSocket.
    fn poll_read_below(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<ReadOutcome>> {
        let Some(tls) = &mut self.layers.tls else {
            let read = pin!(self.socket.read_buf(into));
            return read.poll(cx).map_ok(|n| {
                if n == 0 {
                    ReadOutcome::Closed
                } else {
                    ReadOutcome::Bytes(n)
                }
            });
        };
        let before = into.len();
        let limit = into.capacity();
        while !self.peer_closed && into.len() < limit {
            let mut socket = PolledRead {
                socket: &mut self.socket,
                cx,
            };
            match tls.read_tls(&mut socket) {
                Ok(0) => self.peer_closed = true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Poll::Ready(Err(e)),
            }
            match tls.process_new_packets() {
                Ok(state) => self.peer_closed |= state.peer_has_closed(),
                Err(error) => {
                    // The alert that tells the peer what was wrong.
                    let _ = tls.write_tls(&mut SocketIo(&self.socket));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            take_plaintext(tls, into)?;
            if tls.is_handshaking() || tls.wants_write() {
                // What TLS itself has to say comes before what else there is to read.
                return Poll::Ready(Ok(ReadOutcome::Bytes(into.len() - before)));
            }
        }
        match into.len() - before {
            0 if self.peer_closed => Poll::Ready(Ok(ReadOutcome::Closed)),
            0 => Poll::Pending,
            n => Poll::Ready(Ok(ReadOutcome::Bytes(n))),
        }
    }

    /// Writes what is waiting, as far as the socket takes it; `Ok(true)` when all of it went.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn flush(
        &mut self,
        out: &mut Outbox,
        capture: Option<&CaptureFile>,
    ) -> io::Result<bool> {
        let record = |slices: &[IoSlice<'_>], taken: usize| {
            if let Some(capture) = capture {
                let mut left = taken;
                for slice in slices {
                    let part = left.min(slice.len());
                    capture.append(&slice[..part]);
                    left -= part;
                }
            }
        };
        let socket = &self.socket;
        let Layers { tls, web, .. } = &mut self.layers;
        let result = match tls {
            None => drain(web, out, |slices| socket.try_write_vectored(slices), record),
            Some(tls) => loop {
                if let Err(error) = send_records(tls, socket) {
                    break Err(error);
                }
                if out.is_empty() && !web.as_ref().is_some_and(|web| web.wants_write()) {
                    break Ok(());
                }
                let fill = |slices: &[IoSlice<'_>]| match tls.writer().write_vectored(slices)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                };
                match drain(web, out, fill, record) {
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => break Err(e),
                    _ => {}
                }
            },
        };
        match result {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Ends what lies over the socket: WebSocket and TLS each have a word for it, so that the peer
    /// knows that nothing was cut off.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(web) = &mut self.layers.web {
            web.close(CloseCode::Normal);
            let _ = self.flush(&mut Outbox::default(), None);
        }
        if let Some(tls) = &mut self.layers.tls {
            tls.send_close_notify();
            let _ = send_records(tls, &self.socket);
        }
    }

    /// Ends the sending direction, so that the peer reads everything and then the end.
    pub(crate) fn shutdown_write(&self) {
        self.socket.shutdown_write();
    }

    /// Takes the socket off this thread's runtime, in its place.
    pub(crate) fn lift(&mut self) {
        self.socket.lift();
    }

    /// Puts the socket on this thread's runtime, in its place.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn land(&mut self) -> io::Result<()> {
        self.socket.land()
    }

    /// Takes the socket off this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached {
            socket: self.socket.detach()?,
            layers: self.layers,
        })
    }

    /// Puts a socket on this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn attach(detached: Detached) -> io::Result<Self> {
        Ok(Transport {
            socket: Socket::attach(detached.socket)?,
            layers: detached.layers,
            peer_closed: false,
        })
    }
}

/// What kind of fault a failed read is in the log, each kind with a limit of its own.
pub(crate) fn kind_of(error: &io::Error) -> &'static str {
    match error.get_ref() {
        Some(inner) if inner.is::<Refused>() => "websocket",
        Some(inner) if inner.is::<proxy::Invalid>() => "proxy-header",
        _ => "tls",
    }
}

/// Hands what is waiting to `write`, in frames where there is a WebSocket, and tells `record` what
/// went out of the outbox.
fn drain(
    web: &mut Option<Box<WebSocket>>,
    out: &mut Outbox,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    record: impl Fn(&[IoSlice<'_>], usize),
) -> io::Result<()> {
    match web {
        Some(web) => web.drain(out, write, record),
        None => out.drain_into(|slices| {
            let taken = write(slices)?;
            record(slices, taken);
            Ok(taken)
        }),
    }
}

/// Plaintext and records that rustls may hold for one connection; more stays in the [`Outbox`].
const TLS_BUFFER: usize = 32 * 1024;

fn send_records(tls: &mut ServerConnection, socket: &Socket) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut SocketIo(socket)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Moves what was decrypted to `into`.
fn take_plaintext(tls: &mut ServerConnection, into: &mut BytesMut) -> io::Result<()> {
    let mut reader = tls.reader();
    loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => {
                let taken = bytes.len();
                into.extend_from_slice(bytes);
                reader.consume(taken);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Cut off without close_notify: MQTT has its own end, so this is an ordinary loss.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// The socket as rustls reads it: `WouldBlock` when the task was registered instead.
struct PolledRead<'a, 'b> {
    socket: &'a mut Socket,
    cx: &'a mut Context<'b>,
}

impl Read for PolledRead<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as rustls writes it: `WouldBlock` rather than waiting.
struct SocketIo<'a>(&'a Socket);

impl Write for SocketIo<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
