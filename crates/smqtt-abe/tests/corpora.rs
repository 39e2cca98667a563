//! What fuzzing has found interesting is checked in every run, without a fuzzer: the checks are those of
//! the targets in `tests/fuzz`.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::panic,
    reason = "the checks are programs, not an API"
)]

#[path = "../../../tests/fuzz/checks/abe_ciphertext.rs"]
mod abe_ciphertext;
#[path = "../../../tests/fuzz/checks/abe_key.rs"]
mod abe_key;
#[path = "../../../tests/fuzz/checks/formula.rs"]
mod formula;
#[path = "../../../tests/fuzz/checks/policy_text.rs"]
mod policy_text;
#[path = "../../../tests/fuzz/checks/schema.rs"]
mod schema;

use arbitrary::{Arbitrary, Unstructured};

/// Gives every file of a target's corpus to its check, as libFuzzer would.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let corpus = format!(
        "{}/../../tests/fuzz/corpus/{target}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 1, "{target} has a corpus");
}

/// A structured input, read from the bytes in which libFuzzer keeps it.
fn structured<'b, T: Arbitrary<'b>>(bytes: &'b [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

#[test]
fn policy_texts() {
    replay("policy_text", |bytes| {
        structured(bytes).into_iter().for_each(policy_text::check);
    });
}

#[test]
fn schemas() {
    replay("schema", |bytes| {
        structured(bytes).into_iter().for_each(schema::check);
    });
}

#[test]
fn formulas() {
    replay("formula", |bytes| {
        structured(bytes).into_iter().for_each(formula::check);
    });
}

#[test]
fn keys() {
    replay("abe_key", abe_key::check);
}

#[test]
fn ciphertexts() {
    replay("abe_ciphertext", |bytes| {
        structured(bytes)
            .into_iter()
            .for_each(abe_ciphertext::check);
    });
}
