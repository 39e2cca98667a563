//! `broker`.

use std::path::PathBuf;

use clap::Subcommand;
use smqtt_pki::ServerName;

use super::address::parse_host;
use crate::cli::keys::KeyOptions;

#[derive(Subcommand)]
pub(crate) enum BrokerCommand {
    /// Write server.crt (with the root at its end), server.key and ca.crt into a new directory.
    Issue(BrokerIssue),
}

#[derive(clap::Args)]
pub(crate) struct BrokerIssue {
    /// A name or address under which clients reach the broker; repeat for more.
    #[arg(long = "host", required = true, value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    /// The directory to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// For how many days the certificate is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}
