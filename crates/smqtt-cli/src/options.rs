//! Options that several commands have, each with one name and one meaning.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, FromArgMatches};
use smqtt_client::{Identity, Policy, PublisherOptions};

use crate::failure::Failure;
use crate::policy;

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
    /// The policy, if it is one.
    pub(crate) fn parse(&self) -> Result<Policy, Failure> {
        crate::policy::parse(&self.policy)
    }
}

/// Who may read what is published: a policy over readers' attributes, or tags for readers' key policies.
///
/// What is typed wins over the environment, and that over the profile, also where the one is a policy and the other tags; so clap,
/// which knows conflicts but no such order, leaves the choice to this type.
#[derive(Clone, Debug)]
pub(crate) enum RecipientsOption {
    Policy(String),
    Tags(String),
}

impl RecipientsOption {
    /// For a publisher; what is named has to be in the schema.
    pub(crate) fn publisher(&self, schema: &policy::Loaded) -> Result<PublisherOptions, Failure> {
        match self {
            Self::Policy(text) => schema.policy(text).map(PublisherOptions::new),
            Self::Tags(text) => schema.tags(text).map(PublisherOptions::with_tags),
        }
    }
}

impl Args for RecipientsOption {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
            .arg(
                Arg::new("policy")
                    .short('p')
                    .long("policy")
                    .value_name("POLICY")
                    .env("SMQTT_POLICY")
                    .hide_env_values(true)
                    .help("Who may read: a policy over attributes, such as 'role = doctor and dept = icu'"),
            )
            .arg(
                Arg::new("tags")
                    .long("tags")
                    .value_name("TAGS")
                    .env("SMQTT_TAGS")
                    .hide_env_values(true)
                    .help(
                        "Instead of a policy: what the messages are, such as 'site = 4, kind = temperature'; \
                         devices read them whose key policy that satisfies",
                    ),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RecipientsOption {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str| {
            let text = matches.get_one::<String>(name).cloned()?;
            Some((text, matches.value_source(name)))
        };
        match (given("policy"), given("tags")) {
            (Some((policy, _)), None) => Ok(Self::Policy(policy)),
            (None, Some((tags, _))) => Ok(Self::Tags(tags)),
            (Some((policy, of_policy)), Some((_, of_tags))) if of_policy > of_tags => {
                Ok(Self::Policy(policy))
            }
            (Some((_, of_policy)), Some((tags, of_tags))) if of_tags > of_policy => {
                Ok(Self::Tags(tags))
            }
            (Some(_), Some(_)) => Err(clap::Error::raw(
                ErrorKind::ArgumentConflict,
                "--policy and --tags can not be used together: give one of them\n",
            )),
            (None, None) => Err(clap::Error::raw(
                ErrorKind::MissingRequiredArgument,
                "who may read? give --policy <POLICY> or --tags <TAGS>\n\nFor more information, try '--help'.\n",
            )),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Seconds, or a number with a unit: `90s`, `15m`, `12h`, `7d`.
pub(crate) fn span(text: &str) -> Result<std::time::Duration, String> {
    let refusal = || "give a time such as 90, 90s, 15m, 12h or 7d".to_owned();
    let unit = match text.as_bytes().last() {
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        _ => 1,
    };
    let number = text.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or(text);
    let seconds = number
        .parse::<u32>()
        .ok()
        .filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(refusal)?;
    Ok(std::time::Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
        ] {
            assert_eq!(span(text).map(|span| span.as_secs()), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "0",
            "0h",
            "-1",
            "+5",
            "1.5",
            "h",
            "5w",
            "60ss",
            "99999999d",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    fn recipients(
        typed: &[&str],
        profile: &[(&'static str, &'static str)],
    ) -> Result<String, ErrorKind> {
        let mut command = RecipientsOption::augment_args(clap::Command::new("pub"));
        for (name, value) in profile {
            command = command.mut_arg(name, |arg| arg.env(None::<&str>).default_value(value));
        }
        let typed = std::iter::once(&"pub").chain(typed);
        let matches = command
            .try_get_matches_from(typed)
            .map_err(|error| error.kind())?;
        match RecipientsOption::from_arg_matches(&matches) {
            Ok(RecipientsOption::Policy(text)) => Ok(format!("policy {text}")),
            Ok(RecipientsOption::Tags(text)) => Ok(format!("tags {text}")),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn what_is_typed_wins_over_the_profile_and_one_of_both_is_needed() {
        let of = |text: &str| Ok(text.to_owned());
        assert_eq!(recipients(&["-p", "a"], &[]), of("policy a"));
        assert_eq!(recipients(&["--tags", "b"], &[]), of("tags b"));
        assert_eq!(
            recipients(&["--tags", "b"], &[("policy", "a")]),
            of("tags b")
        );
        assert_eq!(recipients(&["-p", "a"], &[("tags", "b")]), of("policy a"));
        assert_eq!(recipients(&[], &[("tags", "b")]), of("tags b"));
        assert_eq!(
            recipients(&["-p", "a", "--tags", "b"], &[]),
            Err(ErrorKind::ArgumentConflict)
        );
        assert_eq!(
            recipients(&[], &[("policy", "a"), ("tags", "b")]),
            Err(ErrorKind::ArgumentConflict)
        );
        assert_eq!(
            recipients(&[], &[]),
            Err(ErrorKind::MissingRequiredArgument)
        );
    }
}
