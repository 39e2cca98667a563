//! `smqtt rr`, sealed both ways, and `smqtt bench`.

use smqtt_tests::fleet::{Authority, Fleet, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, program, run};

fn rr(identity: &std::path::Path, arguments: &[&str]) -> std::process::Command {
    let mut command = program("smqtt");
    command.arg("rr").arg("-i").arg(identity).args(arguments);
    command
}

fn round_trip(fleet: &Fleet) {
    let anna = fleet.enrol("anna", "role = technician");
    let pump = fleet.enrol("pump", "type = pump");
    // It may read neither requests nor responses, and sees that there are two.
    let visitor = fleet.enrol("visitor", "role = visitor");
    let looking = subscribe(&visitor, "plant/#", &["--json"]);
    let serving = [
        "-t",
        "plant/ask",
        "-p",
        "role = technician",
        "-C",
        "2",
        "--serve",
        "--",
        "sh",
        "-c",
        r#"printf '%s from %s at %s' "$(cat)" "$SMQTT_REQUEST_PUBLISHER" "$SMQTT_REQUEST_TOPIC""#,
    ];
    let pump = Running::start(&mut rr(&pump, &serving));
    pump.wait_for_stderr("answering at plant/ask");

    let asking = ["-t", "plant/ask", "-p", "type = pump", "-m"];
    let answer = run(rr(&anna, &asking).arg("status")).success();
    assert_eq!(answer.text(), "status from anna at plant/ask\n");
    let json = run(rr(&anna, &asking).args(["x", "--json", "-e", "plant/answers"])).success();
    let json: serde_json::Value = serde_json::from_str(&json.text()).expect("JSON");
    assert_eq!(json["publisher"], "pump");
    assert_eq!(json["policy"], "role = technician");
    assert_eq!(json["payload"], "x from anna at plant/ask");
    let _ = pump.wait().success();

    looking.watch_stdout(|text| (text.matches("\"refused\"").count() >= 4).then_some(()));
    let looked = looking.interrupt().success().text();
    assert!(looked.contains("not-authorised"), "{looked}");
    assert!(!looked.contains("\"message\""), "{looked}");
}

#[test]
fn a_request_gets_its_response_and_nobody_else_reads_either() {
    round_trip(&Fleet::start());
}

#[test]
fn with_mosquitto_a_request_gets_its_response() {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    round_trip(&Fleet::with_broker(authority, broker));
}

#[test]
fn a_request_that_nobody_answers_runs_out_of_time() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let asked = run(&mut rr(
        &anna,
        &["-t", "ask", "-p", "type = pump", "-m", "x", "-W", "1"],
    ));
    assert_eq!(asked.code(), 9, "{}", asked.stderr);
    assert!(
        asked.stderr.contains("is somebody answering there"),
        "{}",
        asked.stderr
    );
}

#[test]
fn a_response_under_a_policy_that_the_requester_does_not_satisfy_is_no_response() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let pump = fleet.enrol("pump", "type = pump");
    let serving = ["-t", "ask", "-p", "role = auditor", "--serve", "--", "cat"];
    let pump = Running::start(&mut rr(&pump, &serving));
    pump.wait_for_stderr("answering at");
    let asked = run(&mut rr(
        &anna,
        &["-t", "ask", "-p", "type = pump", "-m", "x", "-W", "5"],
    ));
    assert_eq!(asked.code(), 9, "{}", asked.stderr);
    assert!(
        asked
            .stderr
            .contains("1 message came that this device cannot read"),
        "{}",
        asked.stderr
    );
    let _ = pump.interrupt().success();
}

#[test]
fn sealing_costs_at_most_40_bytes_and_no_pairing_or_signature_a_message() {
    let fleet = Fleet::start();
    let anna = fleet.enrol("anna", "role = technician");
    let mut command = program("smqtt");
    command.arg("bench").arg("-i").arg(&anna).args([
        "-t",
        "bench",
        "-p",
        "role = technician",
        "--messages",
        "500",
        "--rounds",
        "3",
        "--json",
    ]);
    let measured = run(&mut command).success().text();
    let sizes: Vec<serde_json::Value> = measured
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    assert_eq!(sizes.len(), 2, "{measured}");
    for measured in sizes {
        assert_eq!(measured["sealed_messages"], 1_500);
        assert!(
            measured["overhead_highest"]
                .as_u64()
                .is_some_and(|bytes| bytes <= 40),
            "{measured}"
        );
        assert!(
            measured["overhead_mean"]
                .as_f64()
                .is_some_and(|bytes| bytes >= 37.0),
            "{measured}"
        );
        for counter in ["frames_made", "verifications", "decapsulations"] {
            assert_eq!(measured[counter], 0, "{measured}");
        }
        assert!(
            measured["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0),
            "{measured}"
        );
    }
}
