//! Profiles: what one would otherwise type every time, in `config.toml`.
//!
//! A key is the long name of an option. Its value becomes the option's default, so that what is typed and
//! what is in the environment win, and the help shows it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use smqtt_policy::nearest;
use toml::{Table, Value};

use crate::failure::{Failure, without_number};

/// What a profile may set: options of the commands that talk to a broker or an authority.
const KEYS: [&str; 19] = [
    "identity",
    "broker",
    "mqtt",
    "client-id",
    "username",
    "keep-alive",
    "timeout",
    "allow-plain-transport",
    "policy",
    "tags",
    "qos",
    "frames",
    "rekey-messages",
    "rekey-after",
    "retry",
    "authority",
    "ca-fingerprint",
    "json",
    "quiet",
];
/// Keys whose value is a path: relative to the configuration's directory, `~/` to the home directory.
const PATHS: [&str; 1] = ["identity"];
/// The longest configuration that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Commands whose options of the same name mean a choice, not a connection.
const EXCEPT: [&str; 2] = ["policy", "help"];

/// Gives options the values of a profile as their defaults.
///
/// The profile is that of `--profile`, or of `SMQTT_PROFILE`, or of the key `profile` in the file; without any
/// of them there is none.
///
/// # Errors
///
/// A file that is no configuration, a profile that it has not, a key that is none.
pub(crate) fn apply(
    mut command: clap::Command,
    arguments: &[OsString],
) -> Result<clap::Command, Failure> {
    let asked = asked(arguments);
    let path = path();
    let Some((path, file)) = path.and_then(|path| Some((path.clone(), read(&path)?))) else {
        return match asked {
            Some(name) => Err(Failure::input(format!(
                "there is no profile `{name}`: there is no {}",
                self::path().map_or_else(
                    || "configuration, because HOME is not set".to_owned(),
                    |path| path.display().to_string()
                )
            ))),
            None => Ok(command),
        };
    };
    let profile = parse(&path, &file?, asked.as_deref())?;
    for (key, value) in profile {
        for subcommand in command.get_subcommands_mut() {
            if !EXCEPT.contains(&subcommand.get_name()) {
                set(subcommand, key, &value);
            }
        }
    }
    Ok(command)
}

/// The name that `--profile` or `SMQTT_PROFILE` gives. It has to be known before anything is parsed.
fn asked(arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        if argument == "--profile" {
            return arguments.next().map(std::borrow::Cow::into_owned);
        }
        if let Some(name) = argument.strip_prefix("--profile=") {
            return Some(name.to_owned());
        }
    }
    std::env::var("SMQTT_PROFILE")
        .ok()
        .filter(|name| !name.is_empty())
}

/// `$XDG_CONFIG_HOME/smqtt/config.toml`, or below `~/.config` without that.
fn path() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("smqtt").join("config.toml"))
}

fn read(path: &Path) -> Option<Result<String, Failure>> {
    use std::io::Read as _;
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => Some(Ok(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(Failure::input(format!(
            "cannot read {}: {}",
            path.display(),
            without_number(&error)
        )))),
    }
}

/// The values of the profile that is meant. The whole file is checked, not only this profile.
fn parse(
    path: &Path,
    text: &str,
    asked: Option<&str>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let refuse = |why: String| Failure::input(format!("{}: {why}", path.display()));
    let file: Table = text
        .parse()
        .map_err(|error: toml::de::Error| refuse(error.to_string().trim_end().to_owned()))?;
    let mut default = None;
    let mut profiles = Vec::new();
    for (key, value) in &file {
        match (key.as_str(), value) {
            ("profile", Value::String(name)) => default = Some(name.as_str()),
            ("profile", _) => {
                return Err(refuse(
                    "`profile` is the name of a profile, in quotes".to_owned(),
                ));
            }
            ("profiles", Value::Table(table)) => {
                for (name, profile) in table {
                    let Value::Table(profile) = profile else {
                        return Err(refuse(format!(
                            "write the profile `{name}` as [profiles.{name}]"
                        )));
                    };
                    let values = values(path, profile)
                        .map_err(|why| refuse(format!("profile `{name}`: {why}")))?;
                    profiles.push((name.as_str(), values));
                }
            }
            (unknown, _) => {
                let near = nearest(unknown, ["profile", "profiles"].into_iter());
                return Err(refuse(format!(
                    "`{unknown}` is not a key of this file: {near}"
                )));
            }
        }
    }
    let Some(wanted) = asked.or(default) else {
        return Ok(Vec::new());
    };
    let known: Vec<&str> = profiles.iter().map(|(name, _)| *name).collect();
    match profiles.iter().position(|(name, _)| *name == wanted) {
        Some(index) => Ok(profiles.swap_remove(index).1),
        None => Err(refuse(format!(
            "there is no profile `{wanted}`: {}",
            nearest(wanted, known.iter().copied())
        ))),
    }
}

fn values(path: &Path, profile: &Table) -> Result<Vec<(&'static str, String)>, String> {
    let mut values = Vec::new();
    for (name, value) in profile {
        let Some(key) = KEYS.iter().find(|key| *key == name) else {
            return Err(format!(
                "`{name}` is not a key of a profile: {}",
                nearest(name, KEYS.into_iter())
            ));
        };
        let value = match value {
            Value::String(text) if PATHS.contains(key) => resolved(path, text),
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            _ => return Err(format!("`{name}` is a text, a number, true or false")),
        };
        values.push((*key, value));
    }
    Ok(values)
}

fn resolved(path: &Path, text: &str) -> String {
    let joined = match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.parent().unwrap_or(Path::new("")).join(text),
    };
    joined.to_string_lossy().into_owned()
}

/// Makes `value` the default of the option `key`, in this command and those below it.
fn set(command: &mut clap::Command, key: &'static str, value: &str) {
    let option = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(key))
        .map(|argument| argument.get_id().clone());
    if let Some(id) = option {
        // clap keeps defaults for as long as the program runs; there are a handful.
        let value: &'static str = Box::leak(value.to_owned().into_boxed_str());
        *command = std::mem::take(command)
            .mut_arg(id, |argument| argument.required(false).default_value(value));
    }
    for subcommand in command.get_subcommands_mut() {
        set(subcommand, key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parsed(text: &str, asked: Option<&str>) -> Result<Vec<(&'static str, String)>, String> {
        parse(Path::new("/etc/x/config.toml"), text, asked)
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn every_key_is_an_option_of_some_command() {
        let command = crate::arguments::Arguments::command();
        for key in KEYS {
            let found = command
                .get_subcommands()
                .flat_map(clap::Command::get_arguments)
                .any(|argument| argument.get_long() == Some(key));
            assert!(found, "{key}");
        }
    }

    #[test]
    fn the_profile_that_is_asked_for_wins_over_the_file_s_own_choice() {
        let text =
            "profile = 'a'\n[profiles.a]\nqos = 0\n[profiles.b]\nqos = 2\nidentity = 'anna'\n";
        assert_eq!(parsed(text, None).unwrap(), [("qos", "0".to_owned())]);
        assert_eq!(
            parsed(text, Some("b")).unwrap(),
            [
                ("identity", "/etc/x/anna".to_owned()),
                ("qos", "2".to_owned())
            ]
        );
        assert_eq!(parsed("[profiles.a]\nqos = 0\n", None).unwrap(), []);
    }

    #[test]
    fn what_is_not_known_is_named_with_what_comes_nearest() {
        for (text, asked, says) in [
            ("[profiles.a]\nbrokr = 'x'", None, "did you mean `broker`?"),
            ("profil = 'a'", None, "did you mean `profile`"),
            ("[profiles.plant]", Some("plnt"), "did you mean `plant`?"),
            ("profile = 3", None, "in quotes"),
            ("[profiles]\na = 3", None, "[profiles.a]"),
            ("[profiles.a]\nqos = []", None, "a text, a number"),
            ("[[", None, "TOML parse error"),
        ] {
            let error = parsed(text, asked).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
