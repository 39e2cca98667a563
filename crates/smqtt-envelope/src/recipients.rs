//! For whom a publisher seals.

use rand::CryptoRng;
use smqtt_abe::{SharedKey, Suite, cp, kp};
use smqtt_format::Access;
use smqtt_policy::{AttributeSet, Epoch, Policy};

use crate::Error;

/// Who may open what is sealed.
pub(crate) enum Recipients {
    /// Who satisfies a policy.
    Policy {
        parameters: cp::PublicParameters,
        policy: Policy,
    },
    /// Whose key policy the tags satisfy.
    Tags {
        parameters: kp::PublicParameters,
        tags: AttributeSet,
    },
}

/// A key that was encapsulated for them, and what a key frame says of that.
pub(crate) struct Encapsulated {
    pub(crate) suite: Suite,
    pub(crate) key: SharedKey,
    pub(crate) ciphertext: Vec<u8>,
    access: Encoded,
}

enum Encoded {
    Policy(Policy),
    Attributes(Vec<u8>),
}

impl Encapsulated {
    pub(crate) fn access(&self) -> Access<'_> {
        match &self.access {
            Encoded::Policy(policy) => Access::Policy(policy.as_str()),
            Encoded::Attributes(encoded) => Access::Attributes(encoded),
        }
    }
}

impl Recipients {
    /// A fresh key for messages at `topic`.
    pub(crate) fn encapsulate<R: CryptoRng + ?Sized>(
        &self,
        epoch: Epoch,
        topic: &str,
        rng: &mut R,
    ) -> Result<Encapsulated, Error> {
        match self {
            Self::Policy { parameters, policy } => {
                let (ciphertext, key) = parameters.encapsulate(&policy.at_epoch(epoch), rng)?;
                Ok(Encapsulated {
                    suite: Suite::FabeoCpBls12381,
                    key,
                    ciphertext,
                    access: Encoded::Policy(policy.clone()),
                })
            }
            Self::Tags { parameters, tags } => {
                let label = tags
                    .with_topic(topic)
                    .map_err(|reason| Error::Tags {
                        topic: topic.chars().take(80).collect(),
                        reason,
                    })?
                    .with_epoch(epoch);
                let (ciphertext, key) = parameters.encapsulate(&label, rng)?;
                Ok(Encapsulated {
                    suite: Suite::FabeoKpBls12381,
                    key,
                    ciphertext,
                    access: Encoded::Attributes(label.encode()),
                })
            }
        }
    }
}
