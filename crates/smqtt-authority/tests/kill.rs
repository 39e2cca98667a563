//! `kill -9` at random points of enrolment, renewal, revocation and rotation: afterwards register, revocation list, audit chain
//! and issued keys agree.
//!
//! `SMQTT_KILL_ROUNDS` says how many rounds there are (20); `SMQTT_KILL_SEED` repeats a run.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use site::{Service, Site, csr, key};
use smqtt_pki::enrolment::EnrolResponse;
use smqtt_pki::{CertificateDer, Revocations, TrustAnchor, tls};

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
    serial: String,
    /// Of its attribute key.
    epoch: u64,
    /// Whether the authority has said that it knows of the key's use.
    confirmed: bool,
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
    let (mut acts, mut taken) = (BTreeMap::<String, u32>::new(), Vec::new());
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
            let (anchor, mut rng) = (anchor.clone(), StdRng::seed_from_u64(rng.random()));
            std::thread::spawn(move || {
                for (name, token, seed) in batch {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(reply) = service.try_enrol(&token, &csr(&name, seed))
                        && reply.status == 200
                    {
                        keep(&given, &anchor, seed, &reply.granted(), true);
                    }
                    // Any device that has something renews, in two phases.
                    let holds = {
                        let given = given.lock().unwrap();
                        match given.len() {
                            0 => continue,
                            n => {
                                let held = &given[rng.random_range(0..n)];
                                (held.seed, held.chain.clone())
                            }
                        }
                    };
                    renew(&service, &given, &anchor, holds);
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
        let told = operator.wait().unwrap().success();
        devices.join().unwrap();
        drop(service);
        *acts
            .entry(format!(
                "{}{}",
                act[..2].join(" "),
                if told { "" } else { ", cut off" }
            ))
            .or_default() += 1;
        if told && act[0] == "device" {
            taken.push((victim.clone(), act[1].to_owned()));
        }
        agrees(&site, &anchor, &given.lock().unwrap(), &taken, round);
    }
    let given = given.lock().unwrap();
    println!(
        "{rounds} rounds: {} keys were given out, {} uses confirmed; {acts:?}",
        given.len(),
        given.iter().filter(|given| given.confirmed).count()
    );
}

/// Notes what a device was given; returns its place and its chain.
fn keep(
    given: &Mutex<Vec<Given>>,
    anchor: &TrustAnchor,
    seed: u64,
    response: &EnrolResponse,
    confirmed: bool,
) -> (usize, Vec<CertificateDer<'static>>) {
    let (chain, _) = response.certificates().unwrap();
    let verified = anchor
        .verify_device(&chain, smqtt_pki::UnixTime::now())
        .unwrap();
    let mut given = given.lock().unwrap();
    given.push(Given {
        seed,
        chain: chain.clone(),
        serial: verified.serial().to_string(),
        epoch: response.epoch,
        confirmed,
    });
    (given.len() - 1, chain)
}

/// A renewal at a service that may vanish meanwhile: begun with what the device holds, confirmed with what it gets.
fn renew(
    service: &Service,
    given: &Mutex<Vec<Given>>,
    anchor: &TrustAnchor,
    (seed, chain): (u64, Vec<CertificateDer<'static>>),
) {
    let post = |chain, path: &str, body: &serde_json::Value| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(anchor.root().clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key(seed).to_der().unwrap())
            .unwrap();
        service.try_post(config, path, &body.to_string()).ok()
    };
    let body = json!({ "csr": csr(&format!("d-{seed}"), seed) });
    let Some(reply) = post(chain, "/v1/renew", &body).filter(|reply| reply.status == 200) else {
        return;
    };
    let (place, chain) = keep(given, anchor, seed, &reply.granted(), false);
    let epoch = given.lock().unwrap()[place].epoch;
    let confirmed = post(chain, "/v1/renew/confirm", &json!({ "epoch": epoch }));
    if confirmed.is_some_and(|reply| reply.status == 204) {
        given.lock().unwrap()[place].confirmed = true;
    }
}

/// Everything that the authority keeps, against each other and against what was given out.
fn agrees(
    site: &Site,
    anchor: &TrustAnchor,
    given: &[Given],
    taken: &[(String, String)],
    round: u64,
) {
    // A command that runs to its end completes what was left undone.
    let crl = site.dir.path().join("ca.crl");
    site.ok(&["audit", "verify"]);
    let service = site.serve_with(&[]);
    let rows = |sql: &'static str| site.rows(sql);
    if !Site::ON_POSTGRES {
        assert_eq!(rows("PRAGMA integrity_check"), ["ok"], "round {round}");
        assert!(rows("PRAGMA foreign_key_check").is_empty(), "round {round}");
    }

    // The list in the file is the newest, and names what the register has taken back.
    let wanted: BTreeSet<String> = rows("SELECT serial FROM revocation").into_iter().collect();
    let newest = rows("SELECT MAX(number) FROM revocation_list");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read(&crl).unwrap();
        let lists = Revocations::read(&text, anchor).unwrap();
        let list = lists.lists().last().unwrap();
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

    // What a device has, the register knows; and what it has confirmed.
    let keys: BTreeSet<String> = rows(
        "SELECT serial || ' ' || epoch || CASE WHEN confirmed IS NULL THEN '' ELSE ' confirmed' END FROM attribute_key",
    )
    .into_iter()
    .collect();
    for Given {
        serial,
        epoch,
        confirmed,
        ..
    } in given
    {
        let (issued, used) = (
            format!("{serial} {epoch}"),
            format!("{serial} {epoch} confirmed"),
        );
        assert!(
            keys.contains(&used) || !confirmed && keys.contains(&issued),
            "round {round}: {used}"
        );
    }
    // An act that was told to be done is done. (A removed device is suspended no more.)
    let gone: BTreeSet<String> = rows("SELECT name FROM device WHERE removed IS NOT NULL")
        .into_iter()
        .collect();
    let unrevoked: BTreeSet<String> =
        rows("SELECT device FROM certificate WHERE device IS NOT NULL AND serial NOT IN (SELECT serial FROM revocation)")
            .into_iter()
            .collect();
    for (name, act) in taken {
        assert!(
            act != "remove" || gone.contains(name),
            "round {round}: {act} {name}"
        );
        assert!(!unrevoked.contains(name), "round {round}: {act} {name}");
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
        ("keys", "SELECT serial FROM attribute_key WHERE epoch > (SELECT epoch FROM state)"),
        ("epochs", "SELECT epoch FROM state WHERE epoch <> (SELECT MAX(epoch) FROM epoch)"),
        (
            "states",
            "SELECT n FROM (SELECT COUNT(*) AS n, COALESCE(MAX(sequence), 0) AS m FROM authority_state) AS counted WHERE n <> m",
        ),
        (
            "lists",
            "SELECT n FROM (SELECT COUNT(*) AS n, COALESCE(MAX(number), 0) AS m FROM revocation_list) AS counted WHERE n <> m",
        ),
        (
            "records of epochs",
            "SELECT epoch FROM epoch WHERE cause <> 'init' AND NOT EXISTS
             (SELECT 1 FROM audit WHERE (action = 'epoch-advance' AND subject = CAST(epoch AS TEXT))
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
