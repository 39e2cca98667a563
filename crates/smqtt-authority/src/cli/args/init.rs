//! `init` and `seal`.

use std::path::PathBuf;

use smqtt_pki::ServerName;

use super::address::parse_host;
use super::database::DatabaseOption;
use crate::cli::keys::{KeyOptions, SealOptions};

/// The name of an authority that was given none.
pub(crate) const DEFAULT_NAME: &str = "SMQTT authority";

#[derive(clap::Args)]
pub(crate) struct Init {
    /// The authority's name: the common name of its root certificate. Without it: "SMQTT authority".
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// A name or address under which devices will reach the authority; repeat for more. localhost, 127.0.0.1 and ::1 are
    /// always there.
    #[arg(long = "host", value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    #[command(flatten)]
    pub(crate) register: DatabaseOption,

    /// Have the root itself issue, without an intermediate: its key can not be kept offline then.
    #[arg(long)]
    pub(crate) single: bool,

    #[command(flatten)]
    pub(crate) seal: SealOptions,
}

#[derive(clap::Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) keys: KeyOptions,

    /// Seal with the passphrase in this file (mode 0600, 12 characters or more).
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub(crate) new_passphrase_file: Option<PathBuf>,

    /// Seal with this key file; it is made if it is missing.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}
