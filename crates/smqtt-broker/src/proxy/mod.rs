//! The header of the PROXY protocol, read from a socket.

mod header;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use header::{Header, Invalid, Proxied};

use crate::socket::Socket;

/// A header while it arrives. Not a byte behind it is taken from the socket.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    header: Header,
}

impl Reader {
    /// Reads on, as far as the socket has bytes.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::InvalidData`] with an [`Invalid`].
    pub(crate) fn poll(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Proxied>> {
        loop {
            let missing = self.header.missing().map_err(invalid)?;
            if missing == 0 {
                return Poll::Ready(self.header.parse().map_err(invalid));
            }
            let mut space = [0; 512];
            let wanted = missing.min(space.len());
            let mut buf = ReadBuf::new(&mut space[..wanted]);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.header.push(buf.filled());
        }
    }
}

fn invalid(error: Invalid) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
