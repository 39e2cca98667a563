//! TLS of the listeners, from the files that the configuration names.

use std::path::Path;
use std::sync::Arc;

use smqtt_pki::tls::{ALPN_MQTT, ClientAuth, server_config};
use smqtt_pki::{TrustAnchor, files};

use crate::Error;
use crate::config::{Config, Listener, Scheme};
use crate::current::{ListenerRules, ListenerTls};

/// What the `mqtts` listeners share.
#[derive(Debug)]
struct TlsFiles<'a> {
    cert: &'a Path,
    key: &'a Path,
    anchor: Option<Arc<TrustAnchor>>,
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
            Some(TlsFiles { cert, key, anchor })
        }
        _ => None,
    };
    config
        .listeners
        .iter()
        .map(|listener| {
            let tls = match (listener.url.scheme(), &files) {
                (Scheme::Mqtts, Some(files)) => Some(listener_tls(listener, files)?),
                _ => None,
            };
            Ok(ListenerRules {
                allow_anonymous: listener.allow_anonymous,
                tls,
            })
        })
        .collect()
}

fn listener_tls(listener: &Listener, files: &TlsFiles<'_>) -> Result<ListenerTls, Error> {
    let chain = files::read_certificates(files.cert).map_err(refused)?;
    let key = files::read_private_key(files.key).map_err(refused)?;
    let client_auth = match &files.anchor {
        None => ClientAuth::None,
        Some(anchor) if listener.allow_anonymous => ClientAuth::Optional(anchor),
        Some(anchor) => ClientAuth::Required(anchor),
    };
    let config = server_config(chain, key, client_auth, &[ALPN_MQTT]).map_err(|error| {
        Error::TlsFiles(format!(
            "{} and {}: {error}",
            files.cert.display(),
            files.key.display()
        ))
    })?;
    Ok(ListenerTls {
        config: Arc::new(config),
        anchor: files.anchor.clone(),
    })
}

fn read_anchor(path: &Path) -> Result<Arc<TrustAnchor>, Error> {
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

/// A root certificate is far smaller.
const MAX_PEM: u64 = 64 * 1024;

fn refused(error: smqtt_pki::Error) -> Error {
    Error::TlsFiles(error.to_string())
}
