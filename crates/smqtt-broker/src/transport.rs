//! A client's socket, with or without TLS, driven without blocking.
//!
//! TLS is driven here rather than by a stream wrapper, because a connection is written to at the
//! end of a pass by whoever touched it, not only by the task that reads it.

use std::future::Future;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::ServerConnection;
use smqtt_proto::Outbox;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;

use crate::capture::CaptureFile;

/// A connected socket and its TLS state.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    peer_closed: bool,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// This many bytes were appended; 0 for a step of the TLS handshake.
    Bytes(usize),
    /// The peer will send nothing more.
    Closed,
}

/// A transport taken off its runtime, to be put on another thread's.
#[derive(Debug)]
pub(crate) struct Detached {
    stream: std::net::TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    /// A plain socket.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Transport {
            stream,
            tls: None,
            peer_closed: false,
        }
    }

    /// A socket on which `tls` has yet to shake hands.
    pub(crate) fn tls(stream: TcpStream, mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(TLS_BUFFER));
        Transport {
            stream,
            tls: Some(Box::new(tls)),
            peer_closed: false,
        }
    }

    /// The TLS state, if this is a TLS connection.
    pub(crate) fn tls_state(&self) -> Option<&ServerConnection> {
        self.tls.as_deref()
    }

    /// Whether a TLS handshake has yet to end.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Registers the task to be woken when the socket takes bytes again.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Appends what the socket has to `into`, at most about its spare capacity, or registers the
    /// task to be woken when there is something.
    ///
    /// A read that leaves spare capacity has emptied the socket, so that the next call costs no
    /// system call.
    ///
    /// # Errors
    /// The socket's, and [`io::ErrorKind::InvalidData`] with a [`rustls::Error`] for a peer that
    /// breaks the rules of TLS.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<ReadOutcome>> {
        let Some(tls) = &mut self.tls else {
            let read = pin!(self.stream.read_buf(into));
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
                stream: &mut self.stream,
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
                    let _ = tls.write_tls(&mut SocketIo(&self.stream));
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
            taken
        };
        let result = match &mut self.tls {
            None => {
                out.drain_into(|slices| Ok(record(slices, self.stream.try_write_vectored(slices)?)))
            }
            Some(tls) => loop {
                if let Err(error) = send_records(tls, &self.stream) {
                    break Err(error);
                }
                if out.is_empty() {
                    break Ok(());
                }
                let fed = out.drain_into(|slices| match tls.writer().write_vectored(slices)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    taken => Ok(record(slices, taken)),
                });
                match fed {
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

    /// Queues the TLS close notification; the next [`Transport::flush`] sends it.
    pub(crate) fn send_close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// Ends the sending direction, so that the peer reads everything and then the end.
    pub(crate) fn shutdown_write(&self) {
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
    }

    /// Takes the socket off this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached {
            stream: self.stream.into_std()?,
            tls: self.tls,
        })
    }

    /// Puts a socket on this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn attach(detached: Detached) -> io::Result<Self> {
        Ok(Transport {
            stream: TcpStream::from_std(detached.stream)?,
            tls: detached.tls,
            peer_closed: false,
        })
    }
}

/// Plaintext and records that rustls may hold for one connection; more stays in the [`Outbox`].
const TLS_BUFFER: usize = 32 * 1024;

fn send_records(tls: &mut ServerConnection, stream: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut SocketIo(stream)) {
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
    stream: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for PolledRead<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as rustls writes it: `WouldBlock` rather than waiting.
struct SocketIo<'a>(&'a TcpStream);

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
