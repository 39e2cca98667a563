//! One connection to a broker: the stream and the protocol on it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smqtt_proto::client::{self, Event};
use smqtt_proto::packet::{ConnAck, DisconnectProperties};
use smqtt_proto::{Closed, InFlight, PacketId, ReasonCode, Session};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::{Room, poll_read_in, write_out};
use crate::transport::{Transport, tls_error};
use crate::{BrokerAddress, Error, Loss, Timeouts};

const ROOM: Room = Room {
    size: 64 * 1024,
    least: 4 * 1024,
};

/// How long the broker may take to close its side after DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection on which the broker has said yes.
pub(crate) struct Link {
    transport: Transport,
    pub(crate) mqtt: client::Connection,
    input: BytesMut,
    /// Bytes were handed to the transport that it may still buffer.
    unflushed: bool,
}

/// What it takes to make a link, again and again.
#[derive(Clone)]
pub(crate) struct Dialler {
    pub(crate) address: BrokerAddress,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) timeouts: Timeouts,
    pub(crate) mqtt: client::Options,
}

/// A new link and what the broker said.
pub(crate) struct Opened {
    pub(crate) link: Link,
    pub(crate) connack: Box<ConnAck>,
    /// What was in flight and is forgotten by the broker.
    pub(crate) forgotten: Vec<(PacketId, InFlight)>,
}

impl Dialler {
    async fn connect(&self) -> Result<Transport, Error> {
        // A frame holds one packet or many, and what else stands in it.
        let max_frame = self.mqtt.max_packet_size as usize + ROOM.size;
        Transport::connect(&self.address, &self.tls, &self.timeouts, max_frame).await
    }

    /// Makes a connection that goes on with `session`. On failure the session is left as it was.
    pub(crate) async fn dial(&self, session: &mut Session) -> Result<Opened, Error> {
        let peer = self.address.to_string();
        let transport = self.connect().await?;
        let mqtt =
            client::Connection::new(self.mqtt.clone(), std::mem::take(session), Instant::now())
                .map_err(|error| {
                    Error::Option(format!("the options make no valid CONNECT: {error}"))
                })?;
        let mut link = Link {
            transport,
            mqtt,
            input: BytesMut::new(),
            unflushed: false,
        };
        let answer = tokio::time::timeout(self.timeouts.mqtt, link.handshake(&peer)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::TimedOut {
                peer,
                doing: "waiting for its CONNACK",
                after: self.timeouts.mqtt,
            })
        });
        match answer {
            Ok((connack, forgotten)) => Ok(Opened {
                link,
                connack,
                forgotten,
            }),
            Err(error) => {
                *session = link.mqtt.take_session();
                Err(error)
            }
        }
    }
}

impl Link {
    async fn handshake(
        &mut self,
        peer: &str,
    ) -> Result<(Box<ConnAck>, Vec<(PacketId, InFlight)>), Error> {
        loop {
            match self.mqtt.poll_event() {
                Some(Event::Connected { connack, lost }) => return Ok((connack, lost)),
                Some(Event::Closed(closed)) => return Err(refusal(peer, &closed)),
                Some(_) => {}
                None => match self.progress(true).await {
                    Ok(Moved::EndOfStream) => self.mqtt.handle_end_of_stream(),
                    Ok(Moved::Bytes) => {}
                    Err(error) => return Err(tls_error(peer, "waiting for its CONNACK", error)),
                },
            }
        }
    }

    /// Writes what is waiting and, if `read`, reads what is there; resolves when either moved
    /// something. May be dropped at any time.
    pub(crate) async fn progress(&mut self, read: bool) -> io::Result<Moved> {
        poll_fn(|cx| self.poll_progress(cx, read)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Moved>> {
        let mut moved = write_out(&mut self.transport, self.mqtt.outbox(), cx)?;
        self.unflushed |= moved;
        if self.unflushed && Pin::new(&mut self.transport).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        if read && self.mqtt.wants_input() {
            match poll_read_in(&mut self.transport, &mut self.input, &ROOM, cx)? {
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

    /// Whether everything that was said has left for the socket.
    pub(crate) fn is_flushed(&mut self) -> bool {
        !self.unflushed && self.mqtt.outbox().is_empty()
    }

    /// Says DISCONNECT and closes the stream. The session lives on for so many seconds, or for as long as
    /// the CONNECT said. MQTT 3.1.1 can say it in the CONNECT only.
    pub(crate) async fn close(mut self, session_expiry: Option<u32>) -> io::Result<()> {
        let properties = DisconnectProperties {
            session_expiry_interval: session_expiry,
            ..DisconnectProperties::default()
        };
        self.mqtt.disconnect(ReasonCode::Success, properties);
        while !self.is_flushed() {
            self.progress(false).await?;
        }
        self.transport.shutdown().await?;
        // A socket that is closed with bytes unread resets the connection, and the reset may overtake
        // the DISCONNECT: the broker would keep the session.
        let drained = async {
            self.input.clear();
            while matches!(self.transport.read_buf(&mut self.input).await, Ok(1..)) {
                self.input.clear();
            }
        };
        let _ = tokio::time::timeout(FAREWELL, drained).await;
        Ok(())
    }

    /// Says DISCONNECT, for as long as the broker takes to hear it, and keeps the session, here and there.
    pub(crate) async fn leave(mut self) -> Session {
        self.mqtt
            .disconnect(ReasonCode::Success, DisconnectProperties::default());
        let said = async {
            while !self.is_flushed() {
                self.progress(false).await?;
            }
            self.transport.shutdown().await
        };
        let _ = tokio::time::timeout(FAREWELL, said).await;
        self.mqtt.take_session()
    }

    /// Writes the last words of a connection that is over, as far as the socket takes them at once.
    pub(crate) async fn say_last_words(&mut self) {
        let last = poll_fn(|cx| {
            let _ = self.poll_progress(cx, false);
            Poll::Ready(())
        });
        last.await;
    }
}

/// What [`Link::progress`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Bytes,
    EndOfStream,
}

/// Why the broker did not let us in.
fn refusal(peer: &str, closed: &Closed) -> Error {
    let peer = peer.to_owned();
    match closed {
        Closed::Refused(connack) => {
            let reason = connack.reason;
            let text = connack.properties.reason_string.as_ref();
            let text = text.map_or_else(String::new, |text| format!(": {}", text.as_str()));
            if is_passing(reason) {
                return Error::Busy {
                    peer,
                    reason: format!("{reason}{text}"),
                };
            }
            Error::Refused {
                peer,
                reason: format!("{reason}{text}"),
            }
        }
        Closed::EndOfStream => Error::Broken {
            peer,
            doing: "waiting for its CONNACK",
            source: io::ErrorKind::UnexpectedEof.into(),
        },
        Closed::HandshakeTimeout => Error::ConnectionLost(Loss::new(closed)),
        Closed::Violation(violation) => Error::Protocol(violation.to_string()),
        other => Error::ConnectionLost(Loss::new(other)),
    }
}

/// Why an established connection ended.
pub(crate) fn loss(closed: &Closed) -> Loss {
    match closed {
        Closed::Disconnected(disconnect) => {
            let text = disconnect.properties.reason_string.as_ref();
            let text = text.map_or_else(String::new, |text| format!(": {}", text.as_str()));
            let reason = format!("the broker ended it: {}{text}", disconnect.reason);
            match disconnect.reason {
                passing if is_passing(passing) => Loss::new(reason),
                ReasonCode::AdministrativeAction => Loss::dismissed(reason),
                _ => Loss::refused(reason),
            }
        }
        Closed::EndOfStream => Loss::new("the broker closed it"),
        Closed::KeepAlive => Loss::new("the broker was silent for too long"),
        Closed::Violation(violation) => Loss::new(format_args!(
            "the broker does not speak MQTT as it should: {violation}"
        )),
        other => Loss::new(other),
    }
}

/// Whether a refusal passes by itself: trying again later makes sense.
fn is_passing(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
    )
}
