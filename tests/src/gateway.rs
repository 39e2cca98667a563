//! A gateway in front of a fleet's broker, for unchanged clients.

use std::path::Path;
use std::process::Command;

use crate::fleet::{Fleet, Service};
use crate::mosquitto;
use crate::programs::{Running, program};

/// Starts `smqtt gateway` as `identity` with the rules `rules`, at a free port.
///
/// # Panics
/// If it does not come up.
#[must_use]
pub fn start(fleet: &Fleet, identity: &Path, rules: &str) -> Service {
    Service::start(&mut command(fleet, identity, rules), "mqtt://")
}

/// The command that [`start`] runs.
///
/// # Panics
/// If the rules cannot be written.
#[must_use]
pub fn command(fleet: &Fleet, identity: &Path, rules: &str) -> Command {
    let file = fleet.authority.root().join("gateway.toml");
    std::fs::write(&file, rules).expect("the rules can be written");
    let mut command = program("smqtt");
    command
        .args(["gateway", "--listen", "mqtt://127.0.0.1:0"])
        .arg("--rules")
        .arg(file)
        .arg("-i")
        .arg(identity);
    command
}

/// `mosquitto_pub` or `mosquitto_sub` as it is used without any encryption. `version` is what `-V` takes.
#[must_use]
pub fn client(name: &str, gateway: &Service, version: &str) -> Command {
    let mut command = mosquitto::command("stdbuf");
    command
        .arg("-oL")
        .arg(mosquitto::installed(name))
        .args(["-h", "127.0.0.1", "-p", &gateway.port().to_string()])
        .args(["-V", version]);
    command
}

/// A `mosquitto_sub` with `arguments` that has said that its subscription stands.
#[must_use]
pub fn subscribed(gateway: &Service, version: &str, arguments: &[&str]) -> Running {
    let mut command = client("mosquitto_sub", gateway, version);
    command.args(arguments);
    mosquitto::subscribed(command)
}
