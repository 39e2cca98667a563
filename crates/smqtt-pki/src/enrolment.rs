//! The messages of the authority's HTTP API that a device meets when it enrols and when it renews.
//!
//! `POST /v1/enrol` takes an [`EnrolRequest`], `POST /v1/renew` over mutual TLS a [`RenewRequest`]; both answer with an
//! [`EnrolResponse`]. `POST /v1/renew/confirm` over mutual TLS with the new certificate takes a [`RenewConfirmation`]. What is
//! refused is answered with a [`Problem`] of media type `application/problem+json` (RFC 9457).

use core::fmt;
use core::str::FromStr;

use data_encoding::{BASE32_NOPAD_NOCASE, BASE64};
use rand::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    CertificateDer, CertificateRequest, DeviceId, Error, TrustAnchor, certificates_from_pem,
};

/// Where a device enrols, below the authority's URL.
pub const ENROL_PATH: &str = "/v1/enrol";
/// Where a device renews, below the authority's URL.
pub const RENEW_PATH: &str = "/v1/renew";
/// Where a device says that it uses what it was given at a renewal, below the authority's URL.
pub const RENEW_CONFIRM_PATH: &str = "/v1/renew/confirm";
/// Where the ABE public parameters are, below the authority's URL.
pub const PARAMETERS_PATH: &str = "/v1/parameters";
/// Where the root certificate (PEM) is, below the authority's URL.
pub const CA_PATH: &str = "/v1/ca";
/// The media type of a [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// A one-time token with which a device enrols: 160 random bits. Erased when dropped; shown by
/// [`EnrolmentToken::reveal`] only.
///
/// Text form: 32 characters of base32 (`a`-`z`, `2`-`7`), read in either case.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EnrolmentToken([u8; 20]);

impl EnrolmentToken {
    /// A new token.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The token as text.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(BASE32_NOPAD_NOCASE.encode(&self.0));
        text.make_ascii_lowercase();
        text
    }

    /// SHA-256 of the token's 20 bytes: what an authority keeps and looks up. The token has too much entropy to be
    /// guessed from it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

/// A text that is no enrolment token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token: give the 32 letters and digits that `smqtt-authority device add` printed"
)]
pub struct NotAToken;

impl FromStr for EnrolmentToken {
    type Err = NotAToken;

    fn from_str(s: &str) -> Result<Self, NotAToken> {
        let s = s.trim();
        if s.len() != 32 {
            return Err(NotAToken);
        }
        let decoded = Zeroizing::new(
            BASE32_NOPAD_NOCASE
                .decode(s.as_bytes())
                .map_err(|_| NotAToken)?,
        );
        decoded
            .as_slice()
            .try_into()
            .map(Self)
            .map_err(|_| NotAToken)
    }
}

/// Text that is a secret on its way: erased when dropped, no `Debug`, no `Display`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// The secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Bytes that are a secret: base64 (RFC 4648 §4, padded) in JSON, erased when dropped, no `Debug`, no `Display`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// The secret.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        BASE64
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// `POST /v1/enrol`: exchange a token and a certificate request for an identity.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The one-time token, see [`EnrolmentToken`].
    pub token: SecretText,
    /// The certificate request: PKCS#10, PEM, under no name or the device's, see [`CertificateRequest`].
    pub csr: String,
}

/// The answer to an [`EnrolRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The device's name.
    pub device: DeviceId,
    /// The device's certificate chain, PEM, its own certificate first.
    pub certificate_chain: String,
    /// The authority's root certificate, PEM.
    pub ca: String,
    /// The root's own revocation list, PEM, if there is an intermediate below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_list: Option<String>,
    /// The id of the ABE suite.
    pub suite: u8,
    /// ABE public parameters, base64 in JSON.
    #[serde(with = "base64_text")]
    pub parameters: Vec<u8>,
    /// ABE attribute key, base64 in JSON.
    pub attribute_key: SecretBytes,
    /// The epoch that the attribute key is for.
    pub epoch: u64,
    /// The device's attributes, canonical text.
    pub attributes: String,
    /// The broker's URL, if the authority knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// From when publishers seal for which epoch, epochs ascending. Empty: for `epoch`, from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealing: Vec<SealingEpoch>,
    /// The authority's schema of attributes, TOML, if it has one: what policies are checked against before anything is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What key policies need; `None` from an authority that does not have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_policy: Option<KeyPolicyGrant>,
}

/// The key-policy part of an answer: every device can seal with tags, one that has a key policy can open what its policy allows.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyPolicyGrant {
    /// The id of the ABE suite.
    pub suite: u8,
    /// ABE public parameters, base64 in JSON.
    #[serde(with = "base64_text")]
    pub parameters: Vec<u8>,
    /// What the device may open, if it has such a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<PolicyKeyGrant>,
}

/// A key policy and the key for it.
#[derive(Clone, Serialize, Deserialize)]
pub struct PolicyKeyGrant {
    /// The key policy, canonical text.
    pub policy: String,
    /// ABE policy key of the answer's epoch, base64 in JSON.
    pub key: SecretBytes,
}

/// From when publishers seal for an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealingEpoch {
    /// The epoch.
    pub epoch: u64,
    /// From this second on, since 1970.
    pub from: u64,
}

impl From<smqtt_format::Sealing> for SealingEpoch {
    fn from(sealing: smqtt_format::Sealing) -> Self {
        Self {
            epoch: sealing.epoch,
            from: sealing.from,
        }
    }
}

impl From<SealingEpoch> for smqtt_format::Sealing {
    fn from(sealing: SealingEpoch) -> Self {
        Self {
            epoch: sealing.epoch,
            from: sealing.from,
        }
    }
}

/// `POST /v1/renew`: exchange a certificate, presented in the TLS handshake, for a new one and an attribute key of the current
/// epoch. Asking again gives an answer that is as good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The certificate request: PKCS#10, PEM, under no name or the device's.
    pub csr: String,
}

/// `POST /v1/renew/confirm`: the device uses the certificate that it presents, and the attribute key of this epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RenewConfirmation {
    /// The attribute key's epoch.
    pub epoch: u64,
}

impl EnrolResponse {
    /// The certificate chain and the root, read.
    ///
    /// # Errors
    /// Those of [`certificates_from_pem`] and [`TrustAnchor::from_pem`].
    pub fn certificates(&self) -> Result<(Vec<CertificateDer<'static>>, TrustAnchor), Error> {
        Ok((
            certificates_from_pem(self.certificate_chain.as_bytes())?,
            TrustAnchor::from_pem(self.ca.as_bytes())?,
        ))
    }
}

/// `GET /v1/parameters`: what everybody may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParametersResponse {
    /// The id of the ABE suite.
    pub suite: u8,
    /// The current epoch.
    pub epoch: u64,
    /// ABE public parameters, base64 in JSON.
    #[serde(with = "base64_text")]
    pub parameters: Vec<u8>,
    /// Those of key policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_policy: Option<KeyPolicyParameters>,
}

/// The public parameters of key policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPolicyParameters {
    /// The id of the ABE suite.
    pub suite: u8,
    /// ABE public parameters, base64 in JSON.
    #[serde(with = "base64_text")]
    pub parameters: Vec<u8>,
}

/// Why the authority refused, for programs. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// The token is not one that the authority gave out.
    InvalidToken,
    /// The token was used before.
    TokenUsed,
    /// The token's time is over.
    TokenExpired,
    /// The request's body is not what the API takes.
    MalformedRequest,
    /// The certificate request can not be read, or is not signed by its own key.
    MalformedCsr,
    /// The certificate request is for a key of a kind that is not certified.
    UnsupportedKey,
    /// The certificate request names another device than the token was made for.
    CsrNameMismatch,
    /// The body is larger than any valid request.
    BodyTooLarge,
    /// Too many failed attempts from this address, or too many requests at once.
    RateLimited,
    /// No such path.
    NotFound,
    /// The path does not know this method.
    MethodNotAllowed,
    /// Something failed inside of the authority; its log says what.
    Internal,
    /// The request needs a client certificate.
    CertificateRequired,
    /// The certificate has expired, longer ago than renewals are allowed after.
    CertificateExpired,
    /// The certificate was taken back, or is not one that the authority knows.
    CertificateRevoked,
    /// The device is suspended.
    DeviceSuspended,
    /// The request's body took too long to arrive.
    RequestTimeout,
    /// The request's body is not said to be JSON.
    UnsupportedMediaType,
    /// The request can be read, but asks for what can not be: a name that is none, attributes beyond the schema.
    InvalidInput,
    /// The request does not fit what there is: a device of that name is registered already, for example.
    Conflict,
    /// The certificate is not one for this request.
    Forbidden,
    /// The authority can not answer now.
    Unavailable,
}

impl ProblemCode {
    const ALL: [(Self, &'static str, u16, &'static str); 22] = [
        (
            Self::InvalidToken,
            "invalid-token",
            403,
            "the enrolment token is not known",
        ),
        (
            Self::TokenUsed,
            "token-used",
            403,
            "the enrolment token was used before",
        ),
        (
            Self::TokenExpired,
            "token-expired",
            403,
            "the enrolment token has expired",
        ),
        (
            Self::MalformedRequest,
            "malformed-request",
            400,
            "the request can not be read",
        ),
        (
            Self::MalformedCsr,
            "malformed-csr",
            400,
            "the certificate request can not be accepted",
        ),
        (
            Self::UnsupportedKey,
            "unsupported-key",
            400,
            "the certificate request's kind of key is not supported",
        ),
        (
            Self::CsrNameMismatch,
            "csr-name-mismatch",
            403,
            "the certificate request is for another device",
        ),
        (
            Self::BodyTooLarge,
            "body-too-large",
            413,
            "the request is too large",
        ),
        (Self::RateLimited, "rate-limited", 429, "too many attempts"),
        (
            Self::NotFound,
            "not-found",
            404,
            "there is nothing at this path",
        ),
        (
            Self::MethodNotAllowed,
            "method-not-allowed",
            405,
            "the path does not know this method",
        ),
        (Self::Internal, "internal", 500, "the authority failed"),
        (
            Self::CertificateRequired,
            "certificate-required",
            401,
            "a client certificate is needed",
        ),
        (
            Self::CertificateExpired,
            "certificate-expired",
            403,
            "the certificate has expired",
        ),
        (
            Self::CertificateRevoked,
            "certificate-revoked",
            403,
            "the certificate does not count any more",
        ),
        (
            Self::DeviceSuspended,
            "device-suspended",
            403,
            "the device is suspended",
        ),
        (
            Self::RequestTimeout,
            "request-timeout",
            408,
            "the request took too long",
        ),
        (
            Self::UnsupportedMediaType,
            "unsupported-media-type",
            415,
            "the request is not JSON",
        ),
        (
            Self::InvalidInput,
            "invalid-input",
            422,
            "the request asks for what can not be",
        ),
        (
            Self::Conflict,
            "conflict",
            409,
            "the request does not fit what there is",
        ),
        (
            Self::Forbidden,
            "forbidden",
            403,
            "the certificate is not one for this request",
        ),
        (
            Self::Unavailable,
            "unavailable",
            503,
            "the authority can not answer now",
        ),
    ];

    /// The code's kebab-case name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status that it comes with.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (Self, &'static str, u16, &'static str) {
        Self::ALL
            .into_iter()
            .find(|row| row.0 == self)
            .unwrap_or(Self::ALL[11])
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a problem's type begins with; the code follows.
const PROBLEM_URN: &str = "urn:smqtt:problem:";

/// An error answer (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:smqtt:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    /// A problem with its particulars.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{PROBLEM_URN}{code}"),
            title: code.title().into(),
            status: code.status(),
            detail: Some(detail.into()),
        }
    }

    /// The code; `None` if this program does not know it.
    #[must_use]
    pub fn code(&self) -> Option<ProblemCode> {
        let name = self.kind.strip_prefix(PROBLEM_URN)?;
        ProblemCode::ALL
            .into_iter()
            .find(|row| row.1 == name)
            .map(|row| row.0)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// The code under which the authority reports what is wrong with a certificate request.
impl From<&Error> for ProblemCode {
    fn from(error: &Error) -> Self {
        match error {
            Error::UnsupportedKey => Self::UnsupportedKey,
            Error::RequestName { .. } => Self::CsrNameMismatch,
            Error::MalformedRequest(_) | Error::ProofOfPossession => Self::MalformedCsr,
            _ => Self::Internal,
        }
    }
}

impl EnrolRequest {
    /// The longest body that an authority reads, in bytes.
    pub const MAX_LEN: usize = 2 * CertificateRequest::MAX_LEN;
}

mod base64_text {
    use super::{BASE64, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        BASE64
            .decode(String::deserialize(deserializer)?.as_bytes())
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_in_either_case() {
        let token = EnrolmentToken([0xa5; 20]);
        let text = token.reveal();
        assert_eq!(text.len(), 32);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)),
            "{}",
            *text
        );
        assert_eq!(
            text.parse::<EnrolmentToken>().unwrap().digest(),
            token.digest()
        );
        assert_eq!(
            text.to_ascii_uppercase()
                .parse::<EnrolmentToken>()
                .unwrap()
                .digest(),
            token.digest()
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in [
            "",
            "abc",
            &"a".repeat(31),
            &"a".repeat(33),
            &"1".repeat(32),
            &"ä".repeat(16),
        ] {
            assert!(bad.parse::<EnrolmentToken>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_problem_code_survives_the_wire() {
        for (code, name, status, _) in ProblemCode::ALL {
            let problem = Problem::new(code, "because");
            let json = serde_json::to_string(&problem).unwrap();
            assert!(
                json.contains(&format!("\"type\":\"urn:smqtt:problem:{name}\"")),
                "{json}"
            );
            let back: Problem = serde_json::from_str(&json).unwrap();
            assert_eq!((back.code(), back.status), (Some(code), status));
        }
    }

    #[test]
    fn a_newer_authoritys_problem_is_still_shown() {
        let json = r#"{"type":"urn:smqtt:problem:novel","title":"new trouble","status":499}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(problem.code(), None);
        assert_eq!(problem.to_string(), "new trouble");
    }
}
