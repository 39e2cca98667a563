//! What is labelled opens for those whose policy it satisfies, and for nobody else.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use proptest::prelude::*;
use smqtt_abe::{Error, kp};
use smqtt_policy::{AttributeSet, Epoch};
use support::{KpAuthority, attributes, cases, formula, formulas, rng, sets};

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
        let (master, parameters) = kp::setup(&mut rng);
        let key = master.issue(&parameters, &formula, &mut rng).unwrap();
        let (ciphertext, shared) = parameters.encapsulate(&set, &mut rng).unwrap();
        match key.decapsulate(&parameters, &set, &ciphertext) {
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
fn topics_and_numbers_label_messages() {
    let authority = KpAuthority::new(1);
    let key = authority.key("topic matches house/+/temperature and level < 10");
    let label = |topic: &str, level: u32, epoch: u64| -> AttributeSet {
        let set: AttributeSet = format!("level = {level}").parse().unwrap();
        set.with_topic(topic).unwrap().with_epoch(Epoch::new(epoch))
    };
    for (topic, level, epoch, opens) in [
        ("house/attic/temperature", 9, 1, true),
        ("house/cellar/temperature", 0, 1, true),
        ("house/attic/temperature", 10, 1, false),
        ("house/attic/humidity", 9, 1, false),
        ("house/attic/north/temperature", 9, 1, false),
        ("house/attic/temperature", 9, 2, false),
    ] {
        let label = label(topic, level, epoch);
        let (ciphertext, shared) = authority
            .parameters
            .encapsulate(&label, &mut rng(2))
            .unwrap();
        match key.decapsulate(&authority.parameters, &label, &ciphertext) {
            Ok(found) => assert!(opens && found == shared, "{topic} {level} {epoch}"),
            Err(error) => assert!(!opens && error == Error::NotAuthorised, "{topic} {level}"),
        }
    }
}

#[test]
fn repeated_attributes_open_with_one_element_in_the_ciphertext() {
    let authority = KpAuthority::new(3);
    let key = authority.key("(a and b) or (a and c) or (2 of (a, b, d))");
    for (text, opens) in [
        ("a, b", true),
        ("a, d", true),
        ("b, d", true),
        ("b, c", false),
    ] {
        let label = attributes(text);
        let (ciphertext, shared) = authority
            .parameters
            .encapsulate(&label, &mut rng(4))
            .unwrap();
        let found = key.decapsulate(&authority.parameters, &label, &ciphertext);
        assert_eq!(found.is_ok_and(|found| found == shared), opens, "{text}");
    }
}

/// 576 bytes of scheme and 32 of the transform for ten attributes, of which the epoch is one.
#[test]
fn ciphertexts_are_as_small_as_promised() {
    let authority = KpAuthority::new(5);
    let label = attributes("a, b, c, d, e, f, g, h, i");
    let (ciphertext, _) = authority
        .parameters
        .encapsulate(&label, &mut rng(6))
        .unwrap();
    assert_eq!(ciphertext.len(), 576 + 32);
}

#[test]
fn sets_and_policies_out_of_bounds_are_refused() {
    let authority = KpAuthority::new(7);
    let nothing = AttributeSet::new();
    let sent = authority.parameters.encapsulate(&nothing, &mut rng(8));
    assert_eq!(sent.err(), Some(Error::AttributeCount { found: 0 }));
    let leaf = formula("a");
    let wide = smqtt_policy::Formula::Threshold {
        k: 1,
        of: vec![leaf; smqtt_abe::limits::MAX_ROWS + 1],
    };
    let key = authority
        .master
        .issue(&authority.parameters, &wide, &mut rng(9));
    assert!(matches!(key.err(), Some(Error::Policy(_))));
}
