//! What a person gets wrong: each a one-line error with the next step, and its documented exit code (`docs/guide.md`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use smqtt_tests::fleet::{Fleet, publish};
use smqtt_tests::programs::{Finished, program, run};

const INPUT: u8 = 3;
const IDENTITY: u8 = 4;
const UNREACHABLE: u8 = 5;
const UNTRUSTED: u8 = 6;
const REFUSED: u8 = 7;

/// One line that begins with `error:` and names what `says` lists; nothing on standard output.
#[track_caller]
fn assert_one_line_error(finished: &Finished, code: u8, says: &[&str]) {
    assert_eq!(finished.code(), i32::from(code), "{}", finished.stderr);
    assert_eq!(finished.text(), "", "an error leaves standard output alone");
    let errors: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(
        errors.len(),
        1,
        "exactly one error line in\n{}",
        finished.stderr
    );
    for part in says {
        assert!(
            finished.stderr.contains(part),
            "{part:?} is not in\n{}",
            finished.stderr
        );
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

/// No half an identity is left behind.
#[track_caller]
fn assert_nothing_at(out: &Path) {
    assert!(!out.exists(), "{} was left behind", out.display());
}

#[test]
fn enrolment_refuses_what_is_not_its_to_take() {
    let fleet = Fleet::start();
    let out = fleet.authority.root().join("device");

    // A token that nobody issued.
    let wrong = run(&mut fleet.enrol_command("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &out));
    assert_one_line_error(
        &wrong,
        REFUSED,
        &["token is not known", "ask the authority's operator"],
    );
    assert_nothing_at(&out);

    // The right token, but another CA than was announced.
    let token = fleet.authority.register("sensor", "role = sensor");
    let fingerprint = format!("sha256:{}", "0".repeat(64));
    let mut command = program("smqtt");
    command
        .args([
            "enroll",
            "--authority",
            fleet.service.url(),
            "--ca-fingerprint",
            &fingerprint,
        ])
        .args(["--token", &token, "--out"])
        .arg(&out);
    let impostor = run(&mut command);
    assert_one_line_error(
        &impostor,
        UNTRUSTED,
        &["fingerprint", &fingerprint, fleet.authority.fingerprint()],
    );
    assert_nothing_at(&out);

    // That attempt did not use the token up: it never left the device.
    let _ = run(&mut fleet.enrol_command(&token, &out)).success();

    // Twice.
    let second = fleet.authority.root().join("second");
    let again = run(&mut fleet.enrol_command(&token, &second));
    assert_one_line_error(&again, REFUSED, &["token", "used"]);
    assert_nothing_at(&second);

    // Onto an identity that exists: nothing is lost.
    let before = fs::read(out.join("device.key")).expect("the enrolled key");
    let token = fleet.authority.register("other", "role = sensor");
    let overwrite = run(&mut fleet.enrol_command(&token, &out));
    assert_one_line_error(&overwrite, IDENTITY, &["exists"]);
    assert_eq!(
        fs::read(out.join("device.key")).expect("the enrolled key"),
        before
    );
    // And the token is still good.
    let _ = run(&mut fleet.enrol_command(&token, &second)).success();
}

#[test]
fn an_authority_that_is_down_is_named() {
    let fleet = Fleet::start();
    let out = fleet.authority.root().join("device");
    let token = fleet.authority.register("sensor", "role = sensor");
    let mut command = fleet.enrol_command(&token, &out);
    let url = fleet.service.url().to_owned();
    let _ = fleet.service.stop().success();
    let finished = run(&mut command);
    assert_one_line_error(&finished, UNREACHABLE, &[&url]);
    assert_nothing_at(&out);
}

#[test]
fn a_malformed_fingerprint_is_explained() {
    let mut command = program("smqtt");
    command.args([
        "enroll",
        "--authority",
        "https://127.0.0.1:1",
        "--ca-fingerprint",
        "sha256:12",
    ]);
    let finished = run(command.args(["--token", "A", "--out", "/nonexistent/x"]));
    assert_eq!(finished.code(), i32::from(INPUT), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("64 hexadecimal digits"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_identity_that_is_not_whole_or_not_private_is_refused() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let publish = || run(&mut publish(&sensor, "a/b", "role = reader", &["-m", "x"]));
    let _ = publish().success();

    for file in ["device.key", "attribute.key"] {
        let path = sensor.join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
        assert_one_line_error(&publish(), IDENTITY, &[file, "chmod 600"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode can be set");

        let aside = sensor.join("aside");
        fs::rename(&path, &aside).expect("a file can be moved");
        assert_one_line_error(&publish(), IDENTITY, &[file, "smqtt enroll"]);
        fs::rename(&aside, &path).expect("a file can be moved");

        let good = fs::read(&path).expect("a file of the identity");
        fs::write(&path, b"no key").expect("a file can be written");
        assert_one_line_error(&publish(), IDENTITY, &[file]);
        fs::write(&path, good).expect("a file can be written");
    }
    let _ = publish().success();

    let nowhere = fleet.authority.root().join("nowhere");
    let finished = run(&mut smqtt_tests::fleet::publish(
        &nowhere,
        "a/b",
        "role = reader",
        &["-m", "x"],
    ));
    assert_one_line_error(&finished, IDENTITY, &["nowhere", "smqtt enroll"]);
}

#[test]
fn a_policy_that_cannot_be_read_is_shown_with_a_caret_at_the_place() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    for (policy, place) in [
        ("role = doctor andd dept = icu", "andd"),
        ("(role = doctor", "(role = doctor"),
        ("role == doctor", "== doctor"),
        ("role = ", ""),
        ("", ""),
        ("role = doctor and and dept = icu", "and dept"),
    ] {
        let finished = run(&mut publish(&sensor, "a/b", policy, &["-m", "x"]));
        assert_one_line_error(&finished, INPUT, &["policy"]);
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let caret = lines
            .iter()
            .position(|line| line.trim_start().starts_with('^') || line.contains(" ^"));
        let caret =
            caret.unwrap_or_else(|| panic!("no caret for {policy:?} in\n{}", finished.stderr));
        let source = lines[caret - 1];
        assert!(
            source.ends_with(policy.trim_end()),
            "the line above the caret shows {policy:?}\n{}",
            finished.stderr
        );
        if !place.is_empty() && !policy.starts_with('(') {
            let column = lines[caret].find('^').expect("the caret was found");
            let expected = source.len() - policy.len()
                + policy.find(place).expect("the place is in the policy");
            assert_eq!(
                column, expected,
                "the caret is under {place:?}\n{}",
                finished.stderr
            );
        }
    }
}

#[test]
fn a_broker_that_is_down_is_named() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let url = fleet.broker.url().to_owned();
    let _ = fleet.broker.stop().success();
    let finished = run(&mut publish(&sensor, "a/b", "role = reader", &["-m", "x"]));
    assert_one_line_error(&finished, UNREACHABLE, &[&url]);
}

#[test]
fn a_broker_of_another_authority_is_not_trusted() {
    let fleet = Fleet::start();
    let other = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let finished = run(&mut publish(
        &sensor,
        "a/b",
        "role = reader",
        &["-m", "x", "--broker", other.broker.url()],
    ));
    assert_one_line_error(&finished, UNTRUSTED, &[other.broker.url()]);
}

#[test]
fn a_topic_that_is_none_is_refused_before_anything_is_sent() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let finished = run(&mut publish(
        &sensor,
        "a/+/b",
        "role = reader",
        &["-m", "x"],
    ));
    assert!(finished.code() == i32::from(INPUT), "{}", finished.stderr);
    assert!(finished.stderr.contains("wildcard"), "{}", finished.stderr);
}
