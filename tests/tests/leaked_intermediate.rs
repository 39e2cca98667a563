//! The key of the intermediate has leaked. Whoever has it is any device, until the root takes the intermediate back: then the
//! broker admits nobody with what it has issued, and a running reader believes nothing of it, on whatever way it comes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use smqtt_format::{AuthorityState, STATE_TOPIC, Sealing, SignedState};
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, IdentityKey, Intermediate, TrustAnchor, UnixTime,
    Validity, certificates_from_pem,
};
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::guarded::{Guarded, guarded_broker};
use smqtt_tests::programs::{PATIENCE, Running, program, run};
use smqtt_tests::{gateway, mosquitto};

/// Whoever has the intermediate's key.
fn thief(authority: &Authority) -> CertificateAuthority {
    let read = |name: &str| std::fs::read(authority.path().join(name)).expect("a file");
    let anchor = TrustAnchor::from_pem(&read("ca.crt")).expect("the root");
    let mut issuing = certificates_from_pem(&read("issuing.crt")).expect("the intermediate");
    let issuing = Intermediate::verify(issuing.remove(0), &anchor).expect("the intermediate");
    let stolen = String::from_utf8(read("issuing.key")).expect("PEM");
    CertificateAuthority::load_intermediate(&stolen, issuing, anchor).expect("its key")
}

fn a_day() -> Validity {
    Validity::starting(UnixTime::now(), Duration::from_secs(86_400)).expect("a day")
}

/// What a thief makes with the intermediate's key: the identity of a device that has enrolled, with a key of his own.
fn forge(authority: &Authority, of: &Path) -> PathBuf {
    let name = of.file_name().and_then(|name| name.to_str());
    let device = name.expect("a name").parse().expect("a name");
    let mut rng = StdRng::seed_from_u64(1);
    let key = IdentityKey::generate(&mut rng);
    let request = CertificateRequest::from_pem(&key.csr_pem(&device).expect("a request"));
    let issued = thief(authority)
        .issue_device(&request.expect("a request"), &device, a_day(), &mut rng)
        .expect("a certificate");
    let forged = authority.root().join("forged");
    let _ = run(Command::new("cp").arg("-rp").arg(of).arg(&forged)).success();
    std::fs::write(
        forged.join("device.key"),
        key.to_pem().expect("PEM").as_bytes(),
    )
    .expect("written");
    std::fs::write(forged.join("device.crt"), issued.chain_pem()).expect("written");
    forged
}

/// The root takes the intermediate back, and the service begins anew with another one.
fn take_back(fleet: &mut Fleet) {
    let url = fleet.service.url();
    let address = url.trim_start_matches("https://").to_owned();
    let root_renew = ["root", "renew", "--new-key", "--yes"];
    let renewed = run(&mut fleet.authority.command(&root_renew)).success();
    assert!(
        renewed.stderr.contains("is taken back"),
        "{}",
        renewed.stderr
    );
    let served = fleet.service.running().wait_for_stderr("start again");
    assert!(served.contains("another intermediate"), "{served}");
    let mut serve = fleet.authority.command(&["serve", "--listen", &address]);
    serve.args(["--broker", fleet.broker.url()]);
    fleet.service = Service::start(&mut serve, "https://");
}

/// Waits for a renewal that nobody has asked for.
fn await_epoch(identity: &Path, epoch: u64) {
    let deadline = Instant::now() + PATIENCE;
    while epoch_of(identity) < epoch {
        assert!(
            Instant::now() < deadline,
            "{} does not renew",
            identity.display()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn renew(identity: &Path) {
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(identity)).success();
}

fn epoch_of(identity: &Path) -> u64 {
    let mut command = program("smqtt");
    command
        .args(["identity", "show", "--json", "-i"])
        .arg(identity);
    let shown: Value = serde_json::from_str(&run(&mut command).success().text()).expect("JSON");
    shown["epoch"].as_u64().expect("an epoch")
}

#[test]
fn an_intermediate_that_was_taken_back_is_believed_by_nobody() {
    let authority = Authority::init();
    // It lets in whom the lists leave and, through another door, whoever comes.
    let broker = guarded_broker(&authority, true);
    let inside = Guarded::inside(&broker);
    let mut fleet = Fleet::with_broker(authority, broker);
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    // This one comes through the other door: nobody ends its session.
    let reader = subscribe(&anna, "plant/#", &["--json", "--broker", &inside]);
    // These come by the front: a broker tells one of MQTT 5 why it ends its session.
    let ended = [("ben", "5"), ("cara", "3.1.1")].map(|(name, version)| {
        let device = fleet.enrol(name, "role = operator");
        subscribe(&device, "plant/#", &["--json", "--mqtt", version])
    });
    let forged = forge(&fleet.authority, &sensor);

    // The thief passes for the sensor, at the broker and to the reader; and reads what its attributes let him.
    let mut as_sensor = publish(&forged, "plant/1", "role = operator", &["-m", "forged 1"]);
    let _ = run(&mut as_sensor).success();
    reader.wait_for_stdout("forged 1");
    let session = subscribe(&forged, "plant/#", &["--no-renew"]);
    // But he renews nothing: the register knows what was issued, to the last byte.
    let renewal = run(program("smqtt").args(["renew", "-i"]).arg(&forged));
    assert_eq!(renewal.code(), 7, "{}", renewal.stderr);

    take_back(&mut fleet);
    // The broker has the lists, and ends the sessions of all who came with what the old one has issued.
    session.wait_for_stderr("the broker ended it");
    let renewed = fleet.authority.issue_server("renewed");
    for file in ["server.crt", "server.key"] {
        std::fs::copy(
            renewed.join(file),
            fleet.authority.root().join("broker").join(file),
        )
        .expect("put in place");
    }
    fleet.broker.running().signal("HUP");

    // The running reader renews by itself, and has the root's list then; so has who publishes.
    await_epoch(&anna, 2);
    renew(&sensor);
    // So do those whose sessions the broker has ended, and come back with what they got.
    for reader in &ended {
        reader.wait_for_stdout(r#""state":"restored""#);
    }
    let genuine = |message: &str| {
        let mut command = publish(&sensor, "plant/2", "role = operator", &["-m", message]);
        let _ = run(&mut command).success();
        reader.wait_for_stdout(message);
        for reader in &ended {
            reader.wait_for_stdout(message);
        }
    };
    genuine("genuine 1");

    // The thief is not let in. Where somebody lets him in, the reader refuses what he says.
    let mut outside = publish(&forged, "plant/1", "role = operator", &["-m", "forged 2"]);
    let refused = run(&mut outside);
    assert_ne!(refused.code(), 0, "{}", refused.stderr);
    let mut within = publish(&forged, "plant/3", "role = operator", &["-m", "forged 3"]);
    let _ = run(within.args(["--broker", &inside])).success();
    reader.wait_for_stdout("plant/3");
    genuine("genuine 2");
    let read = reader.interrupt();
    let about: Vec<Value> = read
        .text()
        .lines()
        .filter(|line| line.contains("plant/3"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(!about.is_empty());
    for event in about {
        assert!(
            event["type"] == "refused" || event["type"] == "key-refused",
            "{event}"
        );
    }
    assert!(!read.text().contains("forged 2") && !read.text().contains("forged 3"));
    for (reader, lost) in ended.into_iter().zip(["the broker ended it", "closed"]) {
        let read = reader.interrupt().success().text();
        assert!(read.contains(lost), "{read}");
        assert!(!read.contains("forged 3"), "{read}");
    }
}

#[test]
fn with_mosquitto_clients_a_gateway_that_runs_believes_nothing_that_was_taken_back() {
    let authority = Authority::init();
    let broker = guarded_broker(&authority, true);
    let inside = Guarded::inside(&broker);
    let mut fleet = Fleet::with_broker(authority, broker);
    let sensor = fleet.enrol("sensor", "role = sensor");
    let home = fleet.enrol("home", "role = operator");
    let mut command = gateway::command(&fleet, &home, "[[subscribe]]\ntopic = \"plant/#\"\n");
    let gateway = Service::start(command.args(["--broker", &inside]), "mqtt://");
    let filter = ["-t", "plant/#", "-q", "1", "-F", "%p"];
    let local = gateway::subscribed(&gateway, "mqttv5", &filter);
    let forged = forge(&fleet.authority, &sensor);
    let says = |identity: &Path, message: &str| {
        let mut command = publish(identity, "plant/1", "role = operator", &["-m", message]);
        let _ = run(command.args(["--broker", &inside])).success();
    };
    says(&forged, "forged 1");
    local.wait_for_stdout("forged 1");

    take_back(&mut fleet);
    await_epoch(&home, 2);
    renew(&sensor);
    says(&sensor, "genuine 1");
    local.wait_for_stdout("genuine 1");
    says(&forged, "forged 2");
    gateway.running().wait_for_stderr("not delivered");
    says(&sensor, "genuine 2");
    local.wait_for_stdout("genuine 2");
    let read = local.interrupt().text();
    assert!(!read.contains("forged 2"), "{read}");
}

#[test]
fn with_mosquitto_a_state_that_was_signed_below_a_leaked_key_moves_nobody_any_more() {
    let authority = Authority::init();
    let broker = mosquitto::plain_broker(&authority);
    let mut fleet = Fleet::with_broker(authority, broker);
    let port = fleet.broker.port().to_string();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    let log = ["--json", "--log", "smqtt_client=info"];
    let reader = subscribe(&anna, "plant/#", &log);
    let mut genuine = mosquitto::command("mosquitto_sub");
    genuine.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-C",
        "1",
        "-N",
        "-t",
        STATE_TOPIC,
    ]);
    let genuine = run(&mut genuine).success().stdout;
    let genuine = SignedState::parse(&genuine)
        .expect("a state")
        .content()
        .clone();

    // The thief passes for the authority, and says that there are epochs which there are not.
    let mut rng = StdRng::seed_from_u64(2);
    let passing = thief(&fleet.authority).issue_authority(a_day(), &mut rng);
    let passing = passing.expect("an identity");
    let file = fleet.authority.root().join("forged-state");
    let says = |sequence: u64, epoch: u64| {
        let state = AuthorityState {
            sequence,
            epoch,
            sealing: vec![Sealing { epoch, from: 0 }],
            ..genuine.clone()
        };
        std::fs::write(&file, passing.sign_state(&state).expect("signed")).expect("written");
        let mut publish = mosquitto::command("mosquitto_pub");
        publish.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-q",
            "1",
            "-r",
            "-t",
            STATE_TOPIC,
        ]);
        let _ = run(publish.arg("-f").arg(&file)).success();
    };
    // This one goes on publishing all the time.
    let lines = ["-l", "--log", "smqtt_client=info"];
    let mut speaker = Running::start(&mut publish(&sensor, "plant/1", "role = operator", &lines));
    speaker.write(b"before\n");
    reader.wait_for_stdout("before");
    says(1_000_000, 7);
    // As for a new epoch.
    reader.wait_for_stderr("renewed");
    speaker.wait_for_stderr("renewed");
    // For an epoch of which nobody has a key.
    speaker.write(b"for nobody\n");
    reader.wait_for_stdout("epoch-ahead");

    take_back(&mut fleet);
    await_epoch(&sensor, 2);
    await_epoch(&anna, 2);
    // Who seals comes back from there.
    speaker.write(b"genuine\n");
    reader.wait_for_stdout("genuine");
    assert!(!reader.stdout_so_far().contains("for nobody"));
    assert_eq!(epoch_of(&anna), 2);
    let _ = speaker.wait().success();

    says(2_000_000, 9);
    reader.wait_for_stderr("a state that is not the authority's was refused");
    // What he had said before keeps out nothing that the authority says, whatever the numbers.
    let mut advance = fleet
        .authority
        .command(&["epoch", "advance", "--overlap", "0s"]);
    let _ = run(&mut advance).success();
    await_epoch(&anna, 3);
    let _ = reader.interrupt().success();
}
