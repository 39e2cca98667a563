//! Unchanged clients of other projects on this project's broker, with certificates of this project's authority.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use smqtt_tests::fleet::{Fleet, Service, broker_at, publish, subscribe};
use smqtt_tests::mosquitto::{client, command, subscribed};
use smqtt_tests::programs::{program, repository, run, run_with_input};

fn both_versions(check: impl Fn(&str)) {
    for version in ["mqttv311", "mqttv5"] {
        check(version);
    }
}

#[test]
fn with_mosquitto_sub_receives_the_ciphertext_over_tls() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let reader = fleet.enrol("reader", "role = reader");
    both_versions(|version| {
        let reading = format!("21.5 °C for {version}");
        let mut sub = client("mosquitto_sub", &reader, fleet.broker.port(), version);
        // %x: the payload in hexadecimal, so that no byte is lost.
        sub.args(["-t", "house/temperature", "-F", "payload=%x", "-q", "1"]);
        let sub = subscribed(sub);
        let _ = run(&mut publish(
            &sensor,
            "house/temperature",
            "role = reader",
            &["-m", &reading],
        ))
        .success();
        let line = sub.wait_for_stdout("payload=");
        let hex = line
            .split_once("payload=")
            .expect("the line was waited for")
            .1
            .to_owned();
        let plain: String = reading.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            !hex.contains(&plain),
            "{version}: the reading is in what mosquitto_sub got"
        );
        // Inline: a COSE_Sign1 (tag 18) key frame, then the sealed message.
        assert!(hex.starts_with("d2"), "{version}: {hex}");
        assert!(hex.len() > 2 * reading.len(), "{version}: {hex}");
    });
}

#[test]
fn with_mosquitto_pub_and_sub_plain_payloads_pass_over_tls() {
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    let two = fleet.enrol("two", "role = reader");
    both_versions(|version| {
        for qos in ["0", "1"] {
            let topic = format!("plain/{version}/{qos}");
            let mut sub = client("mosquitto_sub", &two, fleet.broker.port(), version);
            sub.args(["-t", "plain/#", "-v", "-q", qos, "-F", "got %t %q %p"]);
            let sub = subscribed(sub);
            let mut put = client("mosquitto_pub", &one, fleet.broker.port(), version);
            let _ = run(put.args(["-t", &topic, "-q", qos, "-m", "hello"])).success();
            assert_eq!(
                sub.wait_for_stdout("got "),
                format!("got {topic} {qos} hello")
            );
        }
    });
}

#[test]
fn with_mosquitto_retained_messages_wait_for_late_subscribers_and_can_be_cleared() {
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    both_versions(|version| {
        let port = fleet.broker.port();
        let topic = format!("retained/{version}");
        let put = |message: &[&str]| {
            let mut put = client("mosquitto_pub", &one, port, version);
            let _ = run(put.args(["-t", &topic, "-q", "1", "-r"]).args(message)).success();
        };
        put(&["-m", "first"]);
        put(&["-m", "last"]);
        let mut sub = client("mosquitto_sub", &one, port, version);
        let got =
            run(sub.args(["-t", "retained/+", "-C", "1", "-F", "%r %p", "-W", "30"])).success();
        assert_eq!(got.text().trim(), "1 last");
        put(&["-n"]);
        let mut sub = client("mosquitto_sub", &one, port, version);
        let got = run(sub.args(["-t", "retained/+", "-C", "1", "-W", "1"]));
        assert_eq!(got.text(), "", "{version}: a cleared message is gone");
    });
}

#[test]
fn with_mosquitto_a_will_is_published_when_its_client_dies() {
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    let two = fleet.enrol("two", "role = reader");
    both_versions(|version| {
        let port = fleet.broker.port();
        let mut watcher = client("mosquitto_sub", &two, port, version);
        watcher.args(["-t", "wills/#", "-F", "got %t %p"]);
        let watcher = subscribed(watcher);
        let topic = format!("wills/{version}");
        let mut mortal = client("mosquitto_sub", &one, port, version);
        mortal.args([
            "-t",
            "unused",
            "--will-topic",
            &topic,
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
        ]);
        let mortal = subscribed(mortal);
        mortal.signal("KILL");
        assert_eq!(watcher.wait_for_stdout("got "), format!("got {topic} gone"));
    });
}

#[test]
fn with_mosquitto_a_persistent_session_keeps_what_its_client_missed() {
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    let two = fleet.enrol("two", "role = reader");
    both_versions(|version| {
        let port = fleet.broker.port();
        let topic = format!("kept/{version}");
        let session = || {
            let mut sub = client("mosquitto_sub", &two, port, version);
            sub.args([
                "-t",
                &topic,
                "-q",
                "1",
                "-c",
                "-i",
                &format!("keeper-{version}"),
            ]);
            if version == "mqttv5" {
                sub.args(["-x", "300"]);
            }
            sub
        };
        let first = subscribed(session());
        let _ = first.interrupt();
        for text in ["one", "two", "three"] {
            let mut put = client("mosquitto_pub", &one, port, version);
            let _ = run(put.args(["-t", &topic, "-q", "1", "-m", text])).success();
        }
        let got = run(session().args(["-C", "3", "-W", "30"])).success();
        assert_eq!(got.text(), "one\ntwo\nthree\n", "{version}");
    });
}

#[test]
fn with_mosquitto_no_client_comes_in_without_a_certificate_of_the_authority() {
    let fleet = Fleet::start();
    let stranger = Fleet::start();
    let foreign = stranger.enrol("foreign", "role = reader");
    let own = fleet.enrol("own", "role = reader");
    let port = fleet.broker.port().to_string();
    let attempt = |identity: Option<&Path>| {
        let mut put = command("mosquitto_pub");
        put.args(["-h", "127.0.0.1", "-p", &port, "-t", "a", "-m", "b"]);
        put.arg("--cafile").arg(own.join("ca.crt"));
        if let Some(identity) = identity {
            put.arg("--cert").arg(identity.join("device.crt"));
            put.arg("--key").arg(identity.join("device.key"));
        }
        run(&mut put)
    };
    assert!(!attempt(None).status.success(), "no certificate at all");
    assert!(
        !attempt(Some(&foreign)).status.success(),
        "a certificate of another authority"
    );
    let _ = attempt(Some(&own)).success();
}

#[test]
fn a_reader_whose_attributes_do_not_satisfy_gets_a_count_and_no_error() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let visitor = fleet.enrol("visitor", "role = visitor");
    let reader = fleet.enrol("reader", "role = reader");
    let refused = subscribe(&visitor, "house/#", &[]);
    let reading = subscribe(&reader, "house/#", &["-C", "3"]);
    let published = run_with_input(
        &mut publish(&sensor, "house/a", "role = reader", &["-l"]),
        b"1\n2\n3\n",
    );
    let _ = published.success();
    assert_eq!(reading.wait().success().text(), "1\n2\n3\n");
    // Both got the same messages in the same order from one broker; give the visitor the time to count its own.
    refused.wait_for_stderr("not authorised");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let refused = refused.interrupt().success();
    assert_eq!(refused.text(), "");
    assert!(
        refused.stderr.contains("not-authorised 3"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("role = reader"),
        "it says what was needed: {}",
        refused.stderr
    );
}

/// A broker for anyone, without TLS.
fn open_broker() -> Service {
    open_broker_with("mqtt://")
}

/// The same for clients of this scheme.
fn open_broker_with(scheme: &str) -> Service {
    let url = format!("{scheme}127.0.0.1:0");
    Service::start(
        program("smqtt-broker").args(["--listen", &url, "--allow-anonymous"]),
        scheme,
    )
}

#[test]
fn with_mosquitto_pub_and_sub_messages_pass_without_tls() {
    let broker = open_broker();
    let port = broker.port().to_string();
    let client = |name: &str, version: &str| {
        let mut command = command("stdbuf");
        command.args(["-oL", name, "-h", "127.0.0.1", "-p", &port, "-V", version]);
        command
    };
    both_versions(|version| {
        for qos in ["0", "1", "2"] {
            let topic = format!("plain/{version}/{qos}");
            let mut sub = client("mosquitto_sub", version);
            sub.args(["-t", "plain/#", "-q", qos, "-F", "got %t %q %p"]);
            let sub = subscribed(sub);
            let mut put = client("mosquitto_pub", version);
            let _ = run(put.args(["-t", &topic, "-q", qos, "-m", "hello"])).success();
            assert_eq!(
                sub.wait_for_stdout("got "),
                format!("got {topic} {qos} hello")
            );
        }
    });
}

#[test]
fn with_paho_clients_of_both_versions_pass_messages() {
    let python =
        std::env::var_os("SMQTT_TEST_PYTHON").expect("scripts/test.sh sets SMQTT_TEST_PYTHON");
    let script = repository().join("tests/tests/paho_round_trip.py");
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    let open = open_broker();
    let web = open_broker_with("ws://");
    let secure_web = broker_at(&fleet.authority, "wss://");
    let (identity, websockets) = (one.as_os_str(), OsStr::new("--websockets"));
    for (port, more) in [
        (fleet.broker.port(), &[identity][..]),
        (open.port(), &[]),
        (web.port(), &[websockets]),
        (secure_web.port(), &[identity, websockets]),
    ] {
        let mut command = Command::new(&python);
        command.arg(&script).arg(port.to_string()).args(more);
        let finished = run(&mut command).success();
        assert_eq!(
            finished.text().matches("ok ").count(),
            10,
            "{}",
            finished.text()
        );
    }
}

#[test]
fn with_mqttjs_clients_of_both_versions_pass_messages() {
    let modules =
        std::env::var_os("SMQTT_TEST_NODE").expect("scripts/test.sh sets SMQTT_TEST_NODE");
    let script = repository().join("tests/tests/mqttjs_round_trip.mjs");
    let fleet = Fleet::start();
    let one = fleet.enrol("one", "role = sensor");
    let open = open_broker();
    let tls = format!("mqtts://127.0.0.1:{}", fleet.broker.port());
    let plain = format!("mqtt://127.0.0.1:{}", open.port());
    let open_web = open_broker_with("ws://");
    let web = [open_web.url(), "/mqtt"].concat();
    let secure = broker_at(&fleet.authority, "wss://");
    let secure_web = [secure.url(), "/mqtt"].concat();
    for (url, identity) in [
        (tls, Some(&one)),
        (plain, None),
        (web, None),
        (secure_web, Some(&one)),
    ] {
        let mut command = Command::new("node");
        command.env("SMQTT_TEST_NODE", &modules);
        command.arg(&script).arg(&url).args(identity);
        let finished = run(&mut command).success();
        assert_eq!(
            finished.text().matches("ok ").count(),
            10,
            "{url}: {}",
            finished.text()
        );
    }
}
