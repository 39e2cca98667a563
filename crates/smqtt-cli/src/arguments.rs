//! What can be typed.

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Parser, Subcommand};

use crate::{
    bench, completions, doctor, enroll, exit, explain, gateway, identity, inspect, key, policy,
    publish, renew, requests, subscribe,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// MQTT whose payloads only the intended readers can open.
///
/// A publisher seals each message under a policy such as `role = doctor and dept = icu`; the broker
/// relays it without being able to read it; a subscriber opens it if the attributes that its
/// authority gave it satisfy the policy.
#[derive(Debug, Parser)]
#[command(
    name = "smqtt",
    version,
    styles = STYLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = exit::TABLE,
    after_long_help = exit::TABLE,
)]
pub(crate) struct Arguments {
    /// Log to stderr what the program does: error, warn, info, debug or trace, or a tracing filter
    #[arg(
        long,
        global = true,
        display_order = 1000,
        value_name = "FILTER",
        env = "SMQTT_LOG",
        hide_env_values = true
    )]
    log: Option<String>,

    /// Take what is not given here or in the environment from this profile of the configuration,
    /// ~/.config/smqtt/config.toml
    // Read by profile::apply, before anything is parsed.
    #[arg(
        long,
        global = true,
        display_order = 1001,
        value_name = "NAME",
        env = "SMQTT_PROFILE",
        hide_env_values = true
    )]
    #[allow(dead_code)]
    profile: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The log filter, if logging was asked for or the command is a service.
    pub(crate) fn log_filter(&self) -> Option<&str> {
        let default = match self.command {
            Command::Gateway(_) => Some(gateway::LOG),
            _ => None,
        };
        self.log.as_deref().or(default)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Enrol this device at an authority and write its identity directory
    #[command(visible_alias = "enrol")]
    Enroll(enroll::Options),
    /// Renew this device's certificate and attribute key at its authority
    Renew(renew::Options),
    /// Seal messages under a policy and publish them
    #[command(visible_alias = "publish")]
    Pub(Box<publish::Options>),
    /// Subscribe, verify and open messages
    #[command(visible_alias = "subscribe")]
    Sub(subscribe::Options),
    /// Seal and open for unchanged MQTT programs, at a local listener
    Gateway(gateway::Options),
    /// Check policies without any network
    #[command(subcommand)]
    Policy(policy::Command),
    /// Look into an identity directory
    #[command(subcommand)]
    Identity(identity::Command),
    /// Look into the files of the encryption
    #[command(subcommand)]
    Key(key::Command),
    /// Explain a captured payload without any key
    Inspect(inspect::Options),
    /// Say why this device can read a captured payload, or what it lacks, without any network
    Explain(explain::Options),
    /// Check this device, its keys, its clock, its authority and its broker
    Doctor(doctor::Options),
    /// Send a request and print its response, or answer requests
    Rr(requests::Options),
    /// Measure what sealing costs, side by side with plaintext
    Bench(bench::Options),
    /// Print what a shell needs to complete this command line
    Completions(completions::Completions),
    /// Print the man page, or write all of them
    Man(completions::Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
