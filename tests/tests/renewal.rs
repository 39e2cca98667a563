//! Programs that run for longer than a certificate lives: they renew, and go on with the new one.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::programs::{Running, program, run};

/// A broker that ends a connection when its client's certificate does.
fn strict_broker(authority: &Authority) -> Service {
    let tls = authority.issue_server("broker");
    let root = authority.root();
    let config = format!(
        "data_dir = {:?}\n[[listener]]\nname = \"devices\"\nurl = \"mqtts://127.0.0.1:0\"\n\
         [tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\nend_at_expiry = true\n",
        root.join("broker-data"),
        tls.join("server.crt"),
        tls.join("server.key"),
        tls.join("ca.crt"),
    );
    std::fs::write(root.join("broker.toml"), config).expect("a file can be written");
    let mut command = program("smqtt-broker");
    command.arg("--config").arg(root.join("broker.toml"));
    Service::start(&mut command, "mqtts://")
}

/// When the certificate on the disk ends.
fn expiry(identity: &Path) -> String {
    let mut command = program("smqtt");
    command
        .args(["identity", "show", "--json", "-i"])
        .arg(identity);
    let text = run(&mut command).success().text();
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    let expires = shown["certificate_expires"].as_str();
    expires.expect("when it ends").to_owned()
}

/// How long certificates shall live: of its last third a renewal takes an eighth on a machine that is as busy as this one is now.
fn lifetime(authority: &Authority) -> Duration {
    let service = authority.serve("mqtts://127.0.0.1:1");
    let token = authority.register("gauge", "role = sensor");
    let gauge = authority.root().join("gauge");
    let mut enrol = program("smqtt");
    enrol
        .args(["enroll", "--authority", service.url(), "--token", &token])
        .args(["--ca-fingerprint", authority.fingerprint(), "--out"])
        .arg(&gauge);
    let _ = run(&mut enrol).success();
    let begun = Instant::now();
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&gauge)).success();
    let lifetime = Duration::from_secs((24.0 * begun.elapsed().as_secs_f64()).ceil() as u64);
    lifetime.max(Duration::from_secs(18))
}

#[test]
fn who_runs_longer_than_a_certificate_lives_goes_on_with_the_next_one() {
    let authority = Authority::init();
    let broker = strict_broker(&authority);
    let lifetime = lifetime(&authority);
    let mut serve = authority.command(&["serve", "--listen", "127.0.0.1:0"]);
    serve
        .args(["--broker", broker.url()])
        .args(["--device-lifetime", &format!("{}s", lifetime.as_secs())]);
    let service = Service::start(&mut serve, "https://");
    let fleet = Fleet {
        authority,
        service,
        broker,
    };
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    let first = [expiry(&sensor), expiry(&anna)];

    let reader = subscribe(&anna, "plant/#", &[]);
    let mut publisher =
        Running::start(&mut publish(&sensor, "plant/1", "role = operator", &["-l"]));
    // Both are renewed twice: what they had at first has ended long before.
    let deadline = Instant::now() + 6 * lifetime;
    let mut sent = 0;
    let mut seen = [vec![first[0].clone()], vec![first[1].clone()]];
    while seen.iter().any(|expiries| expiries.len() < 3) {
        assert!(Instant::now() < deadline, "no renewal: {seen:?}");
        publisher.write(format!("message {sent}.\n").as_bytes());
        reader.wait_for_stdout(&format!("message {sent}."));
        sent += 1;
        for (identity, seen) in [&sensor, &anna].into_iter().zip(&mut seen) {
            let now = expiry(identity);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
    }
    let _ = publisher.interrupt().success();
    let read = reader.interrupt().success();
    let expected: String = (0..sent).map(|n| format!("message {n}.\n")).collect();
    assert_eq!(read.text(), expected, "each once, in order");
    assert!(!read.stderr.contains("missing"), "{}", read.stderr);
    assert!(!read.stderr.contains("lost"), "{}", read.stderr);
    assert!(!read.stderr.contains("renewed"), "{}", read.stderr);
}
