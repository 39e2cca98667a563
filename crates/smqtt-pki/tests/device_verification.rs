//! Who passes as a device, and why others do not.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use fixture::*;
use smqtt_pki::{CertificateDer, CertificateRequest, Error, IdentityKey, KeyType, Validity};

#[test]
fn a_device_of_the_authority_is_verified_and_its_signatures_with_it() {
    let ca = authority(1);
    let (id, key, issued) = device(&ca, "sensor-17", 2);
    let verified = ca
        .trust_anchor()
        .verify_device(&issued.chain, now())
        .unwrap();
    assert_eq!(verified.id(), &id);
    assert_eq!(verified.serial(), issued.serial);
    assert_eq!(verified.fingerprint(), issued.fingerprint());
    assert_eq!(verified.validity(), issued.validity);
    assert_eq!(verified.key_type(), KeyType::EcdsaP256);

    let signature = key.sign(b"21.5");
    verified.verify_signature(b"21.5", &signature).unwrap();
    assert!(matches!(
        verified.verify_signature(b"21.6", &signature),
        Err(Error::BadSignature)
    ));
    let mut damaged = signature;
    damaged[40] ^= 1;
    assert!(matches!(
        verified.verify_signature(b"21.5", &damaged),
        Err(Error::BadSignature)
    ));
    for length in [0, 1, 63] {
        assert!(
            verified
                .verify_signature(b"21.5", &signature[..length])
                .is_err()
        );
    }
    let another = IdentityKey::generate(&mut rng(3)).sign(b"21.5");
    assert!(verified.verify_signature(b"21.5", &another).is_err());
}

#[test]
fn a_root_in_the_chain_does_no_harm() {
    let ca = authority(1);
    let (_, _, mut issued) = device(&ca, "sensor-17", 2);
    issued.chain.push(ca.trust_anchor().root().clone());
    assert!(
        ca.trust_anchor()
            .verify_device(&issued.chain, now())
            .is_ok()
    );
}

#[test]
fn a_device_of_another_authority_of_the_same_name_is_not_trusted() {
    let (ours, theirs) = (authority(1), authority(2));
    let (_, _, mut issued) = device(&theirs, "sensor-17", 3);
    let refusal = ours.trust_anchor().verify_device(&issued.chain, now());
    assert!(matches!(refusal, Err(Error::Untrusted(_))), "{refusal:?}");
    // Nor does it help to send the foreign root, or ours, along.
    issued.chain.push(theirs.trust_anchor().root().clone());
    issued.chain.push(ours.trust_anchor().root().clone());
    assert!(
        ours.trust_anchor()
            .verify_device(&issued.chain, now())
            .is_err()
    );
}

#[test]
fn a_certificate_holds_only_in_its_time() {
    let ca = authority(1);
    let (_, _, issued) = device(&ca, "sensor-17", 2);
    let at = |t| ca.trust_anchor().verify_device(&issued.chain, t);
    assert!(at(later(89 * DAY)).is_ok());
    assert!(matches!(at(later(91 * DAY)), Err(Error::Expired)));
    let before = smqtt_pki::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        issued.validity.not_before().as_secs() - 1,
    ));
    assert!(matches!(at(before), Err(Error::NotYetValid)));
}

#[test]
fn a_certificate_never_outlives_its_root() {
    let ca = smqtt_pki::CertificateAuthority::create("short", lasting(DAY), &mut rng(1)).unwrap();
    let (_, _, issued) = device(&ca, "sensor-17", 2);
    assert_eq!(
        issued.validity.not_after(),
        ca.trust_anchor().validity().not_after()
    );
}

#[test]
fn a_server_is_no_device() {
    let ca = authority(1);
    let (issued, _) = server(&ca, 2);
    let refusal = ca.trust_anchor().verify_device(&issued.chain, now());
    assert!(matches!(refusal, Err(Error::Untrusted(_))), "{refusal:?}");
}

#[test]
fn the_root_itself_is_no_device() {
    let ca = authority(1);
    let chain = [ca.trust_anchor().root().clone()];
    assert!(ca.trust_anchor().verify_device(&chain, now()).is_err());
}

#[test]
fn a_device_certificate_is_no_trust_anchor() {
    let ca = authority(1);
    let (_, _, issued) = device(&ca, "sensor-17", 2);
    let refusal = smqtt_pki::TrustAnchor::new(issued.chain[0].clone());
    assert!(matches!(refusal, Err(Error::NotAnAuthority)), "{refusal:?}");
}

#[test]
fn any_flipped_bit_breaks_the_certificate() {
    let ca = authority(1);
    let (_, _, issued) = device(&ca, "sensor-17", 2);
    for position in 0..issued.chain[0].len() {
        let mut der = issued.chain[0].to_vec();
        der[position] ^= 0x04;
        let refusal = ca
            .trust_anchor()
            .verify_device(&[CertificateDer::from(der)], now());
        assert!(refusal.is_err(), "byte {position}");
    }
}

#[test]
fn chains_of_no_or_absurd_length_are_refused() {
    let ca = authority(1);
    let (_, _, issued) = device(&ca, "sensor-17", 2);
    let anchor = ca.trust_anchor();
    assert!(matches!(
        anchor.verify_device(&[], now()),
        Err(Error::ChainLength { given: 0, .. })
    ));
    let long = vec![issued.chain[0].clone(); 17];
    assert!(matches!(
        anchor.verify_device(&long, now()),
        Err(Error::ChainLength { given: 17, .. })
    ));
}

#[test]
fn a_validity_outside_of_the_roots_is_refused() {
    let ca = smqtt_pki::CertificateAuthority::create("short", lasting(DAY), &mut rng(1)).unwrap();
    let key = IdentityKey::generate(&mut rng(2));
    let id = "sensor-17".parse().unwrap();
    let request = CertificateRequest::from_pem(&key.csr_pem(&id).unwrap()).unwrap();
    let after = Validity::new(later(2 * DAY), later(3 * DAY)).unwrap();
    assert!(matches!(
        ca.issue_device(&request, &id, after, &mut rng(3)),
        Err(Error::Validity)
    ));
}
