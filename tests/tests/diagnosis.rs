//! `smqtt explain`, `smqtt inspect` and `smqtt doctor`: what is wrong is named, with what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Finished, PATIENCE, program, run};

/// The payloads of `count` messages at `topic` as a broker relays them, published by `sensor` with `more` options.
fn captured(fleet: &Fleet, sensor: &Path, reader: &Path, topic: &str, more: &[&str]) -> PathBuf {
    let raw = subscribe(reader, topic, &["--raw", "-C", "1"]);
    let _ = run(&mut publish(sensor, topic, POLICY, more)).success();
    let file = fleet
        .authority
        .root()
        .join(format!("captured-{}", more.len()));
    fs::write(&file, raw.wait().success().stdout).expect("written");
    file
}

const POLICY: &str = "(role = technician and clearance >= 3) or role = auditor";

fn explain(identity: &Path, arguments: &[&str]) -> serde_json::Value {
    let mut command = program("smqtt");
    command
        .arg("explain")
        .arg("-i")
        .arg(identity)
        .args(arguments);
    let explained = run(command.arg("--json")).success();
    serde_json::from_str(&explained.text()).expect("one JSON object")
}

#[test]
fn explain_names_what_is_missing_and_reads_what_may_be_read() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let auditor = fleet.enrol("auditor", "role = auditor");
    let novice = fleet.enrol("novice", "role = technician, clearance = 2");
    let inline = captured(&fleet, &sensor, &auditor, "plant/7", &["-m", "21.5"]);
    let inline = inline.to_str().expect("UTF-8");

    let may = explain(&auditor, &[inline]);
    assert_eq!(may["readable"], true);
    assert_eq!(may["publisher"], "sensor");
    assert_eq!(may["topic"], "plant/7");

    let may_not = explain(&novice, &[inline]);
    assert_eq!(may_not["readable"], false);
    assert_eq!(may_not["reason"], "not-authorised");
    assert_eq!(
        may_not["missing"],
        serde_json::json!([["role = auditor"], ["clearance >= 3"]])
    );
    assert_eq!(
        may_not["publisher"], "sensor",
        "the signature was verified first"
    );
    let next = may_not["next"].as_str().expect("text");
    assert!(next.contains("role = auditor, or clearance >= 3"), "{next}");

    let moved = explain(&auditor, &[inline, "--topic", "plant/8"]);
    assert_eq!(moved["reason"], "wrong-topic");

    let mut bytes = fs::read(inline).expect("captured");
    *bytes.last_mut().expect("not empty") ^= 1;
    let altered = fleet.authority.root().join("altered");
    fs::write(&altered, bytes).expect("written");
    let altered = explain(&auditor, &[altered.to_str().expect("UTF-8")]);
    assert_eq!(altered["reason"], "altered");

    let plain = fleet.authority.root().join("plain");
    fs::write(&plain, "21.5").expect("written");
    let plain = explain(&auditor, &[plain.to_str().expect("UTF-8"), "-t", "plant/7"]);
    assert_eq!(plain["reason"], "plaintext");

    // No network: it is the same with everything gone.
    let Fleet {
        authority,
        service,
        broker,
    } = fleet;
    let _ = (service.stop(), broker.stop());
    assert_eq!(explain(&auditor, &[inline])["readable"], true);
    drop(authority);
}

#[test]
fn explain_says_where_an_announced_key_frame_is_and_takes_it() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let auditor = fleet.enrol("auditor", "role = auditor");
    let announced = ["-m", "1", "--frames", "announced"];
    let message = captured(&fleet, &sensor, &auditor, "plant/7", &announced);
    let message = message.to_str().expect("UTF-8");
    let without = explain(&auditor, &[message, "-t", "plant/7"]);
    assert_eq!(without["reason"], "unknown-key");
    let kid = without["kid"].as_str().expect("a key id");
    let next = without["next"].as_str().expect("text");
    assert!(
        next.contains(&format!("smqtt/keys/plant/7/{kid}")),
        "{next}"
    );

    // The frame of another message is not its.
    let other = captured(&fleet, &sensor, &auditor, "plant/7", &["-m", "2"]);
    let frame = split_frame(&fs::read(other).expect("captured"));
    let file = fleet.authority.root().join("frame");
    fs::write(&file, frame).expect("written");
    let wrong = [
        "--frame",
        file.to_str().expect("UTF-8"),
        "-t",
        "plant/7",
        message,
    ];
    assert_eq!(explain(&auditor, &wrong)["reason"], "kid-mismatch");
}

/// The key frame in front of an inline payload.
fn split_frame(payload: &[u8]) -> Vec<u8> {
    match smqtt_format::Envelope::parse(payload) {
        Ok(smqtt_format::Envelope::Inline { frame, .. }) => frame.as_bytes().to_vec(),
        other => panic!("not inline: {other:?}"),
    }
}

fn doctor(identity: &Path, arguments: &[&str]) -> Finished {
    let mut command = program("smqtt");
    command
        .arg("doctor")
        .arg("-i")
        .arg(identity)
        .args(arguments);
    run(&mut command)
}

/// The verdict on a check and, where it is not ok, its fix.
fn verdict(finished: &Finished, check: &str) -> (String, Option<String>) {
    let found = finished.text().lines().find_map(|line| {
        let finding: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        (finding["check"] == check).then_some(finding)
    });
    let found = found.unwrap_or_else(|| panic!("no {check} in\n{}", finished.text()));
    (
        found["verdict"].as_str().expect("text").to_owned(),
        found["fix"].as_str().map(str::to_owned),
    )
}

#[test]
fn doctor_finds_nothing_where_nothing_is_wrong() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let list = fleet.authority.root().join("list.pem");
    let _ = run(fleet.authority.command(&["crl"]).arg("--out").arg(&list)).success();
    let list = list.to_str().expect("UTF-8");
    let well = doctor(
        &anna,
        &[
            "-t",
            "plant/#",
            "-p",
            "role = technician",
            "--crl",
            list,
            "--publish",
            "plant/7",
            "--json",
        ],
    );
    assert_eq!(well.code(), 0, "{}\n{}", well.text(), well.stderr);
    for check in [
        "identity",
        "authority",
        "clock",
        "certificate",
        "revocation",
        "epoch",
        "attributes",
        "policy",
        "broker",
        "subscribe",
        "publish",
    ] {
        assert_eq!(verdict(&well, check), ("ok".to_owned(), None), "{check}");
    }
}

#[test]
fn doctor_gives_every_failure_a_fix_and_the_first_one_its_exit_code() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let Fleet {
        authority,
        service,
        broker,
    } = fleet;

    let policy = doctor(&anna, &["-p", "role = auditor", "--json"]);
    assert_eq!(policy.code(), 3);
    let (word, fix) = verdict(&policy, "policy");
    assert_eq!(word, "failed");
    assert!(fix.expect("a fix").contains("role = auditor"));

    let _ = (service.stop(), broker.stop());
    let alone = doctor(&anna, &["--json"]);
    assert_eq!(alone.code(), 5, "{}", alone.text());
    assert_eq!(
        verdict(&alone, "authority").0,
        "warning",
        "messages flow without it"
    );
    let (word, fix) = verdict(&alone, "broker");
    assert_eq!(word, "failed");
    assert!(fix.expect("a fix").contains("--broker"));

    let key = anna.join("device.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    let exposed = doctor(&anna, &["--json"]);
    assert_eq!(exposed.code(), 4);
    assert_eq!(verdict(&exposed, "identity").0, "failed");
    let words = doctor(&anna, &[]);
    assert!(words.text().contains("FAILED"), "{}", words.text());
    assert!(words.text().contains("fix: "), "{}", words.text());
    drop(authority);
}

/// What doctor says of a check.
fn detail(finished: &Finished, check: &str) -> Option<String> {
    finished.text().lines().find_map(|line| {
        let finding: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        let of_check = finding["check"] == check;
        of_check.then(|| finding["detail"].as_str().expect("text").to_owned())
    })
}

#[test]
fn doctor_finds_a_revocation_list_that_is_older_than_the_authority_has_signed() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let _ = fleet.enrol("ben", "role = technician");
    // Nothing was issued, and nothing is missed.
    let none = doctor(&anna, &["--json"]);
    assert_eq!(none.code(), 0, "{}", none.text());
    assert_eq!(detail(&none, "list"), None);

    let root = fleet.authority.root().to_path_buf();
    let file = |name: &str| root.join(name).to_str().expect("UTF-8").to_owned();
    let (lists, old) = (file("lists.pem"), file("old.pem"));
    let crl = ["crl", "--out", lists.as_str()];
    let _ = run(&mut fleet.authority.command(&crl)).success();
    fs::copy(&lists, &old).expect("copied");
    // What a backup of this moment would give out.
    let url = fleet.service.url();
    let address = url.trim_start_matches("https://").to_owned();
    let broker = fleet.broker.url().to_owned();
    let serve = |directory: &Path| {
        let mut serve = program("smqtt-authority");
        serve.args(["serve", "--listen", &address, "--broker", &broker, "--dir"]);
        Service::start(serve.arg(directory), "https://")
    };
    let (directory, backup) = (fleet.authority.path(), root.join("backup"));
    let mut service = fleet.service;
    let _ = service.stop();
    let mut copy = Command::new("cp");
    let _ = run(copy.arg("-rp").args([&directory, &backup])).success();
    service = serve(&directory);

    let _ = run(&mut fleet.authority.command(&["device", "revoke", "ben"])).success();
    // A new epoch has begun with that.
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&anna)).success();
    let deadline = Instant::now() + PATIENCE;
    let well = loop {
        let looked = doctor(&anna, &["--json"]);
        if detail(&looked, "list").is_some_and(|said| said.contains("number 2")) {
            break looked;
        }
        assert!(Instant::now() < deadline, "{}", looked.text());
    };
    assert_eq!(verdict(&well, "list"), ("ok".to_owned(), None));

    // A broker's copy from before, and one from now.
    let _ = run(&mut fleet.authority.command(&crl)).success();
    let behind = doctor(&anna, &["--json", "--crl", &old]);
    assert_eq!(behind.code(), 3, "{}", behind.text());
    assert_eq!(verdict(&behind, "revocation").0, "ok");
    let (word, fix) = verdict(&behind, "list");
    assert_eq!(word, "failed");
    let fix = fix.expect("a fix");
    assert!(
        fix.contains(&format!("smqtt-authority crl --out {old}")),
        "{fix}"
    );
    let said = detail(&behind, "list").expect("a finding");
    assert!(
        said.contains("number 1") && said.contains("who was revoked since"),
        "{said}"
    );
    let current = doctor(&anna, &["--json", "--crl", &lists]);
    assert_eq!(verdict(&current, "list"), ("ok".to_owned(), None));

    // The authority itself gives out the older one.
    let _ = service.stop();
    let _service = serve(&backup);
    let restored = doctor(&anna, &["--json"]);
    assert_eq!(restored.code(), 6, "{}", restored.text());
    let (word, fix) = verdict(&restored, "list");
    assert_eq!(word, "failed");
    assert!(fix.expect("a fix").contains("restored backup"));
    let words = doctor(&anna, &[]).text();
    assert!(
        words.contains("FAILED   list        the revocation list is number 1"),
        "{words}"
    );
}

#[test]
fn with_mosquitto_doctor_tells_where_this_device_may_not_publish() {
    let authority = Authority::init();
    let rules = authority.root().join("acl.txt");
    let text = "pattern read #\npattern write open/#\npattern write smqtt/keys/open/#\npattern write inline/#\n";
    fs::write(&rules, text).expect("written");
    let broker = mosquitto::broker_with(&authority, &format!("acl_file {}\n", rules.display()));
    let fleet = Fleet::with_broker(authority, broker);
    let anna = fleet.enrol("anna", "role = technician");
    let reader = subscribe(&anna, "#", &["--json"]);
    let open = doctor(&anna, &["--publish", "open/a", "--json"]);
    assert_eq!(open.code(), 0, "{}", open.text());
    assert_eq!(verdict(&open, "publish").0, "ok");
    for (topic, word) in [("closed/a", "a message at"), ("inline/a", "announcement")] {
        let refused = doctor(&anna, &["--publish", topic, "--json"]);
        assert_eq!(refused.code(), 7, "{}", refused.text());
        let (verdict, fix) = verdict(&refused, "publish");
        assert_eq!(verdict, "failed");
        assert!(fix.is_some(), "{}", refused.text());
        assert!(refused.text().contains(word), "{}", refused.text());
    }
    // Nobody has read anything.
    let end = ["-m", "end"];
    let _ = run(&mut publish(&anna, "open/a", "role = technician", &end)).success();
    reader.wait_for_stdout(r#""payload":"end""#);
    let told = reader.interrupt().success().text();
    assert_eq!(told.matches(r#""type":"message""#).count(), 1, "{told}");
}

#[test]
fn inspect_shows_who_signed_without_any_key() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let reader = fleet.enrol("reader", "role = reader");
    let payload = captured(&fleet, &sensor, &reader, "plant/7", &["-m", "21.5"]);
    let inspect = |more: &[&str]| {
        let mut command = program("smqtt");
        run(command.arg("inspect").arg(&payload).args(more))
            .success()
            .text()
    };
    let shown: serde_json::Value = serde_json::from_str(&inspect(&["--json"])).expect("JSON");
    let frame = &shown["frame"];
    assert_eq!(frame["publisher"], "sensor");
    let mut show = program("smqtt");
    let own = run(show.args(["identity", "show", "--json", "-i"]).arg(&sensor)).success();
    let own: serde_json::Value = serde_json::from_str(&own.text()).expect("JSON");
    let certificate = &frame["certificate"];
    assert_eq!(certificate["fingerprint"], own["certificate_fingerprint"]);
    assert_eq!(certificate["not_after"], own["certificate_expires"]);
    assert!(certificate["not_before"].is_string());
    let text = inspect(&[]);
    for line in [
        "publisher        sensor\n",
        "certificate      sha256:",
        "valid            20",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}
