//! What an encoded object says about itself.

use smqtt_policy::{AttributeSet, Formula};

use crate::{
    Error, Suite, cp,
    encoding::VERSION,
    kp,
    setup::{Public, Secret},
};

/// What can be told of an encoded object without its secrets, and without other objects beside it.
///
/// For people who look into a file. To use an object, read it with its own `from_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The suite that the object states.
    pub suite: Suite,
    /// SHA-256 of the public parameters that it is, or to which it belongs.
    pub parameters: [u8; 32],
    /// What it is.
    pub kind: Kind,
}

/// What an object is, in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Public parameters: nothing in them is secret.
    Parameters,
    /// The key of an authority, which opens everything.
    MasterKey,
    /// The key of a device that has these attributes.
    AttributeKey(AttributeSet),
    /// The key of a device that reads what satisfies this policy.
    PolicyKey(Formula),
}

impl Summary {
    /// Reads an object of any kind and checks it whole, elements included.
    ///
    /// # Errors
    /// Anything but the canonical encoding of an object of this crate.
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        const OBJECT: &str = "object";
        let unknown = || Error::Malformed {
            object: OBJECT,
            reason: "it is neither public parameters nor a key of this encryption",
        };
        // The head of a CBOR array says how many items follow: version, suite, fields.
        let &[head @ 0x83..=0x88, version, id, ..] = bytes else {
            return Err(unknown());
        };
        if version != VERSION {
            return Err(Error::WrongVersion {
                object: OBJECT,
                found: version,
                expected: VERSION,
            });
        }
        let suite = Suite::from_id(id).ok_or_else(unknown)?;
        let (parameters, kind) = match (head, suite) {
            (0x83, _) => (Public::from_bytes(suite, bytes)?.hash(), Kind::Parameters),
            (0x84, _) => (
                Secret::from_bytes(suite, bytes)?.parameters_hash(),
                Kind::MasterKey,
            ),
            (0x88, Suite::FabeoCpBls12381) => {
                let key = cp::AttributeKey::decode(bytes, None)?;
                let attributes = key.attributes().clone();
                (key.parameters_hash(), Kind::AttributeKey(attributes))
            }
            (0x87, Suite::FabeoKpBls12381) => {
                let key = kp::PolicyKey::decode(bytes, None)?;
                let policy = key.policy().clone();
                (key.parameters_hash(), Kind::PolicyKey(policy))
            }
            _ => return Err(unknown()),
        };
        Ok(Self {
            suite,
            parameters,
            kind,
        })
    }
}
