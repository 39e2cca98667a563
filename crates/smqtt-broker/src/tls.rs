//! TLS of the listeners, from the files that the configuration names.

use std::path::Path;
use std::sync::Arc;

use smqtt_pki::tls::{ALPN_MQTT, ClientAuth, OldestTls, Trusted, server_config_from};
use smqtt_pki::{Revocations, TrustAnchor, UnixTime, Validity, files};

use crate::Error;
use crate::config::{ClientCertificate, Config, Listener, TlsVersion};
use crate::current::{ListenerRules, ListenerTls};

/// ALPN of who opens a WebSocket, browsers above all.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// What the listeners with TLS share.
#[derive(Debug)]
struct TlsFiles<'a> {
    cert: &'a Path,
    key: &'a Path,
    anchor: Option<Arc<TrustAnchor>>,
    revocations: Option<Arc<Revocations>>,
}

/// Prepares the rules of every listener of a validated configuration.
///
/// # Errors
/// [`Error::TlsFiles`] when a file is missing, unreadable, readable by others, or does not fit.
pub(crate) fn prepare(config: &Config) -> Result<Vec<ListenerRules>, Error> {
    let files = match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => {
            let anchor = config
                .tls
                .client_ca
                .as_deref()
                .map(read_anchor)
                .transpose()?;
            let revocations = match (&config.tls.crl, &anchor) {
                (Some(path), Some(anchor)) => Some(read_crl(path, anchor)?),
                _ => None,
            };
            Some(TlsFiles {
                cert,
                key,
                anchor,
                revocations,
            })
        }
        _ => None,
    };
    config
        .listeners
        .iter()
        .map(|listener| {
            let tls = match (listener.url.scheme().is_tls(), &files) {
                (true, Some(files)) => {
                    let passwords = config.access.passwords.is_some();
                    Some(listener_tls(listener, passwords, files)?)
                }
                _ => None,
            };
            Ok(ListenerRules::new(config, listener, tls))
        })
        .collect()
}

fn listener_tls(
    listener: &Listener,
    passwords: bool,
    files: &TlsFiles<'_>,
) -> Result<ListenerTls, Error> {
    let chain = files::read_certificates(files.cert).map_err(refused)?;
    let key = files::read_private_key(files.key).map_err(refused)?;
    let revocations = files.revocations.as_deref();
    let asked = match listener.client_certificate(files.anchor.is_some()) {
        // Unless it was asked for, whoever has a password need not have a certificate.
        ClientCertificate::Required if passwords && listener.client_certificate.is_none() => {
            ClientCertificate::Optional
        }
        asked => asked,
    };
    let client_auth = match (&files.anchor, asked) {
        (None, _) | (_, ClientCertificate::None) => ClientAuth::None,
        (Some(anchor), ClientCertificate::Optional) => ClientAuth::Optional(Trusted {
            anchor,
            revocations,
        }),
        (Some(anchor), ClientCertificate::Required) => ClientAuth::Required(Trusted {
            anchor,
            revocations,
        }),
    };
    let oldest = match listener.tls_min_version {
        TlsVersion::V1_2 => OldestTls::V1_2,
        TlsVersion::V1_3 => OldestTls::V1_3,
    };
    let alpn = match listener.url.scheme().is_websocket() {
        true => ALPN_HTTP,
        false => ALPN_MQTT,
    };
    let config = server_config_from(oldest, chain, key, client_auth, &[alpn]).map_err(|error| {
        Error::TlsFiles(format!(
            "{} and {}: {error}",
            files.cert.display(),
            files.key.display()
        ))
    })?;
    Ok(ListenerTls {
        config: Arc::new(config),
        anchor: files.anchor.clone(),
        revocations: files.revocations.clone(),
    })
}

pub(crate) fn read_anchor(path: &Path) -> Result<Arc<TrustAnchor>, Error> {
    let text = files::read(
        path,
        MAX_PEM,
        "give the authority's root certificate with --tls-client-ca",
    )
    .map_err(refused)?;
    let anchor = TrustAnchor::from_pem(&text)
        .map_err(|error| Error::TlsFiles(format!("{}: {error}", path.display())))?;
    Ok(Arc::new(anchor))
}

/// An expired list is taken, so that a restart or another change is not held up by it: then nobody is
/// admitted by certificate, and the log says so. One from the future tells of a wrong clock.
fn read_crl(path: &Path, anchor: &TrustAnchor) -> Result<Arc<Revocations>, Error> {
    let unusable = |reason: String| Error::TlsFiles(format!("{}: {reason}", path.display()));
    let text = files::read(
        path,
        MAX_CRL,
        "give the authority's revocation list with --tls-crl",
    )
    .map_err(refused)?;
    let lists = Revocations::read(&text, anchor).map_err(|error| unusable(error.to_string()))?;
    let begins = lists.validity().not_before().as_secs();
    if begins > UnixTime::now().as_secs() + Validity::CLOCK_SKEW.as_secs() {
        return Err(unusable(
            "the revocation list is not valid yet: check this machine's clock".into(),
        ));
    }
    Ok(Arc::new(lists))
}

/// Room for a million certificates.
const MAX_CRL: u64 = 64 * 1024 * 1024;
/// A root certificate is far smaller.
const MAX_PEM: u64 = 64 * 1024;

fn refused(error: smqtt_pki::Error) -> Error {
    Error::TlsFiles(error.to_string())
}
