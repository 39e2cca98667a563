//! What the API's messages look like, for its description and for those that have no type of their own elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smqtt_pki::RevocationReason;
use smqtt_pki::enrolment::PROBLEM_MEDIA_TYPE;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::{Delivered, DeviceRecord, DeviceState};

/// A time in seconds since 1970 as RFC 3339 in UTC.
pub(super) fn rfc3339(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string())
}

/// How every request can be refused.
pub(super) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let problem = ResponseBuilder::new()
            .description("Why not")
            .content(PROBLEM_MEDIA_TYPE, content)
            .build();
        BTreeMap::from([("default".to_owned(), problem.into())])
    }
}

/// A problem (RFC 9457).
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::Problem
pub(super) struct Problem {
    /// `urn:smqtt:problem:<code>`, see docs/authority.md for the codes.
    #[schema(example = "urn:smqtt:problem:invalid-token")]
    r#type: String,
    title: String,
    status: u16,
    /// What was wrong this time and what to do.
    detail: Option<String>,
}

/// A token and a certificate request.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::EnrolRequest
pub(super) struct EnrolRequest {
    /// The one-time token.
    token: String,
    /// The certificate request: PKCS#10, PEM, under no name or the device's.
    csr: String,
}

/// A certificate request; the certificate that it follows is presented in the TLS handshake.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::RenewRequest
pub(super) struct RenewRequest {
    csr: String,
}

/// What a device uses from now on.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::RenewConfirmation
pub(super) struct RenewConfirmation {
    /// The attribute key's epoch.
    epoch: u64,
}

/// What a device gets.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::EnrolResponse
pub(super) struct EnrolResponse {
    device: String,
    /// PEM, the device's own certificate first.
    certificate_chain: String,
    /// The root certificate, PEM.
    ca: String,
    /// The root's own revocation list, PEM, where an intermediate issues.
    #[schema(nullable = false)]
    root_list: Option<String>,
    /// The id of the ABE suite.
    suite: u8,
    /// ABE public parameters, base64.
    parameters: String,
    /// ABE attribute key, base64. Secret.
    attribute_key: String,
    /// The epoch that the attribute key is for.
    epoch: u64,
    attributes: String,
    /// The broker's URL.
    #[schema(nullable = false)]
    broker: Option<String>,
    /// From when publishers seal for which epoch.
    #[schema(nullable = false)]
    sealing: Option<Vec<SealingEpoch>>,
    /// The schema of attributes, TOML.
    #[schema(nullable = false)]
    schema: Option<String>,
    /// What key policies need.
    #[schema(nullable = false)]
    key_policy: Option<KeyPolicyGrant>,
}

/// What key policies need: parameters to seal with tags, and a key to read by, for a device that has a key policy.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::KeyPolicyGrant
pub(super) struct KeyPolicyGrant {
    /// The id of the ABE suite.
    suite: u8,
    /// ABE public parameters, base64.
    parameters: String,
    #[schema(nullable = false)]
    granted: Option<PolicyKeyGrant>,
}

/// A key policy and the key for it.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::PolicyKeyGrant
pub(super) struct PolicyKeyGrant {
    policy: String,
    /// ABE policy key of the answer's epoch, base64. Secret.
    key: String,
}

/// From when publishers seal for an epoch.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::SealingEpoch
pub(super) struct SealingEpoch {
    epoch: u64,
    /// In seconds since 1970.
    from: u64,
}

/// What everybody may know.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::ParametersResponse
pub(super) struct ParametersResponse {
    suite: u8,
    epoch: u64,
    /// ABE public parameters, base64.
    parameters: String,
    /// Those of key policies.
    #[schema(nullable = false)]
    key_policy: Option<KeyPolicyParameters>,
}

/// The public parameters of key policies.
#[derive(ToSchema)]
#[allow(dead_code)] // describes smqtt_pki::enrolment::KeyPolicyParameters
pub(super) struct KeyPolicyParameters {
    suite: u8,
    /// ABE public parameters, base64.
    parameters: String,
}

/// A device as the register knows it.
#[derive(Serialize, ToSchema)]
pub(super) struct Device {
    name: String,
    state: DeviceState,
    /// All its attributes.
    attributes: String,
    /// Those of them that are its own, not its profile's.
    own_attributes: String,
    profile: Option<String>,
    /// What it may read by its policy key, if it has a key policy.
    key_policy: Option<String>,
    /// That, where it is its own, not its profile's.
    own_key_policy: Option<String>,
    created: String,
    /// The serial number of its newest certificate.
    serial: Option<String>,
    fingerprint: Option<String>,
    certificate_expires: Option<String>,
    /// The epoch of its newest attribute key.
    key_epoch: Option<u64>,
    revoked: Option<String>,
    suspended: Option<String>,
    /// Until when its unused token can be used.
    token_expires: Option<String>,
    token_uses: Option<u64>,
}

impl From<DeviceRecord> for Device {
    fn from(record: DeviceRecord) -> Self {
        Self {
            name: record.name.to_string(),
            state: record.state,
            attributes: record.attributes,
            own_attributes: record.own,
            profile: record.profile,
            key_policy: record.key_policy,
            own_key_policy: record.own_key_policy,
            created: rfc3339(record.created),
            serial: record.serial,
            fingerprint: record.fingerprint,
            certificate_expires: record.certificate_expires.map(rfc3339),
            key_epoch: record.key_epoch,
            revoked: record.revoked.map(rfc3339),
            suspended: record.suspended.map(rfc3339),
            token_expires: record.token_expires.map(rfc3339),
            token_uses: record.token_uses,
        }
    }
}

/// Why a certificate is taken back.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    #[default]
    Unspecified,
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

impl From<Reason> for RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

/// Who has learnt of an act; who has not, does later.
#[derive(Serialize, ToSchema)]
pub(super) struct Told {
    /// The number of the revocation list that was written to the remembered file.
    crl_written: Option<u64>,
    brokers: Vec<BrokerTold>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BrokerTold {
    url: String,
    /// Why it has not got the state yet.
    error: Option<String>,
}

impl From<Delivered> for Told {
    fn from(delivered: Delivered) -> Self {
        let told = |(url, outcome): (String, Result<(), String>)| BrokerTold {
            url,
            error: outcome.err(),
        };
        Self {
            crl_written: delivered.crl.map(|(_, number)| number),
            brokers: delivered.brokers.into_iter().map(told).collect(),
        }
    }
}
