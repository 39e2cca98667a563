//! `smqtt policy`: check policies without any network.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use smqtt_client::Identity;
use smqtt_policy::{AttributeSet, Policy};

use crate::exit::Exit;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  smqtt policy check 'role = doctor and (dept = icu or dept = er)'
  smqtt policy explain 'role = doctor and clearance >= 3' -a 'role = doctor, clearance = 2'
  smqtt policy explain 'role = doctor' -i keys/anna

check prints nothing if the policy is valid; explain ends with exit code 0 whether the attributes
satisfy the policy or not.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    /// Check that a policy is valid, and print nothing
    Check(Text),
    /// Print a policy in its canonical form, which is what is sealed, sent and hashed
    Canonical(Text),
    /// Say which attributes satisfy a policy, or which are missing
    Explain(Explain),
}

#[derive(Debug, Args)]
pub(crate) struct Text {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("holder").required(true).args(["attributes", "identity"]))]
pub(crate) struct Explain {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: String,

    /// Attributes, such as 'role = doctor, dept = icu'
    #[arg(short, long, value_name = "ATTRIBUTES")]
    attributes: Option<String>,

    /// The attributes of this identity
    #[arg(short, long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

pub(crate) fn run(command: &Command) -> Result<Exit, Failure> {
    let text = match command {
        Command::Check(text) => {
            parse(&text.policy)?;
            return Ok(Exit::Done);
        }
        Command::Canonical(text) => parse(&text.policy)?.to_string(),
        Command::Explain(options) => {
            let policy = parse(&options.policy)?;
            let set = match (&options.attributes, &options.identity) {
                (Some(text), _) => attributes(text)?,
                (None, Some(directory)) => {
                    smqtt_client::attributes(&Identity::load(directory)?)?.without_epoch()
                }
                (None, None) => AttributeSet::new(),
            };
            policy.explain(&set).to_string()
        }
    };
    // Nobody reads it any more: there is nothing else to do.
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
    Ok(Exit::Done)
}

/// Parses a policy; the failure shows the place.
pub(crate) fn parse(text: &str) -> Result<Policy, Failure> {
    text.parse()
        .map_err(|error| Failure::syntax("policy", text, &error))
}

/// Parses attributes; the failure shows the place.
fn attributes(text: &str) -> Result<AttributeSet, Failure> {
    text.parse()
        .map_err(|error| Failure::syntax("attributes", text, &error))
}
