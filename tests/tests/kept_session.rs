//! `smqtt sub --session`: what comes while the reader is away is there when it comes back, opened, and no message twice.

use std::path::{Path, PathBuf};

use smqtt_tests::fleet::{Authority, Fleet, publish, publish_tagged, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, program, run};

const POLICY: &str = "role = reader";
const TAGS: &str = "kind = temperature, site = 4";
const KEY_POLICY: &str = "site in 1..5 and topic matches plant/+/t";
const INPUT: i32 = 3;

struct Site {
    fleet: Fleet,
    sensor: PathBuf,
    anna: PathBuf,
    session: String,
}

fn site(fleet: Fleet) -> Site {
    Site {
        sensor: fleet.enrol("sensor", "type = thermometer"),
        anna: fleet.enrol_with_key_policy("anna", "role = reader", KEY_POLICY),
        session: fleet.authority.root().join("session").display().to_string(),
        fleet,
    }
}

fn stock() -> Fleet {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    Fleet::with_broker(authority, broker)
}

impl Site {
    fn read(&self, filter: &str, more: &[&str]) -> Running {
        let session = ["--session", &self.session];
        subscribe(&self.anna, filter, &[&session, more].concat())
    }
}

/// Publishes numbered lines, each once `witness` has read it.
fn lines(publisher: &mut Running, witness: &Running, numbers: std::ops::Range<u32>) {
    for number in numbers {
        publisher.write(format!("message {number}.\n").as_bytes());
        witness.wait_for_stdout(&format!("message {number}."));
    }
}

fn numbered(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("message {n}.\n")).collect()
}

#[test]
fn what_came_meanwhile_is_read_by_the_next_program() {
    away(&site(Fleet::start()), &[]);
}

#[test]
fn what_came_meanwhile_is_read_by_the_next_program_with_mqtt_3_1_1() {
    away(&site(Fleet::start()), &["--mqtt", "3.1.1"]);
}

#[test]
fn with_mosquitto_what_came_meanwhile_is_read_by_the_next_program() {
    away(&site(stock()), &[]);
}

#[test]
fn with_mosquitto_what_came_meanwhile_is_read_by_the_next_program_with_mqtt_3_1_1() {
    away(&site(stock()), &["--mqtt", "3.1.1"]);
}

fn away(site: &Site, more: &[&str]) {
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let read = |filter: &str| site.read(filter, more);
    let reader = read("plant/#");
    reader.wait_for_stderr("a new session");
    let mut publisher = Running::start(&mut publish(&site.sensor, "plant/7", POLICY, &["-l"]));
    lines(&mut publisher, &witness, 0..5);
    reader.wait_for_stdout("message 4.");
    let reader = reader.interrupt().success();
    assert_eq!(reader.text(), numbered(0..5), "{}", reader.stderr);

    // Under the key frame that was announced to the first program, and is taken back before the second one comes; more than a
    // stock Mosquitto sends before it wants an acknowledgement.
    lines(&mut publisher, &witness, 5..45);
    let _ = publisher.wait().success();
    let one = ["-m", "one more."];
    let _ = run(&mut publish(&site.sensor, "plant/8", POLICY, &one)).success();
    witness.wait_for_stdout("one more.");

    let reader = read("plant/#");
    reader.wait_for_stderr("the broker has kept the session");
    reader.wait_for_stdout("one more.");
    let reader = reader.interrupt().success();
    let expected = format!("{}one more.\n", numbered(5..45));
    assert_eq!(reader.text(), expected, "{}", reader.stderr);
    assert!(reader.stderr.ends_with("41 read\n"), "{}", reader.stderr);

    // Nothing is left, and what goes on goes on.
    let reader = read("plant/#");
    let last = ["-m", "the last."];
    let _ = run(&mut publish(&site.sensor, "plant/8", POLICY, &last)).success();
    reader.wait_for_stdout("the last.");
    let reader = reader.interrupt().success();
    assert_eq!(reader.text(), "the last.\n", "{}", reader.stderr);
}

#[test]
fn a_reader_takes_one_after_the_other_and_leaves_the_rest_at_the_broker() {
    let site = site(Fleet::start());
    drop(site.read("plant/#", &[]).interrupt().success());
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let mut publisher = Running::start(&mut publish(&site.sensor, "plant/7", POLICY, &["-l"]));
    lines(&mut publisher, &witness, 0..4);
    for number in 0..4 {
        let reader = site
            .read("plant/#", &["-C", "1", "-W", "60"])
            .wait()
            .success();
        assert_eq!(reader.text(), format!("message {number}.\n"));
    }
}

#[test]
fn a_reader_that_is_killed_loses_nothing() {
    let site = site(Fleet::start());
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let mut publisher = Running::start(&mut publish(&site.sensor, "plant/7", POLICY, &["-l"]));
    let mut seen = String::new();
    for round in 0..4 {
        let reader = site.read("plant/#", &[]);
        lines(&mut publisher, &witness, round * 30..round * 30 + 20);
        reader.wait_for_stdout(&format!("message {}.", round * 30 + 10));
        reader.signal("KILL");
        seen.push_str(&reader.wait().text());
        lines(&mut publisher, &witness, round * 30 + 20..round * 30 + 30);
    }
    let reader = site.read("plant/#", &[]);
    reader.wait_for_stdout("message 119.");
    seen.push_str(&reader.interrupt().success().text());
    for number in 0..120 {
        let line = format!("message {number}.\n");
        assert!(seen.contains(&line), "{line} is lost");
    }
}

#[test]
fn with_mosquitto_s_client_what_is_shown_again_to_the_next_program_is_a_replay() {
    let site = site(Fleet::start());
    let raw = subscribe(&site.anna, "plant/7", &["--raw", "-C", "1"]);
    let reader = site.read("plant/#", &[]);
    let once = ["-m", "open the gate"];
    let _ = run(&mut publish(&site.sensor, "plant/7", POLICY, &once)).success();
    reader.wait_for_stdout("open the gate");
    drop(reader.interrupt().success());

    // Without a session, a reader that has just been started takes it once more.
    let captured = raw.wait().success().stdout;
    let forgetful = subscribe(&site.anna, "plant/#", &["-C", "1"]);
    let next = site.read("plant/#", &["--json"]);
    send_again(&site, "plant/7", &captured);
    assert_eq!(forgetful.wait().success().text(), "open the gate\n");
    next.wait_for_stdout(r#""reason":"replay""#);
    let next = next.interrupt().success().text();
    assert!(!next.contains(r#""type":"message""#), "{next}");
}

/// As a broker would that has kept a payload.
fn send_again(site: &Site, topic: &str, payload: &[u8]) {
    let file = site.fleet.authority.root().join("captured");
    std::fs::write(&file, payload).expect("written");
    let port = site.fleet.broker.port();
    let mut replaying = mosquitto::client("mosquitto_pub", &site.sensor, port, "mqttv5");
    replaying.args(["-q", "1", "-t", topic, "-f"]).arg(&file);
    let _ = run(&mut replaying).success();
}

#[test]
fn a_filter_that_is_not_asked_for_any_more_brings_nothing() {
    let site = site(Fleet::start());
    drop(site.read("a/#", &["-t", "b/#"]).interrupt().success());
    let publish_both = || {
        for topic in ["a/1", "b/1"] {
            let _ = run(&mut publish(&site.sensor, topic, POLICY, &["-m", topic])).success();
        }
    };
    publish_both();
    let reader = site.read("b/#", &["-C", "1", "-W", "60"]).wait().success();
    assert_eq!(reader.text(), "b/1\n");
    publish_both();
    let reader = site.read("b/#", &["-C", "1", "-W", "60"]).wait().success();
    assert_eq!(reader.text(), "b/1\n");
}

#[test]
fn a_session_is_one_device_s_and_one_program_s_under_one_name() {
    let site = site(Fleet::start());
    let ben = site.fleet.enrol("ben", "role = reader");
    let refused = |identity: &Path, more: &[&str]| {
        let mut command = program("smqtt");
        command
            .args(["sub", "-t", "a", "--session", &site.session, "-i"])
            .arg(identity)
            .args(more);
        let refused = run(&mut command);
        assert_eq!(refused.code(), INPUT, "{}", refused.stderr);
        refused.stderr
    };
    let reader = site.read("a", &["--id", "anna-desk"]);
    assert!(refused(&site.anna, &[]).contains("another program uses it"));
    drop(reader.interrupt().success());
    assert!(refused(&ben, &[]).contains("a session of anna"));
    assert!(refused(&site.anna, &["--id", "anna-lab"]).contains("anna-desk"));
    // The name is known.
    drop(site.read("a", &[]).interrupt().success());
}

#[test]
fn one_that_was_away_while_the_epoch_changed_renews_and_reads() {
    let site = site(Fleet::start());
    let bert = site.fleet.enrol("bert", "role = reader");
    drop(site.read("plant/#", &[]).interrupt().success());
    let before = ["-m", "before"];
    let _ = run(&mut publish(&site.sensor, "plant/7", POLICY, &before)).success();
    let mut advance = site
        .fleet
        .authority
        .command(&["epoch", "advance", "--overlap", "0s"]);
    let _ = run(&mut advance).success();
    for device in [&site.sensor, &bert] {
        let _ = run(program("smqtt").args(["renew", "-i"]).arg(device)).success();
    }
    let after = ["-m", "after"];
    let _ = run(&mut publish(&site.sensor, "plant/7", POLICY, &after)).success();
    let reader = site
        .read("plant/#", &["-C", "2", "-W", "60"])
        .wait()
        .success();
    assert_eq!(reader.text(), "before\nafter\n", "{}", reader.stderr);
}

#[test]
fn tagged_messages_that_came_meanwhile_are_read_by_the_next_program() {
    tagged_while_away(&site(Fleet::start()), &[]);
}

#[test]
fn tagged_messages_that_came_meanwhile_are_read_by_the_next_program_with_mqtt_3_1_1() {
    tagged_while_away(&site(Fleet::start()), &["--mqtt", "3.1.1"]);
}

#[test]
fn with_mosquitto_tagged_messages_that_came_meanwhile_are_read_by_the_next_program() {
    tagged_while_away(&site(stock()), &[]);
}

#[test]
fn with_mosquitto_tagged_messages_that_came_meanwhile_are_read_by_the_next_program_with_mqtt_3_1_1()
{
    tagged_while_away(&site(stock()), &["--mqtt", "3.1.1"]);
}

/// Each topic has a key frame of its own: one that the first program has seen, one that comes and goes while nobody is there, one
/// in front of its message, and one that the key policy does not open.
fn tagged_while_away(site: &Site, more: &[&str]) {
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let read = |more_still: &[&str]| site.read("plant/#", &[more, more_still].concat());
    let tagged = |topic: &str, more: &[&str]| publish_tagged(&site.sensor, topic, TAGS, more);
    let reader = read(&[]);
    reader.wait_for_stderr("a new session");
    let mut seen = Running::start(&mut tagged("plant/7/t", &["-l"]));
    lines(&mut seen, &witness, 0..5);
    reader.wait_for_stdout("message 4.");
    let reader = reader.interrupt().success();
    assert_eq!(reader.text(), numbered(0..5), "{}", reader.stderr);

    // More than a stock Mosquitto sends before it wants an acknowledgement.
    lines(&mut seen, &witness, 5..45);
    let _ = seen.wait().success();
    let mut unseen = Running::start(&mut tagged("plant/8/t", &["-l"]));
    lines(&mut unseen, &witness, 45..50);
    let _ = unseen.wait().success();
    let _ = run(&mut tagged("plant/7/p", &["-m", "not for anna."])).success();
    witness.wait_for_stderr("not authorised: plant/7/p is tagged");
    let _ = run(&mut tagged("plant/9/t", &["-m", "one more."])).success();
    witness.wait_for_stdout("one more.");

    let reader = read(&[]);
    reader.wait_for_stderr("the broker has kept the session");
    reader.wait_for_stdout("one more.");
    let reader = reader.interrupt().success();
    let expected = format!("{}one more.\n", numbered(5..50));
    assert_eq!(reader.text(), expected, "{}", reader.stderr);
    assert!(reader.stderr.contains("46 read"), "{}", reader.stderr);

    // Nothing is left, what was refused neither.
    let reader = read(&["--json"]);
    let _ = run(&mut tagged("plant/8/t", &["-m", "the last."])).success();
    reader.wait_for_stdout("the last.");
    let reader = reader.interrupt().success().text();
    assert_eq!(reader.matches(r#""type":"message""#).count(), 1, "{reader}");
    assert!(!reader.contains(r#""type":"refused""#), "{reader}");
}

#[test]
fn a_killed_reader_of_tagged_messages_loses_nothing() {
    let site = site(Fleet::start());
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let mut publisher = publish_tagged(&site.sensor, "plant/7/t", TAGS, &["-l"]);
    let mut publisher = Running::start(&mut publisher);
    let mut seen = String::new();
    for round in 0..3 {
        let reader = site.read("plant/#", &[]);
        lines(&mut publisher, &witness, round * 20..round * 20 + 10);
        reader.wait_for_stdout(&format!("message {}.", round * 20 + 5));
        reader.signal("KILL");
        seen.push_str(&reader.wait().text());
        lines(&mut publisher, &witness, round * 20 + 10..round * 20 + 20);
    }
    // The frame goes with its publisher; the directory has it.
    let _ = publisher.wait().success();
    let reader = site.read("plant/#", &[]);
    reader.wait_for_stdout("message 59.");
    seen.push_str(&reader.interrupt().success().text());
    for number in 0..60 {
        let line = format!("message {number}.\n");
        assert!(seen.contains(&line), "{line} is lost");
    }
}

#[test]
fn one_that_was_away_while_its_key_policy_and_the_epoch_changed_renews_and_reads() {
    let site = site(Fleet::start());
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let reader = site.read("plant/#", &[]);
    let pressure = "kind = pressure, site = 9";
    let tagged = |tags: &str, more: &[&str]| publish_tagged(&site.sensor, "plant/7/t", tags, more);
    let mut before = Running::start(&mut tagged(TAGS, &["-l"]));
    lines(&mut before, &witness, 0..1);
    reader.wait_for_stdout("message 0.");
    drop(reader.interrupt().success());
    lines(&mut before, &witness, 1..2);
    let _ = before.wait().success();

    let key_policy = [
        "device",
        "set",
        "anna",
        "--key-policy",
        "site = 4 or site = 9",
    ];
    let _ = run(&mut site.fleet.authority.command(&key_policy)).success();
    let advance = ["epoch", "advance", "--overlap", "0s"];
    let _ = run(&mut site.fleet.authority.command(&advance)).success();
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&site.sensor)).success();
    // Announced and inline, in the new epoch and for the new key policy.
    let bert = site
        .fleet
        .enrol_with_key_policy("bert", "role = reader", "site = 9");
    let witness = subscribe(&bert, "plant/#", &[]);
    let mut after = Running::start(&mut tagged(pressure, &["-l"]));
    lines(&mut after, &witness, 2..4);
    let _ = after.wait().success();
    let _ = run(&mut tagged(pressure, &["-m", "message 4."])).success();
    let reader = site
        .read("plant/#", &["-C", "4", "-W", "60"])
        .wait()
        .success();
    assert_eq!(reader.text(), numbered(1..5), "{}", reader.stderr);
}
