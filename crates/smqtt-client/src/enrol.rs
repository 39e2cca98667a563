//! Enrolment: a one-time token becomes an identity directory.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use smqtt_abe::cp;
use smqtt_pki::enrolment::{
    ENROL_PATH, EnrolRequest, EnrolResponse, PROBLEM_MEDIA_TYPE, Problem, SecretText,
};
use smqtt_pki::{DeviceId, Fingerprint, Identity, IdentityKey, IdentityParts, tls};
use smqtt_policy::{AttributeSet, Epoch};

use crate::{BrokerAddress, Error, clock};

/// The longest answer that is read from an authority, in bytes.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// What an enrolment needs: where the authority is, how to recognise it, and the token.
pub struct Enrolment {
    authority: Url,
    fingerprint: Fingerprint,
    token: SecretText,
    timeout: Duration,
}

impl Enrolment {
    /// An enrolment at the authority with this `https://` URL, which is recognised by its root
    /// certificate's fingerprint, with a token that it gave out.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the URL is not one of an authority.
    pub fn new(
        authority: &str,
        fingerprint: Fingerprint,
        token: impl AsRef<str>,
    ) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Address {
            address: authority.to_owned(),
            reason: reason.to_owned(),
        };
        let url = Url::parse(authority).map_err(|_| refuse("write it as https://HOST:PORT"))?;
        if url.scheme() != "https" {
            return Err(refuse("an authority is reached by https only"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("the host is missing"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(
                "user name and password do not belong in the address",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("neither ? nor # belongs in it"));
        }
        Ok(Self {
            authority: url,
            fingerprint,
            token: SecretText::from(token.as_ref()),
            timeout: Duration::from_secs(30),
        })
    }

    /// How long the authority may take to answer. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The authority's URL without a slash at its end.
    fn base(&self) -> &str {
        self.authority.as_str().trim_end_matches('/')
    }

    fn http_client(&self) -> Result<reqwest::Client, Error> {
        let tls =
            tls::pinned_client_config(self.fingerprint, &[b"http/1.1"]).map_err(Error::Identity)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            // The pinned authority answers itself or not at all.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeout)
            .timeout(self.timeout);
        if is_loopback(&self.authority) {
            builder = builder.no_proxy();
        }
        builder
            .build()
            .map_err(|error| Error::Option(format!("no HTTPS client: {error}")))
    }

    /// Asks the authority; the key stays here, only a request signed by it is sent.
    async fn request(&self, key: &IdentityKey) -> Result<EnrolResponse, Error> {
        let request = EnrolRequest {
            token: self.token.clone(),
            csr: key.unnamed_csr_pem().map_err(Error::Identity)?,
        };
        let url = format!("{}{ENROL_PATH}", self.base());
        let sending = self.http_client()?.post(url).json(&request).send();
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
            return serde_json::from_slice(&body)
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
                doing: "enrolling",
                after: self.timeout,
            };
        }
        let source = innermost(&error);
        if is_broken(&source) {
            return Error::Broken {
                peer,
                doing: "enrolling",
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

/// What a device became by enrolling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Enrolled {
    /// The name under which the authority registered the device.
    pub device: DeviceId,
    /// The attributes that the authority gave it, without the epoch.
    pub attributes: AttributeSet,
    /// The epoch for which its attribute key holds.
    pub epoch: Epoch,
    /// The broker, if the authority named one.
    pub broker: Option<String>,
}

/// Enrols this device and writes its identity to `directory`, which must not exist yet.
///
/// The private key is made here and never leaves the device. Everything that the authority answers
/// is checked before it is written, and it is written whole or not at all. That the directory can be
/// made is found out before the token is spent.
///
/// # Errors
///
/// [`Error::Identity`] if the directory exists or cannot be written, [`Error::Untrusted`] if the
/// authority is not the one with the fingerprint, [`Error::EnrolmentRefused`] with its reason,
/// [`Error::Unreachable`], [`Error::TimedOut`], [`Error::AuthorityAnswer`].
pub async fn enrol(enrolment: Enrolment, directory: &Path) -> Result<Enrolled, Error> {
    let reservation = Identity::reserve(directory).map_err(Error::Identity)?;
    let key = IdentityKey::generate(&mut rand::rng());
    let answer = enrolment.request(&key).await?;
    let enrolled = check(&enrolment, &answer)?;
    reservation
        .complete(&IdentityParts {
            device: &answer.device,
            authority: enrolment.base(),
            broker: answer.broker.as_deref(),
            suite: answer.suite,
            key: &key,
            chain_pem: &answer.certificate_chain,
            ca_pem: &answer.ca,
            parameters: &answer.parameters,
            attribute_key: answer.attribute_key.reveal(),
        })
        .map_err(Error::Identity)?;
    Ok(enrolled)
}

/// Checks that the parts of an answer belong together, so that no unusable identity is ever written.
fn check(enrolment: &Enrolment, answer: &EnrolResponse) -> Result<Enrolled, Error> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        Error::AuthorityAnswer(format!("{what}: {error}"))
    };
    let (chain, anchor) = answer
        .certificates()
        .map_err(|error| unusable("its certificates", &error))?;
    if anchor.fingerprint() != enrolment.fingerprint {
        return Err(Error::Untrusted {
            peer: enrolment.base().to_owned(),
            reason: format!(
                "it gave out the root certificate {}, but {} is expected",
                anchor.fingerprint(),
                enrolment.fingerprint
            ),
        });
    }
    let device = anchor
        .verify_device(&chain, clock::now())
        .map_err(|error| unusable("the device's certificate", &error))?;
    if device.id() != &answer.device {
        return Err(Error::AuthorityAnswer(format!(
            "the certificate is for {}, the answer for {}",
            device.id(),
            answer.device
        )));
    }
    if answer.suite != smqtt_abe::Suite::FabeoCpBls12381 as u8 {
        return Err(Error::AuthorityAnswer(format!(
            "suite {} is not known: update this program",
            answer.suite
        )));
    }
    let parameters = cp::PublicParameters::from_bytes(&answer.parameters)
        .map_err(|error| unusable("the public parameters", &error))?;
    let key = cp::AttributeKey::from_bytes(answer.attribute_key.reveal(), &parameters)
        .map_err(|error| unusable("the attribute key", &error))?;
    if let Some(broker) = &answer.broker {
        broker.parse::<BrokerAddress>()?;
    }
    Ok(Enrolled {
        device: answer.device.clone(),
        attributes: key.attributes().without_epoch(),
        epoch: key
            .epoch()
            .ok_or_else(|| Error::AuthorityAnswer("the attribute key is of no epoch".to_owned()))?,
        broker: answer.broker.clone(),
    })
}
