//! Set-up and the issue of attribute keys.

use rand::CryptoRng;
use smqtt_policy::AttributeSet;
use zeroize::Zeroizing;

use super::{AttributeKey, PublicParameters, SUITE};
use crate::{
    Error,
    curve::{G1, Scalar},
    limits::MAX_ATTRIBUTES,
    setup::{self, Secret},
};

/// The authority's secret: whoever has it can issue a key for any attributes.
///
/// Wiped when dropped; neither `Debug` nor `Display`.
pub struct MasterKey(Secret);

/// Makes a master key and its public parameters.
///
/// ```
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1); // use a generator seeded by the system
/// let (master, parameters) = smqtt_abe::cp::setup(&mut rng);
/// # assert_eq!(parameters.to_bytes().len(), 582);
/// ```
pub fn setup<R: CryptoRng + ?Sized>(rng: &mut R) -> (MasterKey, PublicParameters) {
    let secret = Secret::random(SUITE, rng);
    let parameters = PublicParameters::new(secret.public());
    (MasterKey(secret), parameters)
}

impl MasterKey {
    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    /// Issues an attribute key. The set carries the epoch for which the key is good, see
    /// [`AttributeSet::with_epoch`].
    ///
    /// # Errors
    /// The parameters are not this master key's, or the set is empty or too large.
    pub fn issue<R: CryptoRng + ?Sized>(
        &self,
        parameters: &PublicParameters,
        attributes: &AttributeSet,
        rng: &mut R,
    ) -> Result<AttributeKey, Error> {
        self.0.check(parameters.public())?;
        let count = attributes.iter().count();
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(Error::AttributeCount { found: count });
        }
        let r = Scalar::random(rng);
        let mut rejection = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut *rejection);
        let sk1 = self.0.element().mul(&parameters.b_pow(&r)).to_affine();
        let sk3 = setup::g2().pow(&r).to_affine();
        let oracles = parameters.public().oracles();
        let sk2: Zeroizing<Vec<G1>> = Zeroizing::new(
            attributes
                .iter()
                .map(|attribute| oracles.attribute(attribute).pow(&r))
                .collect(),
        );
        let sk2 = attributes
            .iter()
            .cloned()
            .zip(G1::all_to_affine(&sk2))
            .collect();
        Ok(AttributeKey::new(
            parameters.hash(),
            attributes.clone(),
            rejection,
            sk1,
            sk2,
            sk3,
        ))
    }

    /// The encoding: a CBOR array of version, suite, parameter hash (32 bytes) and g1^α
    /// (48 bytes); 87 bytes in all.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.0.to_bytes()
    }

    /// Reads an encoding, and checks that the secret and the parameter hash belong together.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a master key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Secret::from_bytes(SUITE, bytes).map(Self)
    }

    /// The public parameters, made again from the secret.
    #[must_use]
    pub fn public_parameters(&self) -> PublicParameters {
        PublicParameters::new(self.0.public())
    }
}
