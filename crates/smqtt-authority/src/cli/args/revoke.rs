//! `device revoke|suspend|reinstate|remove` and `crl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use smqtt_pki::{DeviceId, RevocationReason};

use crate::cli::duration::parse_duration;
use crate::cli::keys::KeyOptions;

#[derive(clap::Args)]
pub(crate) struct DeviceRevoke {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Why, for the list.
    #[arg(long, value_enum, default_value_t = Reason::Unspecified, value_name = "REASON")]
    pub(crate) reason: Reason,

    /// Begin no new epoch: the device's attribute key goes on to open what it gets hold of, until the next one.
    #[arg(long)]
    pub(crate) keep_epoch: bool,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceSuspend {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Begin a new epoch too, so that its attribute key opens nothing that is sealed from then on.
    #[arg(long)]
    pub(crate) advance_epoch: bool,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceReinstate {
    /// The device's name.
    pub(crate) name: DeviceId,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceRemove {
    /// The device's name.
    pub(crate) name: DeviceId,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

/// What acts have in common that the brokers have to learn of.
#[derive(clap::Args)]
pub(crate) struct ActOptions {
    /// Write the revocation list to this file. Remembered for later acts.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl_out: Option<PathBuf>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Reason {
    /// No reason is given.
    Unspecified,
    /// Its private key is, or may be, known to others: it was stolen, for example.
    KeyCompromise,
    /// Another certificate takes its place.
    Superseded,
    /// It is out of service.
    CessationOfOperation,
}

impl From<Reason> for RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Crl {
    /// The file to write, PEM; one that is there is replaced in one step. Remembered: later lists, those of `device revoke`
    /// too, are written there.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// How long it holds. Brokers admit no device once it has expired, so issue the next one in time.
    #[arg(long, default_value = "7d", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) valid: Duration,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}
