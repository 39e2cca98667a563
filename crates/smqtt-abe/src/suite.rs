//! The schemes that exist, each with the number that stands in every object made with it.

use core::fmt;

/// A scheme with all its choices: construction, curve, hash functions, encodings.
///
/// Suites are not negotiated: an object states its suite, and a reader accepts it or refuses.
/// Another scheme gets another number; a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Suite {
    /// FABEO ciphertext-policy ABE over BLS12-381 with SHA-256: policies are in ciphertexts,
    /// attributes in keys.
    FabeoCpBls12381 = 1,
    /// FABEO key-policy ABE over BLS12-381 with SHA-256: policies are in keys, attributes in
    /// ciphertexts.
    FabeoKpBls12381 = 2,
}

impl Suite {
    /// The number that stands in encodings.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The suite of a number, if it is known.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::FabeoCpBls12381),
            2 => Some(Self::FabeoKpBls12381),
            _ => None,
        }
    }

    /// The name that opens every domain separation tag of this suite.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::FabeoCpBls12381 => "SMQTT-ABE-V1-FABEO-CP",
            Self::FabeoKpBls12381 => "SMQTT-ABE-V1-FABEO-KP",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FabeoCpBls12381 => "fabeo-cp-bls12381",
            Self::FabeoKpBls12381 => "fabeo-kp-bls12381",
        })
    }
}
