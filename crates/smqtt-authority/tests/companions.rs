//! Acts of devices share transactions: one that the database refuses fails, and those that share with it do not.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::io::Write;
use std::sync::Barrier;

use rustls::ClientConfig;
use serde_json::{Value, json};
use site::administrator::{Presented, request};
use site::{Reply, Service, Site, connect, csr};
use smqtt_pki::enrolment::{EnrolResponse, ProblemCode};
use smqtt_pki::tls::pinned_client_config;

/// What the service says when a transaction that several share comes to nothing.
const BROKEN_OFF: &str = "a shared transaction is broken off";
/// How many devices ask at once.
const DEVICES: usize = 8;
/// Which of them the database refuses, by its name: it begins with `bad`.
const BAD: usize = 3;
/// How often it is tried. Where the refused one happens to come first, it fails before another is with it.
const ROUNDS: usize = 20;

/// A device's request.
struct Ask {
    config: ClientConfig,
    path: &'static str,
    body: Value,
}

/// Sends all of them while nobody can write to the register, so that they wait for one another; their answers.
fn at_once(site: &Site, service: &Service, asks: Vec<Ask>) -> Vec<Reply> {
    let sent = Barrier::new(asks.len() + 1);
    std::thread::scope(|scope| {
        let ask = |ask: Ask| {
            let mut stream = connect(service.address, ask.config, "127.0.0.1");
            let text = request("POST", ask.path, Some(&ask.body));
            stream.write_all(text.as_bytes()).unwrap();
            stream.flush().unwrap();
            sent.wait();
            Reply::read(&mut stream)
        };
        site.while_locked(|| {
            let asking: Vec<_> = asks
                .into_iter()
                .map(|what| scope.spawn(move || ask(what)))
                .collect();
            sent.wait();
            // It goes the way that they have gone.
            assert_eq!(service.get("/healthz").status, 200);
            asking
        })
        .into_iter()
        .map(|asking| asking.join().unwrap())
        .collect()
    })
}

fn enrolment(site: &Site, token: &str, name: &str, seed: u64) -> Ask {
    Ask {
        config: pinned_client_config(site.fingerprint(), &[]).unwrap(),
        path: "/v1/enrol",
        body: json!({ "token": token, "csr": csr(name, seed) }),
    }
}

/// Says what is in use, or asks for a renewal.
fn as_device(held: &EnrolResponse, seed: u64, path: &'static str, body: Value) -> Ask {
    Ask {
        config: Presented::device(held, seed).config(),
        path,
        body,
    }
}

fn renewal(held: &EnrolResponse, seed: u64) -> Ask {
    let body = json!({ "csr": csr(held.device.as_str(), seed) });
    as_device(held, seed, "/v1/renew", body)
}

/// Lets the database refuse all but the first key that devices get in an epoch whose names begin with `bad`; the others' with `good`.
fn refuse(site: &Site) {
    let fault =
        "CREATE UNIQUE INDEX fault ON attribute_key (epoch) WHERE device < 'c' AND epoch > 1";
    site.execute(fault).unwrap();
}

#[test]
fn an_enrolment_that_the_database_refuses_fails_alone() {
    let site = Site::new();
    let service = site.serve_with(&["--requests-per-second", "0"]);
    site.ok(&["epoch", "advance"]);
    let first = site.add("bad", "role = sensor");
    service.enrol(&first, &csr("bad", 0)).granted();
    refuse(&site);
    let mut refused = Vec::new();
    let mut enrolled = vec![("bad".to_owned(), "ok".to_owned())];
    for round in 0..ROUNDS {
        let mut asks = Vec::new();
        for n in 0..DEVICES {
            let kind = if n == BAD { "bad" } else { "good" };
            let name = format!("{kind}-{round}-{n}");
            let token = site.add(&name, "role = sensor");
            asks.push(enrolment(&site, &token, &name, n as u64));
            match n {
                BAD => refused.push((name, token)),
                _ => enrolled.push((name, "ok".to_owned())),
            }
        }
        for (n, reply) in at_once(&site, &service, asks).into_iter().enumerate() {
            match n {
                BAD => drop(reply.refused(ProblemCode::Internal)),
                _ => drop(reply.granted()),
            }
        }
        if service.log().contains(BROKEN_OFF) {
            break;
        }
    }
    assert!(service.log().contains(BROKEN_OFF), "{}", service.log());
    // What was refused has left nothing, what was granted is there once.
    let mut rows = site.enrolments();
    rows.sort();
    enrolled.sort();
    assert_eq!(rows, enrolled);
    let twice = "SELECT device FROM certificate WHERE device IS NOT NULL GROUP BY device HAVING COUNT(*) > 1";
    assert_eq!(site.rows(twice), [""; 0]);
    site.ok(&["audit", "verify"]);
    // The tokens are still good.
    site.execute("DROP INDEX fault").unwrap();
    for (name, token) in refused {
        service.enrol(&token, &csr(&name, BAD as u64)).granted();
    }
    site.ok(&["audit", "verify"]);
}

#[test]
fn a_renewal_that_the_database_refuses_fails_alone() {
    let site = Site::new();
    let service = site.serve_with(&["--requests-per-second", "0"]);
    let enrol = |name: &str, seed| {
        let token = site.add(name, "role = sensor");
        service.enrol(&token, &csr(name, seed)).granted()
    };
    let first = enrol("bad", 100);
    let held: Vec<_> = (0..DEVICES)
        .map(|n| {
            let kind = if n == BAD { "bad" } else { "good" };
            enrol(&format!("{kind}-{n}"), n as u64)
        })
        .collect();
    refuse(&site);
    let alone = |ask: Ask| at_once(&site, &service, vec![ask]).remove(0);
    let mut epoch = 1;
    while !service.log().contains(BROKEN_OFF) {
        site.ok(&["epoch", "advance", "--overlap", "0s"]);
        epoch += 1;
        assert!(epoch <= ROUNDS, "{}", service.log());
        alone(renewal(&first, 100)).granted();
        let seeds = 0..DEVICES as u64;
        let asks = held.iter().zip(seeds).map(|(held, n)| renewal(held, n));
        for (n, reply) in at_once(&site, &service, asks.collect()).iter().enumerate() {
            match n {
                BAD => drop(reply.refused(ProblemCode::Internal)),
                _ => assert_eq!(reply.granted().epoch, epoch as u64),
            }
        }
        let asks = held.iter().zip(0..).filter(|(_, n)| *n != BAD as u64);
        let confirmations = asks
            .map(|(held, n)| as_device(held, n, "/v1/renew/confirm", json!({ "epoch": epoch })));
        for reply in at_once(&site, &service, confirmations.collect()) {
            assert_eq!(reply.status, 204);
        }
    }
    site.ok(&["audit", "verify"]);
    for (n, held) in held.iter().enumerate() {
        let expected = if n == BAD { 1 } else { epoch };
        assert_eq!(site.device(held.device.as_str())["key_epoch"], expected);
    }
    site.execute("DROP INDEX fault").unwrap();
    alone(renewal(&held[BAD], BAD as u64)).granted();
    site.ok(&["audit", "verify"]);
}
