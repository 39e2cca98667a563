//! The target group GT.

use blst::{
    blst_bendian_from_fp, blst_bendian_from_fp12, blst_fp, blst_fp_from_bendian, blst_fp12,
    blst_fp12_conjugate, blst_fp12_cyclotomic_sqr, blst_fp12_in_group, blst_fp12_is_equal,
    blst_fp12_is_one, blst_fp12_mul, blst_fp12_one,
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

#[cfg(test)]
use super::Scalar;

use super::{
    GT_BYTES,
    fixed_base::{Group, split},
};
use crate::error::PointDefect;

/// An element of GT.
#[derive(Clone, Copy)]
pub(crate) struct Gt(blst_fp12);

impl Gt {
    pub(super) fn from_inner(value: blst_fp12) -> Self {
        Self(value)
    }

    pub(super) fn inner(&self) -> &blst_fp12 {
        &self.0
    }

    /// The neutral element.
    pub(crate) fn one() -> Self {
        // SAFETY: the function returns a pointer to a constant.
        Self(unsafe { *blst_fp12_one() })
    }

    /// `self · other`.
    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = blst_fp12::default();
        // SAFETY: see the module's head.
        unsafe { blst_fp12_mul(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// `self²`, with the formula that holds in the cyclotomic subgroup only: every value of this
    /// type came out of a final exponentiation or a checked decode, so it is there.
    fn square(&self) -> Self {
        let mut out = blst_fp12::default();
        // SAFETY: see the module's head.
        unsafe { blst_fp12_cyclotomic_sqr(&mut out, &self.0) };
        Self(out)
    }

    /// `self^exponent` by the textbook, for tests to compare with.
    #[cfg(test)]
    pub(super) fn pow_vartime(&self, exponent: &Scalar) -> Self {
        let bits = exponent.to_le_bytes();
        (0..256).rev().fold(Self::one(), |acc, i| {
            let squared = acc.mul(&acc);
            if bits[i / 8] >> (i % 8) & 1 == 1 {
                squared.mul(self)
            } else {
                squared
            }
        })
    }

    /// Takes over `other` if the choice is 1, by mask.
    fn assign_if(&mut self, other: &Self, choice: Choice) {
        for (o, e) in self.limbs_mut().zip(other.limbs()) {
            o.conditional_assign(e, choice);
        }
    }

    fn limbs(&self) -> impl Iterator<Item = &u64> {
        self.0
            .fp6
            .iter()
            .flat_map(|c| &c.fp2)
            .flat_map(|c| &c.fp)
            .flat_map(|c| &c.l)
    }

    fn limbs_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        self.0
            .fp6
            .iter_mut()
            .flat_map(|c| &mut c.fp2)
            .flat_map(|c| &mut c.fp)
            .flat_map(|c| &mut c.l)
    }

    /// The coefficients of w⁰, w¹, …, w⁵ over Fp2, each as real then imaginary part, 48 bytes
    /// big-endian.
    pub(crate) fn to_bytes(self) -> Zeroizing<[u8; GT_BYTES]> {
        let mut out = Zeroizing::new([0u8; GT_BYTES]);
        // SAFETY: 576 bytes are written.
        unsafe { blst_bendian_from_fp12(out.as_mut_ptr(), &self.0) };
        out
    }

    /// Decodes and checks: each coefficient below p, in the subgroup of order r, not neutral.
    pub(crate) fn from_bytes(bytes: &[u8; GT_BYTES]) -> Result<Self, PointDefect> {
        let mut out = blst_fp12::default();
        let (coefficients, _) = bytes.as_chunks::<48>();
        for (i, coefficient) in coefficients.iter().enumerate() {
            let mut fp = blst_fp::default();
            let mut again = [0u8; 48];
            // SAFETY: 48 bytes are read and 48 written.
            unsafe {
                blst_fp_from_bendian(&mut fp, coefficient.as_ptr());
                blst_bendian_from_fp(again.as_mut_ptr(), &fp);
            }
            if again != *coefficient {
                return Err(PointDefect::Encoding);
            }
            // The i-th pair is the coefficient of w^⌊i/2⌋ = v^⌊i/4⌋ · w^(⌊i/2⌋ mod 2).
            let (power, part) = (i / 2, i % 2);
            out.fp6[power % 2].fp2[power / 2].fp[part] = fp;
        }
        // SAFETY: see the module's head.
        unsafe {
            if blst_fp12_is_one(&out) {
                return Err(PointDefect::Neutral);
            }
            if !blst_fp12_in_group(&out) {
                return Err(PointDefect::NotInSubgroup);
            }
        }
        Ok(Self(out))
    }
}

impl Group for Gt {
    type Entry = Self;

    fn neutral() -> Self {
        Self::one()
    }

    fn squared(&self) -> Self {
        self.square()
    }

    fn times(&self, entry: &Self) -> Self {
        self.mul(entry)
    }

    fn entries(elements: &[Self]) -> Vec<Self> {
        elements.to_vec()
    }

    fn select(entries: &[Self], digit: i8) -> Self {
        let (value, negative) = split(digit);
        let mut out = Self::one();
        for (i, entry) in (1u8..).zip(entries) {
            out.assign_if(entry, i.ct_eq(&value));
        }
        // In the cyclotomic subgroup the inverse is the conjugate.
        let mut inverse = out;
        // SAFETY: see the module's head.
        unsafe { blst_fp12_conjugate(&mut inverse.0) };
        out.assign_if(&inverse, negative.into());
        out
    }
}

impl PartialEq for Gt {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_fp12_is_equal(&self.0, &other.0) }
    }
}

impl Eq for Gt {}

impl Default for Gt {
    fn default() -> Self {
        Self::one()
    }
}

impl Zeroize for Gt {
    fn zeroize(&mut self) {
        for limb in self.limbs_mut() {
            limb.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{G1, G2, pairing};

    fn generator() -> Gt {
        pairing(&G1::generator().to_affine(), &G2::generator().to_affine())
    }

    #[test]
    fn exponentiation_agrees_with_repeated_multiplication() {
        let g = generator();
        let mut power = Gt::one();
        for i in 0..40 {
            assert!(g.pow_vartime(&Scalar::from_u64(i)) == power);
            power = power.mul(&g);
        }
        assert!(g.pow_vartime(&Scalar::one().neg()).mul(&g) == Gt::one());
    }

    #[test]
    fn encoding_is_canonical_and_checked() {
        let g = generator().pow_vartime(&Scalar::from_u64(77));
        let bytes = g.to_bytes();
        assert!(Gt::from_bytes(&bytes).is_ok_and(|back| back == g));
        assert_eq!(
            Gt::from_bytes(&Gt::one().to_bytes()).err(),
            Some(PointDefect::Neutral)
        );
        let mut wrong = *bytes;
        wrong[GT_BYTES - 1] ^= 1;
        assert_eq!(
            Gt::from_bytes(&wrong).err(),
            Some(PointDefect::NotInSubgroup)
        );
        assert_eq!(
            Gt::from_bytes(&[0; GT_BYTES]).err(),
            Some(PointDefect::NotInSubgroup)
        );
        // The base field's prime, a second spelling of zero.
        let p = "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";
        let mut wrong = Gt::one().to_bytes();
        for (i, byte) in wrong[48..96].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&p[2 * i..2 * i + 2], 16).unwrap();
        }
        assert_eq!(Gt::from_bytes(&wrong).err(), Some(PointDefect::Encoding));
    }
}
