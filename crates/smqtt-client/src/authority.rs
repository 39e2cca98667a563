//! What a device asks its authority, beside enrolment.

use std::time::Duration;

use smqtt_pki::Identity;
use smqtt_pki::tls;

use crate::Error;
use crate::ask::{MAX_ANSWER, innermost, is_loopback};

/// Whether and when an authority answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// The authority's clock, in seconds since 1970-01-01T00:00:00Z, if it told.
    pub time: Option<u64>,
}

/// Asks the authority of an identity for a sign of life, over HTTPS with its root pinned.
///
/// # Errors
///
/// [`Error::Address`] if the identity's authority is no HTTPS URL; [`Error::Unreachable`],
/// [`Error::TimedOut`], [`Error::Untrusted`], [`Error::Tls`].
pub async fn authority_presence(identity: &Identity, limit: Duration) -> Result<Presence, Error> {
    let answer = get(identity, "/healthz", limit).await?;
    let time = answer
        .headers()
        .get(reqwest::header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
        .and_then(|time| u64::try_from(time.timestamp().as_second()).ok());
    Ok(Presence { time })
}

/// The newest revocation lists of an identity's authority, PEM, as they came: for
/// [`Revocations::read`](smqtt_pki::Revocations::read), which verifies them. `None` while it has issued none.
///
/// # Errors
///
/// As [`authority_presence`]; [`Error::AuthorityAnswer`] for an answer that is none, or longer than 32 MiB.
pub async fn authority_revocations(
    identity: &Identity,
    limit: Duration,
) -> Result<Option<Vec<u8>>, Error> {
    let mut answer = get(identity, "/v1/crl", limit).await?;
    let status = answer.status();
    if status == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !status.is_success() {
        return Err(Error::AuthorityAnswer(format!("HTTP status {status}")));
    }
    let mut text = Vec::new();
    let address = identity.authority();
    while let Some(part) = answer
        .chunk()
        .await
        .map_err(|error| sorted(address, limit, &error))?
    {
        if text.len() + part.len() > MAX_ANSWER {
            return Err(Error::AuthorityAnswer(format!(
                "its revocation list is longer than {MAX_ANSWER} bytes"
            )));
        }
        text.extend_from_slice(&part);
    }
    Ok(Some(text))
}

/// Asks for a page that needs no login.
async fn get(identity: &Identity, path: &str, limit: Duration) -> Result<reqwest::Response, Error> {
    let address = identity.authority();
    let url = reqwest::Url::parse(address).map_err(|error| Error::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    })?;
    let fingerprint = identity.trust_anchor().fingerprint();
    let tls = tls::pinned_client_config(fingerprint, &[b"http/1.1"]).map_err(Error::Identity)?;
    let asked = format!("{}{path}", url.as_str().trim_end_matches('/'));
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limit)
        .timeout(limit);
    if is_loopback(&url) {
        builder = builder.no_proxy();
    }
    let client = builder
        .build()
        .map_err(|error| Error::Option(format!("no HTTPS client: {error}")))?;
    client
        .get(asked)
        .send()
        .await
        .map_err(|error| sorted(address, limit, &error))
}

fn sorted(address: &str, limit: Duration, error: &reqwest::Error) -> Error {
    let peer = address.to_owned();
    if let Some(mismatch) = tls::pin_mismatch(error) {
        return Error::Untrusted {
            peer,
            reason: mismatch.to_string(),
        };
    }
    if let Some(tls) = tls::tls_error(error) {
        return crate::transport::rustls_error(&peer, tls);
    }
    if error.is_timeout() {
        return Error::TimedOut {
            peer,
            doing: "waiting for its answer",
            after: limit,
        };
    }
    let source = innermost(error);
    Error::Unreachable { peer, source }
}
