//! What can be typed.

mod address;
mod admin;
mod attributes;
mod audit;
mod backup;
mod broker;
mod database;
mod device;
mod epoch;
mod init;
mod revoke;
mod root;
mod serve;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use address::parse_host;
pub(crate) use admin::{AdminAdd, AdminCommand, AdminList, AdminRemove};
pub(crate) use attributes::{
    PolicyCommand, PolicyDiff, PolicyWho, ProfileCommand, ProfileList, ProfileRemove, ProfileSet,
    SchemaCheck, SchemaCommand, SchemaEdit, SchemaShow,
};
pub(crate) use audit::{AuditCheckpoint, AuditCommand, AuditExport, AuditList, AuditVerify};
pub(crate) use backup::{Backup, Restore, SharesCheck, SharesCommand, SharesMake};
pub(crate) use broker::{BrokerCommand, BrokerIssue};
pub(crate) use device::{
    DeviceAdd, DeviceCommand, DeviceImport, DeviceList, DeviceSet, DeviceShow, DeviceToken,
    TokenOptions,
};
pub(crate) use epoch::{EpochAdvance, EpochCommand, EpochSchedule, EpochShow, EpochStatus};
pub(crate) use init::{DEFAULT_NAME, Init, Seal};
pub(crate) use revoke::{
    ActOptions, Crl, DeviceReinstate, DeviceRemove, DeviceRevoke, DeviceSuspend,
};
pub(crate) use root::{
    ExportKey, RootCommand, RootExport, RootInstall, RootRemove, RootRenew, RootRequest, RootShow,
    RootSign,
};
pub(crate) use serve::Serve;

const EXAMPLES: &str = "\
Examples:
  Set an authority up and serve it:
    smqtt-authority init --dir authority --host ca.example.org
    smqtt-authority serve --dir authority --listen 0.0.0.0:8443 --broker mqtts://broker.example.org:8883

  Register a device; its token is printed on stdout, the command to run on the device on stderr:
    smqtt-authority device add sensor-17 --attributes \"role = sensor, site = berlin\"

  Give a broker its certificate:
    smqtt-authority broker issue --host broker.example.org --out broker-tls

Exit codes: 0 done, 1 unexpected, 2 usage, 3 input not valid, 4 directory not usable, 5 can not listen";

/// The SMQTT key authority: registers devices, gives them certificates and attribute keys.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    /// The authority's directory.
    #[arg(
        long,
        global = true,
        env = "SMQTT_AUTHORITY_DIR",
        default_value = "authority",
        value_name = "DIR"
    )]
    pub(crate) dir: PathBuf,

    /// How log lines look on stderr; RUST_LOG or SMQTT_LOG chooses which there are.
    #[arg(
        long,
        global = true,
        env = "SMQTT_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a new authority: keys, root certificate, empty register. Asks at a terminal for what was not given.
    Init(Init),
    /// Encrypt the secret keys on disk, or change the passphrase or key file that they are encrypted with.
    Seal(Seal),
    /// Serve enrolment over HTTPS until SIGTERM or SIGINT.
    Serve(Serve),
    /// Print the root certificate's fingerprint, which devices pin when they enrol.
    Fingerprint,
    /// Register devices and look at them. Works while the authority serves.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Name sets of attributes that devices share.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Say which attributes there are.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// See who can read what.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write the list of the certificates that were taken back, for the broker's tls.crl.
    Crl(Crl),
    /// Show, advance and schedule epochs; see how far the fleet has renewed.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// Say who may run the authority over its API.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Print the OpenAPI document of the API. Needs no authority.
    Openapi,
    /// Issue certificates for brokers.
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Keep the root's key offline; have it sign the intermediate that issues.
    #[command(subcommand)]
    Root(RootCommand),
    /// Read, sign, export and verify the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write a backup of the whole authority into one encrypted file. Works while the authority serves.
    Backup(Backup),
    /// Make an authority of a backup, in the directory that --dir names.
    Restore(Restore),
    /// Shares of the key that backups are encrypted with, for several people to keep.
    #[command(subcommand)]
    Shares(SharesCommand),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
