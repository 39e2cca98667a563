//! What an identity lets its device read.

use smqtt_abe::cp;
use smqtt_pki::Identity;
use smqtt_policy::{AttributeSet, Schema};

use crate::Error;

/// The file of the attribute key.
pub(crate) const ATTRIBUTE_KEY: &str = "attribute.key";

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

impl Keys {
    /// The attribute key once more: each opener owns one, and erases it.
    pub(crate) fn another_attribute_key(
        &self,
        identity: &Identity,
    ) -> Result<cp::AttributeKey, Error> {
        decoded(identity, &self.parameters)
    }
}

/// All attribute keys of an identity, that of the newest epoch first.
pub(crate) fn all_attribute_keys(
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

fn decoded(
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
