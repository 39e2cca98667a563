//! Two instances on one database, behind one address: one is killed under load, and nothing that was answered is lost.

#[path = "../site/mod.rs"]
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::{Value, json};
use site::{Reply, Service, Site, csr, key};
use smqtt_pki::enrolment::{EnrolResponse, ProblemCode};
use smqtt_pki::{CertificateDer, TrustAnchor, tls};

/// What stands in front of the instances: connections go to one after the other, past one that does not answer.
struct Relay {
    address: SocketAddr,
    /// How many connections each instance got.
    served: Arc<[AtomicUsize; 2]>,
}

impl Relay {
    fn start(instances: [SocketAddr; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served: Arc<[AtomicUsize; 2]> = Arc::default();
        let counts = served.clone();
        std::thread::spawn(move || {
            for (number, near) in listener.incoming().flatten().enumerate() {
                let counts = counts.clone();
                std::thread::spawn(move || {
                    for choice in [number % 2, (number + 1) % 2] {
                        if let Ok(far) = TcpStream::connect(instances[choice]) {
                            counts[choice].fetch_add(1, Ordering::Relaxed);
                            return pass(near, far);
                        }
                    }
                });
            }
        });
        Self { address, served }
    }
}

/// Passes bytes both ways until both sides have ended.
fn pass(near: TcpStream, far: TcpStream) {
    let (mut a, mut b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = io::copy(&mut b, &mut a);
        let _ = a.shutdown(Shutdown::Both);
    });
    let (mut near, mut far) = (near, far);
    let _ = io::copy(&mut near, &mut far);
    let _ = far.shutdown(Shutdown::Write);
    let _ = back.join();
}

/// An authority, and a second instance of it: the same directory, elsewhere.
fn two(site: &Site) -> [Service; 2] {
    let second = site.dir.path().join("second");
    let copied = Command::new("cp")
        .arg("-a")
        .args([&site.path(), &second])
        .status();
    assert!(copied.unwrap().success());
    let mut other = site::program();
    other
        .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
        .arg(&second);
    [
        site.serve_with(&[]),
        Service::start(other, site.fingerprint()),
    ]
}

/// A device, as it asks whoever answers at an address, and asks again when the answer got lost.
struct Device<'a> {
    address: SocketAddr,
    anchor: &'a TrustAnchor,
    name: String,
    seed: u64,
    lost: &'a AtomicUsize,
}

impl Device<'_> {
    fn ask(&self, chain: Option<&[CertificateDer<'static>]>, path: &str, body: &Value) -> Reply {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match site::post(self.address, self.config(chain), path, &body.to_string()) {
                Ok(reply) => return reply,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.name),
            }
            self.lost.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn config(&self, chain: Option<&[CertificateDer<'static>]>) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.anchor.root().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        match chain {
            Some(chain) => config
                .with_client_auth_cert(chain.to_vec(), key(self.seed).to_der().unwrap())
                .unwrap(),
            None => config.with_no_client_auth(),
        }
    }

    fn enrol(&self, token: &str) -> EnrolResponse {
        let body = json!({ "token": token, "csr": csr(&self.name, self.seed) });
        self.ask(None, "/v1/enrol", &body).granted()
    }

    /// Begins a renewal and confirms it.
    fn renew(&self, held: &EnrolResponse) -> EnrolResponse {
        let body = json!({ "csr": csr(&self.name, self.seed) });
        let chain = held.certificates().unwrap().0;
        let given = self.ask(Some(&chain), "/v1/renew", &body).granted();
        let chain = given.certificates().unwrap().0;
        let body = json!({ "epoch": given.epoch });
        let reply = self.ask(Some(&chain), "/v1/renew/confirm", &body);
        assert_eq!(
            reply.status,
            204,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        given
    }
}

const DEVICES: usize = 60;
/// How many more are revoked meanwhile.
const VICTIMS: usize = 8;
const THREADS: usize = 6;

#[test]
fn one_of_two_instances_is_killed_under_load_and_no_operation_is_lost() {
    let site = Site::new();
    let tokens: Vec<String> = (0..DEVICES)
        .map(|n| format!("d-{n},role = sensor\n"))
        .collect();
    let file = site.dir.path().join("devices.csv");
    std::fs::write(&file, format!("name,attributes\n{}", tokens.concat())).unwrap();
    let tokens: Vec<String> = site
        .ok(&["device", "import", file.to_str().unwrap()])
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().to_owned())
        .collect();
    let root = std::fs::read(site.path().join("ca.crt")).unwrap();
    let anchor = TrustAnchor::from_pem(&root).unwrap();
    let [first, second] = two(&site);
    let relay = Relay::start([first.address, second.address]);
    for n in 0..VICTIMS {
        let name = format!("v-{n}");
        let token = site.add(&name, "role = sensor");
        second.enrol(&token, &csr(&name, 1000 + n as u64)).granted();
    }
    let revoked = Mutex::new(BTreeSet::new());
    let lost = AtomicUsize::new(0);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let held = Mutex::new(BTreeMap::new());
    let ended = AtomicBool::new(false);
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= DEVICES {
                            return;
                        }
                        let device = Device {
                            address: relay.address,
                            anchor: &anchor,
                            name: format!("d-{n}"),
                            seed: n as u64,
                            lost: &lost,
                        };
                        let given = device.enrol(&tokens[n]);
                        let renewed = device.renew(&given);
                        held.lock().unwrap().insert(device.name, [given, renewed]);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Epochs begin meanwhile, each number once, every other of them by a revocation.
        let operator = scope.spawn(|| {
            let mut victims = (0..VICTIMS).map(|n| format!("v-{n}"));
            while !ended.load(Ordering::Relaxed) {
                let epoch = site.ok(&["epoch", "advance", "--overlap", "0s"]);
                told.lock()
                    .unwrap()
                    .push(epoch.trim().parse::<u64>().unwrap());
                let Some(victim) = victims.next() else {
                    continue;
                };
                let text = site.ok(&["device", "revoke", &victim, "--json"]);
                let done: Value = serde_json::from_str(&text).unwrap();
                told.lock().unwrap().push(done["epoch"].as_u64().unwrap());
                let serials = done["serials"].as_array().unwrap().iter();
                let serials = serials.map(|serial| serial.as_str().unwrap().to_owned());
                revoked.lock().unwrap().extend(serials);
            }
        });
        while done.load(Ordering::Relaxed) < DEVICES / 3 {
            assert!(!workers.iter().all(|worker| worker.is_finished()));
            std::thread::sleep(Duration::from_millis(5));
        }
        first.signal("KILL");
        for worker in workers {
            worker.join().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        operator.join().unwrap();
    });
    println!(
        "connections {:?}, {} answers lost, {} epochs begun",
        relay.served,
        lost.load(Ordering::Relaxed),
        told.lock().unwrap().len()
    );
    assert!(relay.served.iter().all(|n| n.load(Ordering::Relaxed) > 0));

    // What each device was told stands in the register, confirmed; each token was used for one certificate.
    assert!(site.ok(&["audit", "verify"]).contains("entries"));
    let keys: BTreeSet<String> = site
        .rows("SELECT device || ' ' || serial || ' ' || epoch FROM attribute_key WHERE confirmed IS NOT NULL")
        .into_iter()
        .collect();
    let held = held.into_inner().unwrap();
    assert_eq!(held.len(), DEVICES);
    for (name, responses) in &held {
        for given in responses {
            let chain = given.certificates().unwrap().0;
            let verified = anchor
                .verify_device(&chain, smqtt_pki::UnixTime::now())
                .unwrap();
            let key = format!("{name} {} {}", verified.serial(), given.epoch);
            assert!(keys.contains(&key), "{key}");
        }
    }
    let count = |sql| site.rows(sql)[0].parse::<usize>().unwrap();
    assert_eq!(
        count("SELECT COUNT(*) FROM certificate WHERE device IS NOT NULL"),
        DEVICES + VICTIMS
    );
    assert_eq!(count("SELECT COUNT(*) FROM token WHERE used IS NULL"), 0);
    // Epochs follow one another, and each act has its record.
    let told = told.into_inner().unwrap();
    let expected: Vec<u64> = (2..2 + told.len() as u64).collect();
    assert_eq!(told, expected);
    assert_eq!(
        count("SELECT COUNT(*) FROM audit WHERE action IN ('epoch-advance', 'device-revoke')"),
        told.len()
    );
    // What was told to be revoked is, and the newest list names it.
    let revoked = revoked.into_inner().unwrap();
    assert!(!revoked.is_empty());
    let recorded: BTreeSet<String> = site
        .rows("SELECT serial FROM revocation")
        .into_iter()
        .collect();
    assert_eq!(recorded, revoked);
    let lists = second.get("/v1/crl").body;
    let lists = smqtt_pki::Revocations::read(&lists, &anchor).unwrap();
    let list = lists.lists().last().unwrap();
    let named: BTreeSet<String> = list.serials().map(|serial| serial.to_string()).collect();
    assert_eq!(named, revoked);
    assert!(
        count("SELECT COUNT(*) FROM audit WHERE action = 'enrol' AND outcome = 'ok'") >= DEVICES
    );
    // The one that is left answers for both.
    assert_eq!(second.get("/healthz").status, 200);
}

#[test]
fn a_token_is_used_as_often_as_it_may_be_whichever_instance_is_asked() {
    let site = Site::new();
    let token = site.ok(&[
        "device",
        "add",
        "d",
        "--attributes",
        "role = x",
        "--uses",
        "3",
    ]);
    let instances = two(&site);
    let outcomes: Vec<Reply> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|n| {
                let (token, service) = (token.trim(), &instances[n % 2]);
                scope.spawn(move || service.enrol(token, &csr("d", n as u64)))
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    let (granted, refused): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|reply| reply.status == 200);
    assert_eq!((granted.len(), refused.len()), (3, 5));
    for reply in refused {
        reply.refused(ProblemCode::TokenUsed);
    }
    site.ok(&["audit", "verify"]);
}

#[test]
fn the_schedule_begins_an_epoch_once_however_many_instances_there_are() {
    let site = Site::new();
    let _instances = two(&site);
    site.ok(&["epoch", "schedule", "--every", "3s", "--overlap", "1s"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while site.rows("SELECT COUNT(*) FROM epoch")[0]
        .parse::<u32>()
        .unwrap()
        < 4
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    site.ok(&["epoch", "schedule", "--never"]);
    // Two that began in the same interval would stand closer together than the schedule allows.
    let close = site.rows(
        "SELECT later.epoch FROM epoch AS earlier JOIN epoch AS later ON later.epoch = earlier.epoch + 1
         WHERE earlier.started > 0 AND later.started - earlier.started < 3",
    );
    assert!(close.is_empty(), "{close:?}");
}

#[test]
fn an_intermediate_that_one_instance_has_put_in_place_ends_the_others_until_they_have_it() {
    let site = Site::new();
    let tokens = ["one", "two", "three"].map(|name| site.add(name, "role = sensor"));
    let [first, second] = two(&site);
    let held = second.enrol(&tokens[0], &csr("one", 1)).granted();
    let device = |service: &Service, name: &str, seed, lost: &AtomicUsize, held| {
        let root = std::fs::read(site.path().join("ca.crt")).unwrap();
        let anchor = TrustAnchor::from_pem(&root).unwrap();
        let device = Device {
            address: service.address,
            anchor: &anchor,
            name: name.to_owned(),
            seed,
            lost,
        };
        device.renew(held)
    };
    site.ok(&["root", "renew", "--new-key", "--yes"]);
    assert_eq!(first.wait().code(), Some(1));
    let told = second.log();
    assert_eq!(second.wait().code(), Some(1), "{told}");
    // A machine that still has the old one does not serve.
    let copy = site.dir.path().join("second");
    let mut stale = site::program();
    stale
        .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
        .arg(&copy);
    assert_eq!(stale.output().unwrap().status.code(), Some(1));
    std::fs::remove_dir_all(&copy).unwrap();

    // With the directory copied both serve, and a device of the old one gets what it needs from either.
    let [first, second] = two(&site);
    let lost = AtomicUsize::new(0);
    let renewed = device(&second, "one", 1, &lost, &held);
    assert_ne!(renewed.certificate_chain, held.certificate_chain);
    let again = device(&first, "one", 1, &lost, &renewed);
    assert_eq!(again.certificate_chain, renewed.certificate_chain);
    let list = |given: &EnrolResponse| given.root_list.clone().unwrap();
    assert_ne!(list(&held), list(&renewed));
    for (service, token, name, seed) in [
        (&first, &tokens[1], "two", 2),
        (&second, &tokens[2], "three", 3),
    ] {
        let given = service.enrol(token, &csr(name, seed)).granted();
        assert_eq!(list(&given), list(&renewed));
    }
    // No list but the one of the installation was issued meanwhile.
    assert_eq!(site.rows("SELECT COUNT(*) FROM revocation_list")[0], "1");
    site.ok(&["audit", "verify"]);
}

#[test]
fn a_database_of_another_authority_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    std::fs::copy(
        other.path().join("database.url"),
        site.path().join("database.url"),
    )
    .unwrap();
    let output = site.run(&["device", "list"]);
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let fingerprint = other.fingerprint().to_string();
    assert!(
        told.contains(&fingerprint) && told.contains("database.url"),
        "{told}"
    );
    // Nor does a second authority take one that is taken.
    let taken = site::program()
        .args([
            "init",
            "--database",
            &other.server.as_ref().unwrap().url(),
            "--dir",
        ])
        .arg(site.dir.path().join("third"))
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(3));
    let told = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(told.contains("register already"), "{told}");
    assert!(!site.dir.path().join("third").exists());
}

#[test]
fn a_backup_moves_an_authority_from_one_database_to_the_other() {
    let site = Site::new();
    let token = site.add("sensor", "role = sensor");
    let service = site.serve_with(&[]);
    service.enrol(&token, &csr("sensor", 1)).granted();
    drop(service);
    let at = |name: &str| site.dir.path().join(name).to_str().unwrap().to_owned();
    site.ok(&["shares", "make", "1-of-1", "--out", &at("shares")]);
    site.ok(&["backup", "--out", &at("one")]);
    let restore = |backup: &str, dir: &str, database: Option<String>| {
        let mut command = site::program();
        command.args([
            "restore",
            &at(backup),
            "--share",
            &at("shares/share-1-of-1.txt"),
            "--dir",
            &at(dir),
        ]);
        if let Some(database) = database {
            command.args(["--database", &database]);
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    // To SQLite, and on from there to another server.
    restore("one", "on-sqlite", None);
    let devices = |dir: &str| {
        let mut command = site::program();
        let output = command
            .args(["device", "list", "--json", "--dir", &at(dir)])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(site.dir.path().join("on-sqlite/register.sqlite").exists());
    assert_eq!(devices("on-sqlite"), devices("authority"));
    let backup = site::program()
        .args(["backup", "--out", &at("two"), "--dir", &at("on-sqlite")])
        .status();
    assert!(backup.unwrap().success());
    let server = site::postgres::Server::start();
    restore("two", "on-postgres", Some(server.url()));
    assert_eq!(devices("on-postgres"), devices("authority"));
    // Numbers of rows go on where they were.
    let added = site::program()
        .args([
            "device",
            "add",
            "second",
            "--attributes",
            "role = x",
            "--dir",
            &at("on-postgres"),
        ])
        .output()
        .unwrap();
    let mut command = site::program();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        &at("on-postgres"),
    ]);
    let service = Service::start(command, site.fingerprint());
    let token = String::from_utf8(added.stdout).unwrap();
    service.enrol(token.trim(), &csr("second", 2)).granted();
    let verified = site::program()
        .args(["audit", "verify", "--dir", &at("on-postgres")])
        .status();
    assert!(verified.unwrap().success());
}

#[test]
fn the_connection_to_the_database_is_encrypted_and_its_server_is_known() {
    let (site, other) = (Site::new(), Site::new());
    let at = |name: &str| site.dir.path().join(name).to_str().unwrap().to_owned();
    site.ok(&[
        "broker",
        "issue",
        "--host",
        "127.0.0.1",
        "--out",
        &at("tls"),
    ]);
    let keys = site.server.as_ref().unwrap().path().join("tls");
    let copied = Command::new("cp")
        .args(["-r", &at("tls")])
        .arg(&keys)
        .status();
    assert!(copied.unwrap().success());
    site::postgres::own(&keys);
    site::postgres::own(&keys.join("server.key"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = site::postgres::Server::start_with(&[
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "ssl=on",
        &format!("ssl_cert_file={}", keys.join("server.crt").display()),
        &format!("ssl_key_file={}", keys.join("server.key").display()),
        "log_connections=on",
    ]);
    let init = |root: &std::path::Path, dir: &str| {
        let url = format!(
            "postgres://smqtt@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={}",
            root.display()
        );
        site::program()
            .args(["init", "--database", &url, "--dir", &at(dir)])
            .output()
            .unwrap()
    };
    let refused = init(&other.path().join("ca.crt"), "refused");
    assert_eq!(refused.status.code(), Some(4));
    assert!(!site.dir.path().join("refused").exists());
    let made = init(&site.path().join("ca.crt"), "made");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let log = server.log();
    assert!(log.contains("SSL enabled (protocol=TLSv1.3"), "{log}");
}
