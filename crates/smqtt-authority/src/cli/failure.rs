//! Errors as the command line shows them, and their exit codes.

use std::process::ExitCode;

use smqtt_authority::Error;
use smqtt_pki::Error as Pki;

/// Why the program ends unsuccessfully.
pub(crate) struct Failure {
    code: u8,
    message: String,
}

/// Something that has no place among the others.
const UNEXPECTED: u8 = 1;
/// What was typed is no command; clap's own code.
const USAGE: u8 = 2;
/// What was given is not valid.
const INPUT: u8 = 3;
/// A directory or file can not be used.
const DIRECTORY: u8 = 4;
/// The network address can not be used.
const NETWORK: u8 = 5;

impl Failure {
    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self {
            code: UNEXPECTED,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// What was given is not valid.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self {
            code: INPUT,
            message: message.into(),
        }
    }

    /// Prints the reason on stderr.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match &error {
            // These have several lines: they show the place.
            Error::Attributes { text, error: place } => {
                let rendered = place.render(text);
                let message = rendered.strip_prefix("error: ").unwrap_or(&rendered);
                format!("the attributes can not be read: {}", message.trim_end())
            }
            Error::Policy { text, error: place } => {
                let rendered = place.render(text);
                let message = rendered.strip_prefix("error: ").unwrap_or(&rendered);
                format!("the policy can not be read: {}", message.trim_end())
            }
            other => other.to_string(),
        };
        Self {
            code: code(&error),
            message,
        }
    }
}

impl From<Pki> for Failure {
    fn from(error: Pki) -> Self {
        Error::from(error).into()
    }
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Attributes { .. }
        | Error::NoAttributes
        | Error::DeviceExists(_)
        | Error::NoSuchDevice(_)
        | Error::NoSuchAdmin(_)
        | Error::AlreadyEnrolled(_)
        | Error::DeviceRevoked(_)
        | Error::TokenLifetime
        | Error::TokenUses
        | Error::Policy { .. }
        | Error::Schema(_)
        | Error::SchemaRefuses(_)
        | Error::ProfileName(_)
        | Error::NoSuchProfile(_)
        | Error::ProfileInUse { .. }
        | Error::ReservedName(_)
        | Error::NotEnrolled(_)
        | Error::DeviceSuspended(_)
        | Error::NotSuspended(_)
        | Error::Setting { .. }
        | Error::Url { .. }
        | Error::Host(_)
        | Error::Sealed { .. }
        | Error::WrongKey(_)
        | Error::WeakPassphrase { .. }
        | Error::Keeper(_)
        | Error::Shares(_)
        | Error::NoShares
        | Error::Database { .. }
        | Error::Root(_)
        | Error::Pki(
            Pki::DeviceId(_)
            | Pki::AdminName(_)
            | Pki::AuthorityName(_)
            | Pki::Hosts { .. }
            | Pki::Validity,
        ) => INPUT,
        Error::NoAuthority { .. }
        | Error::AuthorityExists { .. }
        | Error::FormatVersion { .. }
        | Error::Damaged { .. }
        | Error::Register(_)
        | Error::ForeignRegister { .. }
        | Error::Migration(_)
        | Error::AuditBroken { .. }
        | Error::Checkpoint(_)
        | Error::Export(_)
        | Error::Backup { .. }
        | Error::Pki(
            Pki::Missing { .. }
            | Pki::Exposed { .. }
            | Pki::Exists { .. }
            | Pki::TooLarge { .. }
            | Pki::Io { .. }
            | Pki::Damaged { .. }
            | Pki::FormatVersion { .. },
        ) => DIRECTORY,
        Error::Listen { .. } | Error::AdminSocket { .. } => NETWORK,
        _ => UNEXPECTED,
    }
}
