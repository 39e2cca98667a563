//! Set-ups, keys and random policies for the tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and a panic is a failed test"
)]

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use smqtt_abe::{cp, kp};
use smqtt_policy::{Attribute, AttributeSet, Epoch, Formula, Policy};

/// A generator that makes the same numbers in every run.
pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Cases of a property test: what `PROPTEST_CASES` says, or the few that suit every run.
pub fn cases(few: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(few))
}

/// The set of a text such as "role = doctor, dept = icu", in epoch 1.
pub fn attributes(text: &str) -> AttributeSet {
    let set: AttributeSet = text.parse().unwrap();
    set.with_epoch(Epoch::new(1))
}

/// The formula of a policy text in epoch 1.
pub fn formula(text: &str) -> Formula {
    let policy: Policy = text.parse().unwrap();
    policy.at_epoch(Epoch::new(1))
}

/// An authority of the ciphertext-policy scheme.
pub struct CpAuthority {
    pub master: cp::MasterKey,
    pub parameters: cp::PublicParameters,
}

impl CpAuthority {
    pub fn new(seed: u64) -> Self {
        let (master, parameters) = cp::setup(&mut rng(seed));
        Self { master, parameters }
    }

    pub fn key(&self, text: &str) -> cp::AttributeKey {
        self.key_of(&attributes(text))
    }

    pub fn key_of(&self, set: &AttributeSet) -> cp::AttributeKey {
        self.master
            .issue(&self.parameters, set, &mut rng(0x6b65))
            .unwrap()
    }
}

/// An authority of the key-policy scheme.
pub struct KpAuthority {
    pub master: kp::MasterKey,
    pub parameters: kp::PublicParameters,
}

impl KpAuthority {
    pub fn new(seed: u64) -> Self {
        let (master, parameters) = kp::setup(&mut rng(seed));
        Self { master, parameters }
    }

    pub fn key(&self, policy: &str) -> kp::PolicyKey {
        self.master
            .issue(&self.parameters, &formula(policy), &mut rng(0x6b65))
            .unwrap()
    }
}

/// The byte strings of an encoded object and where they stand: CBOR heads of one, two or three
/// bytes, as this crate writes them.
pub fn fields(object: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = 3;
    let mut out = Vec::new();
    while at < object.len() {
        let (head, length) = match object[at] & 0x1f {
            n @ 0..24 => (1, usize::from(n)),
            24 => (2, usize::from(object[at + 1])),
            25 => (
                3,
                usize::from(u16::from_be_bytes([object[at + 1], object[at + 2]])),
            ),
            other => panic!("head {other} is not one of these objects'"),
        };
        out.push(at + head..at + head + length);
        at += head + length;
    }
    out
}

/// The attributes of random policies and sets.
pub const FLAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Trees over [`FLAGS`], repetitions included.
pub fn formulas() -> impl Strategy<Value = Formula> {
    prop::sample::select(&FLAGS[..])
        .prop_map(|name| Formula::Attribute(Attribute::flag(name).unwrap()))
        .prop_recursive(3, 16, 4, |inner| {
            prop::collection::vec(inner, 1..5)
                .prop_flat_map(|of| (1..=of.len(), Just(of)))
                .prop_map(|(k, of)| Formula::Threshold { k, of })
        })
}

/// Non-empty subsets of [`FLAGS`].
pub fn sets() -> impl Strategy<Value = AttributeSet> {
    prop::sample::subsequence(&FLAGS[..], 1..=FLAGS.len())
        .prop_map(|names| names.join(", ").parse().unwrap())
}
