//! What everyone knows, and encapsulation with it.

use std::sync::Arc;

use rand::CryptoRng;
use smqtt_policy::AttributeSet;
use zeroize::Zeroizing;

use super::SUITE;
use crate::{
    Error, SharedKey,
    curve::{G1, G1_BYTES, G2_BYTES},
    limits::MAX_ATTRIBUTES,
    oracle::{Coins, MESSAGE_BYTES},
    setup::{self, Public},
};

/// The public parameters of one authority. Cheap to clone.
#[derive(Clone)]
pub struct PublicParameters(Arc<Public>);

impl PublicParameters {
    pub(super) fn new(public: Public) -> Self {
        Self(Arc::new(public))
    }

    /// SHA-256 of the encoding, which names these parameters; everything made under them is bound
    /// to it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash()
    }

    /// The encoding: a CBOR array of version, suite and Z (576 bytes); 582 bytes in all.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Reads an encoding and checks that Z is in the group and not its neutral element.
    ///
    /// # Errors
    /// Anything but the canonical encoding of public parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Public::from_bytes(SUITE, bytes).map(Self::new)
    }

    /// Makes a fresh shared key and the ciphertext from which a key whose policy the attributes
    /// satisfy finds it again.
    ///
    /// The ciphertext is 96 + 48·attributes + 32 bytes long, derived attributes counted. It does
    /// not hold the attributes: keep both together.
    ///
    /// # Errors
    /// The set is empty or too large.
    pub fn encapsulate<R: CryptoRng + ?Sized>(
        &self,
        attributes: &AttributeSet,
        rng: &mut R,
    ) -> Result<(Vec<u8>, SharedKey), Error> {
        let count = attributes.iter().count();
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(Error::AttributeCount { found: count });
        }
        let context = self.0.oracles().context(&attributes.encode());
        let mut message = Zeroizing::new([0u8; MESSAGE_BYTES]);
        rng.fill_bytes(&mut *message);
        let coins = context.coins(&message);
        let mut ciphertext = self.elements(attributes, &coins);
        let d = Zeroizing::new(self.0.z_pow(&coins.secret()));
        ciphertext.extend_from_slice(&context.mask(&message, &d)[..]);
        let key = context.key(&message, &ciphertext);
        Ok((ciphertext, key))
    }

    /// The group elements of a ciphertext: a function of nothing but the arguments, so that
    /// decapsulation can repeat it.
    pub(super) fn elements(&self, attributes: &AttributeSet, coins: &Coins) -> Vec<u8> {
        let s = coins.secret();
        let elements: Vec<G1> = attributes
            .iter()
            .map(|attribute| self.0.oracles().attribute(attribute).pow(&s))
            .collect();
        let mut out = Vec::with_capacity(ciphertext_bytes(elements.len()));
        out.extend_from_slice(&setup::g2().pow(&s).to_affine().to_bytes());
        for element in G1::all_to_affine(&elements) {
            out.extend_from_slice(&element.to_bytes());
        }
        out
    }

    pub(super) fn public(&self) -> &Public {
        &self.0
    }
}

/// The length of every ciphertext with this many attributes.
pub(super) fn ciphertext_bytes(attributes: usize) -> usize {
    G2_BYTES + G1_BYTES * attributes + MESSAGE_BYTES
}
