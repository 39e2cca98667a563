//! `smqtt gateway` between unchanged clients and a broker.

use std::path::PathBuf;
use std::process::Command;

use smqtt_format::announce;
use smqtt_tests::fleet::{
    Authority, Fleet, Service, broker_command, plain_broker, publish, subscribe,
};
use smqtt_tests::gateway::{client, command, start, subscribed};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, repository, run, run_with_input, wait_for_port};
use smqtt_tests::relay::Relay;

const RULES: &str = r##"
[[publish]]
topic = "house/private/#"
refuse = true

[[publish]]
topic = ["house/#", "homeassistant/#"]
policy = "site = home"

[[publish]]
topic = "inline/#"
policy = "site = home"
frames = "inline"

[[subscribe]]
topic = "house/private/#"
refuse = true

[[subscribe]]
topic = ["house/#", "homeassistant/#", "inline/#"]

[[subscribe]]
topic = "old/#"
plaintext = "pass"
"##;

fn fleet() -> Fleet {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    Fleet::with_broker(authority, broker)
}

/// The same through this project's broker and through a stock Mosquitto, with MQTT 3.1.1 and 5.
fn everywhere(check: impl Fn(&Fleet, &str)) {
    for fleet in [Fleet::start(), fleet()] {
        for version in ["mqttv311", "mqttv5"] {
            check(&fleet, version);
        }
    }
}

fn home(fleet: &Fleet, version: &str) -> PathBuf {
    fleet.enrol(&format!("home-{version}"), "site = home")
}

/// `mosquitto_pub` with `arguments`, to its end.
fn put(gateway: &Service, version: &str, arguments: &[&str]) {
    let _ = run(client("mosquitto_pub", gateway, version).args(arguments)).success();
}

#[test]
fn with_mosquitto_clients_what_is_published_is_sealed_and_what_is_subscribed_to_is_opened() {
    everywhere(|fleet, version| {
        let gateway = start(fleet, &home(fleet, version), RULES);
        let anna = fleet.enrol(&format!("anna-{version}"), "site = home");
        let visitor = fleet.enrol(&format!("visitor-{version}"), "site = elsewhere");
        // Everything that the broker relays, as it relays it.
        let mut broker = mosquitto::client("mosquitto_sub", &visitor, fleet.broker.port(), version);
        broker.args(["-t", "#", "-F", "got %t %x"]);
        let broker = mosquitto::subscribed(broker);
        let local = ["-t", "house/#", "-q", "2", "-F", "got %t %p"];
        let local = subscribed(&gateway, version, &local);
        let reader = subscribe(&anna, "#", &["-v"]);
        let refused = subscribe(&visitor, "house/#", &[]);
        for qos in ["0", "1", "2"] {
            let topic = format!("house/{qos}");
            put(
                &gateway,
                version,
                &["-t", &topic, "-q", qos, "-m", "21.5 degrees"],
            );
            local.wait_for_stdout(&format!("got {topic} 21.5 degrees"));
            reader.wait_for_stdout(&format!("{topic} 21.5 degrees"));
        }
        put(&gateway, version, &["-t", "inline/a", "-m", "in front"]);
        reader.wait_for_stdout("inline/a in front");
        refused.wait_for_stderr("not authorised");
        let _ = run(&mut publish(
            &anna,
            "house/from-anna",
            "site = home",
            &["-m", "hello"],
        ))
        .success();
        local.wait_for_stdout("got house/from-anna hello");

        broker.wait_for_stdout("got house/from-anna");
        let relayed = broker.interrupt().text();
        assert!(relayed.contains("got house/2 "), "{relayed}");
        let plain: String = b"degrees"
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(!relayed.contains(&plain), "{relayed}");
        let told = gateway.stop().success();
        assert!(told.stderr.contains("4 messages sealed"), "{}", told.stderr);
    });
}

#[test]
fn with_mosquitto_clients_what_no_rule_allows_is_refused() {
    everywhere(|fleet, version| {
        let gateway = start(fleet, &home(fleet, version), RULES);
        let visitor = fleet.enrol(&format!("visitor-{version}"), "site = elsewhere");
        let mut broker = mosquitto::client("mosquitto_sub", &visitor, fleet.broker.port(), version);
        broker.args(["-t", "#", "-F", "got %t"]);
        let broker = mosquitto::subscribed(broker);
        for topic in ["elsewhere", "house/private/x", "smqtt/keys/house/x"] {
            let _ = run(client("mosquitto_pub", &gateway, version)
                .args(["-t", topic, "-q", "1", "-m", "secret"]));
        }
        gateway
            .running()
            .wait_for_stderr("no publish rule allows it");
        for filter in [
            "#",
            "house/private/#",
            "+/private/x",
            "smqtt/keys/#",
            "$SYS/#",
        ] {
            let mut sub = client("mosquitto_sub", &gateway, version);
            let ended = run(sub.args(["-t", filter, "-W", "30"]));
            assert!(
                ended.stderr.contains("denied") || ended.stderr.contains("refused"),
                "{filter}: {ended:?}"
            );
        }
        put(
            &gateway,
            version,
            &["-t", "house/mark", "-q", "1", "-m", "end"],
        );
        broker.wait_for_stdout("got house/mark");
        let relayed = broker.interrupt().text();
        for topic in ["elsewhere", "private"] {
            assert!(!relayed.contains(topic), "{relayed}");
        }
        let told = gateway.stop().success();
        assert!(told.stderr.contains("publishes refused"), "{}", told.stderr);
        assert!(
            told.stderr.contains("5 subscriptions refused"),
            "{}",
            told.stderr
        );
    });
}

#[test]
fn with_mosquitto_clients_plaintext_from_the_broker_passes_only_where_a_rule_says_so() {
    everywhere(|fleet, version| {
        let gateway = start(fleet, &home(fleet, version), RULES);
        let other = fleet.enrol(&format!("other-{version}"), "site = home");
        let local = subscribed(
            &gateway,
            version,
            &["-t", "house/#", "-t", "old/#", "-q", "1", "-v"],
        );
        for topic in ["house/a", "old/a"] {
            let mut put = mosquitto::client("mosquitto_pub", &other, fleet.broker.port(), version);
            let _ = run(put.args(["-t", topic, "-q", "1", "-m", "plain"])).success();
        }
        let _ = run(&mut publish(
            &other,
            "old/b",
            "site = home",
            &["-m", "sealed"],
        ))
        .success();
        local.wait_for_stdout("old/b sealed");
        gateway.running().wait_for_stderr("it is not encrypted");
        assert_eq!(
            local
                .interrupt()
                .text()
                .lines()
                .filter(|line| line.contains(" plain"))
                .collect::<Vec<_>>(),
            ["old/a plain"]
        );
        let told = gateway.stop().success();
        assert!(
            told.stderr.contains("1 passed unsealed, 1 not opened"),
            "{}",
            told.stderr
        );
    });
}

#[test]
fn with_mosquitto_clients_what_comes_faster_than_the_broker_takes_it_comes_whole_and_in_order() {
    everywhere(|fleet, version| {
        let gateway = start(fleet, &home(fleet, version), RULES);
        let anna = fleet.enrol(&format!("anna-{version}"), "site = home");
        let lines: String = (0..2000).map(|number| format!("{number}\n")).collect();
        for qos in ["0", "1", "2"] {
            let topic = format!("house/{version}/{qos}");
            let local = ["-t", &topic, "-q", "1", "-C", "2000", "-F", "%p"];
            let local = subscribed(&gateway, version, &local);
            let reader = subscribe(&anna, &topic, &["-C", "2000"]);
            let mut writer = client("mosquitto_pub", &gateway, version);
            writer.args(["-t", &topic, "-q", qos, "-l"]);
            let _ = run_with_input(&mut writer, lines.as_bytes()).success();
            assert_eq!(reader.wait().success().text(), lines, "{version} {qos}");
            if qos != "0" {
                // What -d says stands between the lines.
                let told = local.wait().success().text();
                let is_number = |line: &&str| line.parse::<u32>().is_ok();
                let told: String = told
                    .lines()
                    .filter(is_number)
                    .fold(String::new(), |text, line| text + line + "\n");
                assert_eq!(told, lines, "{version} {qos}");
            }
        }
    });
}

fn paho(gateway: &Service, scenario: &str) -> Command {
    let python =
        std::env::var_os("SMQTT_TEST_PYTHON").expect("scripts/test.sh sets SMQTT_TEST_PYTHON");
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(repository().join("tests/tests/paho_gateway.py"))
        .arg(gateway.port().to_string())
        .arg(scenario);
    command
}

#[test]
fn with_paho_clients_discovery_retained_states_wills_and_sessions_pass_unchanged() {
    for fleet in [Fleet::start(), fleet()] {
        let gateway = start(&fleet, &home(&fleet, "v5"), RULES);
        let shown = run(&mut paho(&gateway, "discovery")).success();
        assert_eq!(shown.text().matches("ok ").count(), 12, "{}", shown.text());
    }
}

#[test]
fn with_paho_clients_a_session_survives_the_gateway() {
    for fleet in [Fleet::start(), fleet()] {
        let identity = home(&fleet, "v5");
        let anna = fleet.enrol("anna", "site = home");
        let gateway = start(&fleet, &identity, RULES);
        let before = Running::start(&mut paho(&gateway, "leave"));
        let mut writers = Vec::new();
        for (number, version) in ["3.1.1", "5"].into_iter().enumerate() {
            let said = |word: &'static str| {
                move |text: &str| (text.matches(word).count() == number + 1).then_some(())
            };
            before.watch_stdout(said("subscribed"));
            let topic = format!("house/log-{version}");
            let mut writer = publish(&anna, &topic, "site = home", &["-l"]);
            let mut writer = Running::start(&mut writer);
            writer.write(b"one\n");
            before.watch_stdout(said("left"));
            writers.push(writer);
        }
        let _ = before.wait().success();
        gateway.running().signal("KILL");
        drop(gateway);
        // Under the key frames that the gateway knew that is no more.
        for writer in &mut writers {
            writer.write(b"two\nthree\n");
        }
        let again = start(&fleet, &identity, RULES);
        let after = run(&mut paho(&again, "return")).success();
        assert_eq!(after.text().matches("ok ").count(), 2, "{}", after.text());
        for writer in writers {
            let _ = writer.interrupt();
        }
    }
}

/// A stock Mosquitto at `port`, which keeps sessions over a restart or forgets them.
fn mosquitto_at(authority: &Authority, port: u16, keeps: bool) -> Service {
    let tls = authority.root().join("mosquitto-tls");
    if !tls.exists() {
        let _ = authority.issue_server("mosquitto-tls");
    }
    let config = authority.root().join("mosquitto-at.conf");
    let text = format!(
        "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {crt}\nkeyfile {key}\nrequire_certificate true\n\
         allow_anonymous true\npersistence {keeps}\npersistence_location {root}/\nlog_dest stderr\nuser root\n",
        ca = tls.join("ca.crt").display(),
        crt = tls.join("server.crt").display(),
        key = tls.join("server.key").display(),
        root = authority.root().display(),
    );
    std::fs::write(&config, text).expect("the configuration can be written");
    let mut running = Running::start(mosquitto::command("mosquitto").arg("-c").arg(&config));
    assert!(
        wait_for_port(port, &mut running),
        "mosquitto did not come up"
    );
    Service::adopt(running, format!("mqtts://127.0.0.1:{port}"))
}

/// Runs a scenario during which the broker goes and comes, once for each version of MQTT.
fn with_a_broker_that_goes_and_comes(scenario: &str, keeps: bool) -> String {
    let authority = Authority::init();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let broker = mosquitto_at(&authority, port, keeps);
    let fleet = Fleet::with_broker(authority, broker);
    let gateway = start(&fleet, &home(&fleet, "v5"), RULES);
    let mut clients = Running::start(&mut paho(&gateway, scenario));
    let Fleet {
        authority,
        mut broker,
        service: _service,
    } = fleet;
    for round in 1..=2 {
        let said = |word: &'static str| {
            move |text: &str| (text.matches(word).count() == round).then_some(())
        };
        clients.watch_stdout(said("stop\n"));
        let _ = broker.stop();
        clients.write(b"\n");
        clients.watch_stdout(said("start\n"));
        broker = mosquitto_at(&authority, port, keeps);
        clients.write(b"\n");
    }
    clients.wait().success().text()
}

#[test]
fn with_paho_clients_qos_1_survives_a_broker_that_goes_and_comes() {
    let shown = with_a_broker_that_goes_and_comes("restart", true);
    assert_eq!(shown.matches("ok ").count(), 4, "{shown}");
}

#[test]
fn with_paho_clients_qos_1_and_2_survive_a_broker_that_forgets_sessions() {
    let shown = with_a_broker_that_goes_and_comes("forgetful", false);
    assert_eq!(shown.matches("ok ").count(), 4, "{shown}");
}

#[test]
fn with_mosquitto_clients_client_ids_are_ones_that_a_strict_broker_admits() {
    let authority = Authority::init();
    let config = authority.root().join("broker.toml");
    std::fs::write(&config, "[access]\nclient_id = \"prefix\"\n").expect("it can be written");
    let mut strict = broker_command(&authority, "mqtts://");
    strict.arg("--config").arg(&config);
    let broker = Service::start(&mut strict, "mqtts://");
    let fleet = Fleet::with_broker(authority, broker);
    let gateway = start(&fleet, &home(&fleet, "strict"), RULES);
    for version in ["mqttv311", "mqttv5"] {
        for name in ["DVES_0A1B2C", "Kitchen light/2"] {
            put(
                &gateway,
                version,
                &["-t", "house/a", "-m", "x", "-q", "1", "-i", name],
            );
        }
    }
}

#[test]
fn with_mosquitto_clients_one_that_reads_nothing_keeps_nobody_from_reading() {
    let fleet = Fleet::start();
    let gateway = start(&fleet, &home(&fleet, "slow"), RULES);
    let lazy = ["-t", "house/large", "-q", "1", "-F", "got"];
    let lazy = subscribed(&gateway, "mqttv5", &lazy);
    lazy.signal("STOP");
    let eager = subscribed(
        &gateway,
        "mqttv5",
        &["-t", "house/large", "-q", "1", "-F", "got %l"],
    );
    let large = vec![b'x'; 500_000];
    for _ in 0..40 {
        let mut writer = client("mosquitto_pub", &gateway, "mqttv5");
        let _ =
            run_with_input(writer.args(["-t", "house/large", "-q", "1", "-s"]), &large).success();
    }
    eager.watch_stdout(|text| (text.matches("got 500000").count() == 40).then_some(()));
    // Nor is anything lost for it.
    lazy.signal("CONT");
    lazy.watch_stdout(|text| (text.matches("got\n").count() == 40).then_some(()));
}

#[test]
fn with_mosquitto_clients_users_have_to_log_in() {
    let fleet = Fleet::start();
    let rules = format!("{RULES}\n[users]\nhub = \"letmein\"\n");
    let identity = home(&fleet, "users");
    let mut unsafe_file = command(&fleet, &identity, &rules);
    let refused = run(&mut unsafe_file);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
    assert_eq!(refused.code(), 3);
    let private = || {
        let mut command = command(&fleet, &identity, &rules);
        let file = fleet.authority.root().join("gateway.toml");
        let _ = run(Command::new("chmod").arg("600").arg(file)).success();
        command.args(["--max-clients", "2"]);
        command
    };
    let gateway = Service::start(&mut private(), "mqtt://");
    for version in ["mqttv311", "mqttv5"] {
        for credentials in [
            &[][..],
            &["-u", "hub"],
            &["-u", "hub", "-P", "wrong"],
            &["-u", "x", "-P", "letmein"],
        ] {
            let mut pub_ = client("mosquitto_pub", &gateway, version);
            let ended = run(pub_.args(["-t", "house/a", "-m", "x"]).args(credentials));
            assert_ne!(ended.code(), 0, "{version} {credentials:?}");
        }
        put(
            &gateway,
            version,
            &[
                "-t", "house/a", "-m", "x", "-q", "1", "-u", "hub", "-P", "letmein",
            ],
        );
    }
    let told = gateway.stop().success();
    assert!(
        told.stderr
            .contains("2 clients, 2 messages sealed, 0 opened, 8 clients refused"),
        "{}",
        told.stderr
    );
}

#[test]
fn with_mosquitto_clients_messages_that_overtake_their_key_frame_wait_for_it() {
    let authority = Authority::init();
    let plain = plain_broker(&authority);
    let fleet = Fleet::with_broker(authority, plain);
    let anna = fleet.enrol("anna", "site = home");
    // The frame comes to the gateway behind the second message.
    let mut held = Vec::new();
    let mut overtaken = 0;
    let relay = Relay::start(
        &fleet.authority,
        fleet.broker.port(),
        Box::new(move |publish| {
            if announce::is_reserved(publish.topic.as_str()) && overtaken < 2 {
                held.push(publish);
                return Vec::new();
            }
            overtaken += 1;
            let mut all = vec![publish];
            if overtaken == 2 {
                all.append(&mut held);
            }
            all
        }),
    );
    let identity = home(&fleet, "late");
    let mut command = command(&fleet, &identity, RULES);
    let gateway = Service::start(command.args(["--broker", &relay.url()]), "mqtt://");
    let local = ["-t", "house/#", "-q", "1", "-F", "%p"];
    let local = subscribed(&gateway, "mqttv5", &local);
    let mut writer = publish(&anna, "house/anna", "site = home", &["-l"]);
    writer.args(["--broker", &relay.url()]);
    let mut writer = Running::start(&mut writer);
    for line in ["one", "two", "three"] {
        writer.write(format!("{line}\n").as_bytes());
    }
    local.wait_for_stdout("three");
    let _ = writer.interrupt().success();
    let read = local.interrupt().text();
    let read: Vec<_> = read.lines().filter(|line| !line.contains(' ')).collect();
    assert_eq!(read, ["one", "two", "three"]);
    let told = gateway.stop().success();
    assert!(told.stderr.contains("3 opened"), "{}", told.stderr);
}
