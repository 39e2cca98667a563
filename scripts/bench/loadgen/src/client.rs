//! One connection: a socket, with or without TLS, and what waits for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum State {
    Connecting,
    /// Waits for CONNACK or SUBACK.
    Asking,
    Ready,
    Dead,
}

pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) stream: Option<TcpStream>,
    tls: Option<Box<ClientConnection>>,
    /// SUBSCRIBEs to send, each after the answer to the one before.
    pub(crate) requests: VecDeque<Vec<u8>>,
    /// The beginning of a packet whose end has not come.
    pub(crate) partial: Vec<u8>,
    pub(crate) output: Vec<u8>,
    written: usize,
    /// Whether it is told when the socket takes more.
    pub(crate) watches_writes: bool,
    /// Which publisher it is.
    pub(crate) publisher: Option<usize>,
}

/// What a read brought.
pub(crate) struct Input {
    pub(crate) bytes: usize,
    /// Whether there may be more.
    pub(crate) more: bool,
}

impl Client {
    pub(crate) fn new(id: String, requests: VecDeque<Vec<u8>>, publisher: Option<usize>) -> Client {
        Client {
            id,
            state: State::Connecting,
            stream: None,
            tls: None,
            requests,
            partial: Vec::new(),
            output: Vec::new(),
            written: 0,
            watches_writes: true,
            publisher,
        }
    }

    /// Begins to connect.
    pub(crate) fn open(&mut self, port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        set_tcp_nodelay(&socket, true)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.stream = Some(socket.into());
        if let Some(config) = tls {
            let name = ServerName::try_from("localhost").expect("a host name");
            let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
            tls.set_buffer_limit(None);
            self.tls = Some(Box::new(tls));
        }
        Ok(())
    }

    /// Whether something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes what the socket takes; tells whether that was all.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(true);
        };
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&self.output)?;
            self.output.clear();
            while tls.wants_write() {
                match tls.write_tls(stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
        while self.written < self.output.len() {
            match stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads into `buffer`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        let nothing = Input {
            bytes: 0,
            more: false,
        };
        let Some(stream) = &mut self.stream else {
            return Ok(nothing);
        };
        let Some(tls) = &mut self.tls else {
            return match stream.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => Ok(Input {
                    bytes,
                    more: bytes == buffer.len(),
                }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(nothing),
                Err(error) => Err(error),
            };
        };
        match tls.read_tls(stream) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(nothing),
            Err(error) => return Err(error),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        let mut bytes = 0;
        while bytes < buffer.len() {
            match tls.reader().read(&mut buffer[bytes..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes += count,
            }
        }
        Ok(Input {
            bytes,
            more: bytes > 0,
        })
    }
}
