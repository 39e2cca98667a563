//! An authority, a broker and enrolled devices, in a directory that vanishes.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::programs::{Finished, Running, program, run};

/// An authority's directory, before anything is served.
pub struct Authority {
    directory: TempDir,
    fingerprint: String,
}

impl Authority {
    /// `smqtt-authority init` in a fresh directory.
    ///
    /// # Panics
    /// If the program fails.
    #[must_use]
    pub fn init() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("smqtt-test-")
            .tempdir()
            .expect("a temporary directory");
        let authority = directory.path().join("authority");
        let _ = run(program("smqtt-authority")
            .args(["init", "--unsealed", "--dir"])
            .arg(&authority))
        .success();
        let fingerprint = run(program("smqtt-authority")
            .arg("fingerprint")
            .arg("--dir")
            .arg(&authority))
        .success();
        Self {
            directory,
            fingerprint: fingerprint.text().trim().to_owned(),
        }
    }

    /// Where everything of this fleet is.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The authority's own directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root().join("authority")
    }

    /// The fingerprint of its CA, `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A `smqtt-authority` command on this directory; `arguments` come before `--dir`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("smqtt-authority");
        command.args(arguments).arg("--dir").arg(self.path());
        command
    }

    /// Registers a device and returns its enrolment token.
    ///
    /// # Panics
    /// If the program fails.
    #[must_use]
    pub fn register(&self, name: &str, attributes: &str) -> String {
        let added =
            run(&mut self.command(&["device", "add", name, "--attributes", attributes])).success();
        added.text().trim().to_owned()
    }

    /// Issues a server certificate for 127.0.0.1 and localhost into `root/name`: `server.crt`, `server.key`, `ca.crt`.
    ///
    /// # Panics
    /// If the program fails.
    #[must_use]
    pub fn issue_server(&self, name: &str) -> PathBuf {
        let out = self.root().join(name);
        let mut command = self.command(&[
            "broker",
            "issue",
            "--host",
            "127.0.0.1",
            "--host",
            "localhost",
        ]);
        let _ = run(command.arg("--out").arg(&out)).success();
        out
    }

    /// Starts the service on a free port. Devices that enrol get `broker` as their broker's address.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn serve(&self, broker: &str) -> Service {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--broker", broker]);
        Service::start(&mut command, "https://")
    }
}

/// A service that listens on a port of 127.0.0.1; killed when dropped.
pub struct Service {
    running: Running,
    url: String,
}

impl Service {
    /// Starts `command` and waits for its line `listening on SCHEME…`.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(command: &mut Command, scheme: &str) -> Self {
        let running = Running::start(command);
        let line = running.wait_for_stderr(&format!("listening on {scheme}"));
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with(scheme));
        let url = url
            .expect("the line that was waited for holds an address")
            .trim_end_matches(['/', ','])
            .to_owned();
        Self { running, url }
    }

    /// A service that is already up at `url`.
    #[must_use]
    pub fn adopt(running: Running, url: String) -> Self {
        Self { running, url }
    }

    /// Where it listens, with the scheme.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port.
    ///
    /// # Panics
    /// If its address has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self
            .url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.expect("a listening line ends with a port")
    }

    /// The program behind it.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Stops it as an operator would.
    pub fn stop(self) -> Finished {
        self.running.signal("TERM");
        self.running.wait()
    }
}

/// An authority and a broker that are up, and the devices that were enrolled.
pub struct Fleet {
    /// The authority's directory.
    pub authority: Authority,
    /// The authority's service.
    pub service: Service,
    /// The broker.
    pub broker: Service,
}

impl Fleet {
    /// An authority, and this project's broker over TLS with client certificates.
    #[must_use]
    pub fn start() -> Self {
        let authority = Authority::init();
        let broker = broker(&authority);
        Self::with_broker(authority, broker)
    }

    /// The same with a broker that is already up: a stock one, or a hostile relay in front of one.
    #[must_use]
    pub fn with_broker(authority: Authority, broker: Service) -> Self {
        let service = authority.serve(broker.url());
        Self {
            authority,
            service,
            broker,
        }
    }

    /// Registers and enrols a device; returns its identity directory.
    ///
    /// # Panics
    /// If a program fails.
    #[must_use]
    pub fn enrol(&self, name: &str, attributes: &str) -> PathBuf {
        let token = self.authority.register(name, attributes);
        let out = self.authority.root().join(name);
        let _ = run(&mut self.enrol_command(&token, &out)).success();
        out
    }

    /// The same for a device that has a key policy.
    ///
    /// # Panics
    /// If a program fails.
    #[must_use]
    pub fn enrol_with_key_policy(&self, name: &str, attributes: &str, key_policy: &str) -> PathBuf {
        let mut add = self.authority.command(&["device", "add", name]);
        add.args(["--attributes", attributes, "--key-policy", key_policy]);
        let token = run(&mut add).success().text().trim().to_owned();
        let out = self.authority.root().join(name);
        let _ = run(&mut self.enrol_command(&token, &out)).success();
        out
    }

    /// The command that enrols a device with `token` into `out`.
    #[must_use]
    pub fn enrol_command(&self, token: &str, out: &Path) -> Command {
        let mut command = program("smqtt");
        command
            .args(["enroll", "--authority", self.service.url()])
            .args([
                "--ca-fingerprint",
                self.authority.fingerprint(),
                "--token",
                token,
            ])
            .arg("--out")
            .arg(out);
        command
    }
}

/// Starts this project's broker without TLS, for whoever comes: to be put behind something.
#[must_use]
pub fn plain_broker(authority: &Authority) -> Service {
    let mut command = program("smqtt-broker");
    command
        .args(["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"])
        .arg("--data-dir")
        .arg(authority.root().join("broker-data"));
    Service::start(&mut command, "mqtt://")
}

/// Starts this project's broker over TLS with client certificates of `authority`.
#[must_use]
pub fn broker(authority: &Authority) -> Service {
    broker_at(authority, "mqtts://")
}

/// The same with a listener of `scheme`, `mqtts://` or `wss://`: one of each at most.
#[must_use]
pub fn broker_at(authority: &Authority, scheme: &str) -> Service {
    Service::start(&mut broker_command(authority, scheme), scheme)
}

/// The command that starts it, for what else it is to be told.
#[must_use]
pub fn broker_command(authority: &Authority, scheme: &str) -> Command {
    let name = format!("broker-{}", scheme.trim_end_matches("://"));
    let tls = authority.issue_server(&name);
    let mut command = program("smqtt-broker");
    command
        .args(["--listen", &format!("{scheme}127.0.0.1:0")])
        .arg("--tls-cert")
        .arg(tls.join("server.crt"))
        .arg("--tls-key")
        .arg(tls.join("server.key"))
        .arg("--tls-client-ca")
        .arg(tls.join("ca.crt"))
        .arg("--data-dir")
        .arg(authority.root().join(format!("{name}-data")));
    command
}

/// `smqtt sub` for `identity` on `filter` with `more` arguments, once it is subscribed.
#[must_use]
pub fn subscribe(identity: &Path, filter: &str, more: &[&str]) -> Running {
    let mut command = program("smqtt");
    command
        .arg("sub")
        .arg("-i")
        .arg(identity)
        .args(["-t", filter])
        .args(more);
    let running = Running::start(&mut command);
    running.wait_for_stderr("subscribed to");
    running
}

/// A `smqtt pub` command for `identity` to `topic` under `policy`.
#[must_use]
pub fn publish(identity: &Path, topic: &str, policy: &str, more: &[&str]) -> Command {
    let mut command = program("smqtt");
    command
        .arg("pub")
        .arg("-i")
        .arg(identity)
        .args(["-t", topic, "-p", policy])
        .args(more);
    command
}

/// A `smqtt pub` command for `identity` to `topic` with `tags`.
#[must_use]
pub fn publish_tagged(identity: &Path, topic: &str, tags: &str, more: &[&str]) -> Command {
    let mut command = program("smqtt");
    command.arg("pub").arg("-i").arg(identity);
    command.args(["-t", topic, "--tags", tags]).args(more);
    command
}
