//! Who is at the other end of a connection: the certificate chain that TLS has verified.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::Extension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use smqtt_pki::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tower::Layer;

/// The certificate chain that a peer has presented, its own first; empty if it has presented none.
pub(crate) type PeerChain = Arc<[CertificateDer<'static>]>;

/// Accepts TLS connections and gives each request the [`PeerChain`] of its connection.
#[derive(Clone)]
pub(crate) struct PeerAcceptor<A> {
    inner: RustlsAcceptor<A>,
}

impl<A> PeerAcceptor<A> {
    pub(crate) fn new(inner: RustlsAcceptor<A>) -> Self {
        Self { inner }
    }
}

type WithPeer<S> = <Extension<PeerChain> as Layer<S>>::Service;

impl<A, I, S> Accept<I, S> for PeerAcceptor<A>
where
    A: Accept<I, S> + Clone + Send + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: Send,
    A::Future: Send,
    I: Send + 'static,
    S: Send + 'static,
{
    type Stream = TlsStream<A::Stream>;
    type Service = WithPeer<<RustlsAcceptor<A> as Accept<I, S>>::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let accepting = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or(&[]);
            let chain: PeerChain = chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect();
            Ok((stream, Extension(chain).layer(service)))
        })
    }
}
