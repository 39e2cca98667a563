//! Enrolment over real TLS: what a device gets, and why another gets nothing.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use site::{Site, csr, key};
use smqtt_abe::cp;
use smqtt_pki::enrolment::{ParametersResponse, ProblemCode};
use smqtt_policy::{Epoch, Policy};

#[test]
fn a_device_gets_a_certificate_and_a_key_that_opens_what_its_attributes_allow() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "site=berlin, role = technician");
    let granted = service.enrol(&token, &csr("sensor-17", 1)).granted();

    assert_eq!(granted.device.as_str(), "sensor-17");
    assert_eq!(granted.attributes, "role = technician, site = berlin");
    assert_eq!((granted.suite, granted.epoch), (1, 1));
    assert_eq!(granted.broker.as_deref(), Some("mqtts://127.0.0.1:8883"));
    let (chain, anchor) = granted.certificates().unwrap();
    assert_eq!(anchor.fingerprint(), site.fingerprint());
    let device = anchor
        .verify_device(&chain, smqtt_authority::now())
        .unwrap();
    assert_eq!(device.id(), &granted.device);
    device.verify_signature(b"x", &key(1).sign(b"x")).unwrap();
    let days =
        (device.validity().not_after().as_secs() - smqtt_authority::now().as_secs()) / 86_400;
    assert!((89..=90).contains(&days), "{days}");

    let parameters = cp::PublicParameters::from_bytes(&granted.parameters).unwrap();
    let attribute_key =
        cp::AttributeKey::from_bytes(granted.attribute_key.reveal(), &parameters).unwrap();
    let opens = |policy: &str, epoch: u64| {
        let formula = policy
            .parse::<Policy>()
            .unwrap()
            .at_epoch(Epoch::new(epoch));
        let (ciphertext, sent) = parameters
            .encapsulate(&formula, &mut StdRng::seed_from_u64(7))
            .unwrap();
        attribute_key
            .decapsulate(&parameters, &formula, &ciphertext)
            .is_ok_and(|found| found == sent)
    };
    assert!(opens(
        "(role = technician and site = berlin) or role = auditor",
        1
    ));
    assert!(!opens("role = auditor", 1));
    assert!(!opens("role = technician", 2));

    let shown = site.device("sensor-17");
    assert_eq!(shown["state"], "enrolled");
    assert_eq!(shown["serial"], device.serial().to_string());
    assert_eq!(shown["fingerprint"], device.fingerprint().to_string());
    assert_eq!(shown["key_epoch"], 1);
    assert_eq!(site.enrolments(), [("sensor-17".into(), "ok".into())]);
    assert!(!service.log().contains(&token), "the token is in the log");
}

#[test]
fn certificates_show_the_attributes_that_are_to_be_certified_and_no_other() {
    let site = Site::new();
    let shown_by = |service: &site::Service, name: &str, seed: u64| {
        let token = site.add(name, "site = berlin, role = technician, role = on-call");
        let granted = service.enrol(&token, &csr(name, seed)).granted();
        let (chain, anchor) = granted.certificates().unwrap();
        let now = smqtt_authority::now();
        let device = anchor.verify_device(&chain, now).unwrap();
        device.attributes().to_vec()
    };
    let service = site.serve();
    assert!(shown_by(&service, "d1", 1).is_empty());
    drop(service);
    let service = site.serve_with(&["--certify", "role"]);
    assert_eq!(
        shown_by(&service, "d2", 2),
        ["role = on-call", "role = technician"]
    );
}

#[test]
fn the_issued_chain_is_verified_with_openssl() {
    let site = Site::new();
    let service = site.serve();
    let granted = service
        .enrol(
            &site.add("sensor-17", "role = sensor"),
            &csr("sensor-17", 1),
        )
        .granted();
    let file = |name: &str, text: &str| {
        let path = site.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (chain, ca) = (
        file("device.crt", &granted.certificate_chain),
        file("ca.crt", &granted.ca),
    );
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
        .arg(&ca)
        .arg("-untrusted")
        .args([&chain, &chain])
        .output()
        .expect("openssl can not be run: install it, or leave this test out");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_everybody_may_know_is_open_to_everybody() {
    let site = Site::new();
    let service = site.serve();
    let ca = service.get("/v1/ca");
    assert_eq!(ca.status, 200);
    let anchor = smqtt_pki::TrustAnchor::from_pem(&ca.body).unwrap();
    assert_eq!(anchor.fingerprint(), site.fingerprint());
    let parameters: ParametersResponse =
        serde_json::from_slice(&service.get("/v1/parameters").body).unwrap();
    assert_eq!((parameters.suite, parameters.epoch), (1, 1));
    assert_eq!(
        parameters.parameters,
        std::fs::read(site.path().join("parameters.cbor")).unwrap()
    );
    let health = service.get("/healthz");
    assert_eq!(
        (health.status, health.body.as_slice()),
        (200, b"ok\n".as_slice())
    );
}

#[test]
fn a_token_is_good_for_one_enrolment() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "role = sensor");
    service.enrol(&token, &csr("sensor-17", 1)).granted();
    let first = site.device("sensor-17")["serial"].clone();
    // The same key gets the same answer again: see renewal.rs.
    for seed in [2, 3] {
        let problem = service
            .enrol(&token, &csr("sensor-17", seed))
            .refused(ProblemCode::TokenUsed);
        assert!(
            problem
                .detail
                .unwrap()
                .contains("smqtt-authority device token sensor-17")
        );
    }
    assert_eq!(site.device("sensor-17")["serial"], first);
    let outcomes: Vec<_> = site
        .enrolments()
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    assert_eq!(outcomes, ["ok", "token-used", "token-used"]);
}

#[test]
fn of_many_enrolments_at_once_with_one_token_exactly_one_wins() {
    const RIVALS: u64 = 6;
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "role = sensor");
    let start = Barrier::new(RIVALS as usize);
    let replies: Vec<_> = std::thread::scope(|scope| {
        let rivals: Vec<_> = (0..RIVALS)
            .map(|seed| {
                let (service, token, start) = (&service, &token, &start);
                scope.spawn(move || {
                    let csr = csr("sensor-17", seed);
                    start.wait();
                    service.enrol(token, &csr)
                })
            })
            .collect();
        rivals
            .into_iter()
            .map(|rival| rival.join().unwrap())
            .collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(won.len(), 1);
    for reply in lost {
        reply.refused(ProblemCode::TokenUsed);
    }
    let (chain, anchor) = won[0].granted().certificates().unwrap();
    let winner = anchor
        .verify_device(&chain, smqtt_authority::now())
        .unwrap();
    assert_eq!(
        site.device("sensor-17")["serial"],
        winner.serial().to_string()
    );
    let granted = site
        .enrolments()
        .into_iter()
        .filter(|(_, outcome)| outcome == "ok")
        .count();
    assert_eq!(granted, 1);
}

#[test]
fn a_token_that_was_never_given_out_is_not_known() {
    let site = Site::new();
    let service = site.serve();
    let _ = site.add("sensor-17", "role = sensor");
    for token in ["", "nonsense", &"a".repeat(32), &"x".repeat(5000)] {
        service
            .enrol(token, &csr("sensor-17", 1))
            .refused(ProblemCode::InvalidToken);
    }
    assert_eq!(site.device("sensor-17")["state"], "registered");
    assert_eq!(
        site.enrolments(),
        vec![(String::new(), "invalid-token".to_owned()); 4]
    );
}

#[test]
fn a_revoked_device_stands_on_every_list_and_may_be_admitted_anew() {
    let site = Site::new();
    let service = site.serve();
    let serial_of = |name: &str| -> smqtt_pki::Serial {
        let shown = site.device(name);
        shown["serial"].as_str().unwrap().parse().unwrap()
    };
    for (seed, name) in [(1, "stolen"), (2, "good")] {
        service
            .enrol(&site.add(name, "role = sensor"), &csr(name, seed))
            .granted();
    }
    let stolen = serial_of("stolen");
    let list = site.dir.path().join("ca.crl");
    let root = std::fs::read(site.path().join("ca.crt")).unwrap();
    let anchor = smqtt_pki::TrustAnchor::from_pem(&root).unwrap();
    let issue = || {
        site.ok(&["crl", "--out", list.to_str().unwrap(), "--valid", "2d"]);
        let text = std::fs::read(&list).unwrap();
        let lists = smqtt_pki::Revocations::read(&text, &anchor).unwrap();
        // The root's own comes first.
        lists.lists().last().unwrap().clone()
    };
    let empty = issue();
    assert_eq!(
        (empty.number().to_string(), empty.serials().len()),
        ("1".into(), 0)
    );

    site.ok(&["device", "revoke", "stolen", "--reason", "key-compromise"]);
    assert_eq!(site.device("stolen")["state"], "revoked");
    assert_eq!(site.device("good")["state"], "enrolled");
    // The act has issued a list itself; this is the next.
    let listed = issue();
    assert_eq!(listed.number().to_string(), "3");
    assert_eq!(listed.serials().collect::<Vec<_>>(), [stolen]);
    let held = listed.validity().not_after().as_secs() - smqtt_pki::UnixTime::now().as_secs();
    assert!((172_000..=172_800).contains(&held), "{held}");

    let refused = site.run(&["device", "token", "stolen"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--re-enrol"));
    let token = site.ok(&["device", "token", "stolen", "--re-enrol"]);
    service.enrol(token.trim_end(), &csr("stolen", 3)).granted();
    assert_eq!(site.device("stolen")["state"], "enrolled");
    // The certificate of then stays on the list, the one of now is not.
    let later = issue();
    assert!(later.revokes(stolen) && !later.revokes(serial_of("stolen")));

    // Who has not enrolled yet loses its token.
    let token = site.add("new", "role = sensor");
    site.ok(&["device", "revoke", "new"]);
    service
        .enrol(&token, &csr("new", 4))
        .refused(ProblemCode::InvalidToken);
    let acts = site.ok(&["audit", "list"]);
    assert!(
        acts.contains("device-revoke") && acts.contains("crl-issue"),
        "{acts}"
    );
}

#[test]
fn a_token_expires() {
    let site = Site::new();
    let service = site.serve();
    let add = [
        "device",
        "add",
        "sensor-17",
        "--attributes",
        "role = sensor",
        "--token-expires",
        "1s",
    ];
    let token = site.ok(&add).trim().to_owned();
    std::thread::sleep(Duration::from_millis(2100));
    let problem = service
        .enrol(&token, &csr("sensor-17", 1))
        .refused(ProblemCode::TokenExpired);
    assert!(
        problem
            .detail
            .unwrap()
            .contains("smqtt-authority device token sensor-17")
    );

    let renewed = site.ok(&["device", "token", "sensor-17"]).trim().to_owned();
    service.enrol(&renewed, &csr("sensor-17", 1)).granted();
}

#[test]
fn a_renewed_token_voids_the_one_before() {
    let site = Site::new();
    let service = site.serve();
    let old = site.add("sensor-17", "role = sensor");
    let new = site.ok(&["device", "token", "sensor-17"]).trim().to_owned();
    assert_ne!(old, new);
    service
        .enrol(&old, &csr("sensor-17", 1))
        .refused(ProblemCode::InvalidToken);
    service.enrol(&new, &csr("sensor-17", 1)).granted();
}

#[test]
fn a_device_that_lost_its_identity_enrols_again_with_the_operators_leave_only() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "role = sensor");
    service.enrol(&token, &csr("sensor-17", 1)).granted();
    let first = site.device("sensor-17")["serial"].clone();

    let refusal = site.run(&["device", "token", "sensor-17"]);
    assert_eq!(refusal.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refusal.stderr).contains("--re-enrol"));

    let again = site
        .ok(&["device", "token", "sensor-17", "--re-enrol"])
        .trim()
        .to_owned();
    service
        .enrol(&token, &csr("sensor-17", 2))
        .refused(ProblemCode::TokenUsed);
    service.enrol(&again, &csr("sensor-17", 2)).granted();
    assert_ne!(site.device("sensor-17")["serial"], first);
}

#[test]
fn a_bad_certificate_request_is_told_why_and_does_not_cost_the_token() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "role = sensor");
    let good = csr("sensor-17", 1);

    // A request for this device's name, but the key in it exchanged for somebody else's.
    let forged = {
        let body: String = good
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let mut der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
        let (ours, theirs) = (key(1), key(2));
        let at = der
            .windows(65)
            .position(|w| w == ours.public_key())
            .unwrap();
        der[at..at + 65].copy_from_slice(theirs.public_key());
        let body = data_encoding::BASE64.encode(&der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    service
        .enrol(&token, &forged)
        .refused(ProblemCode::MalformedCsr);
    service.enrol(&token, "").refused(ProblemCode::MalformedCsr);
    service
        .enrol(&token, "garbage")
        .refused(ProblemCode::MalformedCsr);
    service
        .enrol(&token, &csr("sensor-18", 1))
        .refused(ProblemCode::CsrNameMismatch);
    service
        .enrol(&token, include_str!("../../smqtt-pki/tests/data/rsa.csr"))
        .refused(ProblemCode::UnsupportedKey);

    assert_eq!(site.device("sensor-17")["state"], "registered");
    service.enrol(&token, &good).granted();
    let outcomes: Vec<_> = site
        .enrolments()
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    let bad = "malformed-csr";
    assert_eq!(
        outcomes,
        [bad, bad, bad, "csr-name-mismatch", "unsupported-key", "ok"]
    );
}

#[test]
fn what_a_request_asks_for_beyond_its_key_is_ignored() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-17", "role = sensor");
    // It asks to be a certificate authority, and to be the device "auditor" too.
    let csr = include_str!("../../smqtt-pki/tests/data/p256-with-extensions.csr");
    let (chain, anchor) = service.enrol(&token, csr).granted().certificates().unwrap();
    let device = anchor
        .verify_device(&chain, smqtt_authority::now())
        .unwrap();
    assert_eq!(device.id().as_str(), "sensor-17");
}
