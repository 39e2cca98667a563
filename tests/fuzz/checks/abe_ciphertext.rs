//! Ciphertexts of both schemes, raw and as edits of a genuine one: no panic, and only the genuine one
//! opens to its key.

use std::sync::LazyLock;

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use smqtt_abe::{Error, SharedKey, cp, kp};
use smqtt_policy::{AttributeSet, Epoch, Formula, Policy};

struct Scene {
    cp: (cp::PublicParameters, cp::AttributeKey, Formula),
    kp: (kp::PublicParameters, kp::PolicyKey, AttributeSet),
    cp_genuine: (Vec<u8>, SharedKey),
    kp_genuine: (Vec<u8>, SharedKey),
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let epoch = Epoch::new(1);
    let policy: Policy = "(a and b) or (a and c)".parse().expect("a policy");
    let formula = policy.at_epoch(epoch);
    let set: AttributeSet = "a, c".parse().expect("a set");
    let set = set.with_epoch(epoch);

    let (master, parameters) = cp::setup(rng);
    let key = master.issue(&parameters, &set, rng).expect("a set");
    let cp_genuine = parameters.encapsulate(&formula, rng).expect("a policy");
    let cp = (parameters, key, formula.clone());

    let (master, parameters) = kp::setup(rng);
    let key = master.issue(&parameters, &formula, rng).expect("a policy");
    let kp_genuine = parameters.encapsulate(&set, rng).expect("a set");
    let kp = (parameters, key, set);
    Scene {
        cp,
        kp,
        cp_genuine,
        kp_genuine,
    }
});

impl Scene {
    fn check(&self, key_policy: bool, bytes: &[u8]) {
        let (genuine, found) = if key_policy {
            let (parameters, key, set) = &self.kp;
            (&self.kp_genuine, key.decapsulate(parameters, set, bytes))
        } else {
            let (parameters, key, formula) = &self.cp;
            (
                &self.cp_genuine,
                key.decapsulate(parameters, formula, bytes),
            )
        };
        match found {
            Ok(found) => assert_eq!(found == genuine.1, bytes == genuine.0),
            Err(Error::WrongLength { .. } | Error::BadPoint { .. }) => assert!(bytes != genuine.0),
            Err(other) => panic!("{other}"),
        }
    }
}

// Scheme, then edits (offset, mask), then a tail of raw bytes that stands alone if there is no edit.
pub fn check(data: (bool, Vec<(u16, u8)>, &[u8])) {
    let (key_policy, edits, raw) = data;
    let scene = &*SCENE;
    if edits.is_empty() {
        scene.check(key_policy, raw);
        return;
    }
    let genuine = if key_policy {
        &scene.kp_genuine.0
    } else {
        &scene.cp_genuine.0
    };
    let mut bytes = genuine.clone();
    for (offset, mask) in edits {
        let offset = usize::from(offset) % bytes.len();
        bytes[offset] ^= mask;
    }
    scene.check(key_policy, &bytes);
}
