//! The group G1: attribute elements.

use blst::{
    BLST_ERROR, blst_fp_cneg, blst_hash_to_g1, blst_p1, blst_p1_add_or_double,
    blst_p1_add_or_double_affine, blst_p1_affine, blst_p1_affine_compress, blst_p1_affine_in_g1,
    blst_p1_affine_is_inf, blst_p1_cneg, blst_p1_double, blst_p1_from_affine, blst_p1_generator,
    blst_p1_is_equal, blst_p1_is_inf, blst_p1_mult, blst_p1_to_affine, blst_p1_uncompress,
    blst_p1s_to_affine,
};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroize;

use super::{
    G1_BYTES, Scalar, decoded,
    fixed_base::{Group, split},
};
use crate::error::PointDefect;

/// An element in Jacobian coordinates, as arithmetic makes it.
#[derive(Clone, Copy)]
pub(crate) struct G1(pub(super) blst_p1);

/// An element in affine coordinates, as encodings and pairings want it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct G1Affine(pub(super) blst_p1_affine);

impl G1 {
    /// The neutral element.
    pub(crate) fn neutral() -> Self {
        Self(blst_p1::default())
    }

    /// The standard generator g1.
    pub(crate) fn generator() -> Self {
        // SAFETY: the function returns a pointer to a constant.
        Self(unsafe { *blst_p1_generator() })
    }

    /// RFC 9380 `hash_to_curve` of the suite `BLS12381G1_XMD:SHA-256_SSWU_RO_`.
    ///
    /// `domain` is the domain separation tag; it has to be 16 to 255 bytes long.
    pub(crate) fn hash_to_curve(message: &[u8], domain: &[u8]) -> Self {
        debug_assert!((16..=255).contains(&domain.len()));
        let mut out = blst_p1::default();
        // SAFETY: pointers and lengths belong together; the augmentation is empty.
        unsafe {
            blst_hash_to_g1(
                &mut out,
                message.as_ptr(),
                message.len(),
                domain.as_ptr(),
                domain.len(),
                core::ptr::null(),
                0,
            );
        }
        Self(out)
    }

    /// `self · other`.
    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: see the module's head.
        unsafe { blst_p1_add_or_double(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// `self^exponent`, constant-time in the element. `blst` asks whether the exponent is below r,
    /// which it always is here; secret exponents go through [`FixedBase`](super::FixedBase) all the
    /// same.
    pub(crate) fn pow(&self, exponent: &Scalar) -> Self {
        let bytes = exponent.to_le_bytes();
        let mut out = blst_p1::default();
        // SAFETY: 255 bits are read from 32 bytes.
        unsafe { blst_p1_mult(&mut out, &self.0, bytes.as_ptr(), 255) };
        Self(out)
    }

    /// `self^coefficient` for a coefficient that is public and mostly one.
    pub(crate) fn pow_coefficient(&self, coefficient: &Scalar) -> Self {
        if *coefficient == Scalar::one() {
            *self
        } else {
            self.pow(coefficient)
        }
    }

    /// `self^-1`.
    pub(crate) fn inverse(&self) -> Self {
        let mut out = self.0;
        // SAFETY: see the module's head.
        unsafe { blst_p1_cneg(&mut out, true) };
        Self(out)
    }

    /// Whether this is the neutral element.
    pub(crate) fn is_neutral(&self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_p1_is_inf(&self.0) }
    }

    /// Affine coordinates.
    pub(crate) fn to_affine(self) -> G1Affine {
        let mut out = blst_p1_affine::default();
        // SAFETY: see the module's head.
        unsafe { blst_p1_to_affine(&mut out, &self.0) };
        G1Affine(out)
    }

    /// Affine coordinates of many elements, with one inversion.
    pub(crate) fn all_to_affine(elements: &[Self]) -> Vec<G1Affine> {
        let mut out = vec![G1Affine(blst_p1_affine::default()); elements.len()];
        let pointers: Vec<*const blst_p1> = elements.iter().map(|e| &raw const e.0).collect();
        // SAFETY: as many points are read as written, through `pointers` and to `out`, whose
        // element is a transparent wrapper. `blst` reads the first point even if there is none.
        unsafe {
            if !pointers.is_empty() {
                let to = out.as_mut_ptr().cast::<blst_p1_affine>();
                blst_p1s_to_affine(to, pointers.as_ptr(), pointers.len());
            }
        }
        out
    }
}

impl Group for G1 {
    type Entry = G1Affine;

    fn neutral() -> Self {
        Self(blst_p1::default())
    }

    fn squared(&self) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: see the module's head.
        unsafe { blst_p1_double(&mut out, &self.0) };
        Self(out)
    }

    fn times(&self, entry: &G1Affine) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: see the module's head.
        unsafe { blst_p1_add_or_double_affine(&mut out, &self.0, &entry.0) };
        Self(out)
    }

    fn entries(elements: &[Self]) -> Vec<G1Affine> {
        Self::all_to_affine(elements)
    }

    fn select(entries: &[G1Affine], digit: i8) -> G1Affine {
        let (value, negative) = split(digit);
        // All zeros is how `blst` writes the neutral element in affine coordinates.
        let mut out = blst_p1_affine::default();
        for (i, entry) in (1u8..).zip(entries) {
            let choice = i.ct_eq(&value);
            for (o, e) in limbs_mut(&mut out).zip(limbs(&entry.0)) {
                o.conditional_assign(e, choice);
            }
        }
        let y = out.y;
        // SAFETY: see the module's head. The flag selects by mask.
        unsafe { blst_fp_cneg(&mut out.y, &y, negative == 1) };
        G1Affine(out)
    }
}

fn limbs(point: &blst_p1_affine) -> impl Iterator<Item = &u64> {
    point.x.l.iter().chain(&point.y.l)
}

fn limbs_mut(point: &mut blst_p1_affine) -> impl Iterator<Item = &mut u64> {
    point.x.l.iter_mut().chain(&mut point.y.l)
}

impl PartialEq for G1 {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_p1_is_equal(&self.0, &other.0) }
    }
}

impl Eq for G1 {}

impl Zeroize for G1 {
    fn zeroize(&mut self) {
        self.0.x.l.zeroize();
        self.0.y.l.zeroize();
        self.0.z.l.zeroize();
    }
}

impl G1Affine {
    /// The compressed encoding (ZCash format, as in every BLS12-381 library).
    pub(crate) fn to_bytes(self) -> [u8; G1_BYTES] {
        let mut out = [0u8; G1_BYTES];
        // SAFETY: 48 bytes are written.
        unsafe { blst_p1_affine_compress(out.as_mut_ptr(), &self.0) };
        out
    }

    /// Decodes and checks: canonical, on the curve, in the subgroup, not neutral.
    pub(crate) fn from_bytes(bytes: &[u8; G1_BYTES]) -> Result<Self, PointDefect> {
        let mut out = blst_p1_affine::default();
        // SAFETY: 48 bytes are read.
        let error: BLST_ERROR = unsafe { blst_p1_uncompress(&mut out, bytes.as_ptr()) };
        decoded(error)?;
        // SAFETY: `out` was filled by a successful decode.
        unsafe {
            if blst_p1_affine_is_inf(&out) {
                return Err(PointDefect::Neutral);
            }
            if !blst_p1_affine_in_g1(&out) {
                return Err(PointDefect::NotInSubgroup);
            }
        }
        Ok(Self(out))
    }

    /// Jacobian coordinates.
    pub(crate) fn to_jacobian(self) -> G1 {
        let mut out = blst_p1::default();
        // SAFETY: see the module's head.
        unsafe { blst_p1_from_affine(&mut out, &self.0) };
        G1(out)
    }

    /// Whether this is the neutral element.
    pub(crate) fn is_neutral(&self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_p1_affine_is_inf(&self.0) }
    }
}

impl Zeroize for G1Affine {
    fn zeroize(&mut self) {
        self.0.x.l.zeroize();
        self.0.y.l.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[derive(serde::Deserialize)]
    struct File {
        dst: String,
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        msg: String,
        x: String,
        y: String,
    }

    #[test]
    fn hashing_agrees_with_rfc_9380() {
        let file: File = serde_json::from_str(include_str!(
            "../../../../tests/vectors/abe/rfc9380-bls12381g1-sswu-ro.json"
        ))
        .unwrap();
        assert_eq!(file.vectors.len(), 5);
        for vector in file.vectors {
            let point = G1::hash_to_curve(vector.msg.as_bytes(), file.dst.as_bytes()).to_affine();
            let mut bytes = [0u8; 96];
            // SAFETY: 96 bytes are written.
            unsafe { blst::blst_p1_affine_serialize(bytes.as_mut_ptr(), &point.0) };
            assert_eq!(HEXLOWER.encode(&bytes[..48]), vector.x);
            assert_eq!(HEXLOWER.encode(&bytes[48..]), vector.y);
        }
    }

    #[test]
    fn powers_agree_with_repeated_multiplication() {
        let g = G1::generator();
        let mut power = G1::neutral();
        for i in 0..40 {
            assert!(g.pow(&Scalar::from_u64(i)) == power);
            power = power.mul(&g);
        }
        let minus_one = g.pow(&Scalar::one().neg());
        assert!(minus_one == g.inverse());
        assert!(minus_one.mul(&g).is_neutral());
    }
}
