//! The same `smqtt pub` and `smqtt sub` through a stock Mosquitto: the envelope depends on no broker feature of ours.

use smqtt_tests::fleet::{Authority, Fleet, publish, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{repository, run, run_with_input};

fn fleet() -> Fleet {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    Fleet::with_broker(authority, broker)
}

/// The first `count` real readings.
fn readings(count: usize) -> Vec<String> {
    let path = repository().join("tests/data/ambient_temperature_system_failure.csv");
    let text = std::fs::read_to_string(path).expect("the readings are in the tree");
    text.lines()
        .skip(1)
        .take(count)
        .map(str::to_owned)
        .collect()
}

#[test]
fn with_mosquitto_in_between_announced_messages_reach_those_who_may_read() {
    let fleet = fleet();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let technician = fleet.enrol("technician", "role = technician, site = berlin");
    let auditor = fleet.enrol("auditor", "role = auditor");
    let visitor = fleet.enrol("visitor", "role = visitor, site = berlin");
    let readings = readings(500);
    let count = readings.len().to_string();

    let exact = subscribe(&technician, "building/7/temperature", &["-C", &count]);
    let wildcard = subscribe(&auditor, "building/#", &["-C", &count]);
    let plus = subscribe(&auditor, "building/+/temperature", &["-C", &count]);
    let refused = subscribe(&visitor, "building/#", &[]);
    let policy = "(role = technician and site = berlin) or role = auditor";
    let input = readings.join("\n") + "\n";
    let published = run_with_input(
        &mut publish(&sensor, "building/7/temperature", policy, &["-l"]),
        input.as_bytes(),
    );
    let _ = published.success();

    for reader in [exact, wildcard, plus] {
        assert_eq!(reader.wait().success().text(), input);
    }
    refused.wait_for_stderr("not authorised");
    let refused = refused.interrupt().success();
    assert_eq!(refused.text(), "");
}

#[test]
fn with_mosquitto_in_between_inline_messages_reach_those_who_may_read() {
    let fleet = fleet();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let auditor = fleet.enrol("auditor", "role = auditor");
    let reader = subscribe(&auditor, "building/#", &["-v", "-C", "2"]);
    for text in ["21.5", "22.0"] {
        let _ = run(&mut publish(
            &sensor,
            "building/7/t",
            "role = auditor",
            &["-m", text],
        ))
        .success();
    }
    assert_eq!(
        reader.wait().success().text(),
        "building/7/t 21.5\nbuilding/7/t 22.0\n"
    );
}

#[test]
fn with_mosquitto_a_sealed_message_costs_at_most_40_bytes_on_the_wire() {
    let fleet = fleet();
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let observer = fleet.enrol("observer", "role = observer");
    // %l: the payload's length as a client of another project counts it.
    let mut sub = mosquitto::client("mosquitto_sub", &observer, fleet.broker.port(), "mqttv5");
    sub.args(["-t", "sizes", "-q", "1", "-F", "length=%l"]);
    let sub = mosquitto::subscribed(sub);

    // Sizes around every step of the length encodings, and enough of them that the sequence number takes two bytes.
    let sizes: Vec<usize> = [0, 1, 7, 8, 23, 24, 64, 239, 240, 255, 256, 1024, 65_000]
        .into_iter()
        .chain(std::iter::repeat_n(20, 300))
        .collect();
    let input: String = sizes.iter().map(|size| "x".repeat(*size) + "\n").collect();
    let published = run_with_input(
        &mut publish(&sensor, "sizes", "role = auditor", &["-l"]),
        input.as_bytes(),
    );
    let _ = published.success();

    let lengths = sub.watch_stdout(|stdout| {
        let lengths: Vec<usize> = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("length=")?.parse().ok())
            .collect();
        (lengths.len() >= sizes.len()).then_some(lengths)
    });
    let lengths = lengths.expect("mosquitto_sub receives every message");
    assert_eq!(lengths.len(), sizes.len());
    let overheads: Vec<usize> = lengths
        .iter()
        .zip(&sizes)
        .map(|(sealed, plain)| sealed - plain)
        .collect();
    let most = overheads.iter().max().copied().unwrap_or_default();
    println!(
        "overhead: {} to {most} bytes",
        overheads.iter().min().copied().unwrap_or_default()
    );
    assert!(most <= 40, "{overheads:?}");
    // 16 bytes of tag and 8 of key id at the least: a measure that says less measured something else.
    assert!(
        overheads.iter().all(|overhead| *overhead >= 24),
        "{overheads:?}"
    );
}
