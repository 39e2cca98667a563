//! What the daemon's program does beside serving.

mod acl;
mod passwd;
mod store;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Error;

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Add, change, list or remove the users of a password file
    Passwd(passwd::Passwd),
    /// Ask the access control list
    #[command(subcommand)]
    Acl(acl::AclCommand),
    /// Check, repair or export the store of a broker that is not running
    #[command(subcommand)]
    Store(store::StoreCommand),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Error`], as for the daemon.
    pub fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Command::Passwd(passwd) => passwd.run(),
            Command::Acl(acl) => acl.run(),
            Command::Store(store) => store.run(),
        }
    }
}
