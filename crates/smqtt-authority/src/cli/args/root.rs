//! `root …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::cli::duration::parse_duration;
use crate::cli::keys::KeyOptions;

#[derive(Subcommand)]
pub(crate) enum RootCommand {
    /// Show root and intermediate: where the root's key is, what expires when, what is due.
    Show(RootShow),
    /// Write the root's key into a sealed file, to be kept offline. It stays here too, until `root remove`.
    Export(RootExport),
    /// Remove the root's key from here, once its export has been opened. Backups made before still hold it.
    Remove(RootRemove),
    /// Make a request for an intermediate's certificate, to be signed where the root is.
    Request(RootRequest),
    /// On the offline machine: sign a request with an exported root. Needs no authority.
    Sign(RootSign),
    /// Put the intermediate in place that the root has signed.
    Install(RootInstall),
    /// As long as the root's key is here: request, sign and install an intermediate at once. Gives an authority that has none
    /// its first.
    Renew(RootRenew),
}

#[derive(clap::Args)]
pub(crate) struct RootShow {
    #[command(flatten)]
    pub(crate) keys: KeyOptions,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What an exported root is sealed with.
#[derive(clap::Args)]
pub(crate) struct ExportKey {
    /// The file with the passphrase that the export is sealed with (mode 0600, 12 characters or more).
    #[arg(long, value_name = "FILE", conflicts_with = "export_key_file")]
    pub(crate) export_passphrase_file: Option<PathBuf>,

    /// The key file that the export is sealed with; `root export` makes it if it is missing.
    #[arg(long, value_name = "FILE")]
    pub(crate) export_key_file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct RootExport {
    /// The new file (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) with: ExportKey,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct RootRemove {
    /// The file of `root export`: it is opened first, to see that the key is in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: PathBuf,

    #[command(flatten)]
    pub(crate) with: ExportKey,

    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct RootRequest {
    /// The new file for the request.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// For a new key rather than the one that issues now: when that one may be known to others.
    #[arg(long)]
    pub(crate) new_key: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct RootSign {
    /// The file of `root export`.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,

    /// The file of `root request`.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,

    /// The new file for the answer.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// The key that `root request` has shown, or its first 8 digits or more: nobody has put another request in its place.
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,

    /// How long the intermediate is valid. Three years if not given.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) valid: Option<Duration>,

    /// Take back the earlier intermediates: nothing that they have issued counts any more.
    #[arg(long)]
    pub(crate) revoke_earlier: bool,

    #[command(flatten)]
    pub(crate) with: ExportKey,
}

#[derive(clap::Args)]
pub(crate) struct RootInstall {
    /// The file of `root sign`.
    pub(crate) answer: PathBuf,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct RootRenew {
    /// With a new key, and the earlier intermediates taken back: nothing that they have issued counts any more.
    #[arg(long)]
    pub(crate) new_key: bool,

    /// How long the intermediate is valid. Three years if not given.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) valid: Option<Duration>,

    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}
