//! Key policies with the real programs: messages carry tags, and what a device's key policy says decides what it reads.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use smqtt_tests::fleet::{self, Authority, Fleet, publish_tagged as publish, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, program, run};

const INPUT: i32 = 3;
const TAGS: &str = "kind = temperature, site = 4";

fn json(command: &mut Command) -> Value {
    let text = run(command).success().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn renew(identity: &Path) {
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(identity)).success();
}

fn authority_does(authority: &Authority, arguments: &[&str]) {
    let _ = run(&mut authority.command(arguments)).success();
}

/// Who may, reads; who may not, is told why; through this broker.
fn tagged_messages_are_read_by_key_policy(fleet: &Fleet) {
    let sensor = fleet.enrol("sensor", "role = sensor");
    let mine = fleet.enrol_with_key_policy(
        "mine",
        "role = operator",
        "site in 1..5 and topic matches plant/+/t",
    );
    let other = fleet.enrol_with_key_policy("other", "role = operator", "site = 9");
    let none = fleet.enrol("none", "role = operator");

    let readers = [&mine, &other, &none]
        .map(|identity| subscribe(identity, "plant/#", &["--json", "--no-renew"]));
    // Announced for the whole of it, and inline.
    let mut lines = Running::start(&mut publish(&sensor, "plant/7/t", TAGS, &["-l"]));
    lines.write(b"one.\ntwo.\n");
    let first = readers[0].wait_for_stdout("\"one.\"");
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(first["tags"], TAGS);
    assert_eq!(first["policy"], Value::Null);
    assert_eq!(first["publisher"], "sensor");
    readers[0].wait_for_stdout("\"two.\"");
    let _ = run(&mut publish(&sensor, "plant/7/t", TAGS, &["-m", "inline."])).success();
    readers[0].wait_for_stdout("\"inline.\"");
    // The key policy asks for the topic, too.
    let _ = run(&mut publish(
        &sensor,
        "plant/7/p",
        TAGS,
        &["-m", "elsewhere."],
    ))
    .success();
    readers[0].wait_for_stdout("outside-key-policy");
    readers[1].wait_for_stdout("outside-key-policy");
    readers[2].wait_for_stdout("no-key-policy");
    let _ = lines.interrupt().success();
    for reader in readers {
        let ended = reader.interrupt().success();
        assert!(!ended.text().contains("elsewhere."), "{}", ended.text());
    }
}

#[test]
fn tagged_messages_through_this_projects_broker() {
    tagged_messages_are_read_by_key_policy(&Fleet::start());
}

#[test]
fn with_mosquitto_in_between_tagged_messages_are_read_by_key_policy() {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    tagged_messages_are_read_by_key_policy(&Fleet::with_broker(authority, broker));
}

#[test]
fn a_person_sees_why_before_and_after() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let reader =
        fleet.enrol_with_key_policy("reader", "role = operator", "kind = pressure and site = 4");
    let show = |more: &[&str]| {
        let mut command = program("smqtt");
        command
            .args(["identity", "show", "-i"])
            .arg(&reader)
            .args(more);
        run(&mut command).success().text()
    };
    assert!(
        show(&[]).contains("key policy       kind = pressure and site = 4"),
        "{}",
        show(&[])
    );
    let shown: Value = serde_json::from_str(&show(&["--json"])).expect("JSON");
    assert_eq!(shown["key_policy"], "kind = pressure and site = 4");

    // On paper: what the broker relays.
    let listener = subscribe(&reader, "plant/7", &["--raw", "-C", "1"]);
    let _ = run(&mut publish(&sensor, "plant/7", TAGS, &["-m", "x"])).success();
    let raw = listener.wait().success();
    let captured = fleet.authority.root().join("captured.bin");
    std::fs::write(&captured, &raw.stdout).expect("a file can be written");
    let mut inspect = program("smqtt");
    let inspected = run(inspect.arg("inspect").arg(&captured)).success().text();
    assert!(
        inspected.contains("suite            2")
            && inspected.contains(&format!("tags             {TAGS}")),
        "{inspected}"
    );
    let mut explain = program("smqtt");
    explain
        .args(["explain", "-t", "plant/7", "-i"])
        .arg(&reader)
        .arg(&captured);
    let explained = run(&mut explain).success().text();
    for line in [
        "readable    no: not authorised".to_owned(),
        format!("tags        {TAGS}"),
        "key policy  kind = pressure and site = 4".to_owned(),
        "missing     kind = pressure".to_owned(),
    ] {
        assert!(explained.contains(&line), "{line}\n{explained}");
    }
    let mut told = program("smqtt");
    told.args(["explain", "--json", "-t", "plant/7", "-i"])
        .arg(&sensor)
        .arg(&captured);
    assert_eq!(json(&mut told)["reason"], "no-key-policy");

    // Another key policy, by the operator and a renewal.
    authority_does(
        &fleet.authority,
        &["device", "set", "reader", "--key-policy", "site = 4"],
    );
    renew(&reader);
    let mut explain = program("smqtt");
    explain
        .args(["explain", "--json", "-t", "plant/7", "-i"])
        .arg(&reader)
        .arg(&captured);
    assert_eq!(json(&mut explain)["readable"], true);
    let mut doctor = program("smqtt");
    let looked = run(doctor.args(["doctor", "-i"]).arg(&reader))
        .success()
        .text();
    assert!(looked.contains("key-policy  site = 4"), "{looked}");

    // And without: what it had is gone with the next renewal.
    authority_does(
        &fleet.authority,
        &["device", "set", "reader", "--no-key-policy"],
    );
    renew(&reader);
    let mut explain = program("smqtt");
    explain
        .args(["explain", "--json", "-t", "plant/7", "-i"])
        .arg(&reader)
        .arg(&captured);
    assert_eq!(json(&mut explain)["reason"], "no-key-policy");
    assert!(!reader.join("policy.key").exists());
}

#[test]
fn it_holds_across_epochs_and_ends_with_a_revocation() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let stays = fleet.enrol_with_key_policy("stays", "role = operator", "site = 4");
    let goes = fleet.enrol_with_key_policy("goes", "role = operator", "site = 4");
    let before = subscribe(&goes, "plant/#", &["--json", "-C", "1"]);
    let _ = run(&mut publish(&sensor, "plant/7", TAGS, &["-m", "before."])).success();
    assert!(before.wait().success().text().contains("before."));

    authority_does(&fleet.authority, &["device", "revoke", "goes"]);
    renew(&sensor);
    let reader = subscribe(&stays, "plant/#", &["--json"]);
    // The broker of this test looks at no list: the key alone keeps the device out.
    let revoked = subscribe(&goes, "plant/#", &["--json", "--no-renew"]);
    let _ = run(&mut publish(&sensor, "plant/7", TAGS, &["-m", "after."])).success();
    // It renews by itself: the message is of an epoch ahead.
    reader.wait_for_stdout("\"after.\"");
    revoked.wait_for_stdout("epoch-ahead");
    let _ = reader.interrupt().success();
    let revoked = revoked.interrupt().success();
    assert!(!revoked.text().contains("after."), "{}", revoked.text());
    let mut refused = program("smqtt");
    refused.args(["renew", "-i"]).arg(&goes);
    assert!(run(&mut refused).stderr.contains("refused"));
    // The key of the epoch before stays beside the new one.
    let kept = std::fs::read_dir(&stays).expect("a directory");
    let kept = kept.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let kept: Vec<String> = kept.filter(|name| name.starts_with("policy.")).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
}

#[test]
fn tags_are_checked_before_anything_leaves() {
    let fleet = Fleet::start();
    let schema = fleet.authority.root().join("schema.toml");
    let text = "[attributes.role]\ntype = \"text\"\n[attributes.site]\ntype = \"integer\"\nmin = 1\nmax = 9\n";
    std::fs::write(&schema, text).expect("a file can be written");
    let path = schema.to_str().expect("a path of the test's own");
    authority_does(&fleet.authority, &["schema", "edit", "--file", path]);
    let sensor = fleet.enrol("sensor", "role = sensor");
    // A key policy, too.
    let mut add = fleet
        .authority
        .command(&["device", "add", "x", "--key-policy", "sit = 4"]);
    let refused = run(&mut add);
    assert!(
        refused.stderr.contains("did you mean `site`"),
        "{}",
        refused.stderr
    );
    let _ = fleet.broker.stop().success();
    for (tags, says) in [
        ("sit = 4", "did you mean `site`"),
        ("site = 12", "1"),
        ("", "there are no tags"),
    ] {
        let refused = run(&mut publish(&sensor, "plant/7", tags, &["-m", "x"]));
        assert_eq!(refused.code(), INPUT, "{tags}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{tags}: {}", refused.stderr);
    }
    let mut both = publish(
        &sensor,
        "plant/7",
        "site = 4",
        &["-m", "x", "-p", "role = sensor"],
    );
    let both = run(&mut both);
    assert!(
        both.stderr.contains("can not be used together"),
        "{}",
        both.stderr
    );
}

#[test]
fn an_operator_gives_lists_and_asks() {
    let authority = Authority::init();
    let show = |name: &str| json(&mut authority.command(&["device", "show", name, "--json"]));
    authority_does(
        &authority,
        &[
            "profile",
            "set",
            "screen",
            "--attributes",
            "role = screen",
            "--key-policy",
            "site = 4",
        ],
    );
    // By a profile, replaced by its own, and of a file.
    authority_does(&authority, &["device", "add", "a", "--profile", "screen"]);
    let own = "topic matches plant/#";
    authority_does(
        &authority,
        &[
            "device",
            "add",
            "b",
            "--profile",
            "screen",
            "--key-policy",
            own,
        ],
    );
    // With a key policy, no attribute is needed.
    authority_does(
        &authority,
        &["device", "add", "c", "--key-policy", "kind = pressure"],
    );
    let file = authority.root().join("devices.csv");
    let text = "name,attributes,profile,key-policy\nd,role = sensor,,site = 5\ne,role = sensor,,\n";
    std::fs::write(&file, text).expect("a file can be written");
    let path = file.to_str().expect("a path of the test's own");
    authority_does(&authority, &["device", "import", path]);
    let key_policies = |name: &str| {
        let shown = show(name);
        [&shown["key_policy"], &shown["own_key_policy"]].map(|v| v.as_str().map(str::to_owned))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(key_policies("a"), [text("site = 4"), None]);
    assert_eq!(key_policies("b"), [text(own), text(own)]);
    assert_eq!(
        key_policies("c"),
        [text("kind = pressure"), text("kind = pressure")]
    );
    assert_eq!(key_policies("d"), [text("site = 5"), text("site = 5")]);
    assert_eq!(key_policies("e"), [None, None]);

    let who = |arguments: &[&str]| {
        let mut command = authority.command(&["policy", "who", "--json"]);
        let found = json(command.args(arguments));
        let names = found.as_array().expect("a list").iter();
        names
            .map(|device| device["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(who(&["--tags", "site = 4"]), ["a"]);
    assert_eq!(
        who(&["--tags", "site = 4", "--topic", "plant/7"]),
        ["a", "b"]
    );
    assert_eq!(who(&["role = screen"]), ["a", "b"]);

    // What the profile has changes for those that have it; what is not said stays.
    authority_does(
        &authority,
        &[
            "profile",
            "set",
            "screen",
            "--attributes",
            "role = screen, lab",
        ],
    );
    assert_eq!(key_policies("a"), [text("site = 4"), None]);
    authority_does(
        &authority,
        &[
            "profile",
            "set",
            "screen",
            "--attributes",
            "role = screen",
            "--no-key-policy",
        ],
    );
    assert_eq!(key_policies("a"), [None, None]);
    assert_eq!(key_policies("b"), [text(own), text(own)]);
    authority_does(&authority, &["device", "set", "b", "--no-key-policy"]);
    assert_eq!(key_policies("b"), [None, None]);
    let log = run(&mut authority.command(&["audit", "list"]))
        .success()
        .text();
    assert!(log.contains("key policy site = 5"), "{log}");
}

/// A period by count: two messages a key.
#[test]
fn keys_change_by_count_where_that_is_asked() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let reader = fleet.enrol_with_key_policy("reader", "role = operator", "site = 4");
    let subscriber: Running = subscribe(&reader, "plant/#", &["--json", "-C", "5"]);
    let mut lines = publish(&sensor, "plant/7", TAGS, &["-l", "--rekey-messages", "2"]);
    let mut lines = Running::start(lines.args(["--rekey-after", "12h"]));
    lines.write(b"1\n2\n3\n4\n5\n");
    let read = subscriber.wait().success().text();
    let _ = lines.interrupt().success();
    let read: Vec<Value> = read
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["type"] == "message")
        .collect();
    let numbers: Vec<_> = read.iter().map(|m| m["sequence"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 1, 2, 1].map(Some));
    let kids: std::collections::BTreeSet<_> = read.iter().map(|m| m["kid"].to_string()).collect();
    assert_eq!(kids.len(), 3);
}

/// Publishes until the reader has read one of them, under the key that it could not open before.
fn reads_before_long(publisher: &mut Running, reader: &Running, text: &str, refused_kid: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        assert!(Instant::now() < deadline, "{}", reader.stdout_so_far());
        publisher.write(format!("{text}\n").as_bytes());
        let so_far = reader.stdout_so_far();
        let mut lines = so_far.lines();
        if let Some(line) = lines.find(|line| line.contains(&format!("\"{text}\""))) {
            break line.to_owned();
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let read: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(read["kid"], refused_kid);
}

fn refused_kid(reader: &Running, reason: &str) -> String {
    let refused = reader.wait_for_stdout(reason);
    let refused: Value = serde_json::from_str(&refused).expect("JSON");
    refused["kid"].as_str().expect("a key id").to_owned()
}

#[test]
fn a_running_subscription_reads_what_its_device_gains() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = visitor");
    // Renewed by somebody else, who puts it into the directory.
    let reader = subscribe(&anna, "plant/#", &["--json", "--no-renew"]);
    let mut under_policy = Running::start(&mut fleet::publish(
        &sensor,
        "plant/1",
        "role = operator",
        &["-l"],
    ));
    under_policy.write(b"before.\n");
    let kid = refused_kid(&reader, "not-authorised");
    authority_does(
        &fleet.authority,
        &["device", "set", "anna", "--attributes", "role = operator"],
    );
    renew(&anna);
    reads_before_long(&mut under_policy, &reader, "after.", &kid);

    let mut tagged = Running::start(&mut publish(&sensor, "plant/2", TAGS, &["-l"]));
    tagged.write(b"before.\n");
    let kid = refused_kid(&reader, "no-key-policy");
    authority_does(
        &fleet.authority,
        &["device", "set", "anna", "--key-policy", "site = 4"],
    );
    renew(&anna);
    // Those under the policy are there already.
    let _ = under_policy.interrupt().success();
    reads_before_long(&mut tagged, &reader, "tagged.", &kid);
    let _ = tagged.interrupt().success();
    let _ = reader.interrupt().success();
}
