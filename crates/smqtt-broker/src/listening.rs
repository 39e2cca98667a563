//! Listening sockets: one per worker and listener, all at the same address.

use std::net::{SocketAddr, TcpListener};
use std::{io, mem};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Error;

/// Connections that may wait to be accepted by one worker; the system may allow fewer.
const BACKLOG: i32 = 4_096;

/// Listens on `address` with `count` sockets, among which the system spreads what comes
/// (`SO_REUSEPORT`). Port 0 takes a free one, the same for all of them.
///
/// # Errors
/// [`Error::Listen`], also when another program listens there already: `SO_REUSEPORT` alone would
/// share the port with a second broker of the same user.
pub(crate) fn listen(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Error> {
    let refused = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there: stop it or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "use an address of this machine",
            io::ErrorKind::PermissionDenied => {
                "use a port from 1024 on, or give the program CAP_NET_BIND_SERVICE"
            }
            _ => "choose another address",
        };
        Error::Listen {
            address,
            source,
            hint,
        }
    };
    let probe = bind(address, false).map_err(refused)?;
    let address = probe
        .local_addr()
        .and_then(|bound| bound.as_socket().ok_or(io::ErrorKind::Unsupported.into()))
        .map_err(refused)?;
    mem::drop(probe);
    (0..count)
        .map(|_| {
            let socket = bind(address, true)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()
        .map_err(refused)
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier run that are not quite gone are no reason to wait.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_have_one_port_and_nobody_else_gets_it() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        let sockets = listen(any, 3).expect("a free port");
        let bound = sockets[0].local_addr().expect("bound");
        assert!(
            sockets
                .iter()
                .all(|s| s.local_addr().expect("bound") == bound)
        );
        let refused = listen(bound, 1).expect_err("taken").to_string();
        assert!(
            refused.contains("another program listens there"),
            "{refused}"
        );
    }
}
