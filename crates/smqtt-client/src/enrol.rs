//! Enrolment: a one-time token becomes an identity directory.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use smqtt_abe::{cp, kp};
use smqtt_pki::enrolment::{ENROL_PATH, EnrolRequest, EnrolResponse, SecretText};
use smqtt_pki::{DeviceId, Fingerprint, Identity, IdentityKey, IdentityParts, KeyPolicyParts, tls};
use smqtt_policy::{AttributeSet, Epoch, Policy, Schema};

use crate::ask::Authority;
use crate::{BrokerAddress, Error, clock};

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

    /// Asks the authority; the key stays here, only a request signed by it is sent. A lost answer is asked for again: the
    /// authority gives it for the same key.
    async fn request(&self, key: &IdentityKey) -> Result<EnrolResponse, Error> {
        let request = EnrolRequest {
            token: self.token.clone(),
            csr: key.unnamed_csr_pem().map_err(Error::Identity)?,
        };
        let tls =
            tls::pinned_client_config(self.fingerprint, &[b"http/1.1"]).map_err(Error::Identity)?;
        let authority = Authority::new(&self.authority, tls, self.timeout, "enrolling")?;
        match authority.post(ENROL_PATH, &request).await {
            Err(Error::Broken { .. }) => {
                tokio::time::sleep(AGAIN).await;
                authority.post(ENROL_PATH, &request).await
            }
            other => other,
        }
    }
}

/// How long to wait before a lost answer is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a device became by enrolling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Enrolled {
    /// The name under which the authority registered the device.
    pub device: DeviceId,
    /// The attributes that the authority gave it, without the epoch.
    pub attributes: AttributeSet,
    /// What it may read beside that by its key policy, if it has one.
    pub key_policy: Option<Policy>,
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
    let enrolled = check(enrolment.fingerprint, enrolment.base(), &answer)?;
    reservation
        .complete(&IdentityParts {
            device: &answer.device,
            authority: enrolment.base(),
            broker: answer.broker.as_deref(),
            suite: answer.suite,
            key: &key,
            chain_pem: &answer.certificate_chain,
            ca_pem: &answer.ca,
            root_list: answer.root_list.as_deref(),
            parameters: &answer.parameters,
            attribute_key: answer.attribute_key.reveal(),
            sealing: &answer.sealing,
            schema: answer.schema.as_deref(),
            key_policy: key_policy_parts(&answer),
        })
        .map_err(Error::Identity)?;
    Ok(enrolled)
}

/// Checks that the parts of an answer belong together, so that no unusable identity is ever written.
pub(crate) fn check(
    fingerprint: Fingerprint,
    peer: &str,
    answer: &EnrolResponse,
) -> Result<Enrolled, Error> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        Error::AuthorityAnswer(format!("{what}: {error}"))
    };
    let (chain, anchor) = answer
        .certificates()
        .map_err(|error| unusable("its certificates", &error))?;
    if anchor.fingerprint() != fingerprint {
        return Err(Error::Untrusted {
            peer: peer.to_owned(),
            reason: format!(
                "it gave out the root certificate {}, but {} is expected",
                anchor.fingerprint(),
                fingerprint
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
    let epoch = key
        .epoch()
        .ok_or_else(|| Error::AuthorityAnswer("the attribute key is of no epoch".to_owned()))?;
    let key_policy = check_key_policy(answer, epoch)?;
    if let Some(schema) = &answer.schema {
        Schema::from_toml(schema).map_err(|error| unusable("its schema", &error))?;
    }
    if let Some(broker) = &answer.broker {
        broker.parse::<BrokerAddress>()?;
    }
    Ok(Enrolled {
        device: answer.device.clone(),
        attributes: key.attributes().without_epoch(),
        key_policy,
        epoch,
        broker: answer.broker.clone(),
    })
}

/// What an answer has for key policies, to be written.
pub(crate) fn key_policy_parts(answer: &EnrolResponse) -> Option<KeyPolicyParts<'_>> {
    answer.key_policy.as_ref().map(|given| KeyPolicyParts {
        parameters: &given.parameters,
        granted: given
            .granted
            .as_ref()
            .map(|granted| (granted.policy.as_str(), granted.key.reveal())),
    })
}

/// Checks that what an answer has for key policies belongs together: the policy key is for the policy, at this epoch.
fn check_key_policy(answer: &EnrolResponse, epoch: Epoch) -> Result<Option<Policy>, Error> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        Error::AuthorityAnswer(format!("{what}: {error}"))
    };
    let Some(given) = &answer.key_policy else {
        return Ok(None);
    };
    if given.suite != smqtt_abe::Suite::FabeoKpBls12381 as u8 {
        return Err(Error::AuthorityAnswer(format!(
            "suite {} is not known for key policies: update this program",
            given.suite
        )));
    }
    let parameters = kp::PublicParameters::from_bytes(&given.parameters)
        .map_err(|error| unusable("the public parameters of key policies", &error))?;
    let Some(granted) = &given.granted else {
        return Ok(None);
    };
    let policy = Policy::from_canonical(&granted.policy)
        .map_err(|error| unusable("the key policy", &error))?;
    let key = kp::PolicyKey::from_bytes(granted.key.reveal(), &parameters)
        .map_err(|error| unusable("the policy key", &error))?;
    if *key.policy() != policy.at_epoch(epoch) {
        return Err(Error::AuthorityAnswer(format!(
            "the policy key is for {}, not for {policy} at epoch {epoch}",
            key.policy()
        )));
    }
    Ok(Some(policy))
}
