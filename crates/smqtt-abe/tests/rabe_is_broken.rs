//! Why `rabe` 0.4.2 is a peer in the benchmark and not the library underneath: its hash to the curve
//! is g^SHA3(x), so that the logarithm of every attribute is public.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use rabe::{
    schemes::bsw,
    utils::{
        hash::{sha3_hash, sha3_hash_fr},
        policy::pest::PolicyLanguage::HumanPolicy,
    },
};

#[test]
fn the_logarithm_of_an_attribute_is_its_sha3() {
    let (public, _) = bsw::setup();
    let logarithm = sha3_hash_fr("any attribute").unwrap();
    assert!(sha3_hash(public.g1, "any attribute").unwrap() == public.g1 * logarithm);
    assert!(sha3_hash(public.g2, "any attribute").unwrap() == public.g2 * logarithm);
}

/// A key's element for attribute j is (g2^r·H(j)^r_j, g1^r_j). With H(j) = g2^k_j it is at the same
/// time the element for attribute t, with randomness r_j·k_j/k_t: the attacker only has to raise
/// the second half.
#[test]
fn one_harmless_attribute_becomes_any_other() {
    let (public, master) = bsw::setup();
    let secret = b"for the general only";
    let ciphertext = bsw::encrypt(&public, "\"general\"", HumanPolicy, secret).unwrap();
    let mut key = bsw::keygen(&public, &master, &["visitor"]).unwrap();
    assert!(bsw::decrypt(&key, &ciphertext).is_err());

    let own = sha3_hash_fr("visitor").unwrap();
    let wanted = sha3_hash_fr("general").unwrap();
    key.d_j[0].g1 = key.d_j[0].g1 * (own * wanted.inverse().unwrap());
    key.d_j[0].string = "general".into();
    assert_eq!(bsw::decrypt(&key, &ciphertext).unwrap(), secret);
}
