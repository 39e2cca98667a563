//! Options that several commands have, each with one name and one meaning.

use std::path::PathBuf;

use clap::Args;
use smqtt_client::{Identity, Policy};

use crate::failure::Failure;

/// Who I am.
#[derive(Debug, Args)]
pub(crate) struct IdentityOption {
    /// The identity directory that `smqtt enroll` wrote
    #[arg(
        short,
        long,
        value_name = "DIR",
        env = "SMQTT_IDENTITY",
        hide_env_values = true
    )]
    pub(crate) identity: PathBuf,
}

impl IdentityOption {
    /// Reads it.
    pub(crate) fn load(&self) -> Result<Identity, Failure> {
        Ok(Identity::load(&self.identity)?)
    }
}

/// Who may read.
#[derive(Debug, Args)]
pub(crate) struct PolicyOption {
    /// Who may read: a policy over attributes, such as 'role = doctor and dept = icu'
    #[arg(
        short,
        long,
        value_name = "POLICY",
        env = "SMQTT_POLICY",
        hide_env_values = true
    )]
    policy: String,
}

impl PolicyOption {
    /// As it was typed.
    pub(crate) fn as_str(&self) -> &str {
        &self.policy
    }

    /// The policy, if it is one.
    pub(crate) fn parse(&self) -> Result<Policy, Failure> {
        crate::policy::parse(&self.policy)
    }
}
