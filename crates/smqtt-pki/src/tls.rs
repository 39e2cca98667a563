//! TLS configurations: X25519MLKEM768 first; TLS 1.3, and 1.2 only for a server that is told so.
//!
//! Every configuration carries its cryptographic provider (aws-lc-rs), so that a program needs no process-wide one.
//! Handshakes draw randomness from the operating system and read its clock; that is rustls' own business.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::{
    AuthorityIdentity, Error, Fingerprint, Identity, Intermediate, Revocations, TrustAnchor,
    Validity,
};

/// The ALPN protocol of MQTT, as IANA registers it.
pub const ALPN_MQTT: &[u8] = b"mqtt";

/// The cryptography that all configurations use: aws-lc-rs with TLS 1.3 suites, hybrid X25519MLKEM768 before X25519,
/// P-256 and P-384 as key exchanges.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = preferences();
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// With TLS 1.2 suites too: ECDHE with authenticated encryption, as rustls has no others.
fn preferences() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    provider
}

/// A device's client configuration: presents its certificate, trusts its authority's root and no other.
///
/// # Errors
/// [`Error::Tls`] if rustls refuses the key or a certificate.
pub fn client_config(identity: &Identity, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(identity.trust_anchor())?)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().to_der()?)?;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

/// The configuration with which the authority itself connects to brokers.
///
/// # Errors
/// As [`client_config`].
pub fn authority_client_config(
    identity: &AuthorityIdentity,
    anchor: &TrustAnchor,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(anchor)?)
        .with_client_auth_cert(
            identity.certificate().chain.clone(),
            identity.key().to_der()?,
        )?;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

/// A client configuration that presents no certificate and trusts this root only.
///
/// # Errors
/// [`Error::Tls`] if rustls refuses the root.
pub fn anonymous_client_config(
    anchor: &TrustAnchor,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(anchor)?)
        .with_no_client_auth();
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

/// A client configuration for who knows nothing but the root's fingerprint, as a device does that enrols.
///
/// The server must send its root along; the certificate whose SHA-256 is `pin` becomes the only trust anchor. The
/// server's name and validity are checked as always. Where no certificate has the fingerprint, the handshake fails with
/// an error in which [`pin_mismatch`] finds a [`PinMismatch`].
///
/// # Errors
/// [`Error::Tls`] if rustls refuses the configuration.
pub fn pinned_client_config(pin: Fingerprint, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedRoot { pin, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug)]
pub enum ClientAuth<'a> {
    /// No certificate is asked for.
    None,
    /// A certificate may be presented; if one is, it must lead to this root.
    Optional(Trusted<'a>),
    /// A certificate that leads to this root must be presented.
    Required(Trusted<'a>),
}

/// Which client certificates a server accepts.
#[derive(Clone, Copy, Debug)]
pub struct Trusted<'a> {
    /// The root that they lead to.
    pub anchor: &'a TrustAnchor,
    /// Those that the root's authority has taken back. With lists, whoever they say nothing about is refused: everyone
    /// once one is past its validity, and whoever has a certificate of an intermediate that has no list among them.
    pub revocations: Option<&'a Revocations>,
}

impl<'a> From<&'a TrustAnchor> for Trusted<'a> {
    /// All that lead to this root.
    fn from(anchor: &'a TrustAnchor) -> Self {
        Trusted {
            anchor,
            revocations: None,
        }
    }
}

/// The oldest version of TLS that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldestTls {
    /// TLS 1.2, for clients that cannot do better: without post-quantum key exchange.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A server's configuration, with TLS 1.3 only. `chain` begins with the server's certificate and should end with the
/// root, so that clients can pin it.
///
/// Sessions are resumed by stateless tickets, whose keys change every few hours and are known to this configuration
/// alone. They are not resumed where client certificates are asked for: a resumed session would skip their verification,
/// and with it expiry and revocation.
///
/// # Errors
/// [`Error::Tls`] if the key does not belong to the certificate, or rustls refuses either.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_auth: ClientAuth<'_>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    server_config_from(OldestTls::V1_3, chain, key, client_auth, alpn)
}

/// As [`server_config`], from this version of TLS on.
///
/// # Errors
/// As [`server_config`].
pub fn server_config_from(
    oldest: OldestTls,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_auth: ClientAuth<'_>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let (provider, versions) = match oldest {
        OldestTls::V1_2 => (Arc::new(preferences()), rustls::ALL_VERSIONS),
        OldestTls::V1_3 => (provider(), &[&rustls::version::TLS13][..]),
    };
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let verifier = |trusted: Trusted<'_>| {
        let roots = Arc::new(roots(trusted.anchor)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        Ok::<_, Error>(match trusted.revocations {
            None => builder,
            Some(revocations) => builder
                .with_crls(revocations.lists().map(|list| list.der().clone()))
                .enforce_revocation_expiration(),
        })
    };
    let unusable =
        |e: rustls::server::VerifierBuilderError| Error::Tls(rustls::Error::General(e.to_string()));
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional(trusted) => builder.with_client_cert_verifier(
            verifier(trusted)?
                .allow_unauthenticated()
                .build()
                .map_err(unusable)?,
        ),
        ClientAuth::Required(trusted) => {
            builder.with_client_cert_verifier(verifier(trusted)?.build().map_err(unusable)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = owned(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match client_auth {
        ClientAuth::None => config.ticketer = aws_lc_rs::Ticketer::new()?,
        ClientAuth::Optional(_) | ClientAuth::Required(_) => config.send_tls13_tickets = 0,
    }
    Ok(config)
}

/// A server's configuration for renewals, with TLS 1.3 only: a client may present a certificate, which must lead to this root, or
/// to one of these intermediates of it, and be valid, or have expired at most `grace` ago. Whether it, or the intermediate, was
/// taken back or is over is for the caller to ask.
///
/// # Errors
/// As [`server_config`].
pub fn renewal_server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    anchor: &TrustAnchor,
    intermediates: &[Intermediate],
    grace: Duration,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let mut roots = roots(anchor)?;
    for intermediate in intermediates {
        // Its signature was verified once and for all.
        roots.add(intermediate.certificate().clone())?;
    }
    let roots = Arc::new(roots);
    let strict = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::Tls(rustls::Error::General(e.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(WithGrace { strict, grace }))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = owned(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Verifies clients as webpki does, and those whose certificate has expired lately as of its last second.
#[derive(Debug)]
struct WithGrace {
    strict: Arc<dyn ClientCertVerifier>,
    grace: Duration,
}

impl ClientCertVerifier for WithGrace {
    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let strictly = self
            .strict
            .verify_client_cert(end_entity, intermediates, now);
        let Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) = &strictly
        else {
            return strictly;
        };
        let last = crate::anchor::parse(end_entity)
            .and_then(|parsed| Validity::of(&parsed))
            .map_err(other)?
            .not_after();
        let over = now.as_secs().saturating_sub(last.as_secs());
        if over > self.grace.as_secs() {
            return strictly;
        }
        self.strict
            .verify_client_cert(end_entity, intermediates, last)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// The server presented another root than the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's root certificate is {presented}, but {expected} is expected")]
pub struct PinMismatch {
    /// The fingerprint that was pinned.
    pub expected: Fingerprint,
    /// The fingerprint of the last certificate that the server presented: its root, if it sends one.
    pub presented: Fingerprint,
}

/// Finds a [`PinMismatch`] in an error or its causes, through `io::Error` and `rustls::Error`.
#[must_use]
pub fn pin_mismatch<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a PinMismatch> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Finds the TLS error in an error or its causes, through `io::Error`: it tells a peer that is not trusted (or does not
/// trust us) from one that can not be reached.
#[must_use]
pub fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    // Causes are a chain of a few; the bound guards against one that loops.
    for _ in 0..32 {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // io::Error's source() is its inner error's source: the inner error itself has to be asked for.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Verifies a server whose chain must hold the certificate with the pinned fingerprint.
#[derive(Debug)]
struct PinnedRoot {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(root) = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.pin)
        else {
            let presented = Fingerprint::of(intermediates.last().unwrap_or(end_entity));
            return Err(other(PinMismatch {
                expected: self.pin,
                presented,
            }));
        };
        let anchor = TrustAnchor::new(root.clone().into_owned()).map_err(other)?;
        anchor.validity().check(now).map_err(|e| match e {
            Error::Expired => CertificateError::Expired.into(),
            Error::NotYetValid => CertificateError::NotValidYet.into(),
            unexpected => other(unexpected),
        })?;
        let roots = roots(&anchor).map_err(other)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn other(error: impl StdError + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn roots(anchor: &TrustAnchor) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(anchor.root().clone())?;
    Ok(roots)
}

/// Verifies servers as webpki does: to this root, and with what its list says of intermediates. Lists of the intermediates
/// themselves are the brokers' business, so a certificate that no list says anything about is taken.
fn server_verifier(anchor: &TrustAnchor) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let roots = Arc::new(roots(anchor)?);
    let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
    let builder = match anchor.list() {
        None => builder,
        Some(list) => builder
            .with_crls([list.der().clone()])
            .allow_unknown_revocation_status(),
    };
    builder
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|e| Error::Tls(rustls::Error::General(e.to_string())))
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
