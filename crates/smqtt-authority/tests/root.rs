//! Root and intermediate: an authority that gets its first intermediate, what is refused, and installations that are killed.
//!
//! `SMQTT_KILL_ROUNDS` says how many rounds of the latter there are (6).
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use site::{Reply, Service, Site, csr, key, program};
use smqtt_pki::enrolment::EnrolResponse;
use smqtt_pki::{CertificateDer, Revocations, TrustAnchor, certificates_from_pem, tls};

fn at(site: &Site, name: &str) -> String {
    site.dir.path().join(name).to_str().unwrap().to_owned()
}

fn shown(site: &Site) -> Value {
    serde_json::from_str(&site.ok(&["root", "show", "--json"])).unwrap()
}

/// Why a command is refused.
#[track_caller]
fn refused(site: &Site, args: &[&str]) -> String {
    let output = site.run(args);
    assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn export(site: &Site) -> [String; 2] {
    let made = [at(site, "root.sealed"), at(site, "root.key")];
    site.ok(&[
        "root",
        "export",
        "--out",
        &made[0],
        "--export-key-file",
        &made[1],
    ]);
    made
}

/// `root sign`, on a machine that has no authority.
fn sign(export: &[String; 2], request: &str, key: &str, more: &[&str]) -> Result<(), String> {
    let output = program()
        .args([
            "root",
            "sign",
            "--root",
            &export[0],
            "--export-key-file",
            &export[1],
        ])
        .args(["--request", request, "--key", key])
        .args(more)
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(3 | 4) => Err(String::from_utf8(output.stderr).unwrap()),
        _ => panic!("{output:?}"),
    }
}

fn renew(service: &Service, granted: &EnrolResponse, name: &str, seed: u64) -> Reply {
    let (chain, anchor) = granted.certificates().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(anchor.root().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key(seed).to_der().unwrap())
        .unwrap();
    let body = json!({ "csr": csr(name, seed) }).to_string();
    service.try_post(config, "/v1/renew", &body).unwrap()
}

fn chain(granted: &EnrolResponse) -> Vec<CertificateDer<'static>> {
    granted.certificates().unwrap().0
}

#[test]
fn an_authority_whose_root_issues_gets_an_intermediate_and_what_the_root_has_issued_goes_on() {
    let site = Site::nowhere();
    site.ok(&["init", "--single"]);
    let crl = at(&site, "ca.crl");
    site.ok(&["crl", "--out", &crl]);
    let tokens = ["one", "two", "three"].map(|name| site.add(name, "role = sensor"));
    let service = site.serve();
    let one = service.enrol(&tokens[0], &csr("one", 1)).granted();
    let two = service.enrol(&tokens[1], &csr("two", 2)).granted();
    assert_eq!((chain(&one).len(), one.root_list.is_some()), (1, false));
    assert_eq!(shown(&site)["intermediate"], Value::Null);
    let exported = export(&site);
    let remove = [
        "root",
        "remove",
        "--export",
        &exported[0],
        "--export-key-file",
        &exported[1],
        "--yes",
    ];
    let why = refused(&site, &remove);
    assert!(why.contains("the root itself issues here"), "{why}");

    site.ok(&["root", "renew"]);
    assert_eq!(shown(&site)["issued_by_root"], 2);
    assert_eq!(service.wait().code(), Some(1), "another key issues");
    let why = refused(&site, &remove);
    assert!(why.contains("2 certificates of devices"), "{why}");
    // Both kinds of certificates count, at the service and by the broker's lists.
    let service = site.serve();
    let three = service.enrol(&tokens[2], &csr("three", 3)).granted();
    assert_eq!((chain(&three).len(), three.root_list.is_some()), (2, true));
    let renewed = renew(&service, &one, "one", 1).granted();
    assert_eq!(chain(&renewed).len(), 2, "it is the intermediate's now");
    assert_ne!(chain(&renewed)[0], chain(&one)[0]);

    // What the root has issued is taken back on the root's own list, the rest on the intermediate's.
    site.ok(&["device", "revoke", "two"]);
    site.ok(&["device", "revoke", "three"]);
    let anchor =
        TrustAnchor::from_pem(&std::fs::read(site.path().join("ca.crt")).unwrap()).unwrap();
    let lists = Revocations::read(&std::fs::read(&crl).unwrap(), &anchor).unwrap();
    let now = smqtt_authority::now();
    for granted in [&two, &three] {
        let device = anchor.verify_device(&chain(granted), now).unwrap();
        assert!(lists.lists().any(|list| list.revokes(device.serial())));
    }
    let list = std::fs::read_to_string(site.path().join("ca.crl")).unwrap();
    let list = smqtt_pki::RevocationList::read(list.as_bytes(), &anchor).unwrap();
    let knowing = anchor.clone().with_list(list.der().clone()).unwrap();
    assert!(knowing.verify_device(&chain(&two), now).is_err());
    assert!(knowing.verify_device(&chain(&one), now).is_ok());

    // The root can go once nothing that it has issued to devices is valid.
    drop(service);
    site.execute("UPDATE certificate SET not_after = issued - 1 WHERE device IS NOT NULL")
        .unwrap();
    assert_eq!(shown(&site)["issued_by_root"], 0);
    site.ok(&remove);
    assert_eq!(shown(&site)["key_here"], false);
    let why = refused(&site, &["root", "renew"]);
    assert!(why.contains("not here any more"), "{why}");
    site.ok(&["audit", "verify"]);
    // It is an authority like any other: it serves, and takes back what the intermediate has issued.
    let token = site.add("four", "role = sensor");
    let service = site.serve();
    service.enrol(&token, &csr("four", 4)).granted();
    site.ok(&["device", "revoke", "four"]);
}

#[test]
fn what_does_not_belong_together_is_refused_and_changes_nothing() {
    let (site, other) = (Site::new(), Site::new());
    let (exported, foreign) = (export(&site), export(&other));
    let before = shown(&site);

    // Exports: of another root, with another key, no export at all.
    let remove = |file: &str, key: &str| {
        [
            "root",
            "remove",
            "--yes",
            "--export",
            file,
            "--export-key-file",
            key,
        ]
        .map(ToOwned::to_owned)
    };
    let tried = |file: &str, key: &str| {
        let arguments = remove(file, key);
        let output = site.run(&arguments.each_ref().map(String::as_str));
        assert!(matches!(output.status.code(), Some(3 | 4)), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let why = tried(&foreign[0], &foreign[1]);
    assert!(why.contains("another root"), "{why}");
    tried(&exported[0], &foreign[1]);
    tried(&exported[1], &exported[1]);
    tried(&at(&site, "missing"), &exported[1]);
    let damaged = at(&site, "damaged.sealed");
    let mut bytes = std::fs::read(&exported[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::copy(&exported[0], &damaged).unwrap();
    std::fs::write(&damaged, bytes).unwrap();
    tried(&damaged, &exported[1]);
    // An export is not written over anything, and nothing is removed unasked.
    let again = site.run(&[
        "root",
        "export",
        "--out",
        &exported[0],
        "--export-key-file",
        &exported[1],
    ]);
    assert_eq!(again.status.code(), Some(4));
    let unasked = site.run(&[
        "root",
        "remove",
        "--export",
        &exported[0],
        "--export-key-file",
        &exported[1],
    ]);
    assert_eq!(unasked.status.code(), Some(2));

    // Requests: for another key than was compared, by another authority, no request.
    let request = at(&site, "request.pem");
    let key = site.ok(&["root", "request", "--new-key", "--out", &request]);
    let key = key.trim();
    let answer = at(&site, "answer.pem");
    let out = ["--out", answer.as_str()];
    let why = sign(&exported, &request, "0123456789", &out).unwrap_err();
    assert!(why.contains("nothing was signed"), "{why}");
    sign(&exported, &request, &key[..7], &out).unwrap_err();
    let why = sign(&foreign, &request, key, &out).unwrap_err();
    assert!(why.contains("the request can not be used"), "{why}");
    sign(&exported, &exported[0], key, &out).unwrap_err();
    let device = at(&site, "device.csr");
    std::fs::write(
        &device,
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    )
    .unwrap();
    sign(&exported, &device, key, &out).unwrap_err();
    assert!(!std::path::Path::new(&answer).exists());

    // Answers: of another root, to another request, of a device's certificate, that have expired, no answer.
    let theirs = at(&other, "request.pem");
    let their_key = other.ok(&["root", "request", "--new-key", "--out", &theirs]);
    let their_answer = at(&other, "answer.pem");
    sign(
        &foreign,
        &theirs,
        their_key.trim(),
        &["--out", &their_answer],
    )
    .unwrap();
    let why = refused(&site, &["root", "install", &their_answer]);
    assert!(why.contains("the answer can not be used"), "{why}");
    sign(&exported, &request, key, &out).unwrap();
    let newer = at(&site, "newer.pem");
    site.ok(&["root", "request", "--new-key", "--out", &newer]);
    let why = refused(&site, &["root", "install", &answer]);
    assert!(why.contains("for another key"), "{why}");
    let why = refused(&site, &["root", "install", &request]);
    assert!(why.contains("the answer can not be used"), "{why}");
    let text = std::fs::read_to_string(&answer).unwrap();
    let certificate = text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    let half = at(&site, "half.pem");
    std::fs::write(&half, certificate).unwrap();
    refused(&site, &["root", "install", &half]);
    std::fs::write(&half, format!("{certificate}{text}")).unwrap();
    let why = refused(&site, &["root", "install", &half]);
    assert!(why.contains("more than one certificate"), "{why}");
    let last = site.ok(&["root", "request", "--out", &at(&site, "last.pem")]);
    let brief = at(&site, "brief.pem");
    sign(
        &exported,
        &at(&site, "last.pem"),
        last.trim(),
        &["--out", &brief, "--valid", "1s"],
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let why = refused(&site, &["root", "install", &brief]);
    assert!(why.contains("does not hold now"), "{why}");

    // Nothing of all that has changed who issues.
    let after = shown(&site);
    for field in ["root", "key_here", "intermediate", "list"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let token = site.add("one", "role = sensor");
    site.serve().enrol(&token, &csr("one", 1)).granted();
}

#[test]
fn an_older_answer_does_not_bring_back_what_was_taken_back() {
    let site = Site::new();
    let exported = export(&site);
    // Two answers for the same key, one before and one after the other was taken back.
    let (request, kept) = (at(&site, "request.pem"), at(&site, "kept.pem"));
    let key = site.ok(&["root", "request", "--out", &request]);
    sign(&exported, &request, key.trim(), &["--out", &kept]).unwrap();
    site.ok(&["root", "renew", "--new-key", "--yes"]);
    let why = refused(&site, &["root", "install", &kept]);
    assert!(why.contains("for another key"), "{why}");
    // The same key again, in the place of the one that was requested: its list is older than the one here.
    let list = shown(&site)["list"]["revoked"].as_array().unwrap().len();
    assert_eq!(list, 1);
}

#[test]
fn killed_while_an_intermediate_is_put_in_place_the_authority_goes_on_with_one_of_the_two() {
    let rounds: u64 = std::env::var("SMQTT_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(6);
    let site = Site::new();
    let exported = export(&site);
    let anchor =
        TrustAnchor::from_pem(&std::fs::read(site.path().join("ca.crt")).unwrap()).unwrap();
    // How long an installation takes here, by one that is let run.
    let mut took = Duration::ZERO;
    let mut cut_off = 0;
    for round in 0..rounds {
        let (request, answer) = (
            at(&site, &format!("{round}.pem")),
            at(&site, &format!("{round}.crt")),
        );
        let key = site.ok(&["root", "request", "--new-key", "--out", &request]);
        sign(
            &exported,
            &request,
            key.trim(),
            &["--revoke-earlier", "--out", &answer],
        )
        .unwrap();
        let begun = std::time::Instant::now();
        let mut installing = site
            .command(&["root", "install", &answer])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if round > 0 {
            let share = rand::rng().random_range(0.0..1.0);
            std::thread::sleep(took.mul_f64(share));
            installing.kill().unwrap();
        }
        cut_off += u32::from(!installing.wait().unwrap().success());
        took = took.max(begun.elapsed());

        // It serves and issues, under the one or the other.
        let name = format!("d-{round}");
        let token = site.add(&name, "role = sensor");
        let service = site.serve_with(&[]);
        let granted = service.enrol(&token, &csr(&name, round)).granted();
        anchor
            .verify_device(&chain(&granted), smqtt_authority::now())
            .unwrap();
        drop(service);
        // Done again, it is complete: the one that was requested issues, and the earlier ones count no more.
        site.ok(&["root", "install", &answer]);
        let status = shown(&site);
        assert_eq!(status["intermediate"]["key"], key.trim());
        assert_eq!(status["requested"], false);
        assert_eq!(
            status["list"]["revoked"].as_array().unwrap().len() as u64,
            round + 1
        );
        let crl = at(&site, "ca.crl");
        site.ok(&["crl", "--out", &crl]);
        Revocations::read(&std::fs::read(&crl).unwrap(), &anchor).unwrap();
        site.ok(&["audit", "verify"]);
    }
    println!("{rounds} rounds, {cut_off} cut off within {took:?}");
    let issuing = std::fs::read(site.path().join("issuing.crt")).unwrap();
    assert!(certificates_from_pem(&issuing).unwrap().len() <= 9);
    let service = site.serve_with(&[]);
    let token = site.add("last", "role = sensor");
    let granted = service.enrol(&token, &csr("last", 1000)).granted();
    assert_eq!(chain(&granted).len(), 2);
}
