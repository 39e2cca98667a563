//! `smqtt policy`: check policies without any network.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use smqtt_client::Identity;
use smqtt_policy::{AttributeSet, Explanation, Policy, Schema, limits::MAX_SCHEMA_BYTES};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::json;

const EXAMPLES: &str = "\
Examples:
  smqtt policy check 'role = doctor and (dept = icu or dept = er)'
  smqtt policy explain 'role = doctor and clearance >= 3' -a 'role = doctor, clearance = 2'
  smqtt policy explain 'role = doctor' -i keys/anna
  smqtt policy check 'dpet = icu' --schema schema.toml     # names the attribute that is meant

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

    #[command(flatten)]
    language: Language,
}

/// What a text is read with.
#[derive(Debug, Args)]
struct Language {
    /// Allow only the attributes and values of this schema, a TOML file
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The policy in its canonical form.
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    satisfied: Option<bool>,
    /// The smallest sets of conditions of which one would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<Vec<String>>>,
}

impl Report {
    fn new(policy: &Policy, explanation: Option<&Explanation>) -> Self {
        Self {
            policy: policy.to_string(),
            satisfied: explanation.map(Explanation::is_satisfied),
            missing: explanation.map(missing),
        }
    }
}

/// The conditions of each smallest set that is missing.
pub(crate) fn missing(explanation: &Explanation) -> Vec<Vec<String>> {
    let sets = explanation.missing().iter();
    sets.map(|set| {
        let conditions = set.iter().map(smqtt_policy::Missing::condition);
        conditions.map(ToString::to_string).collect()
    })
    .collect()
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

    #[command(flatten)]
    language: Language,
}

pub(crate) fn run(command: &Command) -> Result<Exit, Failure> {
    let (language, report, text) = match command {
        Command::Check(text) => {
            let policy = text.language.load()?.policy(&text.policy)?;
            (&text.language, Report::new(&policy, None), None)
        }
        Command::Canonical(text) => {
            let policy = text.language.load()?.policy(&text.policy)?;
            let canonical = policy.to_string();
            (&text.language, Report::new(&policy, None), Some(canonical))
        }
        Command::Explain(options) => {
            let language = options.language.load()?;
            let policy = language.policy(&options.policy)?;
            let set = match (&options.attributes, &options.identity) {
                (Some(text), _) => language.attributes(text)?,
                (None, Some(directory)) => {
                    smqtt_client::attributes(&Identity::load(directory)?)?.without_epoch()
                }
                (None, None) => AttributeSet::new(),
            };
            let explanation = policy.explain(&set);
            (
                &options.language,
                Report::new(&policy, Some(&explanation)),
                Some(explanation.to_string()),
            )
        }
    };
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: there is nothing else to do.
    let _ = match text {
        _ if language.json => json::line(&mut out, &report),
        Some(text) => writeln!(out, "{}", text.trim_end()),
        None => Ok(()),
    };
    Ok(Exit::Done)
}

/// Parses a policy without a schema; the failure shows the place.
pub(crate) fn parse(text: &str) -> Result<Policy, Failure> {
    Loaded(None).policy(text)
}

impl Language {
    fn load(&self) -> Result<Loaded, Failure> {
        Loaded::file(self.schema.as_deref())
    }
}

/// The schema that texts have to keep to, if there is one.
pub(crate) struct Loaded(Option<Schema>);

impl Loaded {
    /// The schema of this file; without one, every policy will do.
    pub(crate) fn file(file: Option<&Path>) -> Result<Self, Failure> {
        file.map(schema).transpose().map(Self)
    }

    /// The schema of this file, or else what this identity has from its authority.
    pub(crate) fn of(file: Option<&Path>, identity: &Identity) -> Result<Self, Failure> {
        match file {
            Some(file) => schema(file).map(Some),
            None => smqtt_client::schema(identity).map_err(Failure::from),
        }
        .map(Self)
    }

    pub(crate) fn into_schema(self) -> Option<Schema> {
        self.0
    }

    pub(crate) fn policy(&self, text: &str) -> Result<Policy, Failure> {
        let policy = match &self.0 {
            Some(schema) => schema.policy(text),
            None => text.parse(),
        };
        policy.map_err(|error| Failure::syntax("policy", text, &error))
    }

    fn attributes(&self, text: &str) -> Result<AttributeSet, Failure> {
        self.set("attributes", text)
    }

    /// What a message is tagged with: at least one attribute.
    pub(crate) fn tags(&self, text: &str) -> Result<AttributeSet, Failure> {
        let tags = self.set("tags", text)?;
        if tags.is_empty() {
            return Err(Failure::input(
                "there are no tags: give at least one, such as 'kind = temperature'",
            ));
        }
        Ok(tags)
    }

    fn set(&self, what: &str, text: &str) -> Result<AttributeSet, Failure> {
        let set = match &self.0 {
            Some(schema) => schema.attribute_set(text),
            None => text.parse(),
        };
        set.map_err(|error| Failure::syntax(what, text, &error))
    }
}

fn schema(path: &Path) -> Result<Schema, Failure> {
    // One byte more than a schema may have, so that a longer file is refused as such.
    let limit = u64::try_from(MAX_SCHEMA_BYTES).unwrap_or(u64::MAX - 1) + 1;
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|error| Failure::file(path, &error))?;
    Schema::from_toml(&text)
        .map_err(|error| Failure::input(format!("schema {}: {error}", path.display())))
}
