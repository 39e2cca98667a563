//! BLS12-381: the one place where the crate talks to `blst`.
//!
//! Every `unsafe` block of the crate stands below this module. Each is a call of a `blst` C function
//! with pointers to live, initialised Rust values of the `#[repr(C)]` types that `blst` declares;
//! the output pointers are distinct `&mut` references or may alias their inputs, which `blst` allows
//! for all functions used here.
//!
//! Notation is multiplicative as in the paper: `a.mul(&b)` is the group operation, `a.pow(&x)` is
//! exponentiation with a scalar.
//!
//! Timing: everything is constant-time in scalars and points but for the functions whose names end
//! in `_vartime`, the decoders, and what asks whether an element is the neutral one.
#![allow(unsafe_code)]

#[cfg(test)]
mod constant_time;
mod fixed_base;
mod g1;
mod g2;
mod gt;
mod pairing;
mod scalar;

pub(crate) use fixed_base::FixedBase;
pub(crate) use g1::{G1, G1Affine};
pub(crate) use g2::{G2, G2Affine};
pub(crate) use gt::Gt;
pub(crate) use pairing::{Prepared, multi_pairing, pairing};
pub(crate) use scalar::{Scalar, WIDE_BYTES};

use crate::error::PointDefect;

/// Bytes of a compressed G1 element.
pub(crate) const G1_BYTES: usize = 48;
/// Bytes of a compressed G2 element.
pub(crate) const G2_BYTES: usize = 96;
/// Bytes of a GT element: twelve base field elements of 48 bytes.
pub(crate) const GT_BYTES: usize = 576;

/// The outcome of a `blst` decoder.
fn decoded(error: blst::BLST_ERROR) -> Result<(), PointDefect> {
    match error {
        blst::BLST_ERROR::BLST_SUCCESS => Ok(()),
        blst::BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Err(PointDefect::NotOnCurve),
        blst::BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Err(PointDefect::NotInSubgroup),
        _ => Err(PointDefect::Encoding),
    }
}
