//! A root that is kept offline and an intermediate that issues: what is trusted, what is taken back, what OpenSSL makes of it.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use std::fs;
use std::path::Path;
use std::process::Command;

use fixture::*;
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, Error, IdentityKey, Intermediate, Revocation,
    RevocationList, RevocationReason, Revocations, Serial, certificates_to_pem,
};

const YEAR: u64 = 365 * DAY;

fn below(root: &CertificateAuthority, seed: u8) -> CertificateAuthority {
    root.create_intermediate(lasting(3 * YEAR), &mut rng(seed))
        .unwrap()
}

fn revoked(serial: Serial) -> Revocation {
    Revocation {
        serial,
        at: now(),
        reason: RevocationReason::KeyCompromise,
    }
}

fn list(ca: &CertificateAuthority, serials: &[Serial], number: u64, days: u64) -> RevocationList {
    let entries: Vec<_> = serials.iter().map(|serial| revoked(*serial)).collect();
    ca.issue_crl(&entries, number, lasting(days * DAY)).unwrap()
}

/// The text of a broker's file: the intermediate's certificate, its list and the root's.
fn file(issuing: &CertificateAuthority, lists: &[&RevocationList]) -> String {
    let certificate = core::slice::from_ref(issuing.certificate());
    lists
        .iter()
        .fold(certificates_to_pem(certificate), |text, list| {
            text + &list.to_pem()
        })
}

#[test]
fn what_the_intermediate_issues_leads_to_the_root() {
    let root = authority(1);
    let issuing = below(&root, 2);
    assert_eq!(issuing.fingerprint(), root.fingerprint());
    let (id, _, issued) = device(&issuing, "sensor-17", 3);
    assert_eq!(issued.chain.len(), 2);
    let anchor = root.trust_anchor();
    let verified = anchor.verify_device(&issued.chain, now()).unwrap();
    assert_eq!(verified.id(), &id);
    let intermediate = issuing.intermediate().unwrap();
    assert_eq!(verified.issuers(), [intermediate.serial()]);
    // Without the intermediate's certificate nobody can tell.
    let refused = anchor.verify_device(&issued.chain[..1], now());
    assert!(matches!(refused, Err(Error::Untrusted(_))), "{refused:?}");
    // A server shows the root too, for those who know its fingerprint only.
    let (served, _) = server(&issuing, 4);
    assert_eq!(served.chain.len(), 3);
    assert_eq!(served.chain.last(), Some(root.trust_anchor().root()));
    // Nothing outlives the intermediate.
    let short = root.create_intermediate(lasting(DAY), &mut rng(5)).unwrap();
    let (_, _, cut) = device(&short, "sensor-18", 6);
    assert_eq!(cut.validity.not_after(), short.validity().not_after());
}

#[test]
fn an_intermediate_makes_no_authority() {
    let root = authority(1);
    let issuing = below(&root, 2);
    let key = IdentityKey::generate(&mut rng(3));
    let request = CertificateRequest::from_pem(&key.unnamed_csr_pem().unwrap()).unwrap();
    assert!(
        issuing
            .issue_intermediate(&request, lasting(DAY), &mut rng(4))
            .is_err()
    );
    // Not even when its key is used for it: it has signed the certificate of one below it.
    let rogue = CertificateAuthority::load(
        &issuing.key_pem().unwrap(),
        certificates_to_pem(core::slice::from_ref(issuing.certificate())).as_bytes(),
    )
    .unwrap();
    let below_it = below(&rogue, 5);
    let (_, _, issued) = device(&below_it, "sensor-17", 6);
    let mut chain = issued.chain.clone();
    chain.push(issuing.certificate().clone());
    let refused = root.trust_anchor().verify_device(&chain, now());
    assert!(matches!(refused, Err(Error::Untrusted(_))), "{refused:?}");
    assert!(matches!(
        Intermediate::verify(below_it.certificate().clone(), root.trust_anchor()),
        Err(Error::OtherIssuer)
    ));
    // A device's certificate is no intermediate's.
    let (_, _, issued) = device(&root, "sensor-18", 7);
    assert!(matches!(
        Intermediate::verify(issued.chain[0].clone(), root.trust_anchor()),
        Err(Error::NotAnIntermediate(_))
    ));
}

#[test]
fn the_name_tells_one_key_from_another_and_a_renewed_certificate_goes_with_what_was_issued_before()
{
    let root = authority(1);
    let (one, two) = (below(&root, 2), below(&root, 3));
    assert_ne!(
        one.intermediate().unwrap().name(),
        two.intermediate().unwrap().name()
    );
    let key = IdentityKey::from_pem(&one.key_pem().unwrap()).unwrap();
    let request = CertificateRequest::from_pem(&key.unnamed_csr_pem().unwrap()).unwrap();
    let renewed = root
        .issue_intermediate(&request, lasting(3 * YEAR), &mut rng(9))
        .unwrap();
    assert_eq!(renewed.name(), one.intermediate().unwrap().name());
    let (_, _, issued) = device(&one, "sensor-17", 4);
    let chain = [issued.chain[0].clone(), renewed.certificate().clone()];
    assert!(root.trust_anchor().verify_device(&chain, now()).is_ok());
    let renewed = CertificateAuthority::load_intermediate(
        &one.key_pem().unwrap(),
        renewed,
        root.trust_anchor().clone(),
    )
    .unwrap();
    assert!(renewed.has_issued(&issued.chain[0]).unwrap());
    assert!(!two.has_issued(&issued.chain[0]).unwrap());
    // The chain of an earlier one is found again, the root's own has none in between.
    let earlier = [one.intermediate().unwrap().clone()];
    let again = two.device_chain(&issued.chain[0], &earlier).unwrap();
    assert_eq!(again.chain, issued.chain);
    let (_, _, direct) = device(&root, "sensor-18", 5);
    assert_eq!(
        two.device_chain(&direct.chain[0], &[]).unwrap().chain.len(),
        1
    );
    assert!(matches!(
        two.device_chain(&issued.chain[0], &[]),
        Err(Error::OtherIssuer)
    ));
}

#[test]
fn lists_of_both_are_read_together_and_the_roots_may_not_be_missing() {
    let root = authority(1);
    let issuing = below(&root, 2);
    let anchor = root.trust_anchor();
    let (_, _, stolen) = device(&issuing, "stolen", 3);
    let (_, _, good) = device(&issuing, "good", 4);
    let devices = list(&issuing, &[stolen.serial], 7, 7);
    let of_root = list(&root, &[], 1, 900);
    let text = file(&issuing, &[&devices, &of_root]);
    let read = Revocations::read(text.as_bytes(), anchor).unwrap();
    assert!(read.revokes(stolen.serial) && !read.revokes(good.serial));
    assert_eq!(read.lists().len(), 2);
    assert_eq!(read.len(), 1);
    assert_eq!(read.validity().not_after(), devices.validity().not_after());
    // In any order, and as it is written again.
    let again = Revocations::read(read.to_pem().as_bytes(), anchor).unwrap();
    assert!(again.revokes(stolen.serial));
    let turned = of_root.to_pem() + &file(&issuing, &[&devices]);
    assert!(Revocations::read(turned.as_bytes(), anchor).is_ok());

    let why = |text: String| {
        Revocations::read(text.as_bytes(), anchor)
            .unwrap_err()
            .to_string()
    };
    assert!(why(file(&issuing, &[&devices])).contains("the root's is missing"));
    assert!(why(devices.to_pem() + &of_root.to_pem()).contains("another authority"));
    assert!(why(file(&issuing, &[&devices, &devices, &of_root])).contains("two of one issuer"));
    assert!(why(file(&issuing, &[])).contains("holds none"));
    let foreign = authority(9);
    assert!(Revocations::read(text.as_bytes(), foreign.trust_anchor()).is_err());
    // The root's alone, as an authority without intermediate has it.
    assert!(Revocations::read(of_root.to_pem().as_bytes(), anchor).is_ok());

    // Each list for itself grows older or not.
    let newer = list(&root, &[], 2, 900);
    let next = Revocations::read(file(&issuing, &[&devices, &newer]).as_bytes(), anchor).unwrap();
    assert!(next.older_than(&read).is_none());
    let (number, before) = read.older_than(&next).unwrap();
    assert_eq!(
        (number.to_string(), before.to_string()),
        ("1".into(), "2".into())
    );
}

#[test]
fn an_intermediate_on_the_roots_list_counts_no_more() {
    let root = authority(1);
    let (leaked, other) = (below(&root, 2), below(&root, 3));
    let (_, _, one) = device(&leaked, "sensor-17", 4);
    let (_, _, two) = device(&other, "sensor-18", 5);
    let serial = leaked.intermediate().unwrap().serial();
    let empty = list(&root, &[], 1, 900);
    let named = list(&root, &[serial], 2, 900);
    let anchor = root.trust_anchor().clone();
    let knowing = anchor.clone().with_list(named.der().clone()).unwrap();
    assert!(anchor.verify_device(&one.chain, now()).is_ok());
    assert!(matches!(
        knowing.verify_device(&one.chain, now()),
        Err(Error::Revoked)
    ));
    assert!(knowing.verify_device(&two.chain, now()).is_ok());
    // An older list takes nothing back of that, another root's is none.
    let still = knowing.with_list(empty.der().clone()).unwrap();
    assert!(still.verify_device(&one.chain, now()).is_err());
    let foreign = list(&authority(9), &[], 3, 900);
    assert!(still.with_list(foreign.der().clone()).is_err());
}

#[test]
fn openssl_verifies_the_chain_with_the_lists_of_all_its_certificates() {
    let root = authority(1);
    let issuing = below(&root, 2);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    let (_, _, good) = device(&issuing, "good", 3);
    let (_, _, stolen) = device(&issuing, "stolen", 4);
    let (served, _) = server(&issuing, 5);
    write("ca.crt", root.root_pem());
    write("good.crt", good.chain_pem());
    write("stolen.crt", stolen.chain_pem());
    write("server.crt", served.chain_pem());
    let devices = list(&issuing, &[stolen.serial], 7, 7);
    write(
        "ca.crl",
        file(&issuing, &[&devices, &list(&root, &[], 1, 900)]),
    );
    let serial = issuing.intermediate().unwrap().serial();
    let leaked = list(&root, &[serial], 2, 900);
    write("leaked.crl", file(&issuing, &[&devices, &leaked]));

    let verify = |purpose: &str, crl: &str, certificate: &str| {
        openssl(
            dir.path(),
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-crl_check_all",
                "-CAfile",
                "ca.crt",
                "-CRLfile",
                crl,
                "-untrusted",
                certificate,
                certificate,
            ],
        )
    };
    let (ok, said) = verify("sslclient", "ca.crl", "good.crt");
    assert!(ok, "{said}");
    let (ok, said) = verify("sslserver", "ca.crl", "server.crt");
    assert!(ok, "{said}");
    let (ok, said) = verify("sslserver", "ca.crl", "good.crt");
    assert!(!ok && said.contains("purpose"), "{said}");
    let (ok, said) = verify("sslclient", "ca.crl", "stolen.crt");
    assert!(!ok && said.contains("revoked"), "{said}");
    let (ok, said) = verify("sslclient", "leaked.crl", "good.crt");
    assert!(!ok && said.contains("revoked"), "{said}");

    // RFC 5280 as OpenSSL shows it: no authority below this one, and what it may sign.
    write(
        "issuing.crt",
        certificates_to_pem(core::slice::from_ref(issuing.certificate())),
    );
    let (ok, text) = openssl(
        dir.path(),
        &["x509", "-in", "issuing.crt", "-noout", "-text"],
    );
    assert!(ok && text.contains("CA:TRUE, pathlen:0"), "{text}");
    assert!(text.contains("Certificate Sign, CRL Sign"), "{text}");
    assert!(text.contains("Test authority issuing CA "), "{text}");
}

fn openssl(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("openssl runs");
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}
