//! `epoch`.

use std::time::Duration;

use clap::Subcommand;

use crate::cli::duration::{parse_duration, parse_span};
use crate::cli::keys::KeyOptions;

#[derive(Subcommand)]
pub(crate) enum EpochCommand {
    /// Print the current epoch, the one that publishers seal for, and when the next begins.
    Show(EpochShow),
    /// Begin a new epoch now: keys are issued for it from now on, publishers seal for it after the overlap.
    Advance(EpochAdvance),
    /// Print how many devices have renewed to which epoch, and which brokers know.
    Status(EpochStatus),
    /// Print or change when epochs begin, and how long readers have to renew.
    Schedule(EpochSchedule),
}

#[derive(clap::Args)]
pub(crate) struct EpochShow {
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct EpochAdvance {
    /// How long readers have to renew before publishers seal for the new epoch: 0s, 30m, 24h. By default as scheduled.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) overlap: Option<Duration>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct EpochStatus {
    /// Print the names of the devices that have not renewed, one a line.
    #[arg(long, conflicts_with = "json")]
    pub(crate) behind: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct EpochSchedule {
    /// Begin a new epoch each time that this has passed: 7d.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) every: Option<Duration>,

    /// Begin new epochs on demand only.
    #[arg(long, conflicts_with = "every")]
    pub(crate) never: bool,

    /// How long readers have to renew before publishers seal for a new epoch.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) overlap: Option<Duration>,

    /// The same for an epoch that a revocation begins. While it lasts, who was revoked reads what it gets hold of.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) revocation_overlap: Option<Duration>,

    /// How long after its expiry a certificate can still be renewed.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) renewal_grace: Option<Duration>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
