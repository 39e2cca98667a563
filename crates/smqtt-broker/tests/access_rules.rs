//! Who may do what: passwords, the access control list, sealed topics, SMQTT's own topics.

mod harness;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{
    Broker, Client, HOUR, Options, TestPki, command, connect_tls, publish, run, utf8, wait_for,
};
use smqtt_format::{KeyId, SealedMessage, Sequence};
use smqtt_proto::packet::{Publish, Will, WillProperties};
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode, TopicName};

/// A directory with a configuration, a list of rules and a password file.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site {
            dir: tempfile::tempdir().expect("temporary directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("write");
        self.path(name)
    }

    /// Sets a password with the program.
    fn passwd(&self, user: &str, password: &str) {
        let mut child = command(&["passwd", utf8(&self.path("passwords")), user, "--stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut stdin = child.stdin.take().expect("piped");
        writeln!(stdin, "{password}").expect("write");
        drop(stdin);
        assert!(child.wait().expect("end").success());
    }

    /// A configuration that names what is in this directory.
    fn configuration(&self, passwords: bool, rest: &str) -> PathBuf {
        let mut text = String::from("[access]\n");
        if passwords {
            text += &format!("passwords = {:?}\n", self.path("passwords"));
        }
        if self.path("acl.toml").exists() {
            text += &format!("acl = {:?}\n", self.path("acl.toml"));
        }
        self.write("broker.toml", &(text + rest))
    }
}

fn start(config: &Path, more: &[&str]) -> Broker {
    let mut args = vec!["--listen", "mqtt://127.0.0.1:0", "--workers", "4"];
    args.extend(["--config", utf8(config)]);
    args.extend(more);
    Broker::start(&args)
}

fn refusal(broker: &Broker, options: Options) -> ReasonCode {
    Client::raw(broker.port(), options.0.version)
        .handshake(options)
        .reason
}

#[test]
fn passwords_admit_their_users_and_nobody_else() {
    let site = Site::new();
    site.passwd("alice", "first");
    site.passwd("alice", "secret");
    site.passwd("bob", "other");
    let (code, users, _) = run(&["passwd", utf8(&site.path("passwords")), "--list"]);
    assert_eq!((code, users.as_str()), (0, "alice\nbob\n"));
    let broker = start(&site.configuration(true, ""), &[]);
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let options = || Options::new(version, "c");
        // On whichever workers connection and session are.
        for _ in 0..4 {
            let mut client = Client::connect(broker.port(), options().user("alice", "secret"));
            client.settle();
        }
        for (user, password) in [("alice", "first"), ("nobody", "secret"), ("bob", "")] {
            let reason = refusal(&broker, options().user(user, password));
            assert_eq!(reason, ReasonCode::BadUserNameOrPassword, "{user}");
        }
        assert_eq!(refusal(&broker, options()), ReasonCode::NotAuthorized);
    }
}

#[test]
fn a_users_session_is_not_another_users() {
    let site = Site::new();
    site.passwd("alice", "a");
    site.passwd("bob", "b");
    let broker = start(&site.configuration(true, ""), &["--allow-anonymous"]);
    let persistent = || Options::v5("shared").persistent();
    let mut alice = Client::connect(broker.port(), persistent().user("alice", "a"));
    alice.subscribe("t", QoS::AtLeastOnce);
    alice.disconnect();
    for options in [persistent().user("bob", "b"), persistent()] {
        assert_eq!(refusal(&broker, options), ReasonCode::NotAuthorized);
    }
    let (_alice, connack) =
        Client::connect_with_ack(broker.port(), persistent().user("alice", "a"));
    assert!(connack.session_present);
}

#[test]
fn a_user_who_is_removed_is_put_out() {
    let site = Site::new();
    site.passwd("alice", "a");
    site.passwd("bob", "b");
    let mut broker = start(&site.configuration(true, ""), &[]);
    let mut alice = Client::connect(broker.port(), Options::v5("a").user("alice", "a"));
    let mut bob = Client::connect(broker.port(), Options::v5("b").user("bob", "b"));
    let (code, ..) = run(&["passwd", utf8(&site.path("passwords")), "alice", "--delete"]);
    assert_eq!(code, 0);
    broker.wait_for_line("reloaded the configuration");
    alice.expect_disconnect(ReasonCode::AdministrativeAction);
    bob.settle();
    let again = Options::v5("a").user("alice", "a");
    assert_eq!(refusal(&broker, again), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn a_password_file_that_is_not_one_keeps_the_broker_from_starting() {
    let site = Site::new();
    site.write("passwords", "alice:secret\n");
    let config = site.configuration(true, "");
    let listen = ["--listen", "mqtt://127.0.0.1:0", "--config", utf8(&config)];
    let (code, _, error) = run(&listen);
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("passwords: line 1: "), "{error}");
}

#[test]
fn with_mosquitto_clients_users_log_in() {
    let site = Site::new();
    site.passwd("alice", "secret");
    let broker = start(&site.configuration(true, ""), &[]);
    let publish = |password: &str| {
        let port = broker.port().to_string();
        Command::new("mosquitto_pub")
            .args(["-p", &port, "-t", "t", "-m", "m", "-q", "1"])
            .args(["-u", "alice", "-P", password])
            .output()
            .expect("mosquitto_pub runs")
            .status
            .success()
    };
    assert!(publish("secret"));
    assert!(!publish("wrong"));
}

const RULES: &str = r##"
[[rule]]
deny = ["subscribe", "publish"]
topics = ["plant/secret/#"]

[[rule]]
allow = ["publish", "subscribe"]
who = ["anonymous"]
topics = ["own/%c/#", "plant/#"]

[[rule]]
allow = ["retain"]
topics = ["plant/kept"]
"##;

#[test]
fn the_list_decides_what_is_published() {
    let site = Site::new();
    site.write("acl.toml", RULES);
    let broker = start(&site.configuration(false, ""), &["--allow-anonymous"]);
    let mut reader = Client::connect(broker.port(), Options::v5("reader"));
    reader.subscribe("plant/kept", QoS::AtLeastOnce);
    let denied = ReasonCode::NotAuthorized;
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for topic in ["own/c/x", "plant/a"] {
            assert!(!client.publish(topic, qos, "m").is_error(), "{topic}");
        }
        for topic in [
            "own/d/x",
            "plant/secret",
            "plant/secret/a",
            "house",
            "$SYS/x",
        ] {
            assert_eq!(client.publish(topic, qos, "m"), denied, "{topic}");
        }
        assert!(!client.retain("plant/kept", qos, "m").is_error());
        assert_eq!(client.retain("plant/other", qos, "m"), denied);
        // Clearing is retaining.
        assert_eq!(client.retain("plant/other", qos, ""), denied);
    }
    assert_eq!(reader.receive_text(), "m");
    assert_eq!(reader.receive_text(), "m");
    // QoS 0 goes nowhere and the connection stays; MQTT 3.1.1 is acknowledged.
    client.publish("house", QoS::AtMostOnce, "m");
    client.settle();
    let mut old = Client::connect(broker.port(), Options::v3("old"));
    assert_eq!(
        old.publish("house", QoS::AtLeastOnce, "m"),
        ReasonCode::Success
    );
    // A client id that looks like a filter is nothing but itself.
    let mut sly = Client::connect(broker.port(), Options::v5("+"));
    assert_eq!(sly.publish("own/c/x", QoS::AtLeastOnce, "m"), denied);
    assert_eq!(sly.subscribe("own/+/x", QoS::AtLeastOnce), denied);
}

#[test]
fn the_list_decides_what_is_subscribed_to() {
    let site = Site::new();
    site.write("acl.toml", RULES);
    let mut broker = start(&site.configuration(false, ""), &["--allow-anonymous"]);
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    let (granted, denied) = (ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized);
    for (filter, reason) in [
        ("own/c/#", granted),
        ("$share/g/plant/a/+", granted),
        ("plant/a", granted),
        ("plant/#", denied),
        ("$share/g/plant/#", denied),
        ("plant/secret/a", denied),
        ("own/+/x", denied),
        ("#", denied),
    ] {
        assert_eq!(
            client.subscribe(filter, QoS::AtLeastOnce),
            reason,
            "{filter}"
        );
    }
    let mut old = Client::connect(broker.port(), Options::v3("old"));
    assert_eq!(
        old.subscribe("#", QoS::AtLeastOnce),
        ReasonCode::UnspecifiedError
    );
    // What is no longer granted ends, while the connection stays.
    let text = RULES.replace(
        "\"plant/#\"]\n\n[[rule]]\nallow = [\"retain\"]",
        "\"other/#\"]\n\n[[rule]]\nallow = [\"publish\"]",
    );
    assert_ne!(text, RULES);
    site.write("acl.toml", &text);
    broker.wait_for_line("ended subscriptions that are not granted any more");
    wait_for(|| (client.subscribe("plant/a", QoS::AtLeastOnce) == denied).then_some(()));
    let mut publisher = Client::connect(broker.port(), Options::v5("p"));
    assert_eq!(publisher.publish("plant/a", QoS::AtLeastOnce, "m"), denied);
    assert_eq!(
        publisher.publish("plant/kept", QoS::AtLeastOnce, "m"),
        ReasonCode::NoMatchingSubscribers
    );
    client.expect_nothing();
}

#[test]
fn a_filter_may_be_denied_as_it_is_written() {
    let site = Site::new();
    site.write(
        "acl.toml",
        "[[rule]]\ndeny = [\"subscribe\"]\ntopics = [\"plant/#\"]\nexactly = true\n\
         [[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = [\"#\"]\n",
    );
    let broker = start(&site.configuration(false, ""), &["--allow-anonymous"]);
    let granted = ReasonCode::GrantedQoS1;
    for (filter, reason) in [
        ("plant/#", ReasonCode::NotAuthorized),
        ("$share/g/plant/#", ReasonCode::NotAuthorized),
        ("plant/+", granted),
        ("plant/a/#", granted),
        ("#", granted),
    ] {
        let mut client = Client::connect(broker.port(), Options::v5("c"));
        assert_eq!(
            client.subscribe(filter, QoS::AtLeastOnce),
            reason,
            "{filter}"
        );
    }
}

#[test]
fn a_will_is_judged_when_its_client_connects() {
    let site = Site::new();
    site.write("acl.toml", RULES);
    let rest = "[[sealed]]\nfilter = \"plant/sealed\"\n";
    let broker = start(&site.configuration(false, rest), &["--allow-anonymous"]);
    let will = |topic: &str| Will {
        topic: TopicName::new(topic).expect("topic"),
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    for (topic, reason) in [
        ("plant/a", ReasonCode::Success),
        ("house", ReasonCode::NotAuthorized),
        ("plant/sealed", ReasonCode::PayloadFormatInvalid),
    ] {
        let options = Options::v5("w").will(will(topic));
        assert_eq!(refusal(&broker, options), reason, "{topic}");
    }
}

/// What a sealed message looks like, to whoever cannot open it.
fn sealed(topic: &str, qos: QoS) -> Publish {
    let mut payload = Vec::new();
    SealedMessage::write_head(&mut payload, &KeyId([7; 8]), Sequence::FIRST, 3);
    payload.extend_from_slice(&[0; 3 + SealedMessage::TAG_LEN]);
    Publish {
        payload: payload.into(),
        ..publish(topic, qos, "")
    }
}

fn with_pki(pki: &TestPki, config: &Path) -> Broker {
    let arguments = pki.arguments();
    let mut args: Vec<&str> = arguments.iter().map(String::as_str).collect();
    args.extend([
        "--config",
        utf8(config),
        "--workers",
        "2",
        "--allow-anonymous",
    ]);
    Broker::start(&args)
}

#[test]
fn sealed_topics_take_envelopes_of_devices_only() {
    let site = Site::new();
    let mut pki = TestPki::new(31);
    let rest =
        "[[sealed]]\nfilter = \"plant/#\"\n[[sealed]]\nfilter = \"try/#\"\nmode = \"warn\"\n";
    let mut broker = with_pki(&pki, &site.configuration(false, rest));
    let port = broker.port();
    let device = pki.device("d1");
    let connect = |options: Options| {
        let mut client = connect_tls(port, &device, options.0.version);
        assert_eq!(client.handshake(options).reason, ReasonCode::Success);
        client
    };
    let invalid = ReasonCode::PayloadFormatInvalid;
    let mut client = connect(Options::v5("c"));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(client.publish("plant/a", qos, "21.5"), invalid);
        assert!(!client.publish_packet(sealed("plant/a", qos)).is_error());
        assert!(!client.publish("house", qos, "21.5").is_error());
        assert!(!client.publish("try/a", qos, "21.5").is_error());
    }
    broker.wait_for_line("accepted a message at a sealed topic");
    client.publish_packet(sealed("plant/a", QoS::AtMostOnce));
    client.settle();
    client.publish("plant/a", QoS::AtMostOnce, "21.5");
    client.expect_disconnect(invalid);
    let mut old = connect(Options::v3("old"));
    old.send(Packet::Publish(Publish {
        packet_id: smqtt_proto::PacketId::new(1),
        ..publish("plant/a", QoS::AtLeastOnce, "21.5")
    }));
    old.expect_disconnect(invalid);
    // Nobody's envelope matches no certificate.
    let mut anonymous = connect_tls(port, &pki.anonymous(), ProtocolVersion::V5);
    anonymous.handshake(Options::v5("nobody"));
    assert_eq!(
        anonymous.publish_packet(sealed("plant/a", QoS::AtLeastOnce)),
        invalid
    );
}

#[test]
fn devices_are_judged_by_their_certificates() {
    let site = Site::new();
    let mut pki = TestPki::new(32);
    site.write(
        "acl.toml",
        "[[rule]]\nallow = [\"publish\"]\nwho = [\"devices\"]\ntopics = [\"plant/%d/#\"]\n\
         [[rule]]\nallow = [\"publish\"]\nattributes = \"role = gateway and on-call\"\ntopics = [\"#\"]\n",
    );
    let config = site.configuration(
        false,
        "client_id = \"prefix\"\n[authority]\nurl = \"https://authority.example:8443\"\n",
    );
    let broker = with_pki(&pki, &config);
    let port = broker.port();
    let denied = ReasonCode::NotAuthorized;
    let mut plain = connect_tls(port, &pki.device("d1"), ProtocolVersion::V5);
    let connack = plain.handshake(Options::v5("d1-a"));
    assert_eq!(connack.reason, ReasonCode::Success);
    let told: Vec<(&str, &str)> = connack
        .properties
        .user_properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let fingerprint = pki.fingerprint();
    assert_eq!(
        told,
        [
            ("smqtt-authority-url", "https://authority.example:8443"),
            ("smqtt-ca-fingerprint", fingerprint.as_str()),
        ]
    );
    assert!(
        !plain
            .publish("plant/d1/t", QoS::AtLeastOnce, "m")
            .is_error()
    );
    assert_eq!(plain.publish("plant/d2/t", QoS::AtLeastOnce, "m"), denied);
    let (gateway, _) = pki.device_with("d2", &["role = gateway", "on-call"], HOUR);
    let mut gateway = connect_tls(port, &gateway, ProtocolVersion::V5);
    assert_eq!(
        gateway.handshake(Options::v5("d2")).reason,
        ReasonCode::Success
    );
    assert!(
        !gateway
            .publish("plant/d1/t", QoS::AtLeastOnce, "m")
            .is_error()
    );
    assert!(!gateway.publish("house", QoS::AtLeastOnce, "m").is_error());
    // A client id that is another device's.
    let mut thief = connect_tls(port, &pki.device("d3"), ProtocolVersion::V5);
    assert_eq!(
        thief.handshake(Options::v5("d1")).reason,
        ReasonCode::ClientIdentifierNotValid
    );
}

#[test]
fn smqtts_own_topics_are_guarded_without_any_list() {
    let broker = Broker::open();
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    let denied = ReasonCode::NotAuthorized;
    for topic in [
        "smqtt/authority/epoch",
        "smqtt/keys/a",
        "smqtt/keys/a/0707070707070707",
    ] {
        assert_eq!(
            client.retain(topic, QoS::AtLeastOnce, "forged"),
            denied,
            "{topic}"
        );
    }
    assert!(
        !client
            .publish("smqtt/other", QoS::AtLeastOnce, "m")
            .is_error()
    );
}

#[test]
fn acl_test_says_which_rule_decides() {
    let site = Site::new();
    site.write("acl.toml", RULES);
    let config = site.configuration(false, "");
    let acl = utf8(&site.path("acl.toml")).to_owned();
    let ask = |args: &[&str]| {
        let mut all = vec!["acl", "test", "--config", utf8(&config)];
        all.extend(args);
        let (code, out, error) = run(&all);
        assert_eq!(error, "");
        (code, out)
    };
    assert_eq!(
        ask(&["--client-id", "c", "publish", "own/c/x"]),
        (
            0,
            format!(
                "anonymous may publish own/c/x\n  {acl}:6: allow publish, subscribe to anonymous on own/%c/#, plant/#\n"
            )
        )
    );
    assert_eq!(
        ask(&["--user", "alice", "subscribe", "plant/#"]),
        (
            6,
            format!(
                "user alice may not subscribe plant/#\n  {acl}:2: deny subscribe, publish to everyone on plant/secret/#\n"
            )
        )
    );
    assert_eq!(
        ask(&["--device", "d1", "--json", "retain", "plant/kept"]),
        (
            6,
            "{\"action\":\"retain\",\"allowed\":false,\"client\":\"device d1\",\"reason\":\"no rule grants it\",\"rule\":null,\"sealed\":\"off\",\"topic\":\"plant/kept\"}\n"
                .to_owned()
        )
    );
    let (code, shown, _) = run(&["acl", "show", "--config", utf8(&config)]);
    assert_eq!(code, 0);
    assert!(
        shown.ends_with("otherwise: deny\n") && shown.lines().count() == 4,
        "{shown}"
    );
    let (code, ..) = run(&["acl", "test", "--config", utf8(&config), "publish", "a/#"]);
    assert_eq!(code, 3);
}
