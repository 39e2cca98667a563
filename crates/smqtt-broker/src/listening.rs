//! Listening sockets: one per worker and listener, all at the same place.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, mem};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::Error;
use crate::activation::Activation;
use crate::config::{ListenUrl, Listener, Tcp};
use crate::socket::ListenSocket;

/// A listener that listens.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Where, with the port that was free.
    pub(crate) url: ListenUrl,
    /// One per worker.
    pub(crate) sockets: Vec<ListenSocket>,
    /// Of a Unix socket that this process has made.
    pub(crate) file: Option<SocketFile>,
}

/// Listens for `listener` with `count` sockets: on what systemd has passed for it, else at its URL.
///
/// # Errors
/// [`Error::Listen`], also when another program listens there already: `SO_REUSEPORT` alone would
/// share the port with a second broker of the same user.
pub(crate) fn listen(
    listener: &Listener,
    tcp: &Tcp,
    count: usize,
    passed: &mut Activation,
) -> Result<Vec<Bound>, Error> {
    let refused = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse if listener.url.file().is_some() => {
                "another program listens there, or a file that is no socket stands there: stop it, or choose another path"
            }
            io::ErrorKind::AddrInUse => {
                "another program listens there: stop it or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "use an address of this machine",
            io::ErrorKind::PermissionDenied if listener.url.file().is_some() => {
                "use a directory that the broker may write to"
            }
            io::ErrorKind::PermissionDenied => {
                "use a port from 1024 on, or give the program CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::NotFound => "make the directory first",
            _ => "choose another address",
        };
        Error::Listen {
            url: listener.url.clone(),
            source,
            hint,
        }
    };
    let passed = passed.take(listener);
    if !passed.is_empty() {
        return passed
            .into_iter()
            .map(|socket| adopt(socket, &listener.url, count))
            .collect::<io::Result<_>>()
            .map_err(refused);
    }
    match (listener.url.address(), listener.url.file()) {
        (Some(address), _) => listen_tcp(address, &listener.url, tcp, count),
        (None, Some(path)) => listen_unix(path, listener, tcp, count),
        (None, None) => Err(io::ErrorKind::Unsupported.into()),
    }
    .map(|bound| vec![bound])
    .map_err(refused)
}

/// Sockets among which the system spreads what comes (`SO_REUSEPORT`). Port 0 takes a free one, the
/// same for all of them.
fn listen_tcp(address: SocketAddr, url: &ListenUrl, tcp: &Tcp, count: usize) -> io::Result<Bound> {
    let probe = bind(address, false)?;
    let address = address_of(&probe)?;
    mem::drop(probe);
    let sockets = (0..count)
        .map(|_| {
            let socket = bind(address, true)?;
            // What is accepted has it from here.
            if tcp.keepalive_seconds > 0 {
                let idle = Duration::from_secs(u64::from(tcp.keepalive_seconds));
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
            }
            socket.listen(backlog(tcp))?;
            socket.set_nonblocking(true)?;
            Ok(ListenSocket::Tcp(socket.into()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Bound {
        url: url.at(address),
        sockets,
        file: None,
    })
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

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn backlog(tcp: &Tcp) -> i32 {
    i32::try_from(tcp.backlog).unwrap_or(i32::MAX)
}

/// One socket that all workers accept from: a file stands for one.
fn listen_unix(path: &Path, listener: &Listener, tcp: &Tcp, count: usize) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Before anyone can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(listener.unix_mode.bits()))?;
    socket.listen(backlog(tcp))?;
    socket.set_nonblocking(true)?;
    Ok(Bound {
        url: listener.url.clone(),
        sockets: shared(&ListenSocket::Unix(socket.into()), count)?,
        file: Some(file),
    })
}

/// Removes a socket that an earlier run has left, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A listening socket that systemd has passed, for every worker.
fn adopt(socket: ListenSocket, url: &ListenUrl, count: usize) -> io::Result<Bound> {
    let unfit = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let (listens, at) = match (&socket, url.file()) {
        (ListenSocket::Tcp(socket), None) => {
            socket.set_nonblocking(true)?;
            (
                SockRef::from(socket).is_listener()?,
                url.at(socket.local_addr()?),
            )
        }
        (ListenSocket::Unix(socket), Some(path)) => {
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?;
            let path = bound.as_pathname().unwrap_or(path).to_owned();
            (SockRef::from(socket).is_listener()?, url.at_file(path))
        }
        _ => return unfit("the socket that systemd has passed is of another kind"),
    };
    if !listens {
        return unfit("the socket that systemd has passed does not listen; set Accept=no");
    }
    Ok(Bound {
        url: at,
        sockets: shared(&socket, count)?,
        file: None,
    })
}

fn shared(socket: &ListenSocket, count: usize) -> io::Result<Vec<ListenSocket>> {
    let copy = || {
        Ok(match socket {
            ListenSocket::Tcp(socket) => ListenSocket::Tcp(socket.try_clone()?),
            ListenSocket::Unix(socket) => ListenSocket::Unix(UnixListener::try_clone(socket)?),
        })
    };
    (0..count).map(|_| copy()).collect()
}

/// The file of a Unix socket, removed when dropped unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same =
            fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode);
        if same && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(url: &str, count: usize) -> Result<Bound, Error> {
        let listener = Listener::new(url.parse().expect(url));
        let mut bound = super::listen(
            &listener,
            &Tcp::default(),
            count,
            &mut Activation::default(),
        )?;
        Ok(bound.remove(0))
    }

    #[test]
    fn all_sockets_have_one_port_and_nobody_else_gets_it() {
        let bound = listen("mqtt://127.0.0.1:0", 3).expect("a free port");
        for socket in &bound.sockets {
            let ListenSocket::Tcp(socket) = socket else {
                panic!("TCP was asked for");
            };
            assert_eq!(socket.local_addr().ok(), bound.url.address());
            assert!(SockRef::from(socket).keepalive().expect("set"));
        }
        let refused = listen(&bound.url.to_string(), 1)
            .expect_err("taken")
            .to_string();
        assert!(
            refused.contains("another program listens there"),
            "{refused}"
        );
    }

    #[test]
    fn only_a_socket_that_nobody_answers_is_replaced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("smqtt.sock");
        let url = format!("unix://{}", path.display());
        let first = listen(&url, 2).expect("free");
        let mode = fs::metadata(&path).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        listen(&url, 1).expect_err("it is answered");
        drop(first);
        assert!(!path.exists());
        // One that a killed program has left.
        drop(UnixListener::bind(&path).expect("free"));
        drop(listen(&url, 1).expect("stale"));
        fs::write(&path, "precious").expect("write");
        let refused = listen(&url, 1).expect_err("a file").to_string();
        assert!(refused.contains("no socket stands there"), "{refused}");
        assert!(path.exists());
    }

    #[test]
    fn a_socket_of_another_takes_no_harm() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("smqtt.sock");
        let first = listen(&format!("unix://{}", path.display()), 1).expect("free");
        fs::rename(&path, dir.path().join("moved")).expect("rename");
        let _other = UnixListener::bind(&path).expect("free");
        drop(first);
        assert!(path.exists());
    }
}
