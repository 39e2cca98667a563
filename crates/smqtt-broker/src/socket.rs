//! Sockets of either kind: TCP and Unix, listening and connected.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{net, os::unix};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::peer::Peer;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// On its way between two threads; none if it was lost there.
    Lifted(Option<DetachedSocket>),
}

/// A connected socket that belongs to no runtime.
#[derive(Debug)]
pub(crate) enum DetachedSocket {
    Tcp(net::TcpStream),
    Unix(unix::net::UnixStream),
}

impl Socket {
    /// Registers the task to be woken when the socket takes bytes again.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(socket) => socket.poll_write_ready(cx),
            Socket::Unix(socket) => socket.poll_write_ready(cx),
            Socket::Lifted(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.try_write(bytes),
            Socket::Unix(socket) => socket.try_write(bytes),
            Socket::Lifted(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // For a single slice `send` costs the kernel less than `writev`.
        if let [slice] = slices {
            return self.try_write(slice);
        }
        match self {
            Socket::Tcp(socket) => socket.try_write_vectored(slices),
            Socket::Unix(socket) => socket.try_write_vectored(slices),
            Socket::Lifted(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends the sending direction.
    pub(crate) fn shutdown_write(&self) {
        let _ = match self {
            Socket::Tcp(socket) => socket2::SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket2::SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Lifted(_) => Ok(()),
        };
    }

    /// Takes it off this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn detach(self) -> io::Result<DetachedSocket> {
        Ok(match self {
            Socket::Tcp(socket) => DetachedSocket::Tcp(socket.into_std()?),
            Socket::Unix(socket) => DetachedSocket::Unix(socket.into_std()?),
            Socket::Lifted(socket) => socket.ok_or(io::ErrorKind::NotConnected)?,
        })
    }

    /// Takes it off this thread's runtime, in its place.
    pub(crate) fn lift(&mut self) {
        let socket = std::mem::replace(self, Socket::Lifted(None));
        *self = Socket::Lifted(socket.detach().ok());
    }

    /// Puts it on this thread's runtime, in its place.
    ///
    /// # Errors
    /// The system's; one that was lost on the way is not connected.
    pub(crate) fn land(&mut self) -> io::Result<()> {
        let socket = std::mem::replace(self, Socket::Lifted(None));
        *self = Socket::attach(socket.detach()?)?;
        Ok(())
    }

    /// Puts one on this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn attach(detached: DetachedSocket) -> io::Result<Self> {
        Ok(match detached {
            DetachedSocket::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            DetachedSocket::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Lifted(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// A listening socket that belongs to no runtime.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    Tcp(net::TcpListener),
    Unix(unix::net::UnixListener),
}

impl ListenSocket {
    /// The same socket once more.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            ListenSocket::Tcp(socket) => ListenSocket::Tcp(socket.try_clone()?),
            ListenSocket::Unix(socket) => ListenSocket::Unix(socket.try_clone()?),
        })
    }
}

/// A listening socket on this thread's runtime.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Puts a listening socket on this thread's runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn attach(socket: ListenSocket) -> io::Result<Self> {
        Ok(match socket {
            ListenSocket::Tcp(socket) => Acceptor::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix(socket) => Acceptor::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Acceptor::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                // A packet goes out as soon as it is written: what belongs together is written at once.
                let _ = socket.set_nodelay(true);
                Ok((Socket::Tcp(socket), Peer::Address(peer)))
            }
            Acceptor::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                let process = socket.peer_cred().ok();
                let peer = Peer::Local {
                    uid: process.map(|process| process.uid()),
                    pid: process.and_then(|process| process.pid()),
                };
                Ok((Socket::Unix(socket), peer))
            }
        }
    }
}
