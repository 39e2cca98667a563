//! What a ciphertext, a key and parameters are bound to.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use smqtt_abe::{Error, SharedKey, cp};
use support::{CpAuthority, formula, rng};

struct Scene {
    authority: CpAuthority,
    key: cp::AttributeKey,
    policy: smqtt_policy::Formula,
    ciphertext: Vec<u8>,
    shared: SharedKey,
}

fn scene() -> Scene {
    let authority = CpAuthority::new(1);
    let key = authority.key("a, b, c");
    let policy = formula("a and b");
    let (ciphertext, shared) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    Scene {
        authority,
        key,
        policy,
        ciphertext,
        shared,
    }
}

/// A flipped bit either makes a point that is none, or a ciphertext that opens to a key that has
/// nothing to do with the right one, the same each time.
#[test]
fn flipped_bits_never_open_to_the_key() {
    let s = scene();
    let (mut refused, mut rejected) = (0, 0);
    for position in 0..s.ciphertext.len() {
        let mut damaged = s.ciphertext.clone();
        damaged[position] ^= 1 << (position % 8);
        match s
            .key
            .decapsulate(&s.authority.parameters, &s.policy, &damaged)
        {
            Ok(found) => {
                assert!(found != s.shared);
                let again = s
                    .key
                    .decapsulate(&s.authority.parameters, &s.policy, &damaged);
                assert!(again.unwrap() == found);
                rejected += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::BadPoint { .. }), "{error}");
                refused += 1;
            }
        }
    }
    // The 32 bytes of the masked message always decode.
    assert!(rejected >= 32 && refused > 100, "{rejected} {refused}");
}

/// Valid points in the wrong place: every element is replaced by another of its group.
#[test]
fn swapped_elements_are_rejected_implicitly() {
    let s = scene();
    let (_, other) = {
        let (ciphertext, key) = s
            .authority
            .parameters
            .encapsulate(&s.policy, &mut rng(3))
            .unwrap();
        (key, ciphertext)
    };
    let mut places = vec![(0, 96), (96, 96)];
    places.extend((0..3).map(|i| (192 + 48 * i, 48)));
    places.push((192 + 3 * 48, 32));
    for (start, length) in places {
        let mut mixed = s.ciphertext.clone();
        mixed[start..start + length].copy_from_slice(&other[start..start + length]);
        let found = s
            .key
            .decapsulate(&s.authority.parameters, &s.policy, &mixed);
        assert!(found.unwrap() != s.shared, "element at {start}");
    }
}

#[test]
fn implicit_rejection_differs_between_keys_and_ciphertexts() {
    let s = scene();
    let other = s
        .authority
        .master
        .issue(&s.authority.parameters, s.key.attributes(), &mut rng(99))
        .unwrap();
    let mut damaged = s.ciphertext.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut damaged_more = damaged.clone();
    *damaged_more.last_mut().unwrap() ^= 2;
    let open = |key: &cp::AttributeKey, bytes: &[u8]| {
        key.decapsulate(&s.authority.parameters, &s.policy, bytes)
            .unwrap()
    };
    assert!(open(&other, &s.ciphertext) == s.shared);
    assert!(open(&s.key, &damaged) != open(&other, &damaged));
    assert!(open(&s.key, &damaged) != open(&s.key, &damaged_more));
}

#[test]
fn a_ciphertext_moved_to_another_policy_does_not_open() {
    let s = scene();
    // The same shape, so that the lengths agree; the key satisfies each of them.
    for moved in ["a and c", "b and c", "a or b", "c or a"] {
        let moved = formula(moved);
        let found = s
            .key
            .decapsulate(&s.authority.parameters, &moved, &s.ciphertext);
        match found {
            Ok(found) => assert!(found != s.shared),
            Err(error) => assert!(matches!(error, Error::WrongLength { .. }), "{error}"),
        }
    }
}

#[test]
fn objects_of_another_authority_are_refused_by_name() {
    let s = scene();
    let stranger = CpAuthority::new(50);
    assert_ne!(stranger.parameters.hash(), s.authority.parameters.hash());
    let wrong = |object| Some(Error::WrongParameters { object });
    assert_eq!(
        s.key
            .decapsulate(&stranger.parameters, &s.policy, &s.ciphertext)
            .err(),
        wrong("attribute key")
    );
    assert_eq!(
        cp::AttributeKey::from_bytes(&s.key.to_bytes(), &stranger.parameters).err(),
        wrong("attribute key")
    );
    assert_eq!(
        stranger
            .master
            .issue(&s.authority.parameters, s.key.attributes(), &mut rng(1))
            .err(),
        wrong("master key")
    );
    // A ciphertext under swapped parameters has the right form and opens to nothing.
    let (foreign, foreign_key) = stranger
        .parameters
        .encapsulate(&s.policy, &mut rng(2))
        .unwrap();
    let found = s
        .key
        .decapsulate(&s.authority.parameters, &s.policy, &foreign);
    assert!(found.unwrap() != foreign_key);
}

/// A key whose parameter hash was overwritten with that of another authority: the elements are
/// those of the first, and open nothing of the second.
#[test]
fn a_relabelled_key_opens_nothing() {
    let s = scene();
    let stranger = CpAuthority::new(50);
    let bytes = s.key.to_bytes().clone();
    let at = bytes
        .windows(32)
        .position(|w| w == s.authority.parameters.hash())
        .unwrap();
    let mut relabelled = bytes;
    relabelled[at..at + 32].copy_from_slice(&stranger.parameters.hash());
    let key = cp::AttributeKey::from_bytes(&relabelled, &stranger.parameters).unwrap();
    let (ciphertext, shared) = stranger
        .parameters
        .encapsulate(&s.policy, &mut rng(2))
        .unwrap();
    let found = key.decapsulate(&stranger.parameters, &s.policy, &ciphertext);
    assert!(found.unwrap() != shared);
}
