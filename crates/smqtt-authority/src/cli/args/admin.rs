//! `admin`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use smqtt_pki::AdminName;

use crate::cli::keys::KeyOptions;

#[derive(Subcommand)]
pub(crate) enum AdminCommand {
    /// Give somebody a certificate for the API and a role. One of that name is replaced.
    Add(AdminAdd),
    /// List administrators.
    List(AdminList),
    /// Take an administrator's rights back, at once.
    Remove(AdminRemove),
}

#[derive(clap::Args)]
pub(crate) struct AdminAdd {
    /// The name, which the audit log tells: letters, digits, '.', '_', '-'.
    pub(crate) name: AdminName,

    /// What it may do.
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Role,

    /// Certify the key of this certificate request (PEM), so that the private key stays where it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,

    /// The directory to make: client.crt, ca.crt and, without --csr, client.key.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// For how many days the certificate is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Read everything, change nothing.
    Auditor,
    /// Everything that the API offers.
    Operator,
}

impl From<Role> for smqtt_authority::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Auditor => Self::Auditor,
            Role::Operator => Self::Operator,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct AdminList {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct AdminRemove {
    /// The name.
    pub(crate) name: AdminName,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}
