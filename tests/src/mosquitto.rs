//! The stock broker and its clients, from Debian's packages.
//!
//! Tests that use these have `with_mosquitto` in their names: `scripts/test.sh` leaves them out, loudly, where
//! the programs cannot be had.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fleet::{Authority, Service};
use crate::programs::{Running, find};

/// A command for `mosquitto`, `mosquitto_pub` or `mosquitto_sub`.
///
/// # Panics
/// If it is not installed: a test must not pass for want of what it tests.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new(installed(name))
}

/// Where a program of the packages is.
///
/// # Panics
/// If it is not installed.
#[must_use]
pub fn installed(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not installed; scripts/test.sh installs it"))
}

/// A client (`mosquitto_pub` or `mosquitto_sub`) with the certificate of `identity`, for a TLS broker on `port`.
/// `version` is what `-V` takes: `mqttv311` or `mqttv5`.
#[must_use]
pub fn client(name: &str, identity: &Path, port: u16, version: &str) -> Command {
    let mut command = command("stdbuf");
    // It writes to a pipe in blocks otherwise, and a test would wait for a line that was printed long ago.
    command
        .arg("-oL")
        .arg(installed(name))
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version])
        .arg("--cafile")
        .arg(identity.join("ca.crt"))
        .arg("--cert")
        .arg(identity.join("device.crt"))
        .arg("--key")
        .arg(identity.join("device.key"));
    command
}

/// Starts a `mosquitto_sub` from [`client`] and waits until it has said that its subscription stands.
#[must_use]
pub fn subscribed(mut client: Command) -> Running {
    let running = Running::start(client.arg("-d"));
    running.wait_for_stdout("Subscribed (mid:");
    running
}

/// Stock mosquitto over TLS that demands client certificates of `authority`.
///
/// # Panics
/// If it does not come up.
#[must_use]
pub fn broker(authority: &Authority) -> Service {
    broker_with(authority, "")
}

/// The same with further lines of configuration.
///
/// # Panics
/// If it does not come up.
#[must_use]
pub fn broker_with(authority: &Authority, lines: &str) -> Service {
    let tls = authority.issue_server("mosquitto");
    let text = format!(
        "cafile {ca}\ncertfile {crt}\nkeyfile {key}\nrequire_certificate true\n\
         use_identity_as_username true\nallow_anonymous false\n{lines}",
        ca = tls.join("ca.crt").display(),
        crt = tls.join("server.crt").display(),
        key = tls.join("server.key").display(),
    );
    start(authority, "mqtts", &text)
}

/// Stock mosquitto without TLS, for whoever comes: to be put behind something.
///
/// # Panics
/// If it does not come up.
#[must_use]
pub fn plain_broker(authority: &Authority) -> Service {
    start(authority, "mqtt", "allow_anonymous true\n")
}

/// A mosquitto with one listener, which `lines` configure.
fn start(authority: &Authority, scheme: &str, lines: &str) -> Service {
    // It cannot tell which port the system gave it: take a free one and try again if somebody was faster.
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let config = authority.root().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\npersistence false\nlog_dest stderr\nmax_queued_messages 0\n{user}{lines}",
            user = if cfg!(unix) { "user root\n" } else { "" },
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let mut running = Running::start(command("mosquitto").arg("-c").arg(&config));
        if crate::programs::wait_for_port(port, &mut running) {
            return Service::adopt(running, format!("{scheme}://127.0.0.1:{port}"));
        }
    }
    panic!("mosquitto did not come up")
}
