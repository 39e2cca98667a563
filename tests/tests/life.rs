//! The whole life of a fleet with the real programs, in one go: an authority whose root is kept offline, a thousand devices,
//! sealed messages, a rotation while they flow, a revocation, the loss of the authority's disk, the proofs of its log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use smqtt_tests::fleet::{Service, publish, subscribe};
use smqtt_tests::guarded::Guarded;
use smqtt_tests::programs::{Running, program, run};
use tempfile::TempDir;

const DEVICES: usize = 1000;
/// How many of them enrol at once; `SMQTT_LIFE_ENROLLED` says otherwise, up to the number of the first that comes late.
const ENROLLED: usize = 200;
/// Two that enrol when the authority has come back.
const LATE: [usize; 2] = [998, 999];
/// How many at a time.
const AT_ONCE: usize = 4;
/// How many read while the epoch changes.
const READERS: usize = 4;

const SCHEMA: &str = r#"
[attributes.role]
type = "text"
values = ["sensor", "operator"]

[attributes.line]
type = "integer"
min = 0
max = 99
"#;

/// Everything of this life, in a directory that vanishes.
struct Site {
    root: TempDir,
    /// The authority's directory: another one after its disk was lost.
    authority: PathBuf,
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command of the authority, whose secrets a key file opens.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("smqtt-authority");
        command.args(arguments).arg("--dir").arg(&self.authority);
        command.env("SMQTT_KEY_FILE", self.path("key"));
        command.current_dir(self.root.path());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments)).success().text()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let done = run(&mut self.command(arguments));
        assert_ne!(done.code(), 0, "{arguments:?} was not refused");
        done.stderr
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn broker(&self) -> Service {
        let guarded = Guarded {
            root: self.root.path(),
            tls: &self.path("broker"),
            back_door: false,
        };
        guarded.start()
    }

    fn serve(&self, listen: &str, broker: &str) -> Service {
        let mut command = self.command(&["serve", "--listen", listen, "--broker", broker]);
        Service::start(&mut command, "https://")
    }

    fn enrol(&self, authority: &str, fingerprint: &str, device: &str, token: &str) -> PathBuf {
        let out = self.path(device);
        let mut command = program("smqtt");
        command
            .args(["enroll", "--authority", authority, "--token", token])
            .args(["--ca-fingerprint", fingerprint])
            .arg("--out")
            .arg(&out);
        let _ = run(&mut command).success();
        out
    }

    /// Waits until `epoch status` says so.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.json(&["epoch", "status", "--json"]);
            if holds(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} did not happen: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Says on stderr how far it is.
fn stage(began: Instant, what: &str) {
    eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f32());
}

fn name(number: usize) -> String {
    format!("device-{number:04}")
}

fn lines(publisher: &mut Running, readers: &[Running], numbers: std::ops::Range<u32>) {
    for number in numbers {
        publisher.write(format!("message {number}.\n").as_bytes());
        for reader in readers {
            reader.wait_for_stdout(&format!("message {number}."));
        }
    }
}

#[test]
fn the_whole_life_of_a_fleet() {
    let began = Instant::now();
    let root = tempfile::Builder::new()
        .prefix("smqtt-life-")
        .tempdir()
        .expect("a temporary directory");
    let mut site = Site {
        authority: root.path().join("authority"),
        root,
    };

    // An authority; its root goes offline before it serves at all.
    let fingerprint = site
        .ok(&["init", "--name", "Example plant"])
        .trim()
        .to_owned();
    let (export, export_key) = (site.text("root.sealed"), site.text("root.key"));
    let with = ["--export-key-file", &export_key];
    let _ = site.ok(&["root", "export", "--out", &export, with[0], with[1]]);
    let _ = site.ok(&[
        "root", "remove", "--export", &export, with[0], with[1], "--yes",
    ]);
    let shown = site.json(&["root", "show", "--json"]);
    assert_eq!(shown["key_here"], Value::Bool(false), "{shown}");
    let why = site.refused(&["root", "renew"]);
    assert!(why.contains("not here any more"), "{why}");

    // Schema and profiles, and a thousand devices at once.
    fs::write(site.path("schema.toml"), SCHEMA).expect("written");
    let _ = site.ok(&["schema", "edit", "--file", &site.text("schema.toml")]);
    let _ = site.ok(&["profile", "set", "sensor", "--attributes", "role = sensor"]);
    let _ = site.ok(&[
        "profile",
        "set",
        "operator",
        "--attributes",
        "role = operator",
    ]);
    let mut csv = "name,attributes,profile\n".to_owned();
    for number in 0..DEVICES {
        let profile = if number % 2 == 0 {
            "sensor"
        } else {
            "operator"
        };
        csv.push_str(&format!(
            "{},line = {},{profile}\n",
            name(number),
            number % 100
        ));
    }
    fs::write(site.path("devices.csv"), csv).expect("written");
    let tokens = site.text("tokens.csv");
    let _ = site.ok(&[
        "device",
        "import",
        &site.text("devices.csv"),
        "--tokens-out",
        &tokens,
    ]);
    let registered = site.json(&["device", "list", "--json"]);
    assert_eq!(registered.as_array().map(Vec::len), Some(DEVICES));
    let tokens = fs::read_to_string(tokens).expect("the tokens");
    let tokens: BTreeMap<&str, &str> = tokens
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split(',');
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    assert_eq!(tokens.len(), DEVICES);
    stage(began, "registered 1000 devices");

    // A broker that knows the lists of intermediate and root; enrolment of all devices but two.
    let _ = site.ok(&[
        "broker",
        "issue",
        "--host",
        "127.0.0.1",
        "--out",
        &site.text("broker"),
    ]);
    let _ = site.ok(&["crl", "--out", &site.text("broker/ca.crl")]);
    let broker = site.broker();
    let service = site.serve("127.0.0.1:0", broker.url());
    let url = service.url().to_owned();
    let count = std::env::var("SMQTT_LIFE_ENROLLED").map_or(ENROLLED, |text| {
        text.parse().expect("SMQTT_LIFE_ENROLLED is a number")
    });
    let identities = enrol_all(&site, &url, &fingerprint, &tokens, count.min(LATE[0]));
    let enrolled = site.json(&["device", "list", "--json", "--state", "enrolled"]);
    assert_eq!(enrolled.as_array().map(Vec::len), Some(identities.len()));
    stage(began, &format!("enrolled {} of them", identities.len()));

    // Messages; and a new epoch while they flow.
    let (sensor, operators) = (&identities[0], [1, 3, 5, 7].map(|n| &identities[n]));
    let readers = operators.map(|operator| subscribe(operator, "plant/#", &[]));
    assert_eq!(readers.len(), READERS);
    let stolen = &identities[9];
    let session = subscribe(stolen, "plant/#", &[]);
    let outsider = subscribe(&identities[2], "plant/#", &["--json"]);
    let mut publisher = Running::start(&mut publish(sensor, "plant/1", "role = operator", &["-l"]));
    lines(&mut publisher, &readers, 0..20);
    session.wait_for_stdout("message 19.");
    outsider.wait_for_stdout("not-authorised");
    let _ = site.ok(&["epoch", "advance", "--overlap", "6s"]);
    lines(&mut publisher, &readers, 20..30);
    site.until("the readers' renewal", |status| {
        // Those who read, the one that will be stolen, and the one that may not.
        status["renewed"].as_u64() >= Some(READERS as u64 + 2)
    });
    site.until("the end of the window", |status| status["sealing"] == 2);
    lines(&mut publisher, &readers, 30..50);
    session.wait_for_stdout("message 49.");
    stage(began, "rotated the epoch");

    // One is stolen, and taken back in one act.
    let before = Instant::now();
    let taken = site.json(&[
        "device",
        "revoke",
        &name(9),
        "--reason",
        "key-compromise",
        "--json",
    ]);
    let acted = before.elapsed();
    assert_eq!(taken["epoch"], 3, "{taken}");
    session.wait_for_stderr("the broker ended it");
    eprintln!(
        "          the act took {acted:?}; the session was over {:?} after it began",
        before.elapsed()
    );
    let out = run(program("smqtt")
        .args(["sub", "-t", "plant/#", "-W", "20", "-i"])
        .arg(stolen));
    assert_ne!(out.code(), 0, "{}", out.stderr);
    let out = run(program("smqtt").args(["renew", "-i"]).arg(stolen));
    assert_eq!(out.code(), 7, "{}", out.stderr);
    // What is published from now on its key does not open, even over the connection of another.
    let spy = site.path("spy");
    let _ = run(Command::new("cp").arg("-rp").arg(operators[0]).arg(&spy)).success();
    for key in ["attribute.key", "attribute.1.key"] {
        fs::copy(stolen.join(key), spy.join(key)).expect("a stolen key");
    }
    let mut spying = program("smqtt");
    spying
        .args([
            "sub",
            "-t",
            "plant/#",
            "--no-renew",
            "--json",
            "-W",
            "60",
            "-i",
        ])
        .arg(&spy)
        .args(["--client-id", &format!("{}-spy", name(1))]);
    let spying = Running::start(&mut spying);
    spying.wait_for_stderr("subscribed to");
    lines(&mut publisher, &readers, 50..70);
    spying.wait_for_stdout("epoch-ahead");
    let spied = spying.interrupt();
    assert!(!spied.text().contains("message 6"), "{}", spied.text());
    stage(began, "took one back");

    // Backup, and the disk is lost. Three of five people bring the authority back, without the root's key.
    let _ = site.ok(&["shares", "make", "3-of-5", "--out", &site.text("shares")]);
    let backup = site.text("backup");
    let _ = site.ok(&["backup", "--out", &backup]);
    let _ = service.stop();
    fs::remove_dir_all(&site.authority).expect("the disk is lost");
    site.authority = site.path("restored");
    let shares = [1, 3, 5].map(|n| site.text(&format!("shares/share-{n}-of-5.txt")));
    let two = [
        "restore", &backup, "--share", &shares[0], "--share", &shares[1],
    ];
    let why = site.refused(&two);
    assert!(why.contains('3'), "{why}");
    let mut three = two.to_vec();
    three.extend(["--share", shares[2].as_str()]);
    assert_eq!(site.ok(&three).trim(), fingerprint);
    let shown = site.json(&["root", "show", "--json"]);
    assert_eq!(shown["key_here"], Value::Bool(false), "{shown}");
    let listen = url.trim_start_matches("https://");
    let service = site.serve(listen, broker.url());
    stage(began, "restored the authority");

    // Everything goes on: messages, a new device, a renewal; and who was taken back stays out.
    lines(&mut publisher, &readers, 70..75);
    let late = name(LATE[0]);
    let late = site.enrol(service.url(), &fingerprint, &late, tokens[late.as_str()]);
    let _ = run(&mut publish(
        &late,
        "plant/2",
        "role = operator",
        &["-m", "message 75."],
    ))
    .success();
    for reader in &readers {
        reader.wait_for_stdout("message 75.");
    }
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(sensor)).success();
    let _ = site.ok(&["epoch", "advance", "--overlap", "0s"]);
    lines(&mut publisher, &readers, 76..90);
    let out = run(program("smqtt").args(["renew", "-i"]).arg(stolen));
    assert_eq!(out.code(), 7, "{}", out.stderr);
    // The offline root gives the intermediate its next certificate.
    let key = site.ok(&["root", "request", "--out", &site.text("request.pem")]);
    let _ = run(program("smqtt-authority")
        .args(["root", "sign", "--root", &export, with[0], with[1]])
        .args(["--request", &site.text("request.pem"), "--key", key.trim()])
        .args(["--out", &site.text("answer.pem")]))
    .success();
    let _ = site.ok(&["root", "install", &site.text("answer.pem")]);
    let _ = service.stop();
    let _service = site.serve(listen, broker.url());
    let later = name(LATE[1]);
    let later = site.enrol(&url, &fingerprint, &later, tokens[later.as_str()]);
    let caught_up = subscribe(&later, "plant/#", &[]);
    lines(&mut publisher, &readers, 90..100);
    caught_up.wait_for_stdout("message 99.");
    for reader in readers {
        let read = reader.interrupt().success();
        assert!(read.stderr.contains("100 read"), "{}", read.stderr);
        assert!(!read.stderr.contains("missing"), "{}", read.stderr);
        assert!(!read.stderr.contains("refused"), "{}", read.stderr);
    }
    stage(began, "went on");

    // The log proves itself, and no byte of it can be changed unseen.
    let _ = site.ok(&["audit", "verify"]);
    let export = site.path("audit.jsonl");
    let _ = site.ok(&[
        "audit",
        "export",
        "--json",
        "--out",
        &site.text("audit.jsonl"),
    ]);
    let changed = changed_bytes_are_found(&site, &fs::read(&export).expect("the export"));
    stage(
        began,
        &format!("changed {changed} bytes of the log, one at a time"),
    );
}

/// Enrols the first devices, some at a time; returns their identities, by number.
fn enrol_all(
    site: &Site,
    url: &str,
    fingerprint: &str,
    tokens: &BTreeMap<&str, &str>,
    count: usize,
) -> Vec<PathBuf> {
    let next = AtomicUsize::new(0);
    let identities = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let device = name(number);
                    let identity = site.enrol(url, fingerprint, &device, tokens[device.as_str()]);
                    identities
                        .lock()
                        .expect("no panic")
                        .insert(number, identity);
                }
            });
        }
    });
    let identities = identities.into_inner().expect("no panic");
    identities.into_values().collect()
}

/// Changes bytes in every region of an export: throughout its first row, one in the middle, its last row and the checkpoint
/// at its end, and some of each other part. Returns how many.
fn changed_bytes_are_found(site: &Site, export: &[u8]) -> usize {
    let verify = |file: &Path| {
        let mut command = program("smqtt-authority");
        command.args(["audit", "verify", "--ca"]);
        command.arg(site.path("broker/ca.crt"));
        command.arg("--export").arg(file);
        run(&mut command)
    };
    let _ = verify(&site.path("audit.jsonl")).success();
    let mut places: Vec<usize> = (0..export.len()).step_by(export.len() / 24).collect();
    let mut starts = vec![0];
    starts.extend(
        export
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(at, _)| at + 1),
    );
    starts.pop_if(|last| *last == export.len());
    let rows = starts.len();
    for row in [0, rows / 2, rows - 2, rows - 1] {
        let end = starts.get(row + 1).copied().unwrap_or(export.len());
        let length = end - starts[row];
        places.extend((starts[row]..end).step_by((length / 16).max(1)));
        places.push(end - 1);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (next, places, verify) = (&next, &places, &verify);
            scope.spawn(move || {
                let file = site.path(&format!("changed-{worker}.jsonl"));
                while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut changed = export.to_vec();
                    changed[*place] ^= 1;
                    fs::write(&file, changed).expect("written");
                    let found = verify(&file);
                    assert_ne!(found.code(), 0, "byte {place} can be changed unseen");
                }
            });
        }
    });
    places.len()
}
