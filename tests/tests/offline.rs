//! `smqtt pub --queue`: what was accepted while the broker was away arrives, whoever is killed meanwhile.

use std::path::{Path, PathBuf};

use serde_json::Value;
use smqtt_tests::fleet::{Authority, Fleet, Service, publish, subscribe};
use smqtt_tests::programs::{Finished, Running, program, run, run_with_input};

const TOPIC: &str = "plant/1";
const POLICY: &str = "role = operator";

/// A broker that keeps what it has acknowledged, always at the same port.
struct Broker {
    tls: PathBuf,
    data: PathBuf,
    port: u16,
    running: Option<Service>,
}

impl Broker {
    fn start(authority: &Authority) -> Self {
        let mut broker = Self {
            tls: authority.issue_server("offline-broker"),
            data: authority.root().join("offline-data"),
            port: 0,
            running: None,
        };
        broker.up();
        broker.port = broker.running.as_ref().expect("it is up").port();
        broker
    }

    fn up(&mut self) {
        let mut command = program("smqtt-broker");
        command
            .args(["--listen", &format!("mqtts://127.0.0.1:{}", self.port)])
            .arg("--tls-cert")
            .arg(self.tls.join("server.crt"))
            .arg("--tls-key")
            .arg(self.tls.join("server.key"))
            .arg("--tls-client-ca")
            .arg(self.tls.join("ca.crt"))
            .arg("--data-dir")
            .arg(&self.data);
        self.running = Some(Service::start(&mut command, "mqtts://"));
    }

    /// Pulls the plug.
    fn down(&mut self) {
        // Dropped, it is killed.
        self.running = None;
    }

    fn url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.port)
    }
}

struct Site {
    fleet: Fleet,
    broker: Broker,
    sensor: PathBuf,
    anna: PathBuf,
    queue: PathBuf,
}

impl Site {
    fn new() -> Self {
        let fleet = Fleet::start();
        let broker = Broker::start(&fleet.authority);
        let sensor = fleet.enrol("sensor", "role = sensor");
        let anna = fleet.enrol("anna", "role = operator");
        let queue = fleet.authority.root().join("queue");
        Self {
            fleet,
            broker,
            sensor,
            anna,
            queue,
        }
    }

    fn publisher(&self, more: &[&str]) -> Running {
        Running::start(&mut self.command(more))
    }

    fn command(&self, more: &[&str]) -> std::process::Command {
        let url = self.broker.url();
        let mut command = publish(&self.sensor, TOPIC, POLICY, &["-l", "--json"]);
        command
            .args(["--broker", &url, "--queue"])
            .arg(&self.queue)
            .args(more);
        command
    }

    fn reader(&self) -> Running {
        let url = self.broker.url();
        subscribe(&self.anna, TOPIC, &["--json", "-q", "2", "--broker", &url])
    }

    /// Sends what is left, and nothing new.
    fn drain(&self) -> Finished {
        run_with_input(&mut self.command(&[]), b"")
    }
}

/// How many messages a publisher said that it has kept.
fn kept(output: &str) -> u64 {
    let counts = output.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["type"] == "kept").then(|| line["count"].as_u64().expect("a count"))
    });
    counts.max().unwrap_or(0)
}

fn wait_until_kept(publisher: &Running, count: u64) {
    let found = publisher.watch_stdout(|output| (kept(output) >= count).then_some(()));
    assert!(found.is_some(), "{}", publisher.stderr_so_far());
}

/// The numbers that a reader has read, in order.
fn numbers(output: &str) -> Vec<u64> {
    let messages = output.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let payload =
            (line["type"] == "message").then(|| line["payload"].as_str().map(str::to_owned));
        payload.flatten()
    });
    messages
        .map(|payload| {
            payload
                .trim_start_matches("number ")
                .parse()
                .expect("a number")
        })
        .collect()
}

fn lines(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let lines: String = numbers.map(|n| format!("number {n}\n")).collect();
    lines.into_bytes()
}

/// Whether a text stands in any file below a directory.
fn holds(directory: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return holds(&path, text);
            }
            let content = std::fs::read(&path).expect("a file");
            content.windows(text.len()).any(|window| window == text)
        })
}

fn accepted_messages_arrive_once_and_in_order(qos: &str) {
    let mut site = Site::new();
    let mut accepted = Vec::new();
    let mut written = 0;
    let mut round = |site: &Site, count: u64, until: u64| {
        let mut publisher = site.publisher(&["-q", qos]);
        publisher.write(&lines(written..written + count));
        wait_until_kept(&publisher, until);
        publisher.signal("KILL");
        let ended = publisher.wait();
        accepted.extend(written..written + kept(&ended.text()));
        written += count;
    };
    // While the broker is away, killed twice at some moment.
    site.broker.down();
    round(&site, 700, 1);
    round(&site, 300, 299);
    assert!(holds(&site.queue, TOPIC.as_bytes()), "it is on the disk");
    assert!(!holds(&site.queue, b"number 0"), "and sealed");
    // It comes back; killed while messages flow, and the broker, too.
    site.broker.up();
    let reader = site.reader();
    round(&site, 400, 1);
    round(&site, 400, 200);
    let mut publisher = site.publisher(&["-q", qos]);
    publisher.write(&lines(written..written + 300));
    wait_until_kept(&publisher, 1);
    site.broker.down();
    site.broker.up();
    wait_until_kept(&publisher, 300);
    let _ = publisher.wait().success();
    accepted.extend(written..written + 300);
    let drained = site.drain().success();
    assert!(drained.text().contains("\"lost\":0"), "{}", drained.text());

    let last = format!("\"number {}\"", written + 299);
    reader.wait_for_stdout(&last);
    let read = reader.interrupt().success();
    let read = numbers(&read.text());
    assert!(read.is_sorted_by(|a, b| a < b), "once, and in order");
    let missing: Vec<_> = accepted.iter().filter(|n| !read.contains(n)).collect();
    assert!(missing.is_empty(), "accepted and lost: {missing:?}");
    drop(site.fleet);
}

#[test]
fn accepted_messages_of_qos_1_arrive_in_order_whoever_is_killed() {
    accepted_messages_arrive_once_and_in_order("1");
}

#[test]
fn accepted_messages_of_qos_2_arrive_once_in_order_whoever_is_killed() {
    accepted_messages_arrive_once_and_in_order("2");
}

#[test]
fn a_full_queue_does_what_it_was_told() {
    let mut site = Site::new();
    site.broker.down();
    let soon = ["--timeout", "1", "--retry", "0", "--queue-messages", "5"];
    let with = |full: &'static str| [&soon[..], &["--queue-full", full]].concat();
    let roomier = ["--timeout", "1", "--retry", "0", "--queue-messages", "10"];

    let refusing = run_with_input(&mut site.command(&with("refuse")), &lines(0..8));
    assert_eq!(refusing.code(), 8, "{}", refusing.stderr);
    assert!(
        refusing
            .stderr
            .contains("the queue is full: it holds 5 messages"),
        "{}",
        refusing.stderr
    );
    assert_eq!(kept(&refusing.text()), 5);
    // Five of these take the places of those five.
    let dropping = run_with_input(&mut site.command(&with("drop-oldest")), &lines(100..120));
    assert_ne!(dropping.code(), 0);
    // Another program does not get in between, nor does another device.
    let mut waiting = site.publisher(&roomier);
    waiting.write(&lines(200..210));
    wait_until_kept(&waiting, 5);
    let second = run_with_input(&mut site.command(&with("wait")), &lines(0..1));
    assert_eq!(second.code(), 3, "{}", second.stderr);
    assert!(
        second.stderr.contains("another program uses it"),
        "{}",
        second.stderr
    );
    site.broker.up();
    let reader = site.reader();
    wait_until_kept(&waiting, 10);
    let _ = waiting.wait().success();
    reader.wait_for_stdout("\"number 209\"");
    let read = reader.interrupt().success();
    let expected: Vec<u64> = (115..120).chain(200..210).collect();
    assert_eq!(numbers(&read.text()), expected);

    let other = site.fleet.enrol("other", "role = sensor");
    let mut command = publish(&other, TOPIC, POLICY, &["-m", "x", "--queue"]);
    let foreign = run(command.arg(&site.queue));
    assert_eq!(foreign.code(), 3, "{}", foreign.stderr);
    assert!(
        foreign.stderr.contains("messages of sensor"),
        "{}",
        foreign.stderr
    );
}
