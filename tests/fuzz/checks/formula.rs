//! Encoded formulas and sets, as they stand in keys: no panic, one spelling, and the share matrix of
//! whatever decodes opens for exactly the sets that satisfy it.

use std::sync::LazyLock;

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use smqtt_abe::{Error, kp};
use smqtt_policy::{AttributeSet, Formula};

static SETUP: LazyLock<(kp::MasterKey, kp::PublicParameters)> =
    LazyLock::new(|| kp::setup(&mut ChaCha20Rng::seed_from_u64(1)));

pub fn check(data: (&[u8], &[u8])) {
    let (formula, set) = data;
    let set = AttributeSet::decode(set).inspect(|decoded| assert_eq!(decoded.encode(), set));
    let Ok(policy) = Formula::decode(formula) else {
        return;
    };
    assert_eq!(policy.encode(), formula);
    let (Ok(set), true) = (set, policy.rows() <= 16) else {
        return;
    };
    if set.iter().count() == 0 || set.iter().count() > 80 {
        return;
    }
    let (master, parameters) = &*SETUP;
    let rng = &mut ChaCha20Rng::seed_from_u64(2);
    let key = master
        .issue(parameters, &policy, rng)
        .expect("a decoded formula is in bounds");
    let (ciphertext, shared) = parameters
        .encapsulate(&set, rng)
        .expect("neither empty nor large");
    match key.decapsulate(parameters, &set, &ciphertext) {
        Ok(found) => assert!(policy.evaluate(&set) && found == shared),
        Err(error) => assert!(!policy.evaluate(&set) && error == Error::NotAuthorised),
    }
}
