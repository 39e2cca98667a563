//! Listening sockets that systemd has opened and passes at the start (`sd_listen_fds(3)`).

use std::env;

use listenfd::ListenFd;

use crate::Error;
use crate::config::Listener;
use crate::socket::ListenSocket;

/// The sockets that no listener has taken yet, with their `FileDescriptorName=`.
#[derive(Debug, Default)]
pub(crate) struct Activation {
    sockets: Vec<(String, ListenSocket)>,
}

impl Activation {
    /// What was passed to this process; nothing where it was not started so.
    ///
    /// # Errors
    /// [`Error::Activation`] for a descriptor that is no stream socket.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let mut passed = ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let tcp = passed.take_tcp_listener(index).ok().flatten();
            let socket = match tcp {
                Some(tcp) => ListenSocket::Tcp(tcp),
                None => match passed.take_unix_listener(index) {
                    Ok(Some(unix)) => ListenSocket::Unix(unix),
                    _ => {
                        return Err(Error::Activation(format!(
                            "systemd has passed \"{}\", which is no stream socket: use ListenStream= in the socket unit",
                            name.escape_debug()
                        )));
                    }
                },
            };
            sockets.push((name, socket));
        }
        Ok(Activation { sockets })
    }

    /// Takes those that are for `listener`: of its name, or at its address.
    pub(crate) fn take(&mut self, listener: &Listener) -> Vec<ListenSocket> {
        let (taken, left) =
            std::mem::take(&mut self.sockets)
                .into_iter()
                .partition(|(name, socket)| {
                    listener.name.as_ref() == Some(name) || is_at(socket, listener)
                });
        self.sockets = left;
        Vec::into_iter(taken).map(|(_, socket)| socket).collect()
    }

    /// Every socket must have found its listener: a client that connects to one that did not would
    /// wait for ever.
    ///
    /// # Errors
    /// [`Error::Activation`] with the name of one.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.sockets.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::Activation(format!(
                "systemd has passed socket \"{}\", which no listener takes: give a [[listener]] that name, or remove the socket unit",
                name.escape_debug()
            ))),
        }
    }
}

fn is_at(socket: &ListenSocket, listener: &Listener) -> bool {
    match socket {
        ListenSocket::Tcp(socket) => {
            listener.url.address().is_some() && socket.local_addr().ok() == listener.url.address()
        }
        ListenSocket::Unix(socket) => {
            let bound = socket.local_addr().ok();
            let path = bound.as_ref().and_then(|address| address.as_pathname());
            path.is_some() && path == listener.url.file()
        }
    }
}
