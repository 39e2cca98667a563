//! A gateway that runs on while the epoch changes and its identity is renewed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::gateway::{client, command, subscribed};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, program, run};

const RULES: &str = r##"
[[publish]]
topic = "house/#"
policy = "site = home"

[[subscribe]]
topic = "house/#"
"##;

fn stock() -> Fleet {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    Fleet::with_broker(authority, broker)
}

fn epoch_of(identity: &Path) -> u64 {
    let mut show = program("smqtt");
    let shown = run(show
        .args(["identity", "show", "--json", "-i"])
        .arg(identity))
    .success();
    let shown: serde_json::Value = serde_json::from_str(&shown.text()).expect("JSON");
    shown["epoch"].as_u64().expect("an epoch")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn put(gateway: &Service, text: &str) {
    let mut put = client("mosquitto_pub", gateway, "mqttv5");
    let _ = run(put.args(["-t", "house/log", "-q", "1", "-m", text])).success();
}

#[test]
fn with_mosquitto_clients_a_gateway_follows_the_epoch() {
    for fleet in [Fleet::start(), stock()] {
        let home = fleet.enrol("home", "site = home");
        let anna = fleet.enrol("anna", "site = home");
        let late = fleet.enrol("late", "site = home");
        let gateway = Service::start(&mut command(&fleet, &home, RULES), "mqtt://");
        let local = subscribed(
            &gateway,
            "mqttv5",
            &["-t", "house/#", "-q", "1", "-F", "%p"],
        );
        let reader = subscribe(&anna, "house/log", &[]);
        let lagging = subscribe(&late, "house/log", &["--no-renew", "--json"]);
        let mut writer = Running::start(&mut publish(&anna, "house/anna", "site = home", &["-l"]));
        put(&gateway, "before");
        reader.wait_for_stdout("before");
        lagging.wait_for_stdout("before");
        writer.write(b"from anna, before\n");
        local.wait_for_stdout("from anna, before");

        let mut advance = fleet
            .authority
            .command(&["epoch", "advance", "--overlap", "0s"]);
        let _ = run(&mut advance).success();
        until("the gateway's renewal", || epoch_of(&home) == 2);
        put(&gateway, "after");
        reader.wait_for_stdout("after");
        // It seals for the new epoch, and not because its program began anew.
        lagging.wait_for_stdout(r#""type":"epoch-ahead""#);
        writer.write(b"from anna, after\n");
        local.wait_for_stdout("from anna, after");
        // One that comes now has what the gateway has.
        let later = subscribed(&gateway, "mqttv311", &["-t", "house/#", "-F", "%p"]);
        writer.write(b"from anna, later\n");
        later.wait_for_stdout("from anna, later");
        let told = gateway.stop().success().stderr;
        assert!(told.contains("2 messages sealed"), "{told}");
        let _ = writer.interrupt();
    }
}

#[test]
fn with_mosquitto_clients_a_gateway_takes_over_what_somebody_else_has_renewed() {
    for fleet in [Fleet::start(), stock()] {
        let home = fleet.enrol("home", "site = home");
        let anna = fleet.enrol("anna", "site = home");
        let mut command = command(&fleet, &home, RULES);
        let gateway = Service::start(command.arg("--no-renew"), "mqtt://");
        let local = subscribed(
            &gateway,
            "mqttv5",
            &["-t", "house/#", "-q", "1", "-F", "%p"],
        );
        let mut advance = fleet
            .authority
            .command(&["epoch", "advance", "--overlap", "0s"]);
        let _ = run(&mut advance).success();
        let _ = run(program("smqtt").args(["renew", "-i"]).arg(&anna)).success();
        let _ = run(&mut publish(
            &anna,
            "house/anna",
            "site = home",
            &["-m", "sealed for 2"],
        ))
        .success();
        gateway
            .running()
            .wait_for_stderr("messages wait for a key of a later epoch");
        assert_eq!(epoch_of(&home), 1);
        let _ = run(program("smqtt").args(["renew", "-i"]).arg(&home)).success();
        local.wait_for_stdout("sealed for 2");
        // With the new certificate, too.
        put(&gateway, "from the gateway");
        local.wait_for_stdout("from the gateway");
        let _ = gateway.stop().success();
    }
}

/// What the witness has read of `text`: the id of the key under which it was sealed.
fn kid_of(witness: &Running, text: &str) -> String {
    let read = witness.wait_for_stdout(&format!("\"{text}\""));
    let read: Value = serde_json::from_str(&read).expect("JSON");
    read["kid"].as_str().expect("a key id").to_owned()
}

#[test]
fn with_mosquitto_clients_a_gateway_that_gains_attributes_asks_again_for_the_key_frames_it_refused()
{
    for fleet in [Fleet::start(), stock()] {
        let home = fleet.enrol("home", "site = elsewhere");
        let anna = fleet.enrol("anna", "site = home");
        let mut command = command(&fleet, &home, RULES);
        let gateway = Service::start(command.arg("--no-renew"), "mqtt://");
        let local = ["-t", "house/#", "-q", "1", "-F", "%p"];
        let locals = ["mqttv311", "mqttv5"].map(|version| subscribed(&gateway, version, &local));
        let witness = subscribe(&anna, "house/anna", &["--json"]);
        let mut writer = Running::start(&mut publish(&anna, "house/anna", "site = home", &["-l"]));
        writer.write(b"before\n");
        let kid = kid_of(&witness, "before");
        gateway.running().wait_for_stderr("not authorised");

        let attributes = ["device", "set", "home", "--attributes", "site = home"];
        let _ = run(&mut fleet.authority.command(&attributes)).success();
        let _ = run(program("smqtt").args(["renew", "-i"]).arg(&home)).success();
        // The frame was published once, long ago. It is looked for with every line: the gateway finds out by itself that it was
        // renewed.
        until("the local clients' reading", || {
            writer.write(b"after\n");
            let read = |local: &Running| local.stdout_so_far().lines().any(|line| line == "after");
            locals.iter().all(read)
        });
        assert_eq!(kid_of(&witness, "after"), kid);
        let _ = writer.interrupt();
        for local in locals {
            assert!(!local.interrupt().text().contains("before"));
        }
        let _ = gateway.stop().success();
    }
}
