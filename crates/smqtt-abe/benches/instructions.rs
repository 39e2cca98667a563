//! Single operations to be counted in instructions, which repeat where times do not: scripts/bench/instructions.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark is no API")]

#[path = "../../../scripts/bench/counted.rs"]
mod counted;

use counted::count;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use smqtt_abe::{cp, kp};
use smqtt_policy::{Attribute, AttributeSet, Formula};

const ATTRIBUTES: usize = 10;

const OPERATIONS: [&str; 6] = [
    "cp-keygen-10",
    "cp-encaps-10",
    "cp-decaps-10",
    "kp-keygen-10",
    "kp-encaps-10",
    "kp-decaps-10",
];

fn run(name: &str) {
    let mut set = AttributeSet::new();
    for i in 0..ATTRIBUTES {
        set.insert(Attribute::flag(&format!("attribute{i}")).unwrap())
            .unwrap();
    }
    let policy = Formula::Threshold {
        k: ATTRIBUTES,
        of: set.iter().cloned().map(Formula::Attribute).collect(),
    };
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    if name.starts_with("cp-") {
        let (master, parameters) = cp::setup(rng);
        let key = master.issue(&parameters, &set, rng).unwrap();
        let (ciphertext, _) = parameters.encapsulate(&policy, rng).unwrap();
        match name {
            "cp-keygen-10" => count(|| master.issue(&parameters, &set, rng).unwrap()),
            "cp-encaps-10" => count(|| parameters.encapsulate(&policy, rng).unwrap()),
            "cp-decaps-10" => {
                count(|| key.decapsulate(&parameters, &policy, &ciphertext).unwrap());
            }
            other => unreachable!("{other}"),
        }
    } else {
        let (master, parameters) = kp::setup(rng);
        let key = master.issue(&parameters, &policy, rng).unwrap();
        let (ciphertext, _) = parameters.encapsulate(&set, rng).unwrap();
        match name {
            "kp-keygen-10" => count(|| master.issue(&parameters, &policy, rng).unwrap()),
            "kp-encaps-10" => count(|| parameters.encapsulate(&set, rng).unwrap()),
            "kp-decaps-10" => count(|| key.decapsulate(&parameters, &set, &ciphertext).unwrap()),
            other => unreachable!("{other}"),
        }
    }
}

fn main() {
    counted::main(&OPERATIONS, run);
}
