//! What a key-policy ciphertext, key and parameters are bound to, and how they are spelled.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use smqtt_abe::{Error, PointDefect, SharedKey, cp, kp};
use smqtt_policy::AttributeSet;
use support::{KpAuthority, attributes, fields, rng};

struct Scene {
    authority: KpAuthority,
    key: kp::PolicyKey,
    label: AttributeSet,
    ciphertext: Vec<u8>,
    shared: SharedKey,
}

fn scene() -> Scene {
    let authority = KpAuthority::new(1);
    let key = authority.key("a and b or a and c");
    let label = attributes("a, b, d");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&label, &mut rng(2))
        .unwrap();
    Scene {
        authority,
        key,
        label,
        ciphertext,
        shared,
    }
}

impl Scene {
    fn open(&self, ciphertext: &[u8]) -> Result<SharedKey, Error> {
        self.key
            .decapsulate(&self.authority.parameters, &self.label, ciphertext)
    }
}

#[test]
fn flipped_bits_never_open_to_the_key() {
    let s = scene();
    assert!(s.open(&s.ciphertext).unwrap() == s.shared);
    let mut rejected = 0;
    for position in 0..s.ciphertext.len() {
        let mut damaged = s.ciphertext.clone();
        damaged[position] ^= 1 << (position % 8);
        match s.open(&damaged) {
            Ok(found) => {
                assert!(found != s.shared);
                assert!(s.open(&damaged).unwrap() == found);
                rejected += 1;
            }
            Err(error) => assert!(matches!(error, Error::BadPoint { .. }), "{error}"),
        }
    }
    assert!(rejected >= 32);
}

#[test]
fn a_ciphertext_with_other_attributes_does_not_open() {
    let s = scene();
    for text in ["a, b, c", "a, b, e", "a, c, d"] {
        let other = attributes(text);
        let found = s
            .key
            .decapsulate(&s.authority.parameters, &other, &s.ciphertext);
        assert!(found.unwrap() != s.shared, "{text}");
    }
    let fewer = attributes("a, b");
    let found = s
        .key
        .decapsulate(&s.authority.parameters, &fewer, &s.ciphertext);
    assert!(matches!(found.err(), Some(Error::WrongLength { .. })));
}

/// Rows of two keys, put together to a policy that neither has: their shares are of different
/// sharings of α, and do not add up.
#[test]
fn rows_of_two_keys_open_nothing() {
    let authority = KpAuthority::new(1);
    let issue = |policy: &str, seed| {
        let formula = support::formula(policy);
        authority
            .master
            .issue(&authority.parameters, &formula, &mut rng(seed))
            .unwrap()
            .to_bytes()
    };
    let (one, two) = (issue("a and b", 1), issue("a and b", 2));
    let label = attributes("a, b");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&label, &mut rng(3))
        .unwrap();
    let open = |bytes: &[u8]| {
        kp::PolicyKey::from_bytes(bytes, &authority.parameters)
            .unwrap()
            .decapsulate(&authority.parameters, &label, &ciphertext)
            .unwrap()
    };
    assert!(open(&one) == shared && open(&two) == shared);
    let [_, _, _, sk1, sk2] = fields(&one).try_into().unwrap();
    for part in [sk1.start..sk1.start + 48, sk1.start + 48..sk1.end, sk1, sk2] {
        let mut mixed = one.to_vec();
        mixed[part.clone()].copy_from_slice(&two[part.clone()]);
        assert!(open(&mixed) != shared, "bytes {part:?}");
    }
}

#[test]
fn objects_survive_their_encoding() {
    let s = scene();
    let parameters = kp::PublicParameters::from_bytes(&s.authority.parameters.to_bytes()).unwrap();
    let master = kp::MasterKey::from_bytes(&s.authority.master.to_bytes()).unwrap();
    assert_eq!(master.public_parameters().hash(), parameters.hash());
    let key = kp::PolicyKey::from_bytes(&s.key.to_bytes(), &parameters).unwrap();
    assert_eq!(key.to_bytes(), s.key.to_bytes());
    assert_eq!(key.policy(), s.key.policy());
    assert_eq!(key.parameters_hash(), parameters.hash());
    let found = key.decapsulate(&parameters, &s.label, &s.ciphertext);
    assert!(found.unwrap() == s.shared);
}

#[test]
fn truncated_extended_and_damaged_keys_are_refused() {
    let s = scene();
    let bytes = s.key.to_bytes();
    let read = |bytes: &[u8]| {
        kp::PolicyKey::from_bytes(bytes, &s.authority.parameters)
            .err()
            .unwrap()
    };
    for length in 0..bytes.len() {
        read(&bytes[..length]);
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&longer), Error::Malformed { .. }));
    let [_, _, _, sk1, sk2] = fields(&bytes).try_into().unwrap();
    for (place, element) in [(sk1, "sk1"), (sk2, "sk2")] {
        let mut neutral = bytes.to_vec();
        neutral[place.clone()][..48].fill(0);
        neutral[place.start] = 0xc0;
        if element == "sk2" {
            neutral[place][48..96].fill(0);
        }
        let error = Error::BadPoint {
            object: "policy key",
            element,
            reason: PointDefect::Neutral,
        };
        assert_eq!(read(&neutral), error);
    }
}

/// The suites do not mix: each object states its own.
#[test]
fn objects_of_the_other_scheme_are_refused_by_name() {
    let s = scene();
    let (master, parameters) = cp::setup(&mut rng(1));
    let wrong = |object| {
        Some(Error::WrongSuite {
            object,
            found: 1,
            expected: 2,
        })
    };
    let read = kp::PublicParameters::from_bytes(&parameters.to_bytes());
    assert_eq!(read.err(), wrong("public parameters"));
    let read = kp::MasterKey::from_bytes(&master.to_bytes());
    assert_eq!(read.err(), wrong("master key"));
    let key = master
        .issue(&parameters, &attributes("a"), &mut rng(1))
        .unwrap();
    let read = kp::PolicyKey::from_bytes(&key.to_bytes(), &s.authority.parameters);
    assert_eq!(read.err(), wrong("policy key"));
    // The same coins make set-ups that share nothing.
    let (_, same_coins) = kp::setup(&mut rng(1));
    assert_ne!(same_coins.hash(), parameters.hash());
}

#[test]
fn objects_of_another_authority_are_refused_by_name() {
    let s = scene();
    let stranger = KpAuthority::new(50);
    let wrong = |object| Some(Error::WrongParameters { object });
    let found = s
        .key
        .decapsulate(&stranger.parameters, &s.label, &s.ciphertext);
    assert_eq!(found.err(), wrong("policy key"));
    let read = kp::PolicyKey::from_bytes(&s.key.to_bytes(), &stranger.parameters);
    assert_eq!(read.err(), wrong("policy key"));
    let issued = stranger
        .master
        .issue(&s.authority.parameters, s.key.policy(), &mut rng(1));
    assert_eq!(issued.err(), wrong("master key"));
}
