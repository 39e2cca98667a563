//! `kill -9` at random points of enrolment, renewal, revocation and rotation: afterwards register, revocation list, audit chain
//! and issued keys agree.
//!
//! `SMQTT_KILL_ROUNDS` says how many rounds there are (20); `SMQTT_KILL_SEED` repeats a run.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use site::{Reply, Service, Site, csr, key};
use smqtt_pki::enrolment::EnrolResponse;
use smqtt_pki::{CertificateDer, RevocationList, Serial, TrustAnchor, tls};

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What a device got, before the authority was killed.
struct Given {
    seed: u64,
    chain: Vec<CertificateDer<'static>>,
}

#[test]
fn killed_at_any_moment_the_authority_agrees_with_itself() {
    let rounds = number("SMQTT_KILL_ROUNDS", 20);
    let seed = number("SMQTT_KILL_SEED", rand::random());
    println!("SMQTT_KILL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let site = Arc::new(Site::new());
    let crl = site.dir.path().join("ca.crl");
    site.ok(&["crl", "--out", crl.to_str().unwrap()]);
    let root = std::fs::read(site.path().join("ca.crt")).unwrap();
    let anchor = TrustAnchor::from_pem(&root).unwrap();
    let given: Arc<Mutex<Vec<Given>>> = Arc::default();
    let mut number = 0u64;
    for round in 0..rounds {
        let service = Arc::new(site.serve_with(&[]));
        let stop = Arc::new(AtomicBool::new(false));
        // Tokens exist before anything is killed.
        let batch: Vec<(String, String, u64)> = (0..4)
            .map(|_| {
                number += 1;
                let name = format!("d-{number}");
                let token = site.add(&name, "role = sensor");
                (name, token, number)
            })
            .collect();
        let devices = {
            let (service, given, stop) = (service.clone(), given.clone(), stop.clone());
            let anchor = anchor.clone();
            std::thread::spawn(move || {
                for (name, token, seed) in batch {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(reply) = service.try_enrol(&token, &csr(&name, seed))
                        && reply.status == 200
                    {
                        keep(&given, seed, &reply.granted());
                    }
                    let last = given
                        .lock()
                        .unwrap()
                        .last()
                        .map(|g| (g.seed, g.chain.clone()));
                    if let Some((seed, chain)) = last
                        && let Some(reply) = renew(&service, &anchor, seed, chain)
                        && reply.status == 200
                    {
                        keep(&given, seed, &reply.granted());
                    }
                }
            })
        };
        // An operator's act at the same time; killed, too.
        let victim = format!("d-{}", rng.random_range(1..=number));
        let act: Vec<&str> = match rng.random_range(0..4) {
            0 => vec!["epoch", "advance", "--overlap", "0s"],
            1 => vec!["device", "suspend", &victim],
            2 => vec!["device", "remove", &victim],
            _ => vec!["device", "revoke", &victim],
        };
        let mut operator = site
            .command(&act)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(0..400)));
        if rng.random_bool(0.7) {
            let _ = operator.kill();
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..150)));
        service.signal("KILL");
        stop.store(true, Ordering::Relaxed);
        let _ = operator.wait();
        devices.join().unwrap();
        drop(service);
        agrees(&site, &anchor, &given.lock().unwrap(), round);
    }
    println!(
        "{} certificates were given out",
        given.lock().unwrap().len()
    );
}

fn keep(given: &Mutex<Vec<Given>>, seed: u64, response: &EnrolResponse) {
    let (chain, _) = response.certificates().unwrap();
    given.lock().unwrap().push(Given { seed, chain });
}

/// A renewal at a service that may vanish meanwhile.
fn renew(
    service: &Service,
    anchor: &TrustAnchor,
    seed: u64,
    chain: Vec<CertificateDer<'static>>,
) -> Option<Reply> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(anchor.root().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key(seed).to_der().unwrap())
        .unwrap();
    let body = json!({ "csr": csr(&format!("d-{seed}"), seed) }).to_string();
    service.try_post(config, "/v1/renew", &body).ok()
}

/// Everything that the authority keeps, against each other and against what was given out.
fn agrees(site: &Site, anchor: &TrustAnchor, given: &[Given], round: u64) {
    // A command that runs to its end completes what was left undone.
    let crl = site.dir.path().join("ca.crl");
    site.ok(&["audit", "verify"]);
    let service = site.serve_with(&[]);
    let rows = |sql: &'static str| site.rows(sql);
    assert_eq!(rows("PRAGMA integrity_check"), ["ok"], "round {round}");
    assert!(rows("PRAGMA foreign_key_check").is_empty(), "round {round}");

    // The list in the file is the newest, and names what the register has taken back.
    let wanted: BTreeSet<String> = rows("SELECT serial FROM revocation").into_iter().collect();
    let newest = rows("SELECT MAX(number) FROM revocation_list");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read(&crl).unwrap();
        let list = RevocationList::read(&text, anchor).unwrap();
        let named: BTreeSet<String> = list.serials().map(|serial| serial.to_string()).collect();
        if named == wanted && list.number().to_string() == newest[0] {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "round {round}: the list has {named:?}, the register {wanted:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(service);

    // What a device has, the register knows.
    let known: BTreeSet<String> = rows("SELECT serial FROM certificate").into_iter().collect();
    for device in given {
        let verified = anchor
            .verify_device(&device.chain, smqtt_pki::UnixTime::now())
            .unwrap();
        let serial: Serial = verified.serial();
        assert!(known.contains(&serial.to_string()), "round {round}");
    }
    // A token is used if and only if there is a certificate for it, with a key.
    let unequal = "SELECT device FROM token WHERE (used IS NOT NULL) <>
         EXISTS (SELECT 1 FROM certificate WHERE certificate.token = token.digest)";
    assert!(rows(unequal).is_empty(), "round {round}");
    let without_key = "SELECT serial FROM certificate WHERE device IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM attribute_key WHERE attribute_key.serial = certificate.serial)";
    assert!(rows(without_key).is_empty(), "round {round}");
    // No key is of an epoch that has not begun; epochs, states and lists have no gap; each act has its record.
    for (what, empty) in [
        ("keys", "SELECT 1 FROM attribute_key WHERE epoch > (SELECT epoch FROM state)"),
        ("epochs", "SELECT 1 FROM state WHERE epoch <> (SELECT MAX(epoch) FROM epoch)"),
        (
            "states",
            "SELECT 1 FROM (SELECT COUNT(*) AS n, COALESCE(MAX(sequence), 0) AS m FROM authority_state) WHERE n <> m",
        ),
        (
            "lists",
            "SELECT 1 FROM (SELECT COUNT(*) AS n, COALESCE(MAX(number), 0) AS m FROM revocation_list) WHERE n <> m",
        ),
        (
            "records of epochs",
            "SELECT epoch FROM epoch WHERE cause <> 'init' AND NOT EXISTS
             (SELECT 1 FROM audit WHERE (action = 'epoch-advance' AND subject = epoch)
              OR detail LIKE '% epoch ' || epoch || ' seal-from %')",
        ),
        (
            "records of suspensions",
            "SELECT name FROM device WHERE suspended IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM audit WHERE action = 'device-suspend' AND subject = name)",
        ),
        (
            "records of certificates",
            "SELECT serial FROM certificate WHERE device IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM audit WHERE action IN ('enrol', 'renew') AND detail LIKE '%' || serial || '%')",
        ),
    ] {
        assert!(rows(empty).is_empty(), "round {round}: {what} disagree");
    }
}
