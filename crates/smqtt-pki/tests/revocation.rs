//! Revocation lists: what is on them, whose they are, and what OpenSSL makes of them.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use fixture::*;
use smqtt_pki::{
    CertificateAuthority, CrlNumber, Error, Revocation, RevocationList, RevocationReason, Serial,
    TrustAnchor,
};

fn revoked(serial: Serial) -> Revocation {
    Revocation {
        serial,
        at: now(),
        reason: RevocationReason::KeyCompromise,
    }
}

fn why(result: Result<RevocationList, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_list_is_read_back_as_it_was_issued() {
    let ca = authority(1);
    let (_, _, stolen) = device(&ca, "stolen", 2);
    let (_, _, good) = device(&ca, "good", 3);
    let list = ca
        .issue_crl(&[revoked(stolen.serial)], 300, lasting(7 * DAY))
        .unwrap();
    for text in [list.to_pem().into_bytes(), list.der().to_vec()] {
        let read = RevocationList::read(&text, ca.trust_anchor()).unwrap();
        assert!(read.revokes(stolen.serial) && !read.revokes(good.serial));
        assert_eq!(read.number(), &CrlNumber::from(300));
        assert_eq!(read.validity(), list.validity());
        assert_eq!(read.serials().collect::<Vec<_>>(), [stolen.serial]);
    }
    let empty = ca.issue_crl(&[], 1, lasting(DAY)).unwrap();
    assert_eq!(empty.serials().len(), 0);
    assert!(empty.number() < list.number());
}

#[test]
fn only_the_authority_itself_takes_certificates_back() {
    let ca = authority(1);
    let list = ca.issue_crl(&[], 1, lasting(DAY)).unwrap();
    let other = CertificateAuthority::create("Other", lasting(DAY), &mut rng(9)).unwrap();
    let named = RevocationList::read(list.der(), other.trust_anchor());
    assert!(why(named).contains("another authority"));
    // The same name and another key.
    let impostor = authority(2);
    let signed = RevocationList::read(list.der(), impostor.trust_anchor());
    assert!(why(signed).contains("signature"));
}

#[test]
fn a_damaged_list_is_refused_whatever_was_damaged() {
    let ca = authority(1);
    let (_, _, stolen) = device(&ca, "stolen", 2);
    let list = ca
        .issue_crl(&[revoked(stolen.serial)], 1, lasting(DAY))
        .unwrap();
    let der = list.der().to_vec();
    for position in 0..der.len() {
        let mut damaged = der.clone();
        damaged[position] ^= 1;
        assert!(
            RevocationList::read(&damaged, ca.trust_anchor()).is_err(),
            "byte {position}"
        );
        assert!(RevocationList::read(&der[..position], ca.trust_anchor()).is_err());
    }
    let mut longer = der;
    longer.push(0);
    assert!(RevocationList::read(&longer, ca.trust_anchor()).is_err());
    assert!(RevocationList::read(b"no list", ca.trust_anchor()).is_err());
}

#[test]
fn openssl_takes_our_lists() {
    let ca = authority(1);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca.crt"), ca.root_pem()).unwrap();
    let (_, _, stolen) = device(&ca, "stolen", 2);
    let (_, _, good) = device(&ca, "good", 3);
    fs::write(path("stolen.crt"), stolen.chain_pem()).unwrap();
    fs::write(path("good.crt"), good.chain_pem()).unwrap();
    let list = ca
        .issue_crl(&[revoked(stolen.serial)], 4660, lasting(DAY))
        .unwrap();
    fs::write(path("ca.crl"), list.to_pem()).unwrap();
    let shown = openssl(
        dir.path(),
        &[
            "crl", "-in", "ca.crl", "-CAfile", "ca.crt", "-noout", "-text",
        ],
    );
    let text = said(&shown);
    assert!(
        shown.status.success() && text.contains("verify OK"),
        "{text}"
    );
    assert!(text.contains("Key Compromise"), "{text}");
    assert!(text.contains("0x1234") || text.contains("4660"), "{text}");
    let verify = |certificate: &str| {
        openssl(
            dir.path(),
            &[
                "verify",
                "-crl_check",
                "-CAfile",
                "ca.crt",
                "-CRLfile",
                "ca.crl",
                certificate,
            ],
        )
    };
    assert!(verify("good.crt").status.success());
    let refused = verify("stolen.crt");
    assert!(
        said(&refused).contains("certificate revoked"),
        "{}",
        said(&refused)
    );
}

#[test]
fn lists_that_openssl_makes_are_taken() {
    let ca = authority(1);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca.crt"), ca.root_pem()).unwrap();
    fs::write(path("ca.key"), ca.key_pem().unwrap().as_bytes()).unwrap();
    fs::write(path("index.txt"), "").unwrap();
    fs::write(path("number"), "0A\n").unwrap();
    fs::write(
        path("ca.cnf"),
        "[ca]\ndefault_ca = a\n[a]\ndatabase = index.txt\ncrlnumber = number\ncertificate = ca.crt\n\
         private_key = ca.key\ndefault_md = sha256\ndefault_crl_days = 3\ncrl_extensions = e\n\
         [e]\nauthorityKeyIdentifier = keyid\n",
    )
    .unwrap();
    let (_, _, stolen) = device(&ca, "stolen", 2);
    fs::write(path("stolen.crt"), stolen.chain_pem()).unwrap();
    let revoke = openssl(
        dir.path(),
        &["ca", "-config", "ca.cnf", "-revoke", "stolen.crt"],
    );
    assert!(revoke.status.success(), "{}", said(&revoke));
    let made = openssl(
        dir.path(),
        &["ca", "-config", "ca.cnf", "-gencrl", "-out", "ca.crl"],
    );
    assert!(made.status.success(), "{}", said(&made));
    let text = fs::read(path("ca.crl")).unwrap();
    let anchor = TrustAnchor::from_pem(ca.root_pem().as_bytes()).unwrap();
    let list = RevocationList::read(&text, &anchor).unwrap();
    assert!(list.revokes(stolen.serial));
    assert_eq!(list.number(), &CrlNumber::from(10));
    let span = list.validity().not_after().as_secs() - list.validity().not_before().as_secs();
    assert_eq!(Duration::from_secs(span), Duration::from_secs(3 * DAY));
}

fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("openssl runs")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
