//! TCP, TLS and WebSocket to a broker.

mod websocket;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{BrokerAddress, Error, Timeouts};

use websocket::WebSocket;

/// A connected stream: plain or TLS, and MQTT on it as it is or in WebSocket frames.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    PlainWebSocket(Box<WebSocket<TcpStream>>),
    TlsWebSocket(Box<WebSocket<TlsStream<TcpStream>>>),
}

impl Transport {
    /// Connects, within the time limits. `tls` is used if the address asks for TLS; `max_frame` bounds WebSocket frames.
    pub(crate) async fn connect(
        address: &BrokerAddress,
        tls: &Arc<rustls::ClientConfig>,
        timeouts: &Timeouts,
        max_frame: usize,
    ) -> Result<Self, Error> {
        let connecting = TcpStream::connect((address.host(), address.port()));
        let tcp = tokio::time::timeout(timeouts.connect, connecting)
            .await
            .map_err(|_| Error::TimedOut {
                peer: address.to_string(),
                doing: "connecting",
                after: timeouts.connect,
            })?
            .map_err(|source| Error::Unreachable {
                peer: address.to_string(),
                source,
            })?;
        // A refused TCP_NODELAY costs latency, nothing else.
        let _ = tcp.set_nodelay(true);
        if !address.is_tls() {
            if !address.is_websocket() {
                return Ok(Self::Plain(tcp));
            }
            let opening = WebSocket::open(address, tcp, max_frame);
            let opened = opened(address, timeouts, opening).await?;
            return Ok(Self::PlainWebSocket(Box::new(opened)));
        }
        let name = ServerName::try_from(address.host().to_owned()).map_err(|_| Error::Address {
            address: address.to_string(),
            reason: "the host is neither a DNS name nor an IP address".to_owned(),
        })?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, tcp);
        let stream = tokio::time::timeout(timeouts.tls, handshake)
            .await
            .map_err(|_| Error::TimedOut {
                peer: address.to_string(),
                doing: "agreeing on TLS",
                after: timeouts.tls,
            })?
            .map_err(|error| tls_error(&address.to_string(), "agreeing on TLS", error))?;
        if !address.is_websocket() {
            return Ok(Self::Tls(Box::new(stream)));
        }
        let opening = WebSocket::open(address, stream, max_frame);
        let opened = opened(address, timeouts, opening).await?;
        Ok(Self::TlsWebSocket(Box::new(opened)))
    }
}

/// A WebSocket, if it opens in time.
async fn opened<T>(
    address: &BrokerAddress,
    timeouts: &Timeouts,
    opening: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeouts.mqtt, opening)
        .await
        .unwrap_or_else(|_| {
            Err(Error::TimedOut {
                peer: address.to_string(),
                doing: "opening a WebSocket",
                after: timeouts.mqtt,
            })
        })
}

/// Sorts an I/O error of a TLS stream into trust, refusal, and the rest.
pub(crate) fn tls_error(peer: &str, doing: &'static str, error: io::Error) -> Error {
    match smqtt_pki::tls::tls_error(&error) {
        Some(tls) => rustls_error(peer, tls),
        None => Error::Broken {
            peer: peer.to_owned(),
            doing,
            source: error,
        },
    }
}

/// Sorts a TLS error into trust, refusal, and the rest.
pub(crate) fn rustls_error(peer: &str, error: &rustls::Error) -> Error {
    let peer = peer.to_owned();
    match error {
        rustls::Error::InvalidCertificate(reason) => Error::Untrusted {
            peer,
            reason: certificate_reason(reason),
        },
        rustls::Error::NoCertificatesPresented => Error::Untrusted {
            peer,
            reason: "it presented no certificate".to_owned(),
        },
        rustls::Error::AlertReceived(alert) => match alert_reason(*alert) {
            Some(reason) => Error::Refused {
                peer,
                reason: reason.to_owned(),
            },
            None => Error::Tls {
                peer,
                reason: format!("it sent the alert {alert:?}"),
            },
        },
        rustls::Error::InvalidMessage(_) => Error::Tls {
            peer,
            reason: "what answers there does not speak TLS".to_owned(),
        },
        other => Error::Tls {
            peer,
            reason: other.to_string(),
        },
    }
}

/// Why a peer's certificate was not accepted, in words.
fn certificate_reason(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError as C;
    match error {
        C::Expired | C::ExpiredContext { .. } => {
            "its certificate has expired: renew it, or check this machine's clock".to_owned()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check this machine's clock".to_owned()
        }
        C::UnknownIssuer => {
            "its certificate was not issued by this identity's authority".to_owned()
        }
        C::Revoked => "its certificate is revoked".to_owned(),
        C::Other(other) => other.0.to_string(),
        // Name mismatches carry both names in rustls's own words.
        other => format!("its certificate is not acceptable: {other}"),
    }
}

/// What a TLS alert says about this device's certificate, if it says anything about it.
fn alert_reason(alert: rustls::AlertDescription) -> Option<&'static str> {
    use rustls::AlertDescription as A;
    Some(match alert {
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => {
            "it does not accept this device's certificate"
        }
        A::CertificateRevoked => "this device's certificate is revoked",
        A::CertificateExpired => "this device's certificate has expired: enrol again",
        A::UnknownCA => "it does not know the authority that issued this device's certificate",
        A::AccessDenied => "access denied",
        A::CertificateRequired => "it wants a client certificate",
        _ => return None,
    })
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::PlainWebSocket(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::TlsWebSocket(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::PlainWebSocket(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::TlsWebSocket(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::PlainWebSocket(stream) => {
                Pin::new(stream.as_mut()).poll_write_vectored(cx, slices)
            }
            Self::TlsWebSocket(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::PlainWebSocket(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::TlsWebSocket(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::PlainWebSocket(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::TlsWebSocket(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
