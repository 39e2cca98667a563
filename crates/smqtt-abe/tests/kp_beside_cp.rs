//! The key-policy master key of an authority that holds a ciphertext-policy one: the same for ever, since devices
//! keep its parameters.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use data_encoding::HEXLOWER;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use smqtt_abe::{Error, cp, kp};
use smqtt_policy::{AttributeSet, Epoch, Policy};

/// Of the master key that `tests/vectors/abe/cp-v1.json` has. Frozen: another would lock out every device with a key policy.
const PARAMETERS: &str = "88a1e040e9299963b929b327e6b3ca9d3b4c87db0ae6080ccb5f807b991e9eb1";

fn frozen_master() -> cp::MasterKey {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/abe/cp-v1.json"
    );
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let encoded = file["setup"]["master_key"].as_str().unwrap();
    cp::MasterKey::from_bytes(&HEXLOWER.decode(encoded.as_bytes()).unwrap()).unwrap()
}

#[test]
fn it_is_the_same_for_ever() {
    let beside = kp::MasterKey::beside(&frozen_master());
    let hash = beside.public_parameters().hash();
    assert_eq!(HEXLOWER.encode(&hash), PARAMETERS);
    // What was read back from its encoding is the same key.
    let again = kp::MasterKey::from_bytes(&beside.to_bytes()).unwrap();
    assert_eq!(again.public_parameters().hash(), hash);
}

#[test]
fn two_authorities_have_two_and_neither_opens_for_the_other() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let policy: Policy = "kind = temperature".parse().unwrap();
    let formula = policy.at_epoch(Epoch::new(1));
    let label: AttributeSet = "kind = temperature, site = 4".parse().unwrap();
    let label = label.with_epoch(Epoch::new(1));
    let mut authority = || {
        let master = kp::MasterKey::beside(&cp::setup(&mut rng).0);
        let parameters = master.public_parameters();
        let key = master.issue(&parameters, &formula, &mut rng).unwrap();
        (parameters, key)
    };
    let (ours, own_key) = authority();
    let (theirs, their_key) = authority();
    assert_ne!(ours.hash(), theirs.hash());
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let (ciphertext, shared) = ours.encapsulate(&label, &mut rng).unwrap();
    assert!(own_key.decapsulate(&ours, &label, &ciphertext).unwrap() == shared);
    assert!(matches!(
        their_key.decapsulate(&ours, &label, &ciphertext),
        Err(Error::WrongParameters { .. })
    ));
}
