//! Products of pairings, with one Miller loop and one final exponentiation for all factors.
//!
//! The lines of the loop depend on the point of G2 alone. A key's points meet many ciphertexts, so
//! their lines are kept.

use blst::{
    blst_final_exp, blst_fp_add, blst_fp_cneg, blst_fp_mul, blst_fp2, blst_fp6, blst_fp12,
    blst_fp12_conjugate, blst_fp12_mul_by_xy00z0, blst_fp12_sqr, blst_p1_affine,
    blst_precompute_lines,
};
use zeroize::Zeroize;

use super::{G1Affine, G2Affine, Gt};

/// Lines of one loop: 63 doublings and 5 additions.
const LINES: usize = 68;

/// Doublings after each addition: the parameter 0xd201000000010000 has six bits set, and its first
/// doubling stands before the first addition.
const RUNS: [usize; 5] = [2, 3, 9, 32, 16];

/// A point of G2 with the lines of its Miller loop, 19.6 kB; wiped when dropped.
pub(crate) struct Prepared(Box<[blst_fp6; LINES]>);

impl Prepared {
    /// The lines of a point, or `None` for the neutral element, which has none.
    pub(crate) fn new(point: &G2Affine) -> Option<Self> {
        if point.is_neutral() {
            return None;
        }
        let mut lines = Box::new([blst_fp6::default(); LINES]);
        // SAFETY: `blst` writes 68 lines.
        unsafe { blst_precompute_lines(lines.as_mut_ptr(), &point.0) };
        Some(Self(lines))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for line in self.0.iter_mut() {
            for coefficient in &mut line.fp2 {
                wipe(coefficient);
            }
        }
    }
}

fn wipe(value: &mut blst_fp2) {
    value.fp[0].l.zeroize();
    value.fp[1].l.zeroize();
}

/// A point of G1 as lines are evaluated at it: (-2x, 2y).
struct Place(blst_p1_affine);

impl Place {
    fn new(point: &G1Affine) -> Self {
        let mut out = blst_p1_affine::default();
        // SAFETY: see the module's head; results may be operands.
        unsafe {
            let x = &raw mut out.x;
            blst_fp_add(x, &point.0.x, &point.0.x);
            blst_fp_cneg(x, x, true);
            blst_fp_add(&mut out.y, &point.0.y, &point.0.y);
        }
        Self(out)
    }

    /// The line's value here, three coefficients of Fp2.
    fn evaluate(&self, line: &blst_fp6) -> blst_fp6 {
        let mut out = *line;
        for part in 0..2 {
            // SAFETY: see the module's head.
            unsafe {
                blst_fp_mul(&mut out.fp2[1].fp[part], &line.fp2[1].fp[part], &self.0.x);
                blst_fp_mul(&mut out.fp2[2].fp[part], &line.fp2[2].fp[part], &self.0.y);
            }
        }
        out
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.x.l.zeroize();
        self.0.y.l.zeroize();
    }
}

/// Π e(P, Q). A factor with a neutral element is one.
pub(crate) fn multi_pairing(pairs: &[(&G1Affine, &Prepared)]) -> Gt {
    let factors: Vec<(Place, &[blst_fp6; LINES])> = pairs
        .iter()
        .filter(|(point, _)| !point.is_neutral())
        .map(|(point, prepared)| (Place::new(point), &*prepared.0))
        .collect();
    let mut acc = *Gt::one().inner();
    let multiply = |acc: &mut blst_fp12, step: usize| {
        for (place, lines) in &factors {
            let value = place.evaluate(&lines[step]);
            let acc = &raw mut *acc;
            // SAFETY: see the module's head; the result may be an operand.
            unsafe { blst_fp12_mul_by_xy00z0(acc, acc, &value) };
        }
    };
    multiply(&mut acc, 0);
    let mut step = 1;
    for doublings in RUNS {
        multiply(&mut acc, step);
        step += 1;
        for _ in 0..doublings {
            let square = &raw mut acc;
            // SAFETY: see the module's head; the result may be an operand.
            unsafe { blst_fp12_sqr(square, square) };
            multiply(&mut acc, step);
            step += 1;
        }
    }
    debug_assert_eq!(step, LINES);
    let mut out = blst_fp12::default();
    // SAFETY: see the module's head. The conjugate makes up for the parameter's sign.
    unsafe {
        blst_fp12_conjugate(&mut acc);
        blst_final_exp(&mut out, &acc);
    }
    Gt::from_inner(acc).zeroize();
    Gt::from_inner(out)
}

/// e(P, Q) of one pair.
pub(crate) fn pairing(p: &G1Affine, q: &G2Affine) -> Gt {
    match Prepared::new(q) {
        Some(q) => multi_pairing(&[(p, &q)]),
        None => Gt::one(),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::curve::{G1, G2, Scalar};

    #[test]
    fn agrees_with_the_pairing_of_blst() {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        for _ in 0..5 {
            let p = G1::generator().pow(&Scalar::random(&mut rng)).to_affine();
            let q = G2::generator().pow(&Scalar::random(&mut rng)).to_affine();
            let expected = blst_fp12::miller_loop(&q.0, &p.0).final_exp();
            assert!(pairing(&p, &q) == Gt::from_inner(expected));
        }
    }

    #[test]
    fn is_bilinear() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (a, b) = (Scalar::random(&mut rng), Scalar::random(&mut rng));
        let (g1, g2) = (G1::generator(), G2::generator());
        let base = pairing(&g1.to_affine(), &g2.to_affine());
        let powers = pairing(&g1.pow(&a).to_affine(), &g2.pow(&b).to_affine());
        assert!(powers == base.pow_vartime(&a.mul(&b)));
        assert!(powers != base.pow_vartime(&a));
    }

    #[test]
    fn many_pairs_multiply_and_neutral_ones_vanish() {
        let (g1, g2) = (G1::generator(), G2::generator());
        let prepared = Prepared::new(&g2.to_affine()).unwrap();
        let points: Vec<_> = (0..40)
            .map(|i| g1.pow(&Scalar::from_u64(i)).to_affine())
            .collect();
        let pairs: Vec<_> = points.iter().map(|point| (point, &prepared)).collect();
        let base = pairing(&g1.to_affine(), &g2.to_affine());
        assert!(multi_pairing(&pairs) == base.pow_vartime(&Scalar::from_u64(40 * 39 / 2)));
        assert!(multi_pairing(&pairs[..1]) == Gt::one());
        assert!(multi_pairing(&[]) == Gt::one());
        let neutral = g2.pow(&Scalar::zero()).to_affine();
        assert!(pairing(&g1.to_affine(), &neutral) == Gt::one());
    }
}
