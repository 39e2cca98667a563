//! Who is at the other end of a connection: the certificate chain that TLS has verified, or an account of this machine.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Extension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use smqtt_pki::CertificateDer;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;
use tower::Layer;

use super::bounded::{Bounded, Bounds};
use crate::metrics::Metrics;

/// The certificate chain that a peer has presented, its own first; empty if it has presented none.
pub(crate) type PeerChain = Arc<[CertificateDer<'static>]>;

/// Who asks.
#[derive(Debug)]
pub(crate) enum Peer {
    /// Somebody over the network.
    Network { address: IpAddr, chain: PeerChain },
    /// An account of this machine, on the administrators' socket.
    #[cfg_attr(not(unix), allow(dead_code))]
    Local { uid: u32 },
}

/// A connection, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) peer: Peer,
    asked: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Connection {
    fn new(peer: Peer, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            asked: AtomicBool::new(false),
            metrics,
        })
    }

    /// A request was read from it.
    pub(super) fn note_request(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// The peer's address; that of this machine for one of its accounts.
    pub(super) fn address(&self) -> IpAddr {
        match &self.peer {
            Peer::Network { address, .. } => *address,
            Peer::Local { .. } => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// The certificate chain that it has presented.
    pub(super) fn chain(&self) -> PeerChain {
        match &self.peer {
            Peer::Network { chain, .. } => chain.clone(),
            Peer::Local { .. } => Arc::new([]),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.asked.load(Ordering::Relaxed) {
            self.metrics.connection_silent();
        }
    }
}

type WithConnection<S> = <Extension<Arc<Connection>> as Layer<S>>::Service;
type Accepting<I, S> = Pin<Box<dyn Future<Output = io::Result<(I, S)>> + Send>>;

/// Accepts TLS connections and gives each request its [`Connection`].
#[derive(Clone)]
pub(crate) struct PeerAcceptor {
    inner: RustlsAcceptor<Bounds>,
    metrics: Arc<Metrics>,
}

impl PeerAcceptor {
    pub(crate) fn new(inner: RustlsAcceptor<Bounds>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S> Accept<TcpStream, S> for PeerAcceptor
where
    S: Send + 'static,
{
    type Stream = TlsStream<Bounded<TcpStream>>;
    type Service = WithConnection<<RustlsAcceptor<Bounds> as Accept<TcpStream, S>>::Service>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let address = stream.peer_addr();
        let accepting = self.inner.accept(stream, service);
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let address = address?.ip();
            let (stream, service) = accepting.await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or(&[]);
            let chain: PeerChain = chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect();
            let connection = Connection::new(Peer::Network { address, chain }, metrics);
            Ok((stream, Extension(connection).layer(service)))
        })
    }
}

/// Accepts connections on the administrators' socket and gives each request its [`Connection`].
#[cfg(unix)]
#[derive(Clone)]
pub(crate) struct LocalAcceptor {
    inner: Bounds,
    metrics: Arc<Metrics>,
}

#[cfg(unix)]
impl LocalAcceptor {
    pub(crate) fn new(inner: Bounds, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

#[cfg(unix)]
impl<S> Accept<UnixStream, S> for LocalAcceptor
where
    S: Send + 'static,
{
    type Stream = Bounded<UnixStream>;
    type Service = WithConnection<S>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: UnixStream, service: S) -> Self::Future {
        let account = stream.peer_cred();
        let accepting = self.inner.accept(stream, service);
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let uid = account?.uid();
            let (stream, service) = accepting.await?;
            let connection = Connection::new(Peer::Local { uid }, metrics);
            Ok((stream, Extension(connection).layer(service)))
        })
    }
}
