//! `backup`, `restore` and `shares`.

use std::path::PathBuf;

use clap::Subcommand;

use super::database::DatabaseOption;
use crate::cli::keys::{KeyOptions, SealOptions};

#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file to write; nothing may be there.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) backup: PathBuf,

    /// A file with a share of the backup key; repeat until there are enough. Without it, shares are asked for at a terminal
    /// or read from stdin.
    #[arg(long = "share", value_name = "FILE")]
    pub(crate) shares: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) register: DatabaseOption,

    #[command(flatten)]
    pub(crate) seal: SealOptions,
}

#[derive(Subcommand)]
pub(crate) enum SharesCommand {
    /// Split the backup key into shares, any M of which open every backup. Prints them.
    Make(SharesMake),
    /// Say which shares these are, and whether they open backups together. Needs no authority.
    Check(SharesCheck),
}

#[derive(clap::Args)]
pub(crate) struct SharesMake {
    /// How many of how many: 3-of-5. 1-of-1 is the whole key.
    #[arg(value_parser = parse_split, value_name = "M-of-N")]
    pub(crate) split: (u8, u8),

    /// Write each share to a file of its own in this new directory, instead of all to stdout.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Make a new backup key first, so that earlier shares do not open later backups: when a person with a share leaves.
    /// Earlier backups still open with the earlier shares.
    #[arg(long)]
    pub(crate) new_key: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct SharesCheck {
    /// Files with shares; without any, shares are asked for at a terminal or read from stdin.
    pub(crate) shares: Vec<PathBuf>,
}

fn parse_split(text: &str) -> Result<(u8, u8), String> {
    text.split_once("-of-")
        .and_then(|(m, n)| Some((m.parse().ok()?, n.parse().ok()?)))
        .ok_or_else(|| "not like 3-of-5".into())
}
