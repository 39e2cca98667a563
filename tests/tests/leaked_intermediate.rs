//! The key of the intermediate has leaked. Whoever has it is any device, until the root takes the intermediate back: then the
//! broker admits nobody with what it has issued, and a running reader believes nothing of it, on whatever way it comes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, IdentityKey, Intermediate, TrustAnchor, UnixTime,
    Validity, certificates_from_pem,
};
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::guarded::{Guarded, guarded_broker};
use smqtt_tests::programs::{PATIENCE, program, run};

/// What a thief makes with the intermediate's key: the identity of a device that has enrolled, with a key of his own.
fn forge(authority: &Authority, of: &Path) -> PathBuf {
    let read = |name: &str| std::fs::read(authority.path().join(name)).expect("a file");
    let anchor = TrustAnchor::from_pem(&read("ca.crt")).expect("the root");
    let mut issuing = certificates_from_pem(&read("issuing.crt")).expect("the intermediate");
    let issuing = Intermediate::verify(issuing.remove(0), &anchor).expect("the intermediate");
    let stolen = String::from_utf8(read("issuing.key")).expect("PEM");
    let thief = CertificateAuthority::load_intermediate(&stolen, issuing, anchor).expect("its key");
    let name = of.file_name().and_then(|name| name.to_str());
    let device = name.expect("a name").parse().expect("a name");
    let mut rng = StdRng::seed_from_u64(1);
    let key = IdentityKey::generate(&mut rng);
    let request = CertificateRequest::from_pem(&key.csr_pem(&device).expect("a request"));
    let validity = Validity::starting(UnixTime::now(), Duration::from_secs(86_400));
    let issued = thief
        .issue_device(
            &request.expect("a request"),
            &device,
            validity.expect("a day"),
            &mut rng,
        )
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
    let address = fleet
        .service
        .url()
        .trim_start_matches("https://")
        .to_owned();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let anna = fleet.enrol("anna", "role = operator");
    // This one comes through the other door: nobody ends its session.
    let reader = subscribe(&anna, "plant/#", &["--json", "--broker", &inside]);
    let forged = forge(&fleet.authority, &sensor);

    // The thief passes for the sensor, at the broker and to the reader; and reads what its attributes let him.
    let mut as_sensor = publish(&forged, "plant/1", "role = operator", &["-m", "forged 1"]);
    let _ = run(&mut as_sensor).success();
    reader.wait_for_stdout("forged 1");
    let session = subscribe(&forged, "plant/#", &["--no-renew"]);
    // But he renews nothing: the register knows what was issued, to the last byte.
    let renewal = run(program("smqtt").args(["renew", "-i"]).arg(&forged));
    assert_eq!(renewal.code(), 7, "{}", renewal.stderr);

    // The root takes the intermediate back.
    let mut renew = fleet
        .authority
        .command(&["root", "renew", "--new-key", "--yes"]);
    let renewed = run(&mut renew).success();
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
    let deadline = Instant::now() + PATIENCE;
    while epoch_of(&anna) < 2 {
        assert!(Instant::now() < deadline, "the reader does not renew");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&sensor)).success();
    let genuine = |message: &str| {
        let mut command = publish(&sensor, "plant/2", "role = operator", &["-m", message]);
        let _ = run(&mut command).success();
        reader.wait_for_stdout(message);
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
}
