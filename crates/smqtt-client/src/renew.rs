//! Renewal: a device's certificate becomes a new one, with an attribute key of the current epoch.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use smqtt_format::Sealing;
use smqtt_pki::enrolment::{
    EnrolResponse, RENEW_CONFIRM_PATH, RENEW_PATH, RenewConfirmation, RenewRequest,
};
use smqtt_pki::{Identity, RenewalParts, UnixTime, tls};
use smqtt_policy::{AttributeSet, Epoch, Policy};

use crate::ask::Authority;
use crate::keys::{Keys, policy_key, policy_parameters};
use crate::{Error, enrol};

/// What a device has after a renewal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewed {
    /// The attributes that the authority gives it, without the epoch.
    pub attributes: AttributeSet,
    /// What it may read beside that by its key policy, if it has one.
    pub key_policy: Option<Policy>,
    /// The epoch of its attribute key.
    pub epoch: Epoch,
    /// The epoch of the key that it had before.
    pub before: Option<Epoch>,
    /// Until when its certificate is valid.
    pub expires: UnixTime,
}

/// Renews the identity in `directory` at its authority, over TLS with the certificate that it has.
///
/// In two phases: what the authority gives is written beside what is there, loaded, tried (the key opens what is sealed for
/// it, the authority accepts the certificate), and only then put in its place, file by file, each in one step. At whatever
/// moment it is interrupted, the directory holds an identity that works and can be renewed again. The device's private key
/// stays; the attribute key that is replaced is kept beside the new one, to read what was sealed for its epoch.
///
/// # Errors
///
/// [`Error::Identity`] if the identity can not be read or written, or is being renewed already;
/// [`Error::EnrolmentRefused`] with the authority's reason, [`Error::Unreachable`], [`Error::Broken`], [`Error::TimedOut`],
/// [`Error::Untrusted`], [`Error::AuthorityAnswer`] for an answer that is of no use.
pub async fn renew(directory: &Path, timeout: Duration) -> Result<Renewed, Error> {
    let identity = Identity::load(directory).map_err(Error::Identity)?;
    let held = Keys::of(&identity)?;
    let url = Url::parse(identity.authority()).map_err(|_| Error::Address {
        address: identity.authority().to_owned(),
        reason: "identity.toml has no URL of an authority".to_owned(),
    })?;
    let authority = asked_by(&identity, &url, timeout)?;
    let request = RenewRequest {
        csr: identity
            .key()
            .csr_pem(identity.device())
            .map_err(Error::Identity)?,
    };
    let answer: EnrolResponse = match authority.post(RENEW_PATH, &request).await {
        // An answer that got lost: the authority gives it again.
        Err(Error::Broken { .. }) => authority.post(RENEW_PATH, &request).await?,
        other => other?,
    };
    let fingerprint = identity.trust_anchor().fingerprint();
    let given = enrol::check(fingerprint, authority.base(), &answer)?;
    if given.device != *identity.device() {
        return Err(Error::AuthorityAnswer(format!(
            "it is for {}, not for {}",
            given.device,
            identity.device()
        )));
    }
    if answer.parameters != identity.parameters() {
        return Err(Error::AuthorityAnswer(
            "it is of other ABE parameters than this identity: enrol again".to_owned(),
        ));
    }
    if let (Some(known), Some(given)) = (identity.policy_parameters(), &answer.key_policy)
        && given.parameters != known
    {
        return Err(Error::AuthorityAnswer(
            "it is of other parameters for key policies than this identity: enrol again".to_owned(),
        ));
    }
    let before = held.attribute_key.epoch();
    let before_policy = match policy_parameters(&identity)? {
        Some(parameters) => {
            policy_key(&identity, &parameters)?.and_then(|key| key.policy().epoch())
        }
        None => None,
    };
    let other = |epoch: &Epoch| *epoch != given.epoch;
    let staged = identity
        .stage_renewal(&RenewalParts {
            chain_pem: &answer.certificate_chain,
            root_list: answer.root_list.as_deref(),
            attribute_key: answer.attribute_key.reveal(),
            earlier_epoch: before.filter(other).map(Epoch::get),
            broker: answer.broker.as_deref(),
            sealing: &answer.sealing,
            schema: answer.schema.as_deref(),
            key_policy: enrol::key_policy_parts(&answer),
            earlier_policy_epoch: before_policy.filter(other).map(Epoch::get),
        })
        .map_err(Error::Identity)?;
    let fresh = Keys::of(staged.identity())?;
    prove(&fresh, given.epoch)?;
    let confirmation = RenewConfirmation {
        epoch: given.epoch.get(),
    };
    // With the certificate that it has now. Where that is the one from before, the connection has proved it already.
    let confirming = match staged.identity().chain() == identity.chain() {
        true => authority,
        false => asked_by(staged.identity(), &url, timeout)?,
    };
    match confirming
        .post::<()>(RENEW_CONFIRM_PATH, &confirmation)
        .await
    {
        // Said again, it changes nothing.
        Err(Error::Broken { .. }) => confirming.post(RENEW_CONFIRM_PATH, &confirmation).await?,
        other => other?,
    }
    let identity = staged.commit().map_err(Error::Identity)?;
    Ok(Renewed {
        attributes: given.attributes,
        key_policy: given.key_policy,
        epoch: given.epoch,
        before,
        expires: identity.validity().not_after(),
    })
}

fn asked_by(identity: &Identity, url: &Url, timeout: Duration) -> Result<Authority, Error> {
    let tls = tls::client_config(identity, &[b"http/1.1"]).map_err(Error::Identity)?;
    Authority::new(url, tls, timeout, "renewing")
}

/// Tries the new key: it opens what is sealed for its attributes.
fn prove(keys: &Keys, epoch: Epoch) -> Result<(), Error> {
    let unusable = |error: &dyn std::fmt::Display| {
        Error::AuthorityAnswer(format!("its attribute key does not open: {error}"))
    };
    let held = keys.attribute_key.attributes().without_epoch();
    let policies = held
        .stated()
        .filter_map(|attribute| attribute.to_string().parse::<Policy>().ok());
    for policy in policies.take(1) {
        let formula = policy.at_epoch(epoch);
        let (ciphertext, sealed) = keys
            .parameters
            .encapsulate(&formula, &mut rand::rng())
            .map_err(|e| unusable(&e))?;
        let opened = keys
            .attribute_key
            .decapsulate(&keys.parameters, &formula, &ciphertext)
            .map_err(|e| unusable(&e))?;
        if opened != sealed {
            return Err(unusable(&"it finds another key"));
        }
    }
    Ok(())
}

/// From when to seal for which epoch, by what an identity knows; for that of its key if it knows nothing.
pub(crate) fn sealing(identity: &Identity, held: Epoch) -> Vec<Sealing> {
    match identity.sealing() {
        [] => vec![Sealing {
            epoch: held.get(),
            from: 0,
        }],
        known => known
            .iter()
            .map(|sealing| Sealing::from(*sealing))
            .collect(),
    }
}
