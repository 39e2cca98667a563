//! Epochs and revocation with the real programs: readers renew while messages flow, and who was revoked is out at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::guarded::guarded_broker;
use smqtt_tests::programs::{Running, program, run};

fn fleet() -> Fleet {
    let authority = Authority::init();
    let broker = guarded_broker(&authority, false);
    Fleet::with_broker(authority, broker)
}

fn json(command: &mut Command) -> Value {
    let text = run(command).success().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn epoch_of(identity: &Path) -> u64 {
    let mut command = program("smqtt");
    command
        .args(["identity", "show", "--json", "-i"])
        .arg(identity);
    json(&mut command)["epoch"].as_u64().expect("an epoch")
}

fn status(authority: &Authority) -> Value {
    json(&mut authority.command(&["epoch", "status", "--json"]))
}

/// Waits until the register says so.
fn until(authority: &Authority, what: &str, holds: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = status(authority);
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{what} did not happen: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Publishes numbered lines until `enough`; returns how many were published.
fn lines(publisher: &mut Running, reader: &Running, from: u32, count: u32) {
    for number in from..from + count {
        publisher.write(format!("message {number}.\n").as_bytes());
        reader.wait_for_stdout(&format!("message {number}."));
    }
}

#[test]
fn a_rotation_cuts_no_reader_off() {
    let fleet = fleet();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    // A reader that does not renew, to see what is sealed for which epoch.
    let late = fleet.enrol("late", "role = operator");
    let reader = subscribe(&anna, "plant/#", &[]);
    let lagging = subscribe(&late, "plant/#", &["--no-renew", "--json"]);
    let mut publisher =
        Running::start(&mut publish(&sensor, "plant/1", "role = operator", &["-l"]));
    lines(&mut publisher, &reader, 0, 20);

    let mut advance = fleet
        .authority
        .command(&["epoch", "advance", "--overlap", "6s"]);
    let advanced = run(&mut advance).success();
    assert_eq!(advanced.text().trim(), "2");
    assert!(
        advanced.stderr.contains("has the authority's state"),
        "{}",
        advanced.stderr
    );
    // Inside the window publishers seal for the old epoch, and who has not renewed reads on.
    lines(&mut publisher, &reader, 20, 5);
    lagging.wait_for_stdout("message 24.");
    // The reader and the publisher renew by themselves within the window.
    until(&fleet.authority, "their renewal", |status| {
        status["renewed"] == 2
    });
    assert_eq!(epoch_of(&anna), 2);
    // After it they seal for the new one: nothing is lost for who has renewed.
    until(&fleet.authority, "the end of the window", |status| {
        status["sealing"] == 2
    });
    lines(&mut publisher, &reader, 25, 20);
    lagging.wait_for_stdout("epoch-ahead");

    // A publisher whose identity knows of the epoch only by a renewal seals for it, too; and the late one catches up.
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&sensor)).success();
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&late)).success();
    assert_eq!((epoch_of(&sensor), epoch_of(&late)), (2, 2));
    assert_eq!(status(&fleet.authority)["renewed"], 3);
    let caught_up = subscribe(&late, "plant/#", &["--no-renew"]);
    let _ = run(&mut publish(
        &sensor,
        "plant/2",
        "role = operator",
        &["-m", "once more"],
    ))
    .success();
    caught_up.wait_for_stdout("once more");
    // The one that does not ask itself takes over what was brought to its directory.
    lagging.wait_for_stdout("once more");
    let read = reader.interrupt().success();
    assert!(read.stderr.contains("46 read"), "{}", read.stderr);
    assert!(!read.stderr.contains("missing"), "{}", read.stderr);
}

#[test]
fn one_act_of_revocation_is_felt_everywhere() {
    let fleet = fleet();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    let mallory = fleet.enrol("mallory", "role = operator");
    let reader = subscribe(&anna, "plant/#", &[]);
    let session = subscribe(&mallory, "plant/#", &[]);
    let mut publisher =
        Running::start(&mut publish(&sensor, "plant/1", "role = operator", &["-l"]));
    lines(&mut publisher, &reader, 0, 3);
    session.wait_for_stdout("message 2.");

    let before = Instant::now();
    let mut revoke = fleet.authority.command(&[
        "device",
        "revoke",
        "mallory",
        "--reason",
        "key-compromise",
        "--json",
    ]);
    let revoked = json(&mut revoke);
    assert_eq!(revoked["epoch"], 2);
    assert_eq!(revoked["serials"].as_array().map(Vec::len), Some(1));
    assert_eq!(revoked["brokers"][0]["error"], Value::Null, "{revoked}");
    // Its live session ends, because the broker watches the file that the act has written.
    session.wait_for_stderr("the broker ended it");
    eprintln!(
        "the session ended {:?} after the act began",
        before.elapsed()
    );
    // It is not let in again, and can not renew.
    let refused = run(program("smqtt")
        .args(["sub", "-t", "plant/#", "-W", "20", "-i"])
        .arg(&mallory));
    assert_ne!(refused.code(), 0, "{}", refused.stderr);
    let refused = run(program("smqtt").args(["renew", "-i"]).arg(&mallory));
    assert_eq!(refused.code(), 7, "{}", refused.stderr);

    // What is sealed from now on its attribute key does not open, even on another's connection.
    let spy = fleet.authority.root().join("spy");
    copy(&anna, &spy);
    std::fs::copy(mallory.join("attribute.key"), spy.join("attribute.key")).expect("copied");
    let mut spying = program("smqtt");
    spying
        .args([
            "sub",
            "-t",
            "plant/#",
            "--no-renew",
            "--json",
            "-W",
            "60",
            "-i",
        ])
        .arg(&spy)
        .args(["--client-id", "anna-spy"]);
    let spying = Running::start(&mut spying);
    spying.wait_for_stderr("subscribed to");
    lines(&mut publisher, &reader, 3, 5);
    spying.wait_for_stdout("epoch-ahead");
    let spied = spying.interrupt();
    assert!(!spied.text().contains("message 7"), "{}", spied.text());
    assert_eq!(epoch_of(&anna), 2);

    // One audit record, and the chain holds.
    let audit = run(&mut fleet.authority.command(&["audit", "list", "--json"])).success();
    let records: Vec<Value> = audit
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .filter(|record: &Value| record["action"] == "device-revoke")
        .collect();
    assert_eq!(records.len(), 1);
    let detail = records[0]["detail"].as_str().expect("a text");
    for part in ["key-compromise", "serials", "crl", "epoch 2", "state"] {
        assert!(detail.contains(part), "{detail}");
    }
    let _ = run(&mut fleet.authority.command(&["audit", "verify"])).success();
}

#[test]
fn a_suspended_device_is_out_until_it_is_reinstated() {
    let fleet = fleet();
    let anna = fleet.enrol("anna", "role = operator");
    let session = subscribe(&anna, "plant/#", &[]);
    let _ = run(&mut fleet.authority.command(&["device", "suspend", "anna"])).success();
    session.wait_for_stderr("the broker ended it");
    let renewal = run(program("smqtt").args(["renew", "-i"]).arg(&anna));
    assert_eq!(renewal.code(), 7, "{}", renewal.stderr);
    assert!(renewal.stderr.contains("suspended"), "{}", renewal.stderr);
    let shown = json(
        &mut fleet
            .authority
            .command(&["device", "show", "anna", "--json"]),
    );
    assert_eq!(shown["state"], "suspended");

    let _ = run(&mut fleet.authority.command(&["device", "reinstate", "anna"])).success();
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&anna)).success();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let subscribed = run(program("smqtt")
            .args(["sub", "-t", "plant/#", "-W", "0.5", "-i"])
            .arg(&anna));
        if subscribed.code() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", subscribed.stderr);
    }
    // Nothing was rotated for that.
    assert_eq!(status(&fleet.authority)["epoch"], 1);
}

#[test]
fn the_schedule_rotates_and_a_broker_that_was_away_learns_of_it() {
    let authority = Authority::init();
    let broker = guarded_broker(&authority, false);
    let url = broker.url().to_owned();
    let _ = run(&mut authority.command(&["epoch", "schedule", "--every", "2s", "--overlap", "1s"]))
        .success();
    drop(broker);
    let service = authority.serve(&url);
    until(&authority, "a rotation by the schedule", |status| {
        status["epoch"].as_u64() >= Some(2)
    });
    let _ = run(&mut authority.command(&["epoch", "schedule", "--never"])).success();
    let config = authority.root().join("broker.toml");
    let text = std::fs::read_to_string(&config).expect("it was written");
    std::fs::write(&config, text.replace("mqtts://127.0.0.1:0", &url)).expect("a file");
    let mut command = program("smqtt-broker");
    command.arg("--config").arg(&config);
    let _broker = Service::start(&mut command, "mqtts://");
    until(&authority, "the broker's state", |status| {
        status["brokers"][0]["published"] == status["state"]
    });
    let _ = service.stop();
}

fn copy(from: &Path, to: &PathBuf) {
    let _ = run(Command::new("cp").arg("-rp").arg(from).arg(to)).success();
}
