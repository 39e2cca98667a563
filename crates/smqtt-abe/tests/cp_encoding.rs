//! Encodings: one spelling for each object, everything else refused with its reason.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod support;

use smqtt_abe::{Error, PointDefect, cp};
use support::{CpAuthority, formula, rng};

/// Bytes that are no element of G1: (what, bytes, defect).
fn bad_g1() -> Vec<(&'static str, [u8; 48], PointDefect)> {
    let mut neutral = [0u8; 48];
    neutral[0] = 0xc0;
    let mut neutral_with_sign = neutral;
    neutral_with_sign[0] = 0xe0;
    let mut neutral_with_x = neutral;
    neutral_with_x[47] = 1;
    // The field's prime: a second spelling of x = 0.
    let mut unreduced = [0u8; 48];
    unreduced.copy_from_slice(&hex(
        "9a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab",
    ));
    // x = 0 is on the curve (y² = 4) and of order 3.
    let mut small = [0u8; 48];
    small[0] = 0x80;
    // x = 4: on the curve (68 is a square), of a large order that is not the group's.
    let mut large = small;
    large[47] = 4;
    // x = 1: 1 + 4 = 5 is not a square.
    let mut off = small;
    off[47] = 1;
    let mut uncompressed = [0u8; 48];
    uncompressed[47] = 4;
    vec![
        ("neutral element", neutral, PointDefect::Neutral),
        (
            "neutral element with a sign",
            neutral_with_sign,
            PointDefect::Encoding,
        ),
        (
            "neutral element with a coordinate",
            neutral_with_x,
            PointDefect::Encoding,
        ),
        ("unreduced coordinate", unreduced, PointDefect::Encoding),
        ("point of order 3", small, PointDefect::NotInSubgroup),
        ("point of another order", large, PointDefect::NotInSubgroup),
        ("not on the curve", off, PointDefect::NotOnCurve),
        ("no compression flag", uncompressed, PointDefect::Encoding),
        ("zeros", [0; 48], PointDefect::Encoding),
        ("ones", [0xff; 48], PointDefect::Encoding),
    ]
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// The same for G2.
fn bad_g2() -> Vec<(&'static str, [u8; 96], PointDefect)> {
    let widen = |g1: [u8; 48]| {
        let mut g2 = [0u8; 96];
        g2[..48].copy_from_slice(&g1);
        g2
    };
    let mut bad: Vec<_> = bad_g1()
        .into_iter()
        .filter(|(what, ..)| {
            matches!(
                *what,
                "neutral element"
                    | "neutral element with a sign"
                    | "unreduced coordinate"
                    | "zeros"
            )
        })
        .map(|(what, bytes, defect)| (what, widen(bytes), defect))
        .collect();
    bad.extend(first_g2_points());
    bad
}

/// Small real x: whether x³ + 4 + 4i is a square decides if they are on the twist. None of those
/// is in the subgroup, whose share of the twist is 2^-250.
fn first_g2_points() -> Vec<(&'static str, [u8; 96], PointDefect)> {
    let mut flag = [0u8; 96];
    flag[0] = 0x80;
    let with_x = |x: u8| {
        let mut bytes = flag;
        bytes[95] = x;
        bytes
    };
    vec![
        ("x = 2, on the twist", with_x(2), PointDefect::NotInSubgroup),
        ("x = 0, off the twist", with_x(0), PointDefect::NotOnCurve),
    ]
}

#[test]
fn ciphertext_elements_are_checked_one_by_one() {
    let authority = CpAuthority::new(1);
    let key = authority.key("a, b");
    let policy = formula("a and b");
    let (ciphertext, _) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    let refused = |bytes: &[u8]| {
        key.decapsulate(&authority.parameters, &policy, bytes)
            .err()
            .unwrap()
    };
    let bad = |element, reason| Error::BadPoint {
        object: "ciphertext",
        element,
        reason,
    };
    for (what, bytes, defect) in bad_g2() {
        for (start, name) in [(0, "ct1"), (96, "ct2")] {
            let mut damaged = ciphertext.clone();
            damaged[start..start + 96].copy_from_slice(&bytes);
            assert_eq!(refused(&damaged), bad(name, defect), "{what}");
        }
    }
    for (what, bytes, defect) in bad_g1() {
        for row in 0..3 {
            let start = 192 + 48 * row;
            let mut damaged = ciphertext.clone();
            damaged[start..start + 48].copy_from_slice(&bytes);
            assert_eq!(refused(&damaged), bad("ct3", defect), "{what}");
        }
    }
}

#[test]
fn ciphertexts_of_another_length_are_refused() {
    let authority = CpAuthority::new(1);
    let key = authority.key("a, b");
    let policy = formula("a and b");
    let (mut ciphertext, _) = authority
        .parameters
        .encapsulate(&policy, &mut rng(2))
        .unwrap();
    let expected = ciphertext.len();
    let refused = |bytes: &[u8]| key.decapsulate(&authority.parameters, &policy, bytes).err();
    for length in 0..expected {
        let error = Error::WrongLength {
            object: "ciphertext",
            found: length,
            expected,
        };
        assert_eq!(refused(&ciphertext[..length]), Some(error));
    }
    ciphertext.push(0);
    assert!(matches!(
        refused(&ciphertext),
        Some(Error::WrongLength { .. })
    ));
}

#[test]
fn objects_survive_their_encoding() {
    let authority = CpAuthority::new(3);
    let policy = formula("a and 2 of (b, c, level >= 5)");
    let key = authority.key("a, b, level = 7");

    let parameters = cp::PublicParameters::from_bytes(&authority.parameters.to_bytes()).unwrap();
    assert_eq!(parameters.hash(), authority.parameters.hash());
    let master = cp::MasterKey::from_bytes(&authority.master.to_bytes()).unwrap();
    assert_eq!(master.to_bytes(), authority.master.to_bytes());
    assert_eq!(master.public_parameters().hash(), parameters.hash());
    let key_again = cp::AttributeKey::from_bytes(&key.to_bytes(), &parameters).unwrap();
    assert_eq!(key_again.to_bytes(), key.to_bytes());
    assert_eq!(key_again.attributes(), key.attributes());
    assert_eq!(key_again.parameters_hash(), parameters.hash());

    let (ciphertext, shared) = parameters.encapsulate(&policy, &mut rng(4)).unwrap();
    let found = key_again.decapsulate(&parameters, &policy, &ciphertext);
    assert!(found.unwrap() == shared);
    // The element that implicit rejection draws on survives, too.
    let mut damaged = ciphertext;
    *damaged.last_mut().unwrap() ^= 1;
    let first = key.decapsulate(&parameters, &policy, &damaged).unwrap();
    let second = key_again
        .decapsulate(&parameters, &policy, &damaged)
        .unwrap();
    assert!(first == second);
}

type Reader = Box<dyn Fn(&[u8]) -> Result<(), Error>>;

/// Every object under test: its name, its bytes, its decoder.
fn objects() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let authority = CpAuthority::new(5);
    let parameters = authority.parameters.clone();
    vec![
        (
            "public parameters",
            authority.parameters.to_bytes(),
            Box::new(|bytes| cp::PublicParameters::from_bytes(bytes).map(drop)),
        ),
        (
            "master key",
            authority.master.to_bytes().to_vec(),
            Box::new(|bytes| cp::MasterKey::from_bytes(bytes).map(drop)),
        ),
        (
            "attribute key",
            authority.key("a, b = c").to_bytes().to_vec(),
            Box::new(move |bytes| cp::AttributeKey::from_bytes(bytes, &parameters).map(drop)),
        ),
    ]
}

#[test]
fn truncated_and_extended_objects_are_refused() {
    for (name, bytes, read) in objects() {
        read(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{name} cut to {length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(
            read(&longer),
            Err(Error::Malformed {
                object: name,
                reason: "bytes follow its end"
            })
        );
    }
}

#[test]
fn other_versions_and_suites_are_refused_by_name() {
    for (name, bytes, read) in objects() {
        assert_eq!(
            bytes[1..3],
            [1, 1],
            "version and suite follow the array's head"
        );
        let mut newer = bytes.clone();
        newer[1] = 2;
        let error = read(&newer).err().unwrap();
        assert!(
            matches!(error, Error::WrongVersion { object, found: 2, expected: 1 } if object == name)
        );
        let mut foreign = bytes.clone();
        foreign[2] = 2;
        let error = read(&foreign).err().unwrap();
        assert!(
            matches!(error, Error::WrongSuite { object, found: 2, expected: 1 } if object == name)
        );
    }
}

/// CBOR can spell a length in several ways; one of them is ours.
#[test]
fn longer_spellings_of_the_same_object_are_refused() {
    for (name, bytes, read) in objects() {
        let mut longer = vec![0x98, bytes[0] & 0x1f];
        longer.extend_from_slice(&bytes[1..]);
        let wide_version = [&bytes[..1], &[0x18], &bytes[1..]].concat();
        let open_ended = {
            let mut out = vec![0x9f];
            out.extend_from_slice(&bytes[1..]);
            out.push(0xff);
            out
        };
        for other in [longer, wide_version, open_ended] {
            let error = read(&other).err().unwrap();
            assert!(matches!(error, Error::Malformed { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn elements_of_keys_and_parameters_are_checked() {
    let authority = CpAuthority::new(5);
    let key = authority.key("a");
    let bytes = key.to_bytes();
    // From the end: sk2 has two elements (a, epoch), its head two bytes; sk3; its head; sk1.
    let end = bytes.len();
    let sk2 = end - 96;
    let sk3 = sk2 - 2 - 96;
    let sk1 = sk3 - 2 - 48;
    let read = |bytes: &[u8]| {
        cp::AttributeKey::from_bytes(bytes, &authority.parameters)
            .err()
            .unwrap()
    };
    let bad = |element, reason| Error::BadPoint {
        object: "attribute key",
        element,
        reason,
    };
    for (what, point, defect) in bad_g1() {
        for (start, name) in [(sk1, "sk1"), (sk2, "sk2"), (sk2 + 48, "sk2")] {
            let mut damaged = bytes.to_vec();
            damaged[start..start + 48].copy_from_slice(&point);
            assert_eq!(read(&damaged), bad(name, defect), "{what}");
        }
        let mut master = authority.master.to_bytes().to_vec();
        let start = master.len() - 48;
        master[start..].copy_from_slice(&point);
        let error = cp::MasterKey::from_bytes(&master).err().unwrap();
        assert!(
            matches!(error, Error::BadPoint { reason, .. } if reason == defect),
            "{what}"
        );
    }
    for (what, point, defect) in bad_g2() {
        let mut damaged = bytes.to_vec();
        damaged[sk3..sk3 + 96].copy_from_slice(&point);
        assert_eq!(read(&damaged), bad("sk3", defect), "{what}");
    }
    let mut parameters = authority.parameters.to_bytes();
    *parameters.last_mut().unwrap() ^= 1;
    assert_eq!(
        cp::PublicParameters::from_bytes(&parameters).err(),
        Some(Error::BadPoint {
            object: "public parameters",
            element: "Z",
            reason: PointDefect::NotInSubgroup
        })
    );
}

#[test]
fn a_master_key_that_does_not_belong_to_its_parameters_is_refused() {
    let (one, other) = (CpAuthority::new(5), CpAuthority::new(6));
    let mut mixed = one.master.to_bytes().to_vec();
    let start = mixed.len() - 48;
    mixed[start..].copy_from_slice(&other.master.to_bytes()[start..]);
    assert_eq!(
        cp::MasterKey::from_bytes(&mixed).err(),
        Some(Error::WrongParameters {
            object: "master key"
        })
    );
}
