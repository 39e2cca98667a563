//! Starts the real broker on a free port and talks to it over real sockets.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a module of every test file, each of which uses its own part"
)]

mod client;
mod pki;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub use client::{Client, Options, publish, subscribe, text};
pub use pki::{HOUR, TestPki, connect_tls, lasting, replace, served_certificate};

/// How long anything may take that is to happen at all.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long something is watched that is not to happen.
pub const QUIET: Duration = Duration::from_millis(300);

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    ports: Vec<u16>,
}

impl Broker {
    /// A broker with one plain listener for anyone and four workers, so that connections of one test
    /// are mostly on different workers.
    pub fn open() -> Broker {
        Broker::open_with(&[])
    }

    /// As [`Broker::open`], with further arguments.
    pub fn open_with(args: &[&str]) -> Broker {
        let mut all = vec![
            "--listen",
            "mqtt://127.0.0.1:0",
            "--allow-anonymous",
            "--workers",
            "4",
        ];
        all.extend(args);
        Broker::start(&all)
    }

    /// As [`Broker::open`], with this text as configuration file.
    pub fn configured(text: &str) -> Broker {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("broker.toml");
        std::fs::write(&path, text).expect("write configuration");
        Broker::open_with(&["--config", utf8(&path)])
    }

    /// A broker with these arguments, of which at least one is a listener.
    pub fn start(args: &[&str]) -> Broker {
        let listeners = args.iter().filter(|arg| **arg == "--listen").count();
        Broker::start_expecting(args, listeners)
    }

    /// A broker with these arguments, which has so many listeners.
    pub fn start_expecting(args: &[&str], listeners: usize) -> Broker {
        Broker::spawn(command(args), listeners)
    }

    /// A broker that this command starts.
    pub fn spawn(mut command: Command, listeners: usize) -> Broker {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut broker = Broker {
            child,
            lines,
            log: Vec::new(),
            ports: Vec::new(),
        };
        while broker.ports.len() < listeners {
            let line = broker.wait_for_line("listening on ");
            broker.ports.push(port_of(&line));
        }
        broker
    }

    /// The port of the first listener.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The ports of all listeners, in the order of the arguments.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that contains `part`, unless there was one already.
    pub fn has_logged(&mut self, part: &str) {
        if !self.log.iter().any(|line| line.contains(part)) {
            self.wait_for_line(part);
        }
    }

    /// Waits for a line of the log, from here on, that contains `part`.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.log.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("no line with {part:?} in the log:\n{}", self.log.join("\n"));
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(sent.expect("kill runs").success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for(|| self.child.try_wait().expect("wait"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in a "listening" line; 0 for a listener that has none.
fn port_of(line: &str) -> u16 {
    let digits = |text: &str| text.split('/').next().and_then(|port| port.parse().ok());
    line.rsplit(':').next().and_then(digits).unwrap_or(0)
}

/// The broker's command with these arguments and no `SMQTT_BROKER_*` variable of the caller.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smqtt-broker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMQTT_BROKER_")) {
        command.env_remove(name);
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Runs the broker to its end, which it comes to by itself: exit code, stdout and stderr.
pub fn run(args: &[&str]) -> (i32, String, String) {
    let output = command(args)
        .stderr(Stdio::piped())
        .output()
        .expect("the broker runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("an exit code"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Asks until there is an answer.
pub fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn utf8(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}
