//! The configuration and the files that it names change while clients stay connected.

mod harness;

use std::path::PathBuf;

use harness::{
    Broker, Client, HOUR, Options, TestPki, connect_tls, lasting, publish, replace, run,
    served_certificate, utf8, wait_for,
};
use smqtt_pki::{UnixTime, Validity};
use smqtt_proto::packet::Will;
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode, TopicName};

/// A broker with a configuration file of its own.
struct Site {
    broker: Broker,
    config: PathBuf,
    _dir: tempfile::TempDir,
}

impl Site {
    /// An open broker with this file.
    fn open(text: &str) -> Site {
        let listener = ["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"];
        Site::with(text, listener.map(str::to_owned).to_vec())
    }

    fn with(text: &str, mut args: Vec<String>) -> Site {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = dir.path().join("broker.toml");
        std::fs::write(&config, text).expect("write");
        args.extend(["--config", utf8(&config), "--workers", "2"].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Site {
            broker: Broker::start(&args),
            config,
            _dir: dir,
        }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.config, text).expect("write");
    }

    /// Sends SIGHUP and waits for a line with `outcome`.
    fn hang_up(&mut self, outcome: &str) -> String {
        self.broker.signal("HUP");
        self.broker.wait_for_line(outcome)
    }
}

const RELOADED: &str = "reloaded the configuration";
const REFUSED: &str = "did not reload";
const BY_SIGNAL_ONLY: &str = "[reload]\nwatch = false\n";

fn levels(levels: usize, rest: &str) -> String {
    format!("[limits]\ntopic_levels = {levels}\n{rest}")
}

#[test]
fn sighup_puts_new_limits_in_force_and_a_bad_file_changes_nothing() {
    let mut site = Site::open(&levels(2, BY_SIGNAL_ONLY));
    let mut client = Client::connect(site.broker.port(), Options::v5("c"));
    let refused = ReasonCode::TopicFilterInvalid;
    assert_eq!(client.subscribe("a/b/c", QoS::AtLeastOnce), refused);
    site.write(&levels(3, BY_SIGNAL_ONLY));
    site.hang_up(RELOADED);
    wait_for(|| {
        (client.subscribe("a/b/c", QoS::AtLeastOnce) == ReasonCode::GrantedQoS1).then_some(())
    });
    site.write(&format!("[limits]\ntopic_lewels = 4\n{BY_SIGNAL_ONLY}"));
    let line = site.hang_up(REFUSED);
    for words in [
        "broker.toml:2: unknown key `topic_lewels`; the nearest known key is `topic_levels`",
        "what was in force stays in force",
    ] {
        assert!(line.contains(words), "{line}");
    }
    // Well-formed, and invalid as a whole: none of it is taken.
    site.write(&levels(9, "max_packet_bytes = 3\n"));
    assert!(site.hang_up(REFUSED).contains("max_packet_bytes"));
    assert_eq!(client.subscribe("a/b/c/d", QoS::AtLeastOnce), refused);
    assert_eq!(
        client.subscribe("a/b/c", QoS::AtLeastOnce),
        ReasonCode::GrantedQoS1
    );
    std::fs::remove_file(&site.config).expect("remove");
    assert!(site.hang_up(REFUSED).contains("broker.toml"));
    client.settle();
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_is_in_force() {
    let mut site = Site::open(BY_SIGNAL_ONLY);
    let mut client = Client::connect(site.broker.port(), Options::v5("c"));
    let data_dir = "data_dir = \"/nowhere/else\"\n";
    site.write(&format!("{data_dir}{}", levels(1, BY_SIGNAL_ONLY)));
    let line = site.hang_up("need a restart");
    assert!(line.contains("data_dir"), "{line}");
    wait_for(|| {
        (client.subscribe("a/b", QoS::AtMostOnce) == ReasonCode::TopicFilterInvalid).then_some(())
    });
}

#[test]
fn a_changed_file_is_noticed_however_it_came() {
    let mut site = Site::open(&levels(1, ""));
    let mut client = Client::connect(site.broker.port(), Options::v5("c"));
    // Written in place.
    site.write(&levels(2, ""));
    site.broker.wait_for_line("a file has changed");
    wait_for(|| (client.subscribe("a/b", QoS::AtMostOnce) == ReasonCode::Success).then_some(()));
    // Renamed into place.
    replace(&site.config, levels(3, "").as_bytes(), 0o644);
    site.broker.wait_for_line("a file has changed");
    wait_for(|| (client.subscribe("a/b/c", QoS::AtMostOnce) == ReasonCode::Success).then_some(()));
    // Broken, which is said once, and mended.
    site.write("[limits\n");
    site.broker.wait_for_line(REFUSED);
    site.write(&levels(4, ""));
    let line = site.broker.wait_for_line("a file has changed");
    assert!(line.contains(RELOADED), "{line}");
}

#[test]
fn the_log_level_follows() {
    let mut site = Site::open(BY_SIGNAL_ONLY);
    site.write(&format!("[log]\nlevel = \"debug\"\n{BY_SIGNAL_ONLY}"));
    site.hang_up(RELOADED);
    Client::connect(site.broker.port(), Options::v5("seen")).disconnect();
    site.broker.wait_for_line("client connected");
    site.write(&format!(
        "[log]\nlevel = \"no=such=level\"\n{BY_SIGNAL_ONLY}"
    ));
    assert!(site.hang_up(REFUSED).contains("no=such=level"));
}

#[test]
fn a_new_server_certificate_is_shown_to_new_clients_while_old_ones_go_on() {
    let mut pki = TestPki::new(1);
    let device = pki.device("sensor");
    let mut site = Site::with("", pki.arguments());
    let port = site.broker.port();
    let mut old = connect_tls(port, &device, ProtocolVersion::V5);
    old.handshake(Options::v5("old"));
    old.subscribe("t", QoS::AtLeastOnce);
    let before = served_certificate(port, &device);
    let renewed = pki.renew_server();
    assert_ne!(before, renewed);
    site.broker.wait_for_line(RELOADED);
    wait_for(|| (served_certificate(port, &device) == renewed).then_some(()));
    let mut new = connect_tls(port, &device, ProtocolVersion::V5);
    new.handshake(Options::v5("new"));
    new.publish("t", QoS::AtLeastOnce, "still here");
    assert_eq!(old.receive_text(), "still here");
    // A key that does not belong to the certificate is refused, and the pair in use stays.
    replace(&pki.path("server.key"), b"no key", 0o600);
    site.broker.wait_for_line(REFUSED);
    assert_eq!(served_certificate(port, &device), renewed);
}

/// A site with a revocation list, `$SYS` each second, and this beside it.
fn with_list(pki: &TestPki, config: &str) -> Site {
    let mut args = pki.arguments();
    args.extend(["--tls-crl".to_owned(), utf8(&pki.path("ca.crl")).to_owned()]);
    Site::with(&format!("[sys]\ninterval_seconds = 1\n{config}"), args)
}

/// Waits until a retained number is so.
fn wait_for_number(client: &mut Client, topic: &str, number: &str) {
    client.subscribe(topic, QoS::AtMostOnce);
    while client.receive_text() != number {}
    client.unsubscribe_quietly(topic);
}

#[test]
fn who_is_revoked_is_put_out_with_all_that_it_had_and_stays_out() {
    let mut pki = TestPki::new(2);
    let good = pki.device("good");
    let (stolen, stolen_serial) = pki.device_for("stolen", HOUR);
    let (away, away_serial) = pki.device_for("away", HOUR);
    let (old, old_serial) = pki.device_for("old", HOUR);
    pki.revoke(1, &[], lasting(HOUR));
    let mut site = with_list(&pki, "");
    let port = site.broker.port();
    let connect = |config, options: Options| {
        let mut client = connect_tls(port, config, options.0.version);
        assert_eq!(client.handshake(options).reason, ReasonCode::Success);
        client
    };
    let mut watcher = connect(&good, Options::v5("watcher"));
    watcher.subscribe("gone", QoS::AtLeastOnce);
    let will = Will {
        topic: TopicName::new("gone").expect("topic"),
        payload: "stolen".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Default::default(),
    };
    let mut thief = connect(&stolen, Options::v5("thief").persistent().will(will));
    let mut elder = connect(&old, Options::v3("elder"));
    let mut absent = connect(&away, Options::v5("absent").persistent());
    absent.subscribe("t", QoS::AtLeastOnce);
    absent.vanish();
    wait_for_number(&mut watcher, "$SYS/broker/clients/total", "4");
    pki.revoke(2, &[stolen_serial, away_serial, old_serial], lasting(HOUR));
    thief.expect_disconnect(ReasonCode::AdministrativeAction);
    elder.expect_disconnect(ReasonCode::AdministrativeAction);
    assert_eq!(watcher.receive_text(), "stolen");
    site.broker.wait_for_line("its certificate is revoked");
    wait_for_number(&mut watcher, "$SYS/broker/clients/total", "1");
    wait_for_number(&mut watcher, "$SYS/broker/clients/expelled", "3");
    // The same configuration, with all that it remembers of the handshake before.
    let refused =
        connect_tls(port, &stolen, ProtocolVersion::V5).handshake_error(Options::v5("thief"));
    assert!(refused.contains("CertificateRevoked"), "{refused}");
    site.broker.wait_for_line("the authority has taken it back");
    wait_for_number(&mut watcher, "$SYS/broker/connections/revoked", "1");
    // An older list would let it in again.
    pki.revoke(1, &[], lasting(HOUR));
    let line = site.broker.wait_for_line(REFUSED);
    assert!(line.contains("number 1 is older than 2"), "{line}");
    connect_tls(port, &stolen, ProtocolVersion::V5).handshake_error(Options::v5("thief"));
    wait_for_number(&mut watcher, "$SYS/broker/reloads/refused", "1");
    watcher.settle();
}

#[test]
fn a_list_that_has_expired_lets_no_device_in() {
    let mut pki = TestPki::new(3);
    let device = pki.device("sensor");
    let past = |seconds| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            UnixTime::now().as_secs() - seconds,
        ))
    };
    // From the authority's own beginning on, which was five minutes ago.
    let expired = Validity::new(past(200), past(100)).expect("a time");
    pki.revoke(7, &[], expired);
    let mut site = with_list(&pki, "");
    // Which may come before the line about the listener.
    site.broker.has_logged("the revocation list has expired");
    let refused = connect_tls(site.broker.port(), &device, ProtocolVersion::V5)
        .handshake_error(Options::v5("c"));
    assert!(refused.contains("alert"), "{refused}");
    site.broker
        .wait_for_line("no device is admitted until tls.crl is renewed");
    pki.revoke(8, &[], lasting(HOUR));
    site.broker.wait_for_line(RELOADED);
    wait_for(|| {
        let mut client = connect_tls(site.broker.port(), &device, ProtocolVersion::V5);
        let connack = client.try_handshake(Options::v5("c"))?;
        (connack.reason == ReasonCode::Success).then_some(())
    });
}

#[test]
fn a_list_of_another_authority_is_no_list() {
    let pki = TestPki::new(4);
    let other = TestPki::new(5);
    other.revoke(1, &[], lasting(HOUR));
    let mut args = pki.arguments();
    args.extend([
        "--tls-crl".to_owned(),
        utf8(&other.path("ca.crl")).to_owned(),
    ]);
    args.push("--check-config".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 4, "{stderr}");
    assert!(
        stderr.contains("ca.crl: the revocation list is unusable"),
        "{stderr}"
    );
}

#[test]
fn who_is_of_another_authority_than_the_new_one_is_put_out() {
    let mut pki = TestPki::new(6);
    let device = pki.device("sensor");
    let mut site = Site::with("", pki.arguments());
    let mut client = connect_tls(site.broker.port(), &device, ProtocolVersion::V5);
    client.handshake(Options::v5("c"));
    let other = TestPki::new(7);
    let root = std::fs::read(other.path("ca.crt")).expect("read");
    replace(&pki.path("ca.crt"), &root, 0o644);
    client.expect_disconnect(ReasonCode::AdministrativeAction);
    site.broker
        .wait_for_line("an authority that is not trusted any more");
}

#[test]
fn anonymous_clients_are_put_out_when_they_are_no_longer_admitted() {
    let mut pki = TestPki::new(8);
    let device = pki.device("sensor");
    let config = |anonymous: bool| {
        format!(
            "[[listener]]\nurl = \"mqtts://127.0.0.1:0\"\nallow_anonymous = {anonymous}\n{BY_SIGNAL_ONLY}"
        )
    };
    let mut args = pki.arguments();
    args.drain(..2);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("broker.toml");
    std::fs::write(&path, config(true)).expect("write");
    args.extend(["--config", utf8(&path)].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut broker = Broker::start_expecting(&args, 1);
    let port = broker.port();
    let mut anonymous = connect_tls(port, &pki.anonymous(), ProtocolVersion::V5);
    anonymous.handshake(Options::v5("a"));
    let mut known = connect_tls(port, &device, ProtocolVersion::V5);
    known.handshake(Options::v5("k"));
    std::fs::write(&path, config(false)).expect("write");
    broker.signal("HUP");
    anonymous.expect_disconnect(ReasonCode::AdministrativeAction);
    broker.wait_for_line("anonymous clients are no longer admitted");
    known.settle();
    connect_tls(port, &pki.anonymous(), ProtocolVersion::V5).handshake_error(Options::v5("a"));
}

#[test]
fn a_connection_ends_with_its_certificate_and_the_session_stays() {
    let mut pki = TestPki::new(9);
    let (short, _) = pki.device_for("sensor", 2);
    let site = Site::with("", pki.arguments());
    let port = site.broker.port();
    let mut client = connect_tls(port, &short, ProtocolVersion::V5);
    client.handshake(Options::v5("c").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.expect_disconnect(ReasonCode::MaximumConnectTime);
    let renewed = pki.device("sensor");
    let mut again = connect_tls(port, &renewed, ProtocolVersion::V5);
    let connack = again.handshake(Options::v5("c").persistent());
    assert!(connack.session_present);
    again.send(Packet::Publish(publish("t", QoS::AtMostOnce, "back")));
    assert_eq!(again.receive_text(), "back");
}

#[test]
fn a_connection_outlives_its_certificate_where_that_is_said() {
    let mut pki = TestPki::new(10);
    let (short, _) = pki.device_for("sensor", 2);
    let site = Site::with("[tls]\nend_at_expiry = false\n", pki.arguments());
    let mut client = connect_tls(site.broker.port(), &short, ProtocolVersion::V5);
    client.handshake(Options::v5("c"));
    client.expect_nothing_for(std::time::Duration::from_secs(4));
    client.settle();
}
