//! What everyone knows, and encapsulation with it.

use std::sync::Arc;

use rand::CryptoRng;
use smqtt_policy::Formula;
use zeroize::Zeroizing;

use super::SUITE;
use crate::{
    Error, SharedKey,
    curve::{FixedBase, G1, G1_BYTES, G2, G2_BYTES, Scalar},
    oracle::{Coin, Coins, MESSAGE_BYTES},
    setup::{self, Public},
    share::ShareMatrix,
};

/// The public parameters of one authority. Cheap to clone.
#[derive(Clone)]
pub struct PublicParameters(Arc<Inner>);

struct Inner {
    public: Public,
    b_table: FixedBase<G1>,
}

impl PublicParameters {
    pub(super) fn new(public: Public) -> Self {
        let b_table = FixedBase::new(&public.oracles().b().to_affine());
        Self(Arc::new(Inner { public, b_table }))
    }

    /// SHA-256 of the encoding, which names these parameters; everything made under them is bound
    /// to it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.public.hash()
    }

    /// The encoding: a CBOR array of version, suite and Z (576 bytes); 582 bytes in all.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.public.to_bytes()
    }

    /// Reads an encoding and checks that Z is in the group and not its neutral element.
    ///
    /// # Errors
    /// Anything but the canonical encoding of public parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Public::from_bytes(SUITE, bytes).map(Self::new)
    }

    /// Makes a fresh shared key and the ciphertext from which a key whose attributes satisfy the
    /// policy finds it again.
    ///
    /// The ciphertext is 96·(1 + τ) + 48·rows + 32 bytes long, where τ is the largest number of
    /// occurrences of one attribute in the policy. It does not hold the policy: keep both together.
    ///
    /// # Errors
    /// The policy is out of bounds.
    pub fn encapsulate<R: CryptoRng + ?Sized>(
        &self,
        policy: &Formula,
        rng: &mut R,
    ) -> Result<(Vec<u8>, SharedKey), Error> {
        let matrix = ShareMatrix::new(policy)?;
        let context = self.public().oracles().context(&policy.encode());
        let mut message = Zeroizing::new([0u8; MESSAGE_BYTES]);
        rng.fill_bytes(&mut *message);
        let coins = context.coins(&message);
        let mut ciphertext = self.elements(&matrix, &coins);
        let d = Zeroizing::new(self.public().z_pow(&coins.secret()));
        ciphertext.extend_from_slice(&context.mask(&message, &d)[..]);
        let key = context.key(&message, &ciphertext);
        Ok((ciphertext, key))
    }

    /// The group elements of a ciphertext: a function of nothing but the arguments, so that
    /// decapsulation can repeat it.
    pub(super) fn elements(&self, matrix: &ShareMatrix<'_>, coins: &Coins) -> Vec<u8> {
        let s = coins.secret();
        let occurrences: Vec<Scalar> = (1..=matrix.occurrences())
            .map(|j| coins.scalar(Coin::Occurrence, j))
            .collect();
        let shares = matrix.shares(&s, |j| coins.scalar(Coin::Share, j));

        let mut single = Vec::with_capacity(1 + occurrences.len());
        single.push(setup::g2().pow(&s));
        single.extend(occurrences.iter().map(|x| setup::g2().pow(x)));
        let rows: Vec<G1> = matrix
            .rows()
            .iter()
            .zip(&shares)
            .map(|(row, share)| {
                let hashed = self.public().oracles().attribute(row.attribute);
                let occurrence = &occurrences[row.occurrence];
                FixedBase::joint(&[(&self.0.b_table, share), (&hashed, occurrence)])
            })
            .collect();

        let mut out = Vec::with_capacity(ciphertext_bytes(matrix));
        for element in G2::all_to_affine(&single) {
            out.extend_from_slice(&element.to_bytes());
        }
        for element in G1::all_to_affine(&rows) {
            out.extend_from_slice(&element.to_bytes());
        }
        out
    }

    pub(super) fn public(&self) -> &Public {
        &self.0.public
    }

    /// B^x.
    pub(super) fn b_pow(&self, x: &Scalar) -> G1 {
        self.0.b_table.pow(x)
    }
}

/// The length of every ciphertext under a policy with this matrix.
pub(super) fn ciphertext_bytes(matrix: &ShareMatrix<'_>) -> usize {
    G2_BYTES * (1 + matrix.occurrences()) + G1_BYTES * matrix.rows().len() + MESSAGE_BYTES
}
