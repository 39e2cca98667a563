//! What is encapsulated opens for those who may, and for nobody else.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use proptest::prelude::*;
use smqtt_abe::{Error, cp};
use smqtt_policy::{Epoch, Formula};
use support::{CpAuthority, attributes, cases, formula, formulas, rng, sets};

proptest! {
    #![proptest_config(cases(24))]

    /// The policy crate's evaluation and the algebra agree; the library itself never evaluates.
    #[test]
    fn decapsulation_succeeds_if_and_only_if_the_policy_is_satisfied(
        formula in formulas(),
        set in sets(),
        seed: u64,
    ) {
        let mut rng = rng(seed);
        let (master, parameters) = cp::setup(&mut rng);
        let key = master.issue(&parameters, &set, &mut rng).unwrap();
        let (ciphertext, shared) = parameters.encapsulate(&formula, &mut rng).unwrap();
        match key.decapsulate(&parameters, &formula, &ciphertext) {
            Ok(found) => {
                prop_assert!(formula.evaluate(&set));
                prop_assert!(found == shared);
            }
            Err(error) => {
                prop_assert_eq!(error, Error::NotAuthorised);
                prop_assert!(!formula.evaluate(&set));
            }
        }
    }
}

#[test]
fn repeated_attributes_open_with_one_element_in_the_key() {
    let authority = CpAuthority::new(1);
    let policy = formula("(a and b) or (a and c) or (2 of (a, b, d))");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    for text in ["a, b", "a, c", "a, d", "b, d"] {
        let found = authority
            .key(text)
            .decapsulate(&authority.parameters, &policy, &ciphertext);
        assert!(found.unwrap() == shared, "{text}");
    }
    for text in ["a", "b, c", "d, c"] {
        let found = authority
            .key(text)
            .decapsulate(&authority.parameters, &policy, &ciphertext);
        assert_eq!(found.err(), Some(Error::NotAuthorised), "{text}");
    }
}

#[test]
fn numbers_open_by_comparison() {
    let authority = CpAuthority::new(3);
    let policy = formula("role = doctor and clearance >= 3");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(4))
        .unwrap();
    let open = |text: &str| {
        authority
            .key(text)
            .decapsulate(&authority.parameters, &policy, &ciphertext)
    };
    assert!(open("role = doctor, clearance = 3").unwrap() == shared);
    assert!(open("role = doctor, clearance = 4711").unwrap() == shared);
    assert!(open("role = doctor, clearance = 2").is_err());
    assert!(open("role = nurse, clearance = 3").is_err());
}

#[test]
fn a_key_of_another_epoch_opens_nothing() {
    let authority = CpAuthority::new(5);
    let policy = formula("a");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(6))
        .unwrap();
    let set = attributes("a");
    for (epoch, opens) in [(0, false), (1, true), (2, false)] {
        let key = authority.key_of(&set.with_epoch(Epoch::new(epoch)));
        assert_eq!(key.epoch(), Some(Epoch::new(epoch)));
        match key.decapsulate(&authority.parameters, &policy, &ciphertext) {
            Ok(found) => assert!(opens && found == shared),
            Err(error) => assert!(!opens && error == Error::NotAuthorised),
        }
    }
}

#[test]
fn every_encapsulation_makes_another_key_and_another_ciphertext() {
    let authority = CpAuthority::new(7);
    let policy = formula("a");
    let mut rng = rng(8);
    let (c1, k1) = authority.parameters.encapsulate(&policy, &mut rng).unwrap();
    let (c2, k2) = authority.parameters.encapsulate(&policy, &mut rng).unwrap();
    assert_ne!(c1, c2);
    assert!(k1 != k2);
}

/// The sizes that the design promises: 672 bytes of scheme and 32 of the transform for ten
/// different attributes, of which the epoch is one.
#[test]
fn ciphertexts_and_keys_are_as_small_as_promised() {
    let authority = CpAuthority::new(9);
    let policy = formula("a and b and c and d and e and f and g and h and i");
    assert_eq!(policy.rows(), 10);
    let (ciphertext, _) = authority
        .parameters
        .encapsulate(&policy, &mut rng(10))
        .unwrap();
    assert_eq!(ciphertext.len(), 672 + 32);
    assert_eq!(authority.parameters.to_bytes().len(), 582);
    assert_eq!(authority.master.to_bytes().len(), 87);
}

#[test]
fn policies_out_of_bounds_are_refused_on_both_sides() {
    let authority = CpAuthority::new(11);
    let leaf = formula("a");
    let wide = Formula::Threshold {
        k: 1,
        of: vec![leaf.clone(); smqtt_abe::limits::MAX_ROWS + 1],
    };
    let repeated = Formula::Threshold {
        k: 1,
        of: vec![leaf.clone(); smqtt_abe::limits::MAX_OCCURRENCES + 1],
    };
    let mut deep = leaf.clone();
    for _ in 0..smqtt_abe::limits::MAX_DEPTH {
        deep = Formula::Threshold {
            k: 1,
            of: vec![deep],
        };
    }
    let none = Formula::Threshold {
        k: 0,
        of: vec![leaf.clone()],
    };
    let many = Formula::Threshold {
        k: 2,
        of: vec![leaf],
    };
    let key = authority.key("a");
    for policy in [wide, repeated, deep, none, many] {
        let sent = authority.parameters.encapsulate(&policy, &mut rng(12));
        assert!(matches!(sent.err(), Some(Error::Policy(_))));
        let opened = key.decapsulate(&authority.parameters, &policy, &[]);
        assert!(matches!(opened.err(), Some(Error::Policy(_))));
    }
}

#[test]
fn a_key_without_attributes_is_not_issued() {
    let authority = CpAuthority::new(13);
    let nobody = smqtt_policy::AttributeSet::new();
    let key = authority
        .master
        .issue(&authority.parameters, &nobody, &mut rng(14));
    assert_eq!(key.err(), Some(Error::AttributeCount { found: 0 }));
}
