//! Known answers: files under `tests/vectors/abe/`, made once and frozen. Each entry says what it
//! proves, or how it has to fail. `tests/vectors/abe/decode.py` opens the same files with other
//! code in another language.
//!
//! Keys and ciphertexts follow from seeds by ChaCha20 (`rand_chacha`, `from_seed`), so the files
//! pin key generation and encapsulation as well as decapsulation.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smqtt_abe::{Error, Suite, cp, kp};
use smqtt_policy::{AttributeSet, Epoch, Formula, Policy};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    suite: u8,
    name: String,
    note: String,
    setup: Setup,
    keys: Vec<Key>,
    ciphertexts: Vec<Ciphertext>,
    failures: Vec<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    seed: String,
    master_key: String,
    parameters: String,
    parameters_hash: String,
}

/// `access` is an attribute-set text (CP) or a policy text (KP); `attributes` the encodings of the
/// attributes with an element, in their order (CP).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    access: String,
    epoch: u64,
    attributes: Vec<String>,
    seed: String,
    key: String,
}

/// `access` is a policy text (CP) or an attribute-set text (KP); `encoded` its canonical bytes, which
/// are hashed; `attributes` the encodings of the attributes with an element, in their order (KP).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ciphertext {
    proves: String,
    access: String,
    epoch: u64,
    encoded: String,
    attributes: Vec<String>,
    seed: String,
    ciphertext: String,
    shared_key: String,
    opened_by: Vec<String>,
    refused_to: Vec<String>,
}

/// `class` is one of `not-authorised`, `wrong-length`, `bad-point`, `rejected`: the last decapsulates
/// without an error to `shared_key`, which is not the sender's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    proves: String,
    class: String,
    key: String,
    access: String,
    epoch: u64,
    encoded: String,
    ciphertext: String,
    shared_key: Option<String>,
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn generator(seed: &str) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(unhex(seed).try_into().unwrap())
}

/// A seed that shows that nobody chose it.
fn seed(what: &str) -> String {
    hex(Sha256::digest(format!("smqtt-abe known answer: {what}")))
}

/// One scheme as the files see it: everything in bytes and texts.
trait Scheme {
    const SUITE: Suite;
    fn setup(rng: &mut ChaCha20Rng) -> (Vec<u8>, Vec<u8>, [u8; 32]);
    fn issue(master: &[u8], access: &str, epoch: u64, rng: &mut ChaCha20Rng) -> Vec<u8>;
    fn encapsulate(
        parameters: &[u8],
        access: &str,
        epoch: u64,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<u8>, [u8; 32]);
    fn decapsulate(
        parameters: &[u8],
        key: &[u8],
        access: &str,
        epoch: u64,
        ciphertext: &[u8],
    ) -> Result<[u8; 32], Error>;
    /// The encodings of the attributes that a key has an element for.
    fn held(access: &str, epoch: u64) -> Vec<Vec<u8>>;
    /// The canonical bytes of a ciphertext's access structure, and those of its attributes.
    fn encoded(access: &str, epoch: u64) -> (Vec<u8>, Vec<Vec<u8>>);
}

fn formula(text: &str, epoch: u64) -> Formula {
    text.parse::<Policy>().unwrap().at_epoch(Epoch::new(epoch))
}

fn attributes(text: &str, epoch: u64) -> AttributeSet {
    text.parse::<AttributeSet>()
        .unwrap()
        .with_epoch(Epoch::new(epoch))
}

struct Cp;

impl Scheme for Cp {
    const SUITE: Suite = Suite::FabeoCpBls12381;

    fn setup(rng: &mut ChaCha20Rng) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
        let (master, parameters) = cp::setup(rng);
        (
            master.to_bytes().to_vec(),
            parameters.to_bytes(),
            parameters.hash(),
        )
    }

    fn issue(master: &[u8], access: &str, epoch: u64, rng: &mut ChaCha20Rng) -> Vec<u8> {
        let master = cp::MasterKey::from_bytes(master).unwrap();
        let set = attributes(access, epoch);
        let key = master
            .issue(&master.public_parameters(), &set, rng)
            .unwrap();
        key.to_bytes().to_vec()
    }

    fn encapsulate(
        parameters: &[u8],
        access: &str,
        epoch: u64,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<u8>, [u8; 32]) {
        let parameters = cp::PublicParameters::from_bytes(parameters).unwrap();
        let (ciphertext, key) = parameters
            .encapsulate(&formula(access, epoch), rng)
            .unwrap();
        (ciphertext, *key.as_bytes())
    }

    fn decapsulate(
        parameters: &[u8],
        key: &[u8],
        access: &str,
        epoch: u64,
        ciphertext: &[u8],
    ) -> Result<[u8; 32], Error> {
        let parameters = cp::PublicParameters::from_bytes(parameters)?;
        let key = cp::AttributeKey::from_bytes(key, &parameters)?;
        let shared = key.decapsulate(&parameters, &formula(access, epoch), ciphertext)?;
        Ok(*shared.as_bytes())
    }

    fn held(access: &str, epoch: u64) -> Vec<Vec<u8>> {
        attributes(access, epoch)
            .iter()
            .map(|a| a.encode())
            .collect()
    }

    fn encoded(access: &str, epoch: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        (formula(access, epoch).encode(), Vec::new())
    }
}

struct Kp;

impl Scheme for Kp {
    const SUITE: Suite = Suite::FabeoKpBls12381;

    fn setup(rng: &mut ChaCha20Rng) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
        let (master, parameters) = kp::setup(rng);
        (
            master.to_bytes().to_vec(),
            parameters.to_bytes(),
            parameters.hash(),
        )
    }

    fn issue(master: &[u8], access: &str, epoch: u64, rng: &mut ChaCha20Rng) -> Vec<u8> {
        let master = kp::MasterKey::from_bytes(master).unwrap();
        let policy = formula(access, epoch);
        let key = master
            .issue(&master.public_parameters(), &policy, rng)
            .unwrap();
        key.to_bytes().to_vec()
    }

    fn encapsulate(
        parameters: &[u8],
        access: &str,
        epoch: u64,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<u8>, [u8; 32]) {
        let parameters = kp::PublicParameters::from_bytes(parameters).unwrap();
        let (ciphertext, key) = parameters
            .encapsulate(&attributes(access, epoch), rng)
            .unwrap();
        (ciphertext, *key.as_bytes())
    }

    fn decapsulate(
        parameters: &[u8],
        key: &[u8],
        access: &str,
        epoch: u64,
        ciphertext: &[u8],
    ) -> Result<[u8; 32], Error> {
        let parameters = kp::PublicParameters::from_bytes(parameters)?;
        let key = kp::PolicyKey::from_bytes(key, &parameters)?;
        let shared = key.decapsulate(&parameters, &attributes(access, epoch), ciphertext)?;
        Ok(*shared.as_bytes())
    }

    fn held(_: &str, _: u64) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn encoded(access: &str, epoch: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let set = attributes(access, epoch);
        (set.encode(), set.iter().map(|a| a.encode()).collect())
    }
}

fn class(error: &Error) -> &'static str {
    match error {
        Error::NotAuthorised => "not-authorised",
        Error::WrongLength { .. } => "wrong-length",
        Error::BadPoint { .. } => "bad-point",
        other => panic!("{other}"),
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/abe")
        .join(name)
}

fn verify<S: Scheme>(name: &str) {
    let file: File = serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap();
    assert_eq!(file.suite, S::SUITE.id());
    let (master, parameters, hash) = S::setup(&mut generator(&file.setup.seed));
    assert_eq!(hex(&master), file.setup.master_key);
    assert_eq!(hex(&parameters), file.setup.parameters);
    assert_eq!(hex(hash), file.setup.parameters_hash);
    assert_eq!(hash, *Sha256::digest(&parameters));
    for key in &file.keys {
        let issued = S::issue(&master, &key.access, key.epoch, &mut generator(&key.seed));
        assert_eq!(hex(issued), key.key, "{}", key.name);
        let held: Vec<_> = S::held(&key.access, key.epoch).iter().map(hex).collect();
        assert_eq!(held, key.attributes, "{}", key.name);
    }
    let key = |name: &str| unhex(&file.keys.iter().find(|k| k.name == name).unwrap().key);
    assert!(file.ciphertexts.len() >= 5 && file.failures.len() >= 6);
    for c in &file.ciphertexts {
        let (encoded, attributes) = S::encoded(&c.access, c.epoch);
        assert_eq!(hex(encoded), c.encoded, "{}", c.proves);
        assert_eq!(attributes.iter().map(hex).collect::<Vec<_>>(), c.attributes);
        let rng = &mut generator(&c.seed);
        let (ciphertext, shared) = S::encapsulate(&parameters, &c.access, c.epoch, rng);
        assert_eq!(hex(&ciphertext), c.ciphertext, "{}", c.proves);
        assert_eq!(hex(shared), c.shared_key, "{}", c.proves);
        let open = |name: &String| {
            S::decapsulate(&parameters, &key(name), &c.access, c.epoch, &ciphertext)
        };
        assert!(!c.opened_by.is_empty());
        for name in &c.opened_by {
            assert_eq!(open(name), Ok(shared), "{}: {name}", c.proves);
        }
        for name in &c.refused_to {
            assert_eq!(
                open(name),
                Err(Error::NotAuthorised),
                "{}: {name}",
                c.proves
            );
        }
    }
    for f in &file.failures {
        let ciphertext = unhex(&f.ciphertext);
        let found = S::decapsulate(&parameters, &key(&f.key), &f.access, f.epoch, &ciphertext);
        match (&f.shared_key, found) {
            (Some(expected), Ok(found)) => {
                assert_eq!((f.class.as_str(), expected), ("rejected", &hex(found)));
                assert!(file.ciphertexts.iter().all(|c| c.shared_key != *expected));
            }
            (None, Err(error)) => assert_eq!(f.class, class(&error), "{}", f.proves),
            (_, other) => panic!("{}: {other:?}", f.proves),
        }
    }
}

#[test]
fn ciphertext_policy_version_1() {
    verify::<Cp>("cp-v1.json");
}

#[test]
fn key_policy_version_1() {
    verify::<Kp>("kp-v1.json");
}

/// (access, epoch, what it proves)
type Case = (&'static str, u64, &'static str);

fn make<S: Scheme>(name: &str, keys: &[(&str, &str, u64)], cases: &[Case]) {
    let path = path(name);
    assert!(
        !path.exists(),
        "{name} is frozen: a new version gets a new file"
    );
    let setup_seed = seed(&format!("{} set-up", S::SUITE));
    let (master, parameters, hash) = S::setup(&mut generator(&setup_seed));
    let keys: Vec<Key> = keys
        .iter()
        .map(|&(name, access, epoch)| {
            let seed = seed(&format!("{} key {name}", S::SUITE));
            let key = S::issue(&master, access, epoch, &mut generator(&seed));
            Key {
                name: name.into(),
                access: access.into(),
                epoch,
                attributes: S::held(access, epoch).iter().map(hex).collect(),
                seed,
                key: hex(key),
            }
        })
        .collect();
    let ciphertexts: Vec<Ciphertext> = cases
        .iter()
        .map(|&(access, epoch, proves)| {
            let seed = seed(&format!("{} ciphertext {access} {epoch}", S::SUITE));
            let rng = &mut generator(&seed);
            let (ciphertext, shared) = S::encapsulate(&parameters, access, epoch, rng);
            let (encoded, attributes) = S::encoded(access, epoch);
            let (opened_by, refused_to): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|k| {
                S::decapsulate(&parameters, &unhex(&k.key), access, epoch, &ciphertext).is_ok()
            });
            let names = |keys: Vec<&Key>| keys.iter().map(|k| k.name.clone()).collect();
            Ciphertext {
                proves: proves.into(),
                access: access.into(),
                epoch,
                encoded: hex(encoded),
                attributes: attributes.iter().map(hex).collect(),
                seed,
                ciphertext: hex(ciphertext),
                shared_key: hex(shared),
                opened_by: names(opened_by),
                refused_to: names(refused_to),
            }
        })
        .collect();

    let first = &ciphertexts[0];
    let bytes = unhex(&first.ciphertext);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut out = bytes.clone();
        change(&mut out);
        out
    };
    let last = bytes.len() - 1;
    let neutral_g1 = |out: &mut Vec<u8>| {
        out[last - 79..=last - 32].fill(0);
        out[last - 79] = 0xc0;
    };
    let order_three = |out: &mut Vec<u8>| {
        out[last - 79..=last - 32].fill(0);
        out[last - 79] = 0x80;
    };
    let second = unhex(&ciphertexts[1].ciphertext);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a bit of the masked message flipped",
            changed(&|c| c[last] ^= 1),
        ),
        (
            "ct1 of another ciphertext",
            changed(&|c| c[..96].copy_from_slice(&second[..96])),
        ),
        (
            "the last G1 element negated",
            changed(&|c| c[last - 79] ^= 0x20),
        ),
        ("the last G1 element neutral", changed(&neutral_g1)),
        ("the last G1 element of order three", changed(&order_three)),
        ("one byte too few", changed(&|c| c.truncate(last))),
        ("one byte too many", changed(&|c| c.push(0))),
    ];
    let failures = cases
        .into_iter()
        .map(|(proves, ciphertext)| {
            let name = &first.opened_by[0];
            let key = unhex(&keys.iter().find(|k| k.name == *name).unwrap().key);
            let (access, epoch) = (&first.access, first.epoch);
            let found = S::decapsulate(&parameters, &key, access, epoch, &ciphertext);
            Failure {
                proves: proves.into(),
                class: found.as_ref().map_or_else(class, |_| "rejected").into(),
                key: name.clone(),
                access: access.clone(),
                epoch,
                encoded: first.encoded.clone(),
                ciphertext: hex(ciphertext),
                shared_key: found.ok().map(hex),
            }
        })
        .collect();
    let file = File {
        suite: S::SUITE.id(),
        name: S::SUITE.to_string(),
        note: "hexadecimal; format: crates/smqtt-abe/tests/known_answers.rs and docs/abe.md".into(),
        setup: Setup {
            seed: setup_seed,
            master_key: hex(master),
            parameters: hex(parameters),
            parameters_hash: hex(hash),
        },
        keys,
        ciphertexts,
        failures,
    };
    let mut text = serde_json::to_string_pretty(&file).unwrap();
    text.push('\n');
    std::fs::write(path, text).unwrap();
}

#[test]
#[ignore = "makes the files, once a version; refuses to overwrite them"]
fn make_the_files() {
    make::<Cp>(
        "cp-v1.json",
        &[
            ("doctor", "role = doctor, dept = icu", 1),
            ("nurse", "role = nurse, dept = icu, on-call", 1),
            ("auditor", "role = auditor, clearance = 5", 1),
            ("doctor, last epoch", "role = doctor, dept = icu", 0),
            ("Ärztin", "rôle = Ärztin, \"two words\" = \"a, b = c\"", 1),
        ],
        &[
            (
                "role = doctor and dept = icu",
                1,
                "a conjunction: one row each, coefficients one",
            ),
            (
                "role = doctor or role = auditor",
                1,
                "a disjunction under the epoch",
            ),
            (
                "2 of (role = doctor, dept = icu, on-call)",
                1,
                "a threshold: Lagrange coefficients",
            ),
            (
                "(role = doctor and dept = icu) or (role = nurse and dept = icu and on-call) \
                 or 2 of (dept = icu, clearance >= 4, role = auditor)",
                1,
                "an attribute in several places: τ above one where the normal form keeps them",
            ),
            (
                "role = auditor and clearance >= 3",
                1,
                "numbers: the rows of a range",
            ),
            ("role = doctor", 0, "an earlier epoch"),
            (
                "rôle = Ärztin and \"two words\" = \"a, b = c\"",
                1,
                "names beyond ASCII, quoted",
            ),
        ],
    );
    make::<Kp>(
        "kp-v1.json",
        &[
            ("thermometer", "type = temperature and site = berlin", 1),
            ("any of Berlin", "site = berlin", 1),
            (
                "two of three",
                "2 of (type = temperature, site = berlin, urgent)",
                1,
            ),
            (
                "repeated",
                "(type = temperature and site = berlin) or (type = temperature and urgent) \
                 or 2 of (site = berlin, urgent, type = humidity)",
                1,
            ),
            ("range", "site = berlin and level in 3..12", 1),
            ("last epoch", "site = berlin", 0),
        ],
        &[
            (
                "type = temperature, site = berlin",
                1,
                "two labels and the epoch",
            ),
            ("type = temperature, urgent", 1, "another pair of them"),
            (
                "site = berlin, urgent, type = humidity",
                1,
                "every key but one",
            ),
            (
                "site = berlin, level = 7",
                1,
                "a number: its intervals are elements, too",
            ),
            ("site = berlin", 0, "an earlier epoch"),
        ],
    );
}
