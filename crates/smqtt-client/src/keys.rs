//! What an identity lets its device read.

use smqtt_abe::cp;
use smqtt_pki::Identity;
use smqtt_policy::AttributeSet;

use crate::Error;

/// The ABE parts of an identity, decoded and checked.
pub(crate) struct Keys {
    pub(crate) parameters: cp::PublicParameters,
    pub(crate) attribute_key: cp::AttributeKey,
}

impl Keys {
    pub(crate) fn of(identity: &Identity) -> Result<Self, Error> {
        let damaged = |part: &'static str, reason: &dyn std::fmt::Display| Error::DamagedIdentity {
            part,
            reason: reason.to_string(),
        };
        if identity.suite() != smqtt_abe::Suite::FabeoCpBls12381 as u8 {
            return Err(damaged(
                "suite",
                &format_args!("{} is not known to this program", identity.suite()),
            ));
        }
        let parameters = cp::PublicParameters::from_bytes(identity.parameters())
            .map_err(|error| damaged("parameters", &error))?;
        let attribute_key = decoded(identity, &parameters)?;
        Ok(Self {
            parameters,
            attribute_key,
        })
    }

    /// The attribute key once more: each opener owns one, and erases it.
    pub(crate) fn another_attribute_key(
        &self,
        identity: &Identity,
    ) -> Result<cp::AttributeKey, Error> {
        decoded(identity, &self.parameters)
    }
}

fn decoded(
    identity: &Identity,
    parameters: &cp::PublicParameters,
) -> Result<cp::AttributeKey, Error> {
    cp::AttributeKey::from_bytes(identity.attribute_key(), parameters).map_err(|error| {
        Error::DamagedIdentity {
            part: "attribute key",
            reason: error.to_string(),
        }
    })
}

/// The attributes that an identity's device holds, with the epoch of its attribute key.
///
/// # Errors
///
/// [`Error::DamagedIdentity`] if the attribute key cannot be read.
pub fn attributes(identity: &Identity) -> Result<AttributeSet, Error> {
    Ok(Keys::of(identity)?.attribute_key.attributes().clone())
}
