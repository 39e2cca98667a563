//! Readers that are not simply there from the start: late ones, one that was away while the epoch changed, ones that share or
//! select by wildcards. Each through both brokers, with announced key frames.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use smqtt_tests::fleet::{Authority, Fleet, publish, subscribe};
use smqtt_tests::gate::Gate;
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, run};

const POLICY: &str = "role = reader";

fn stock() -> Fleet {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    Fleet::with_broker(authority, broker)
}

/// Publishes numbered lines, each once `witness` has read the one before.
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
fn one_that_joins_late_reads_from_then_on() {
    joins_late(&Fleet::start());
}

#[test]
fn with_mosquitto_one_that_joins_late_reads_from_then_on() {
    joins_late(&stock());
}

fn joins_late(fleet: &Fleet) {
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let anna = fleet.enrol("anna", "role = reader");
    let visitor = fleet.enrol("visitor", "role = visitor");
    let witness = subscribe(&anna, "plant/#", &[]);
    let mut publisher = Running::start(&mut publish(&sensor, "plant/7/log", POLICY, &["-l"]));
    lines(&mut publisher, &witness, 0..5);
    // The key frame was announced before either of them came.
    let late = subscribe(&anna, "plant/+/log", &[]);
    let refused = subscribe(&visitor, "plant/+/log", &["--json"]);
    lines(&mut publisher, &witness, 5..10);
    late.wait_for_stdout("message 9.");
    refused.wait_for_stdout("not-authorised");
    let late = late.interrupt().success();
    assert_eq!(late.text(), numbered(5..10), "{}", late.stderr);
    // What it did not come for is no loss.
    assert!(late.stderr.ends_with("5 read\n"), "{}", late.stderr);
    let refused = refused.interrupt().success().text();
    assert!(!refused.contains(r#""type":"message""#), "{refused}");
}

#[test]
fn one_that_was_away_while_the_epoch_changed_misses_nothing() {
    was_away(&Fleet::start());
}

#[test]
fn with_mosquitto_one_that_was_away_while_the_epoch_changed_misses_nothing() {
    was_away(&stock());
}

fn was_away(fleet: &Fleet) {
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let anna = fleet.enrol("anna", "role = reader");
    let bert = fleet.enrol("bert", "role = reader");
    let gate = Gate::before(fleet.broker.port());
    let witness = subscribe(&bert, "plant/#", &["-F", "%p %k"]);
    let away = subscribe(&anna, "plant/#", &["--json", "--broker", &gate.url()]);
    let mut publisher = Running::start(&mut publish(&sensor, "plant/7/log", POLICY, &["-l"]));
    lines(&mut publisher, &witness, 0..5);
    away.wait_for_stdout("message 4.");

    gate.shut();
    away.wait_for_stdout(r#""state":"lost""#);
    lines(&mut publisher, &witness, 5..10);
    let kid = |witness: &Running| {
        let text = witness.stdout_so_far();
        let last = text.lines().last().expect("a line");
        last.rsplit(' ').next().expect("a key id").to_owned()
    };
    let before = kid(&witness);
    let mut advance = fleet
        .authority
        .command(&["epoch", "advance", "--overlap", "0s"]);
    let _ = run(&mut advance).success();
    // The publisher has heard of it when it goes on to another key.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut sent = 10;
    while kid(&witness) == before {
        assert!(Instant::now() < deadline, "still sealed for the old epoch");
        lines(&mut publisher, &witness, sent..sent + 1);
        sent += 1;
    }
    lines(&mut publisher, &witness, sent..sent + 5);
    sent += 5;

    gate.open();
    away.wait_for_stdout(&format!("message {}.", sent - 1));
    let finished = away.interrupt().success();
    let told: Vec<serde_json::Value> = finished
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let payloads: String = told
        .iter()
        .filter_map(|line| line["payload"].as_str())
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(payloads, numbered(0..sent));
    let summary = told.last().expect("a summary");
    // What the broker had sent and was not acknowledged comes twice, and is refused the second time.
    let refused = summary["refused"].as_object().expect("counts");
    assert!(refused.keys().all(|reason| reason == "replay"), "{summary}");
    assert_eq!(
        (&summary["missing"], &summary["reconnects"]),
        (&0.into(), &1.into())
    );
    assert!(
        told.iter().any(|line| line["type"] == "epoch-ahead"),
        "it had to renew"
    );
}

#[test]
fn those_who_select_by_wildcards_or_share_read_their_part() {
    wildcards_and_shares(&Fleet::start());
}

#[test]
fn with_mosquitto_those_who_select_by_wildcards_or_share_read_their_part() {
    wildcards_and_shares(&stock());
}

fn wildcards_and_shares(fleet: &Fleet) {
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let anna = fleet.enrol("anna", "role = reader");
    let format = ["-F", "%t %p"];
    let all = subscribe(&anna, "#", &format);
    let level = subscribe(&anna, "plant/+/temperature", &format);
    let below = subscribe(&anna, "plant/7/#", &format);
    let group = "$share/group/plant/#";
    let shares = [(); 2].map(|()| subscribe(&anna, group, &["--json"]));
    let numbers: String = (0..50).map(|n| format!("{n}.\n")).collect();
    let topics = [
        "plant/7/temperature",
        "plant/7/humidity",
        "plant/8/temperature",
    ];
    for topic in topics {
        let mut publisher = Running::start(&mut publish(&sensor, topic, POLICY, &["-l"]));
        publisher.write(numbers.as_bytes());
        all.wait_for_stdout(&format!("{topic} 49."));
        level_or_below(topic, &level, &below);
        // Before its announcement is cleared.
        let deadline = Instant::now() + Duration::from_secs(60);
        while shares.iter().map(|s| read(s, topic).len()).sum::<usize>() < 50 {
            assert!(Instant::now() < deadline, "{topic}: the group has too few");
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = publisher.wait().success();
    }
    for topic in topics {
        let [mut one, other] = shares.each_ref().map(|share| read(share, topic));
        assert!(!one.is_empty() && !other.is_empty(), "{topic}: one has all");
        assert!(one.is_disjoint(&other), "{topic}: shared twice");
        one.extend(other);
        assert_eq!(one.len(), 50, "{topic}");
    }
    for reader in [all, level, below] {
        let told = reader.interrupt().success().stderr;
        assert!(
            !told.contains("refused") && !told.contains("missing"),
            "{told}"
        );
    }
    for share in shares {
        let told = share.interrupt().success().text();
        let summary = told.lines().last().expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(summary).expect("JSON");
        assert_eq!(
            (&summary["refused"], &summary["missing"]),
            (&serde_json::json!({}), &0.into())
        );
    }
}

fn level_or_below(topic: &str, level: &Running, below: &Running) {
    if topic.ends_with("temperature") {
        level.wait_for_stdout(&format!("{topic} 49."));
    }
    if topic.starts_with("plant/7/") {
        below.wait_for_stdout(&format!("{topic} 49."));
    }
}

/// The payloads that a reader with `--json` has read at `topic`.
fn read(reader: &Running, topic: &str) -> BTreeSet<String> {
    let text = reader.stdout_so_far();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let messages = complete.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (line["topic"] == topic).then(|| line["payload"].as_str().map(str::to_owned))?
    });
    messages.collect()
}
