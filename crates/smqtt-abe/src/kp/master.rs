//! Set-up and the issue of policy keys.

use rand::CryptoRng;
use smqtt_policy::Formula;
use zeroize::Zeroizing;

use super::{PolicyKey, PublicParameters, SUITE};
use crate::{
    Error, cp,
    curve::{FixedBase, G1, G2, Scalar},
    setup::{self, Secret},
    share::ShareMatrix,
};

/// The authority's secret: whoever has it can issue a key for any policy.
///
/// Wiped when dropped; neither `Debug` nor `Display`.
pub struct MasterKey(Secret);

/// Makes a master key and its public parameters.
pub fn setup<R: CryptoRng + ?Sized>(rng: &mut R) -> (MasterKey, PublicParameters) {
    let secret = Secret::random(SUITE, rng);
    let parameters = PublicParameters::new(secret.public());
    (MasterKey(secret), parameters)
}

impl MasterKey {
    /// The key-policy master key that belongs to an authority's ciphertext-policy one: always the same.
    ///
    /// So an authority with one secret has both schemes, as do its other instances and its backups. Whoever
    /// has the one has the other; neither's public parameters or keys tell anything of the other.
    #[must_use]
    pub fn beside(master: &cp::MasterKey) -> Self {
        Self(master.secret().derive(SUITE))
    }

    /// Issues a key that opens what is labelled with attributes that satisfy the policy. The policy
    /// asks for the epoch for which the key is good, see
    /// [`Policy::at_epoch`](smqtt_policy::Policy::at_epoch).
    ///
    /// # Errors
    /// The parameters are not this master key's, or the policy is out of bounds.
    pub fn issue<R: CryptoRng + ?Sized>(
        &self,
        parameters: &PublicParameters,
        policy: &Formula,
        rng: &mut R,
    ) -> Result<PolicyKey, Error> {
        self.0.check(parameters.public())?;
        let matrix = ShareMatrix::new(policy)?;
        let mut rejection = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut *rejection);
        let occurrences: Vec<Scalar> = (0..matrix.occurrences())
            .map(|_| Scalar::random(rng))
            .collect();
        // α is not kept, so zero is shared in its place, and g1^α is multiplied into the rows that
        // take the secret. Their coefficient is always one.
        let shares = matrix.shares(&Scalar::zero(), |_| Scalar::random(rng));
        let oracles = parameters.public().oracles();
        let sk1: Zeroizing<Vec<G1>> = Zeroizing::new(
            matrix
                .rows()
                .iter()
                .zip(&shares)
                .map(|(row, share)| {
                    let hashed = oracles.attribute(row.attribute);
                    let occurrence = &occurrences[row.occurrence];
                    let element = FixedBase::joint(&[(setup::g1(), share), (&hashed, occurrence)]);
                    if row.takes_secret() {
                        element.mul(self.0.element())
                    } else {
                        element
                    }
                })
                .collect(),
        );
        let sk2: Zeroizing<Vec<G2>> =
            Zeroizing::new(occurrences.iter().map(|r| setup::g2().pow(r)).collect());
        Ok(PolicyKey::new(
            parameters.hash(),
            policy.clone(),
            rejection,
            G1::all_to_affine(&sk1),
            G2::all_to_affine(&sk2),
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
