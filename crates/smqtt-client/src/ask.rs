//! Asking an authority: JSON over HTTPS.

use std::time::Duration;

use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smqtt_pki::enrolment::{PROBLEM_MEDIA_TYPE, Problem};
use smqtt_pki::tls;

use crate::Error;

/// The longest answer that is read from an authority, in bytes.
pub(crate) const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// An authority that can be asked.
pub(crate) struct Authority {
    url: Url,
    client: reqwest::Client,
    timeout: Duration,
    /// What it is asked for, for errors.
    doing: &'static str,
}

impl Authority {
    pub(crate) fn new(
        url: &Url,
        tls: rustls::ClientConfig,
        timeout: Duration,
        doing: &'static str,
    ) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            // The pinned authority answers itself or not at all.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .timeout(timeout);
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::Option(format!("no HTTPS client: {error}")))?;
        Ok(Self {
            url: url.clone(),
            client,
            timeout,
            doing,
        })
    }

    /// The authority's URL without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Sends a request and reads the answer; `null` where it has no body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        let url = format!("{}{path}", self.base());
        let sending = self.client.post(url).json(request).send();
        let mut answer = sending.await.map_err(|error| self.transport_error(error))?;

        let status = answer.status();
        let is_problem = answer
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with(PROBLEM_MEDIA_TYPE));
        let mut body = zeroize::Zeroizing::new(Vec::new());
        while let Some(part) = answer
            .chunk()
            .await
            .map_err(|error| self.transport_error(error))?
        {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(Error::AuthorityAnswer(format!(
                    "it is longer than {MAX_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            let text = if body.is_empty() { b"null" } else { &body[..] };
            return serde_json::from_slice(text)
                .map_err(|error| Error::AuthorityAnswer(format!("it does not parse: {error}")));
        }
        if !is_problem {
            return Err(Error::AuthorityAnswer(format!("HTTP status {status}")));
        }
        let problem: Problem = serde_json::from_slice(&body)
            .map_err(|error| Error::AuthorityAnswer(format!("HTTP status {status}: {error}")))?;
        Err(Error::EnrolmentRefused {
            status: status.as_u16(),
            code: problem
                .code()
                .map_or_else(String::new, |code| code.to_string()),
            detail: problem.to_string(),
        })
    }

    fn transport_error(&self, error: reqwest::Error) -> Error {
        let peer = self.base().to_owned();
        if let Some(mismatch) = tls::pin_mismatch(&error) {
            return Error::Untrusted {
                peer,
                reason: mismatch.to_string(),
            };
        }
        if let Some(tls) = tls::tls_error(&error) {
            return crate::transport::rustls_error(&peer, tls);
        }
        if error.is_timeout() {
            return Error::TimedOut {
                peer,
                doing: self.doing,
                after: self.timeout,
            };
        }
        let source = innermost(&error);
        if is_broken(&source) {
            return Error::Broken {
                peer,
                doing: self.doing,
                source,
            };
        }
        if error.is_connect() || error.is_request() {
            return Error::Unreachable { peer, source };
        }
        Error::AuthorityAnswer(error.to_string())
    }
}

/// Whether the peer was there, and ended the connection.
fn is_broken(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof
    )
}

/// The I/O error at the bottom of a chain of causes, or the chain's last words.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> std::io::Error {
    let mut cause = error;
    loop {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(io.kind(), io.to_string()),
            };
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return std::io::Error::other(cause.to_string()),
        }
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
