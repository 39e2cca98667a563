//! Exponentiation of a base that is known beforehand, from a table, in constant time.
//!
//! The exponent is written in 64 signed digits of radix 16, each in -8 ..= 8. A table holds, for
//! every [`STRIDE`]-th digit position, the base's powers 1 to 8 at that position; an exponentiation
//! is 64 multiplications from the table and 4·(STRIDE - 1) squarings. Every lookup reads all eight
//! entries and negates by mask, so neither addresses nor branches depend on the exponent.

use zeroize::{Zeroize, Zeroizing};

use super::Scalar;

/// Radix-16 digits of an exponent.
const DIGITS: usize = 64;
/// Digit positions that share one set of entries.
const STRIDE: usize = 4;
/// Entries a position: the powers 1 to 8.
const ENTRIES: usize = 8;

/// A group whose elements can be tabulated.
pub(crate) trait Group: Copy + Zeroize {
    /// An element as it stands in a table; the neutral element is one, too.
    type Entry: Copy + Zeroize;

    /// The neutral element.
    fn neutral() -> Self;
    /// `self · self`.
    fn squared(&self) -> Self;
    /// `self · entry`.
    fn times(&self, entry: &Self::Entry) -> Self;
    /// The table form of elements.
    fn entries(elements: &[Self]) -> Vec<Self::Entry>;
    /// `entries[|digit| - 1]`, its inverse for a negative digit, the neutral element for zero; all
    /// entries are read and nothing branches on the digit.
    fn select(entries: &[Self::Entry], digit: i8) -> Self::Entry;
}

/// The table of one base.
pub(crate) struct FixedBase<G: Group>(Vec<G::Entry>);

impl<G: Group> FixedBase<G> {
    /// Builds the table: about the work of three exponentiations.
    pub(crate) fn new(base: &G::Entry) -> Self {
        let mut elements = Vec::with_capacity(DIGITS / STRIDE * ENTRIES);
        let mut power = G::neutral().times(base);
        for _ in 0..DIGITS / STRIDE {
            let entry = G::entries(&[power])[0];
            elements.push(power);
            for _ in 1..ENTRIES {
                power = power.times(&entry);
                elements.push(power);
            }
            // Eight times the position's base is here; the next position is 16^STRIDE times it.
            for _ in 0..4 * STRIDE - 3 {
                power = power.squared();
            }
        }
        Self(G::entries(&elements))
    }

    /// base^exponent.
    pub(crate) fn pow(&self, exponent: &Scalar) -> G {
        Self::joint(&[(self, exponent)])
    }

    /// Π base^exponent, the squarings shared.
    pub(crate) fn joint(factors: &[(&Self, &Scalar)]) -> G {
        let digits: Vec<_> = factors.iter().map(|(_, x)| signed_digits(x)).collect();
        let mut acc = Zeroizing::new(G::neutral());
        for offset in (0..STRIDE).rev() {
            if offset + 1 != STRIDE {
                for _ in 0..4 {
                    *acc = acc.squared();
                }
            }
            for ((table, _), digits) in factors.iter().zip(&digits) {
                for (position, entries) in table.0.chunks_exact(ENTRIES).enumerate() {
                    let digit = digits[position * STRIDE + offset];
                    *acc = acc.times(&G::select(entries, digit));
                }
            }
        }
        *acc
    }
}

/// The exponent in digits of radix 16, least first, each in -8 ..= 8.
fn signed_digits(exponent: &Scalar) -> Zeroizing<[i8; DIGITS]> {
    let bytes = exponent.to_le_bytes();
    let mut digits = Zeroizing::new([0i8; DIGITS]);
    let mut carry = 0i8;
    for i in 0..DIGITS {
        let nibble = (bytes[i / 2] >> (4 * (i % 2))) & 15;
        let digit = nibble.cast_signed() + carry;
        // The last digit keeps its carry: exponents are below 2^255, so it is at most 7 + 1.
        carry = if i + 1 == DIGITS { 0 } else { (digit + 8) >> 4 };
        digits[i] = digit - (carry << 4);
    }
    digits
}

/// A digit's absolute value, and whether it is negative as 0 or 1.
pub(super) fn split(digit: i8) -> (u8, u8) {
    let sign = digit >> 7;
    (
        (digit ^ sign).wrapping_sub(sign).cast_unsigned(),
        sign.cast_unsigned() & 1,
    )
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::curve::{G1, G2, Gt, pairing};

    /// Exponents at the edges of digits and of the field, and random ones.
    fn exponents() -> Vec<Scalar> {
        let mut all: Vec<Scalar> = [0, 1, 2, 7, 8, 9, 15, 16, 17, 127, 128, 0x8888, u64::MAX]
            .into_iter()
            .map(Scalar::from_u64)
            .collect();
        all.extend(all.clone().iter().map(Scalar::neg));
        let mut eights = [0u8; 48];
        eights[17..].fill(0x88);
        all.push(Scalar::from_wide(&eights));
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        all.extend((0..20).map(|_| Scalar::random(&mut rng)));
        all
    }

    #[test]
    fn digits_add_up_to_the_exponent() {
        let sixteen = Scalar::from_u64(16);
        for x in exponents() {
            let sum = signed_digits(&x)
                .iter()
                .rev()
                .fold(Scalar::zero(), |sum, &d| {
                    assert!((-8..=8).contains(&d));
                    let (value, negative) = split(d);
                    let value = Scalar::from_u64(value.into());
                    let value = if negative == 1 { value.neg() } else { value };
                    sum.mul(&sixteen).add(&value)
                });
            assert!(sum == x);
        }
    }

    #[test]
    fn tables_agree_with_the_general_exponentiation() {
        let g1 = G1::hash_to_curve(b"a base", b"a domain of sixteen or more");
        let g2 = G2::generator();
        let gt = pairing(&g1.to_affine(), &g2.to_affine());
        let t1 = FixedBase::<G1>::new(&g1.to_affine());
        let t2 = FixedBase::<G2>::new(&g2.to_affine());
        let tt = FixedBase::<Gt>::new(&gt);
        for x in exponents() {
            assert!(t1.pow(&x) == g1.pow(&x));
            assert!(t2.pow(&x) == g2.pow(&x));
            assert!(tt.pow(&x) == gt.pow_vartime(&x));
        }
    }

    #[test]
    fn joint_exponentiation_is_the_product() {
        let bases = [b"one", b"two"].map(|m| G1::hash_to_curve(m, b"a domain of sixteen or more"));
        let tables = bases.map(|b| FixedBase::<G1>::new(&b.to_affine()));
        let all = exponents();
        for (x, y) in all.iter().zip(all.iter().rev()) {
            let joint = FixedBase::joint(&[(&tables[0], x), (&tables[1], y)]);
            assert!(joint == bases[0].pow(x).mul(&bases[1].pow(y)));
        }
        // Equal and opposite summands meet within the sum.
        let x = &all[20];
        let twice = FixedBase::joint(&[(&tables[0], x), (&tables[0], x)]);
        assert!(twice == bases[0].pow(x).mul(&bases[0].pow(x)));
        assert!(FixedBase::joint(&[(&tables[0], x), (&tables[0], &x.neg())]).is_neutral());
    }
}
