//! The algebra, tested against linear algebra and without the policy crate's evaluation.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use smqtt_policy::Epoch;

use super::*;

/// A leaf; attributes are told apart by number.
fn leaf(number: u64) -> Formula {
    Formula::Attribute(Attribute::epoch(Epoch::new(number)))
}

fn gate(k: usize, of: Vec<Formula>) -> Formula {
    Formula::Threshold { k, of }
}

/// Trees of up to a few dozen leaves over six attributes, so that repetitions are the rule.
fn formulas() -> impl Strategy<Value = Formula> {
    (0u64..6).prop_map(leaf).prop_recursive(4, 32, 5, |inner| {
        prop::collection::vec(inner, 1..6)
            .prop_flat_map(|of| (1..=of.len(), Just(of)))
            .prop_map(|(k, of)| gate(k, of))
    })
}

/// What the tree means, written down a second time.
fn satisfied(formula: &Formula, held: &[bool], next: &mut usize) -> bool {
    match formula {
        Formula::Attribute(_) => {
            *next += 1;
            held[*next - 1]
        }
        Formula::Threshold { k, of } => {
            let count = of.iter().filter(|c| satisfied(c, held, next)).count();
            count >= *k
        }
    }
}

fn unit(columns: usize) -> Vec<Scalar> {
    let mut out = vec![Scalar::zero(); columns];
    out[0] = Scalar::one();
    out
}

/// Rows whose attribute is in the bit set.
fn held_rows(matrix: &ShareMatrix<'_>, set: u8) -> Vec<usize> {
    (0..matrix.rows().len())
        .filter(|&i| holds(set, matrix.rows()[i].attribute))
        .collect()
}

fn holds(set: u8, attribute: &Attribute) -> bool {
    (0..6).any(|n| set >> n & 1 == 1 && *attribute == Attribute::epoch(Epoch::new(n)))
}

/// What `PROPTEST_CASES` says, or enough for every run.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(512))
}

proptest! {
    #![proptest_config(cases())]

    /// Linear algebra opens exactly what the tree says, and so does the production path.
    #[test]
    fn rows_span_the_secret_if_and_only_if_the_policy_is_satisfied(
        formula in formulas(),
        set in 0u8..64,
    ) {
        let matrix = ShareMatrix::new(&formula).unwrap();
        let rows = held_rows(&matrix, set);
        let vectors: Vec<_> = rows.iter().map(|&i| matrix.dense(i)).collect();
        let held: Vec<bool> = (0..matrix.rows().len()).map(|i| rows.contains(&i)).collect();
        let authorised = satisfied(&formula, &held, &mut 0);

        let solution = linear::solve(&vectors, matrix.columns());
        prop_assert_eq!(solution.is_some(), authorised);
        if let Some(gammas) = solution {
            let opening: Vec<_> = rows.iter().copied().zip(gammas).collect();
            prop_assert!(matrix.combine(&opening) == unit(matrix.columns()));
        }

        let opening = matrix.open(|row| holds(set, row.attribute));
        prop_assert_eq!(opening.is_some(), authorised);
        if let Some(opening) = opening {
            prop_assert!(opening.iter().all(|(i, _)| rows.contains(i)));
            prop_assert!(matrix.combine(&opening) == unit(matrix.columns()));
        }
    }

    /// With one randomness for all occurrences an attacker would get the differences of the rows
    /// of an attribute that it does not hold. With ρ it gets none of them; this shows that no
    /// difference within one occurrence number exists, whatever the policy.
    #[test]
    fn no_two_rows_share_attribute_and_occurrence(formula in formulas()) {
        let matrix = ShareMatrix::new(&formula).unwrap();
        let mut pairs: Vec<_> = matrix.rows().iter().map(|r| (r.attribute, r.occurrence)).collect();
        let all = pairs.len();
        pairs.sort();
        pairs.dedup();
        prop_assert_eq!(pairs.len(), all);
        let most = matrix.rows().iter().map(|r| r.occurrence + 1).max();
        prop_assert_eq!(most, Some(matrix.occurrences()));
    }

    /// Key-policy keys are made without α, which rests on this.
    #[test]
    fn the_secret_is_a_summand_with_coefficient_one_or_not_at_all(formula in formulas()) {
        let matrix = ShareMatrix::new(&formula).unwrap();
        for (i, row) in matrix.rows().iter().enumerate() {
            let expected = if row.takes_secret() { Scalar::one() } else { Scalar::zero() };
            prop_assert!(matrix.dense(i)[0] == expected);
        }
    }

    /// Shares of an authorised set add up to the secret.
    #[test]
    fn shares_open_to_the_secret(formula in formulas(), set in 0u8..64, seed: u64) {
        let matrix = ShareMatrix::new(&formula).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = Scalar::random(&mut rng);
        let shares = matrix.shares(&secret, |_| Scalar::random(&mut rng));
        if let Some(opening) = matrix.open(|row| holds(set, row.attribute)) {
            let sum = opening.iter().fold(Scalar::zero(), |sum, (i, gamma)| {
                sum.add(&gamma.mul(&shares[*i]))
            });
            prop_assert!(sum == secret);
        }
    }
}

/// The reason for ρ. With one randomness for both occurrences of `a`, the quotient of their
/// ciphertext elements is B to the difference of their shares, open to all: the attacker gains the
/// difference of the rows of an attribute that it does not hold.
#[test]
fn the_difference_of_two_rows_of_one_attribute_would_open_this_policy() {
    // (a and b) and (a or c), held: b and c.
    let formula = gate(
        2,
        vec![
            gate(2, vec![leaf(0), leaf(1)]),
            gate(1, vec![leaf(0), leaf(2)]),
        ],
    );
    let matrix = ShareMatrix::new(&formula).unwrap();
    let occurrences: Vec<_> = matrix.rows().iter().map(|r| r.occurrence).collect();
    assert_eq!(occurrences, [0, 0, 1, 0]);
    let (a1, b, a2, c) = (
        matrix.dense(0),
        matrix.dense(1),
        matrix.dense(2),
        matrix.dense(3),
    );
    assert!(linear::solve(&[b.clone(), c.clone()], matrix.columns()).is_none());
    let difference: Vec<Scalar> = a1.iter().zip(&a2).map(|(x, y)| x.sub(y)).collect();
    assert!(linear::solve(&[b, c, difference], matrix.columns()).is_some());
}

#[test]
fn and_and_or_open_with_coefficient_one() {
    let formula = gate(3, vec![leaf(0), gate(1, vec![leaf(1), leaf(2)]), leaf(3)]);
    let matrix = ShareMatrix::new(&formula).unwrap();
    let opening = matrix.open(|_| true).unwrap();
    assert_eq!(opening.len(), 3);
    assert!(opening.iter().all(|(_, gamma)| *gamma == Scalar::one()));
}

#[test]
fn the_smallest_authorised_set_is_opened() {
    let wide = gate(3, vec![leaf(0), leaf(1), leaf(2)]);
    let formula = gate(1, vec![wide, leaf(3)]);
    let matrix = ShareMatrix::new(&formula).unwrap();
    let rows: Vec<_> = matrix.open(|_| true).unwrap().iter().map(|o| o.0).collect();
    assert_eq!(rows, [3]);
}

#[test]
fn an_and_gate_gives_no_child_the_whole_secret() {
    for n in 2..12 {
        let formula = gate(n, (0..n as u64).map(leaf).collect());
        let matrix = ShareMatrix::new(&formula).unwrap();
        for missing in 0..n {
            let vectors: Vec<_> = (0..n)
                .filter(|&i| i != missing)
                .map(|i| matrix.dense(i))
                .collect();
            assert!(linear::solve(&vectors, matrix.columns()).is_none());
        }
    }
}

#[test]
fn unusable_thresholds_are_refused() {
    for bad in [
        gate(0, vec![leaf(0)]),
        gate(2, vec![leaf(0)]),
        gate(1, vec![]),
        gate(0, vec![]),
    ] {
        assert!(ShareMatrix::new(&bad).is_err());
    }
}

#[test]
fn matrices_with_too_many_entries_are_refused_before_they_are_built() {
    // Row x of a threshold k has k entries: 512 rows of a 300 of 512 are 153,600.
    let formula = gate(300, (0..512).map(leaf).collect());
    assert_eq!(
        ShareMatrix::new(&formula).err(),
        Some(Error::TooManyEntries)
    );
    let formula = gate(200, (0..512).map(leaf).collect());
    assert!(ShareMatrix::new(&formula).is_ok());
}
