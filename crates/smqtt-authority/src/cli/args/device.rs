//! `device add|import|list|show|set|token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use smqtt_authority::DeviceState;
use smqtt_pki::DeviceId;

use super::revoke::{DeviceReinstate, DeviceRemove, DeviceRevoke, DeviceSuspend};
use crate::cli::duration::parse_duration;

#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a device and print its enrolment token.
    Add(DeviceAdd),
    /// Register the devices of a CSV file and print their tokens.
    Import(DeviceImport),
    /// List devices.
    List(DeviceList),
    /// Show one device.
    Show(DeviceShow),
    /// Change a device's attributes, profile or key policy.
    Set(DeviceSet),
    /// Print a new enrolment token for a device that has not used its own; the one before it is void.
    Token(DeviceToken),
    /// Take a device back: its certificates and, with a new epoch, its attribute key.
    Revoke(DeviceRevoke),
    /// Keep a device out until it is reinstated.
    Suspend(DeviceSuspend),
    /// End a suspension.
    Reinstate(DeviceReinstate),
    /// Forget a device, after taking back what it has. Its name can be given anew.
    Remove(DeviceRemove),
}

#[derive(clap::Args)]
pub(crate) struct DeviceAdd {
    /// The device's name: letters, digits, '.', '_', '-'.
    pub(crate) name: DeviceId,

    /// What the device is, which policies ask for: "role = doctor, dept = icu".
    #[arg(
        long,
        short,
        value_name = "ATTRIBUTES",
        default_value = "",
        hide_default_value = true,
        required_unless_present_any = ["profile", "key_policy"]
    )]
    pub(crate) attributes: String,

    /// The profile whose attributes it has, beside its own or replaced by them.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// What it may read beside that of messages that are published with tags, by their tags and topic:
    /// "site = 4 and topic matches plant/#". Replaces its profile's.
    #[arg(long, value_name = "POLICY")]
    pub(crate) key_policy: Option<String>,

    #[command(flatten)]
    pub(crate) token: TokenOptions,
}

#[derive(clap::Args)]
pub(crate) struct TokenOptions {
    /// How long the token can be used: 90s, 30m, 24h, 7d.
    #[arg(long, default_value = "24h", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) token_expires: Duration,

    /// How often the token can be used. A device whose answer got lost may ask again in any case.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) uses: u32,

    /// Show the command for the device as a QR code on stderr, too.
    #[arg(long)]
    pub(crate) qr: bool,

    /// Print a JSON object instead of the bare token.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceImport {
    /// The file; - reads standard input. Its first line names the columns: name, attributes, profile, key-policy. The last three
    /// may be left out, or empty, but not all.
    pub(crate) file: PathBuf,

    /// The profile of those lines that name none.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Register those devices that can be, whatever is wrong with others. By default all or none.
    #[arg(long)]
    pub(crate) partly: bool,

    /// Check every line and register nothing.
    #[arg(long, conflicts_with = "partly")]
    pub(crate) dry_run: bool,

    /// Write the tokens to this new file (mode 0600) rather than to stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens_out: Option<PathBuf>,

    /// How long the tokens can be used.
    #[arg(long, default_value = "7d", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) token_expires: Duration,

    /// How often each token can be used.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) uses: u32,

    /// Print a JSON object: devices with tokens, and what is wrong with which line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceList {
    /// Only devices in this state.
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<State>,

    /// Only devices with attributes that satisfy this policy: "role = sensor and site = berlin".
    #[arg(long = "where", value_name = "POLICY")]
    pub(crate) policy: Option<String>,

    /// Only devices with this profile.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Only devices with names that begin so.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,

    /// Only devices with a certificate that expires within this time, or has expired: 30d.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) expires_within: Option<Duration>,

    /// Only devices that have not renewed to the current epoch.
    #[arg(long)]
    pub(crate) behind: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Without a certificate yet.
    Registered,
    /// With a certificate and an attribute key.
    Enrolled,
    /// Kept out until it is reinstated.
    Suspended,
    /// Taken back.
    Revoked,
}

impl From<State> for DeviceState {
    fn from(state: State) -> Self {
        match state {
            State::Registered => Self::Registered,
            State::Enrolled => Self::Enrolled,
            State::Suspended => Self::Suspended,
            State::Revoked => Self::Revoked,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct DeviceShow {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceSet {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Its own attributes from now on; those of its profile stay beside them.
    #[arg(
        long,
        short,
        value_name = "ATTRIBUTES",
        required_unless_present_any = ["profile", "no_profile", "key_policy", "no_key_policy"]
    )]
    pub(crate) attributes: Option<String>,

    /// Its profile from now on.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Take its profile away.
    #[arg(long, conflicts_with = "profile")]
    pub(crate) no_profile: bool,

    /// Its own key policy from now on.
    #[arg(long, value_name = "POLICY")]
    pub(crate) key_policy: Option<String>,

    /// Take its own key policy away; its profile's holds then, if that has one.
    #[arg(long, conflicts_with = "key_policy")]
    pub(crate) no_key_policy: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceToken {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Also for a device that is enrolled, so that it can enrol once more. Its certificate stays valid until it expires.
    #[arg(long)]
    pub(crate) re_enrol: bool,

    #[command(flatten)]
    pub(crate) token: TokenOptions,
}
