//! `kill -9` of `smqtt renew`, and of the authority that it asks, at random moments: afterwards the device has an identity that
//! works, of the epoch before or of the new one, the register knows it, and the next renewal succeeds.
//!
//! `SMQTT_KILL_ROUNDS` says how many rounds there are (20); `SMQTT_KILL_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use smqtt_tests::fleet::{Authority, Service};
use smqtt_tests::programs::{program, run};

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn json(command: &mut Command) -> Value {
    let text = run(command).success().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What the device says that it has.
fn identity(directory: &Path) -> Value {
    json(
        program("smqtt")
            .args(["identity", "show", "--json", "-i"])
            .arg(directory),
    )
}

fn renewal(directory: &Path) -> Command {
    let mut command = program("smqtt");
    command.args(["renew", "-i"]).arg(directory);
    command
}

#[test]
fn a_renewal_that_is_killed_leaves_an_identity_that_works() {
    let rounds = number("SMQTT_KILL_ROUNDS", 20);
    let seed = number("SMQTT_KILL_SEED", rand::random());
    println!("SMQTT_KILL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let authority = Authority::init();
    let mut service = authority.serve("mqtts://127.0.0.1:1");
    let listen = format!("127.0.0.1:{}", service.port());
    let token = authority.register("sensor", "role = sensor, site = berlin");
    let device = authority.root().join("sensor");
    let mut enrol = program("smqtt");
    enrol
        .args(["enroll", "--authority", service.url(), "--token", &token])
        .args(["--ca-fingerprint", authority.fingerprint(), "--out"])
        .arg(&device);
    let _ = run(&mut enrol).success();

    // How long a renewal takes here: the kills fall into all of it, and a little behind.
    let begun = Instant::now();
    let _ = run(&mut renewal(&device)).success();
    let whole = begun.elapsed();

    let mut epoch = 1;
    let mut left = BTreeMap::<&str, u64>::new();
    for round in 0..rounds {
        let mut advance = authority.command(&["epoch", "advance", "--overlap", "0s"]);
        epoch = run(&mut advance)
            .success()
            .text()
            .trim()
            .parse()
            .unwrap_or(epoch);
        if rng.random_bool(0.5) {
            // Renews its certificate too: the certificate before does not show what this one does.
            let site = format!("role = sensor, site = s{round}");
            let mut set = authority.command(&["device", "set", "sensor", "--attributes", &site]);
            let _ = run(&mut set).success();
        }
        let before = identity(&device);
        let mut renewing = renewal(&device)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("smqtt starts");
        std::thread::sleep(whole.mul_f64(rng.random_range(0.0..1.3)));
        let at_authority = rng.random_bool(0.3);
        if at_authority {
            service.running().signal("KILL");
        } else {
            let _ = renewing.kill();
        }
        let _ = renewing.wait();
        if at_authority {
            drop(service);
            let mut again = authority.command(&["serve", "--listen", &listen]);
            service = Service::start(&mut again, "https://");
        }

        // Old or new, never nothing.
        let after = identity(&device);
        let held = after["epoch"].as_u64().expect("an epoch");
        assert!(
            held == epoch || held == before["epoch"],
            "round {round}: {after} after {before}"
        );
        *left
            .entry(if held == epoch { "new" } else { "old" })
            .or_default() += 1;
        let shown = json(&mut authority.command(&["device", "show", "sensor", "--json"]));
        assert!(
            shown["key_epoch"].as_u64() >= Some(held),
            "round {round}: the device uses epoch {held}, the register knows {shown}"
        );
        // That it renews with it says that the authority knows the certificate.
        let _ = run(&mut renewal(&device)).success();
        let renewed = identity(&device);
        assert_eq!(renewed["epoch"].as_u64(), Some(epoch), "round {round}");
        let shown = json(&mut authority.command(&["device", "show", "sensor", "--json"]));
        assert_eq!(shown["key_epoch"].as_u64(), Some(epoch), "round {round}");
        assert_eq!(
            shown["fingerprint"], renewed["certificate_fingerprint"],
            "round {round}"
        );
    }
    let _ = run(&mut authority.command(&["audit", "verify"])).success();
    println!("{rounds} rounds: {left:?} after the kill");
    drop(service);
}
