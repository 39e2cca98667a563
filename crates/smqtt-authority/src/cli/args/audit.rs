//! `audit`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::keys::KeyOptions;

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the audit log, oldest first, verifying it on the way.
    List(AuditList),
    /// Verify the audit log, or an export of it, and print the number of entries and the last chain value.
    Verify(AuditVerify),
    /// Sign where the audit log stands now. Kept elsewhere, it shows later whether anything was changed or cut off.
    Checkpoint(AuditCheckpoint),
    /// Write the audit log, one JSON object a line, with a checkpoint at its end, for `audit verify --export`.
    Export(AuditExport),
}

#[derive(clap::Args)]
pub(crate) struct AuditVerify {
    /// Verify this export, without the register.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,

    /// The authority's root certificate, for a machine that has no authority; by default the directory's.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub(crate) ca: Option<PathBuf>,

    /// A file with checkpoints that the log has to agree with; repeat for more.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct AuditCheckpoint {
    /// The file to write; nothing may be there. Without it, stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct AuditExport {
    /// The form: the only one there is.
    #[arg(long)]
    pub(crate) json: bool,

    /// The file to write; nothing may be there. Without it, stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct AuditList {
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}
