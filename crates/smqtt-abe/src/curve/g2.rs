//! The group G2: the single elements.

use blst::{
    BLST_ERROR, blst_fp2_cneg, blst_p2, blst_p2_add_or_double_affine, blst_p2_affine,
    blst_p2_affine_compress, blst_p2_affine_in_g2, blst_p2_affine_is_inf, blst_p2_double,
    blst_p2_generator, blst_p2_is_equal, blst_p2_to_affine, blst_p2_uncompress, blst_p2s_to_affine,
};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroize;

#[cfg(test)]
use super::Scalar;
use super::{
    G2_BYTES, decoded,
    fixed_base::{Group, split},
};
use crate::error::PointDefect;

/// An element in Jacobian coordinates, as arithmetic makes it.
#[derive(Clone, Copy)]
pub(crate) struct G2(pub(super) blst_p2);

/// An element in affine coordinates, as encodings and pairings want it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct G2Affine(pub(super) blst_p2_affine);

impl G2 {
    /// The standard generator g2.
    pub(crate) fn generator() -> Self {
        // SAFETY: the function returns a pointer to a constant.
        Self(unsafe { *blst_p2_generator() })
    }

    /// `self^exponent` by `blst`, for tests to compare with.
    #[cfg(test)]
    pub(crate) fn pow(&self, exponent: &Scalar) -> Self {
        let bytes = exponent.to_le_bytes();
        let mut out = blst_p2::default();
        // SAFETY: 255 bits are read from 32 bytes.
        unsafe { blst::blst_p2_mult(&mut out, &self.0, bytes.as_ptr(), 255) };
        Self(out)
    }

    /// Affine coordinates.
    pub(crate) fn to_affine(self) -> G2Affine {
        let mut out = blst_p2_affine::default();
        // SAFETY: see the module's head.
        unsafe { blst_p2_to_affine(&mut out, &self.0) };
        G2Affine(out)
    }

    /// Affine coordinates of many elements, with one inversion.
    pub(crate) fn all_to_affine(elements: &[Self]) -> Vec<G2Affine> {
        let mut out = vec![G2Affine(blst_p2_affine::default()); elements.len()];
        let pointers: Vec<*const blst_p2> = elements.iter().map(|e| &raw const e.0).collect();
        // SAFETY: as many points are read as written, through `pointers` and to `out`, whose
        // element is a transparent wrapper. `blst` reads the first point even if there is none.
        unsafe {
            if !pointers.is_empty() {
                let to = out.as_mut_ptr().cast::<blst_p2_affine>();
                blst_p2s_to_affine(to, pointers.as_ptr(), pointers.len());
            }
        }
        out
    }
}

impl Group for G2 {
    type Entry = G2Affine;

    fn neutral() -> Self {
        Self(blst_p2::default())
    }

    fn squared(&self) -> Self {
        let mut out = blst_p2::default();
        // SAFETY: see the module's head.
        unsafe { blst_p2_double(&mut out, &self.0) };
        Self(out)
    }

    fn times(&self, entry: &G2Affine) -> Self {
        let mut out = blst_p2::default();
        // SAFETY: see the module's head.
        unsafe { blst_p2_add_or_double_affine(&mut out, &self.0, &entry.0) };
        Self(out)
    }

    fn entries(elements: &[Self]) -> Vec<G2Affine> {
        Self::all_to_affine(elements)
    }

    fn select(entries: &[G2Affine], digit: i8) -> G2Affine {
        let (value, negative) = split(digit);
        // All zeros is how `blst` writes the neutral element in affine coordinates.
        let mut out = blst_p2_affine::default();
        for (i, entry) in (1u8..).zip(entries) {
            let choice = i.ct_eq(&value);
            for (o, e) in limbs_mut(&mut out).zip(limbs(&entry.0)) {
                o.conditional_assign(e, choice);
            }
        }
        let y = out.y;
        // SAFETY: see the module's head. The flag selects by mask.
        unsafe { blst_fp2_cneg(&mut out.y, &y, negative == 1) };
        G2Affine(out)
    }
}

fn limbs(point: &blst_p2_affine) -> impl Iterator<Item = &u64> {
    let (x, y) = (&point.x.fp, &point.y.fp);
    x.iter().chain(y).flat_map(|c| &c.l)
}

fn limbs_mut(point: &mut blst_p2_affine) -> impl Iterator<Item = &mut u64> {
    let (x, y) = (&mut point.x.fp, &mut point.y.fp);
    x.iter_mut().chain(y).flat_map(|c| &mut c.l)
}

impl PartialEq for G2 {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_p2_is_equal(&self.0, &other.0) }
    }
}

impl Eq for G2 {}

impl Zeroize for G2 {
    fn zeroize(&mut self) {
        self.0.x.fp[0].l.zeroize();
        self.0.x.fp[1].l.zeroize();
        self.0.y.fp[0].l.zeroize();
        self.0.y.fp[1].l.zeroize();
        self.0.z.fp[0].l.zeroize();
        self.0.z.fp[1].l.zeroize();
    }
}

impl G2Affine {
    /// The compressed encoding (ZCash format, as in every BLS12-381 library).
    pub(crate) fn to_bytes(self) -> [u8; G2_BYTES] {
        let mut out = [0u8; G2_BYTES];
        // SAFETY: 96 bytes are written.
        unsafe { blst_p2_affine_compress(out.as_mut_ptr(), &self.0) };
        out
    }

    /// Decodes and checks: canonical, on the curve, in the subgroup, not neutral.
    pub(crate) fn from_bytes(bytes: &[u8; G2_BYTES]) -> Result<Self, PointDefect> {
        let mut out = blst_p2_affine::default();
        // SAFETY: 96 bytes are read.
        let error: BLST_ERROR = unsafe { blst_p2_uncompress(&mut out, bytes.as_ptr()) };
        decoded(error)?;
        // SAFETY: `out` was filled by a successful decode.
        unsafe {
            if blst_p2_affine_is_inf(&out) {
                return Err(PointDefect::Neutral);
            }
            if !blst_p2_affine_in_g2(&out) {
                return Err(PointDefect::NotInSubgroup);
            }
        }
        Ok(Self(out))
    }

    /// Whether this is the neutral element.
    pub(crate) fn is_neutral(&self) -> bool {
        // SAFETY: see the module's head.
        unsafe { blst_p2_affine_is_inf(&self.0) }
    }
}

impl Zeroize for G2Affine {
    fn zeroize(&mut self) {
        self.0.x.fp[0].l.zeroize();
        self.0.x.fp[1].l.zeroize();
        self.0.y.fp[0].l.zeroize();
        self.0.y.fp[1].l.zeroize();
    }
}
