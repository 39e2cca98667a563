//! The field of exponents, integers modulo the group order r.

use blst::{
    blst_fr, blst_fr_add, blst_fr_eucl_inverse, blst_fr_from_scalar, blst_fr_mul, blst_fr_sub,
    blst_scalar, blst_scalar_from_be_bytes, blst_scalar_from_fr,
};
use rand::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Bytes that are reduced to one scalar: 255 bits of r and 129 spare ones, so that the bias is
/// below 2^-128 (the length that RFC 9380 §5.1 takes, too).
pub(crate) const WIDE_BYTES: usize = 48;

/// An exponent. Wiped when dropped; neither `Debug` nor `Display`.
#[derive(Clone)]
pub(crate) struct Scalar(blst_fr);

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.l.zeroize();
    }
}

impl Scalar {
    /// Zero.
    pub(crate) fn zero() -> Self {
        Self(blst_fr::default())
    }

    /// One.
    pub(crate) fn one() -> Self {
        Self::from_u64(1)
    }

    /// A small integer.
    pub(crate) fn from_u64(value: u64) -> Self {
        let mut wide = [0u8; WIDE_BYTES];
        wide[WIDE_BYTES - 8..].copy_from_slice(&value.to_be_bytes());
        Self::from_wide(&wide)
    }

    /// A big-endian integer, reduced modulo r.
    pub(crate) fn from_wide(bytes: &[u8; WIDE_BYTES]) -> Self {
        let mut scalar = blst_scalar::default();
        let mut out = blst_fr::default();
        // SAFETY: `bytes` has the length that is passed. The result flag only says "not zero".
        unsafe {
            blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
            blst_fr_from_scalar(&mut out, &scalar);
        }
        Self(out)
    }

    /// A uniform scalar.
    pub(crate) fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut wide = Zeroizing::new([0u8; WIDE_BYTES]);
        rng.fill_bytes(&mut *wide);
        Self::from_wide(&wide)
    }

    /// The canonical integer below r, 32 bytes little-endian.
    pub(crate) fn to_le_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut scalar = blst_scalar::default();
        // SAFETY: plain conversion between two initialised values.
        unsafe { blst_scalar_from_fr(&mut scalar, &self.0) };
        Zeroizing::new(scalar.b)
    }

    /// `self + other`.
    pub(crate) fn add(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: see the module's head.
        unsafe { blst_fr_add(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// `self - other`.
    pub(crate) fn sub(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: see the module's head.
        unsafe { blst_fr_sub(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// `self * other`.
    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: see the module's head.
        unsafe { blst_fr_mul(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// `-self`.
    pub(crate) fn neg(&self) -> Self {
        Self::zero().sub(self)
    }

    /// `1 / self`, or zero for zero. Variable time: for coefficients of policies only, which are
    /// public.
    pub(crate) fn inverse_vartime(&self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: see the module's head.
        unsafe { blst_fr_eucl_inverse(&mut out, &self.0) };
        Self(out)
    }
}

impl ConstantTimeEq for Scalar {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        // The Montgomery form is unique, so limbs compare.
        self.0.l[..].ct_eq(&other.0.l[..])
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Scalar {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_agrees_with_small_integers() {
        let s = Scalar::from_u64;
        assert!(s(5).add(&s(7)) == s(12));
        assert!(s(5).mul(&s(7)) == s(35));
        assert!(s(5).sub(&s(7)) == s(2).neg());
        assert!(s(7).mul(&s(7).inverse_vartime()) == Scalar::one());
        assert!(Scalar::zero().inverse_vartime() == Scalar::zero());
    }

    #[test]
    fn the_group_order_reduces_to_zero() {
        // r, big-endian, from the BLS12-381 definition.
        let r = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
        let mut wide = [0u8; WIDE_BYTES];
        for (i, byte) in wide[16..].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&r[2 * i..2 * i + 2], 16).unwrap();
        }
        assert!(Scalar::from_wide(&wide) == Scalar::zero());
        wide[WIDE_BYTES - 1] += 2;
        assert!(Scalar::from_wide(&wide) == s2());
        fn s2() -> Scalar {
            Scalar::from_u64(2)
        }
    }
}
