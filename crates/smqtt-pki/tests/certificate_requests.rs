//! What an authority accepts as a certificate request.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use fixture::*;
use proptest::prelude::*;
use smqtt_pki::{CertificateRequest, DeviceId, Error, IdentityKey, KeyType};

/// `openssl req -new` with the subject `/O=Plant/CN=sensor-17`, asking for CA:TRUE and localhost as an alternative name.
const P256_WITH_EXTENSIONS: &str = include_str!("data/p256-with-extensions.csr");
const ED25519: &str = include_str!("data/ed25519.csr");
const RSA: &str = include_str!("data/rsa.csr");
const P384: &str = include_str!("data/p384.csr");
const NO_COMMON_NAME: &str = include_str!("data/no-common-name.csr");

fn id() -> DeviceId {
    "sensor-17".parse().unwrap()
}

#[test]
fn our_own_request_is_read() {
    let request =
        CertificateRequest::from_pem(&IdentityKey::generate(&mut rng(1)).csr_pem(&id()).unwrap())
            .unwrap();
    assert_eq!(request.common_name(), Some("sensor-17"));
    assert_eq!(request.key_type(), KeyType::EcdsaP256);
    request.check_name(&id()).unwrap();
}

#[test]
fn requests_of_openssl_are_read_and_what_they_ask_for_beyond_the_key_is_ignored() {
    let ca = authority(1);
    for (pem, kind) in [
        (P256_WITH_EXTENSIONS, KeyType::EcdsaP256),
        (ED25519, KeyType::Ed25519),
    ] {
        let request = CertificateRequest::from_pem(pem).unwrap();
        assert_eq!(request.key_type(), kind);
        let issued = ca
            .issue_device(&request, &id(), lasting(DAY), &mut rng(2))
            .unwrap();
        // A CA certificate, or one without the device's URI, would not verify.
        let verified = ca
            .trust_anchor()
            .verify_device(&issued.chain, now())
            .unwrap();
        assert_eq!((verified.id(), verified.key_type()), (&id(), kind));
        let text = String::from_utf8_lossy(&issued.chain[0]).into_owned();
        assert!(
            !text.contains("localhost") && !text.contains("Plant"),
            "an extension or name slipped through"
        );
    }
}

#[test]
fn other_kinds_of_keys_are_refused() {
    for pem in [RSA, P384] {
        let refusal = CertificateRequest::from_pem(pem);
        assert!(matches!(refusal, Err(Error::UnsupportedKey)), "{refusal:?}");
    }
}

#[test]
fn a_request_for_another_name_is_refused_at_issue() {
    let ca = authority(1);
    let key = IdentityKey::generate(&mut rng(2));
    let request =
        CertificateRequest::from_pem(&key.csr_pem(&"auditor".parse().unwrap()).unwrap()).unwrap();
    match ca.issue_device(&request, &id(), lasting(DAY), &mut rng(3)) {
        Err(Error::RequestName {
            requested,
            expected,
        }) => {
            assert_eq!((requested.as_str(), expected), ("auditor", id()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_without_a_name_leaves_it_to_the_authority() {
    let ours = IdentityKey::generate(&mut rng(1))
        .unnamed_csr_pem()
        .unwrap();
    for text in [NO_COMMON_NAME, &ours] {
        let request = CertificateRequest::from_pem(text).unwrap();
        assert_eq!(request.common_name(), None);
        request.check_name(&id()).unwrap();
    }
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let (ours, theirs) = (
        IdentityKey::generate(&mut rng(1)),
        IdentityKey::generate(&mut rng(2)),
    );
    let pem = ours.csr_pem(&id()).unwrap();
    let mut der = decode(&pem);
    // The attacker claims the victim's key: same length, found by its bytes.
    let at = der
        .windows(65)
        .position(|w| w == ours.public_key())
        .unwrap();
    der[at..at + 65].copy_from_slice(theirs.public_key());
    let refusal = CertificateRequest::from_der(&der);
    assert!(
        matches!(refusal, Err(Error::ProofOfPossession)),
        "{refusal:?}"
    );
}

#[test]
fn a_key_that_is_no_point_of_the_curve_is_refused() {
    let ours = IdentityKey::generate(&mut rng(1));
    let mut der = decode(&ours.csr_pem(&id()).unwrap());
    let at = der
        .windows(65)
        .position(|w| w == ours.public_key())
        .unwrap();
    der[at + 1..at + 65].fill(0);
    assert!(matches!(
        CertificateRequest::from_der(&der),
        Err(Error::ProofOfPossession)
    ));
}

#[test]
fn any_flipped_bit_of_what_is_signed_or_of_the_signature_breaks_the_request() {
    let der = decode(&IdentityKey::generate(&mut rng(1)).csr_pem(&id()).unwrap());
    // Between the two stands the signature algorithm's identifier, which nothing signs and nothing is taken from.
    let algorithm = der
        .windows(4)
        .rposition(|w| w == [0x30, 0x0a, 0x06, 0x08])
        .unwrap();
    let unsigned = algorithm..algorithm + 12;
    for position in (0..der.len()).filter(|position| !unsigned.contains(position)) {
        let mut damaged = der.clone();
        damaged[position] ^= 0x01;
        assert!(
            CertificateRequest::from_der(&damaged).is_err(),
            "byte {position}"
        );
    }
}

#[test]
fn garbage_and_oversize_are_refused() {
    for text in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        assert!(
            matches!(
                CertificateRequest::from_pem(text),
                Err(Error::MalformedRequest(_))
            ),
            "{text:?}"
        );
    }
    let mut long = IdentityKey::generate(&mut rng(1)).csr_pem(&id()).unwrap();
    long.push_str(&"\n".repeat(CertificateRequest::MAX_LEN));
    assert!(matches!(
        CertificateRequest::from_pem(&long),
        Err(Error::MalformedRequest(_))
    ));
    let mut trailing = decode(&IdentityKey::generate(&mut rng(1)).csr_pem(&id()).unwrap());
    trailing.push(0);
    assert!(matches!(
        CertificateRequest::from_der(&trailing),
        Err(Error::MalformedRequest(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_cut_and_mended_at_random_never_panics(
        cut in 0usize..400, at in 0usize..400, with in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let mut der = decode(P256_WITH_EXTENSIONS);
        let at = at.min(der.len());
        let end = (at + with.len()).min(der.len());
        der.splice(at..end, with);
        der.truncate(der.len().saturating_sub(cut));
        let _ = CertificateRequest::from_der(&der);
    }
}

fn decode(pem: &str) -> Vec<u8> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    data_encoding::BASE64.decode(body.as_bytes()).unwrap()
}
