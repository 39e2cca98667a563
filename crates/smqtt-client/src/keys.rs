//! What an identity lets its device read.

use smqtt_abe::{cp, kp};
use smqtt_envelope::Opener;
use smqtt_pki::{Identity, UnixTime};
use smqtt_policy::{AttributeSet, Policy, Schema};

use crate::Error;

/// The file of the attribute key.
pub(crate) const ATTRIBUTE_KEY: &str = "attribute.key";
/// The file of the policy key.
const POLICY_KEY: &str = "policy.key";
/// The file of the public parameters of key policies.
const POLICY_PARAMETERS: &str = "kp-parameters.cbor";

/// The ABE parts of an identity, decoded and checked.
pub(crate) struct Keys {
    pub(crate) parameters: cp::PublicParameters,
    pub(crate) attribute_key: cp::AttributeKey,
}

impl Keys {
    pub(crate) fn of(identity: &Identity) -> Result<Self, Error> {
        if identity.suite() != smqtt_abe::Suite::FabeoCpBls12381 as u8 {
            return Err(damaged(
                identity,
                "identity.toml",
                &format_args!("suite {} is not known to this program", identity.suite()),
            ));
        }
        let parameters = cp::PublicParameters::from_bytes(identity.parameters())
            .map_err(|error| damaged(identity, "parameters.cbor", &error))?;
        let attribute_key = decoded(identity, &parameters)?;
        Ok(Self {
            parameters,
            attribute_key,
        })
    }
}

/// Hands all keys of an identity to an opener that holds others of this device: the policy keys first, since the attribute keys say
/// which epoch the reader is at.
pub(crate) fn add_keys(
    opener: &mut Opener,
    identity: &Identity,
    parameters: &cp::PublicParameters,
    now: UnixTime,
) -> Result<(), Error> {
    let unfit = |file| move |error| damaged(identity, file, &error);
    if let Some(parameters) = policy_parameters(identity)? {
        for key in all_policy_keys(identity, &parameters)? {
            opener
                .add_policy_key(&parameters, key)
                .map_err(unfit(POLICY_KEY))?;
        }
    }
    for key in all_attribute_keys(identity, parameters)? {
        opener.add_key(key, now).map_err(unfit(ATTRIBUTE_KEY))?;
    }
    Ok(())
}

/// The public parameters of key policies, if the authority has given them.
pub(crate) fn policy_parameters(
    identity: &Identity,
) -> Result<Option<kp::PublicParameters>, Error> {
    identity
        .policy_parameters()
        .map(kp::PublicParameters::from_bytes)
        .transpose()
        .map_err(|error| damaged(identity, POLICY_PARAMETERS, &error))
}

/// The policy key of the newest epoch, if the device has a key policy.
pub(crate) fn policy_key(
    identity: &Identity,
    parameters: &kp::PublicParameters,
) -> Result<Option<kp::PolicyKey>, Error> {
    identity
        .policy_key()
        .map(|key| kp::PolicyKey::from_bytes(key, parameters))
        .transpose()
        .map_err(|error| damaged(identity, POLICY_KEY, &error))
}

/// All policy keys of an identity.
fn all_policy_keys(
    identity: &Identity,
    parameters: &kp::PublicParameters,
) -> Result<Vec<kp::PolicyKey>, Error> {
    let mut keys = Vec::from_iter(policy_key(identity, parameters)?);
    for earlier in identity.earlier_policy_keys() {
        let key = kp::PolicyKey::from_bytes(earlier, parameters)
            .map_err(|error| damaged(identity, "policy.N.key", &error))?;
        keys.push(key);
    }
    Ok(keys)
}

/// All attribute keys of an identity, that of the newest epoch first.
fn all_attribute_keys(
    identity: &Identity,
    parameters: &cp::PublicParameters,
) -> Result<Vec<cp::AttributeKey>, Error> {
    let mut keys = vec![decoded(identity, parameters)?];
    for earlier in identity.earlier_attribute_keys() {
        let key = cp::AttributeKey::from_bytes(earlier, parameters)
            .map_err(|error| damaged(identity, "attribute.N.key", &error))?;
        keys.push(key);
    }
    Ok(keys)
}

pub(crate) fn damaged(identity: &Identity, file: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::DamagedIdentity {
        file: identity.directory().join(file),
        reason: reason.to_string(),
    }
}

pub(crate) fn decoded(
    identity: &Identity,
    parameters: &cp::PublicParameters,
) -> Result<cp::AttributeKey, Error> {
    cp::AttributeKey::from_bytes(identity.attribute_key(), parameters)
        .map_err(|error| damaged(identity, ATTRIBUTE_KEY, &error))
}

/// The authority's schema of attributes, as of the identity's last enrolment or renewal; `None` if it had none.
///
/// # Errors
///
/// [`Error::DamagedIdentity`] if it cannot be read.
pub fn schema(identity: &Identity) -> Result<Option<Schema>, Error> {
    identity
        .schema()
        .map(Schema::from_toml)
        .transpose()
        .map_err(|error| damaged(identity, "schema.toml", &error))
}

/// The attributes that an identity's device holds, with the epoch of its attribute key.
///
/// # Errors
///
/// [`Error::DamagedIdentity`] if the attribute key cannot be read.
pub fn attributes(identity: &Identity) -> Result<AttributeSet, Error> {
    Ok(Keys::of(identity)?.attribute_key.attributes().clone())
}

/// What an identity's device may open by its key policy, beside what its attributes let it; `None` if it has no key policy.
///
/// # Errors
///
/// [`Error::DamagedIdentity`] if it cannot be read.
pub fn key_policy(identity: &Identity) -> Result<Option<Policy>, Error> {
    identity
        .key_policy()
        .map(Policy::from_canonical)
        .transpose()
        .map_err(|error| damaged(identity, "identity.toml", &error))
}
