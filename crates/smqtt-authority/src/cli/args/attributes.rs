//! `profile`, `schema` and `policy`: what devices are, and who can read what.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum ProfileCommand {
    /// Add a profile, or change its attributes or key policy, for the devices that have it too.
    Set(ProfileSet),
    /// List profiles.
    List(ProfileList),
    /// Remove a profile that no device has.
    Remove(ProfileRemove),
}

#[derive(clap::Args)]
pub(crate) struct ProfileSet {
    /// The profile's name.
    pub(crate) name: String,

    /// Its attributes: "role = sensor, site = berlin".
    #[arg(long, short, value_name = "ATTRIBUTES")]
    pub(crate) attributes: String,

    /// What its devices may read of messages that are published with tags: "site = 4 and kind = temperature". Without this
    /// option it stays as it is.
    #[arg(long, value_name = "POLICY")]
    pub(crate) key_policy: Option<String>,

    /// Take its key policy away.
    #[arg(long, conflicts_with = "key_policy")]
    pub(crate) no_key_policy: bool,
}

#[derive(clap::Args)]
pub(crate) struct ProfileList {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ProfileRemove {
    /// The profile's name.
    pub(crate) name: String,
}

#[derive(Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the schema that holds.
    Show(SchemaShow),
    /// Change the schema: from a file, or in $VISUAL or $EDITOR.
    Edit(SchemaEdit),
    /// Check a schema's file against the devices and profiles that there are, and change nothing.
    Check(SchemaCheck),
}

#[derive(clap::Args)]
pub(crate) struct SchemaShow {
    /// Print a JSON object: version and text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SchemaEdit {
    /// Take this file; - reads standard input. Without it an editor opens.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct SchemaCheck {
    /// The file, TOML; - reads standard input.
    pub(crate) file: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the devices that satisfy a policy, or that read what is tagged so.
    Who(PolicyWho),
    /// List who gains and who loses if one policy takes the place of another.
    Diff(PolicyDiff),
}

#[derive(clap::Args)]
pub(crate) struct PolicyWho {
    /// The policy: "role = doctor and dept = icu".
    #[arg(required_unless_present = "tags")]
    pub(crate) policy: Option<String>,

    /// Instead of a policy, the tags of messages: "site = 4, kind = temperature". Lists the devices whose key policy they satisfy.
    #[arg(long, value_name = "TAGS", conflicts_with = "policy")]
    pub(crate) tags: Option<String>,

    /// The topic that would be published to, for policies and key policies that ask for it.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// Fail if no device satisfies it.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct PolicyDiff {
    /// The policy as it is.
    pub(crate) old: String,

    /// The policy as it would be.
    pub(crate) new: String,

    /// The topic that would be published to, for policies that ask for it.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// Fail if no device satisfies the new one.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
