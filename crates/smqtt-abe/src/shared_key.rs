//! The secret that encapsulation makes and decapsulation finds again.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Thirty-two secret bytes, wiped when dropped.
///
/// It has no `Debug` and no `Display`, and its comparison takes constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedKey([u8; 32]);

impl SharedKey {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to derive keys from.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `a` if the choice is 0, `b` if it is 1, in constant time.
    pub(crate) fn select(a: &Self, b: &Self, choice: Choice) -> Self {
        let mut out = [0u8; 32];
        for (o, (a, b)) in out.iter_mut().zip(a.0.iter().zip(&b.0)) {
            *o = u8::conditional_select(a, b, choice);
        }
        Self(out)
    }
}

impl ConstantTimeEq for SharedKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for SharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SharedKey {}
