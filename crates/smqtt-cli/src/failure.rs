//! How a command fails: one line on stderr that says what is wrong and what to do, and an exit code.

use std::fmt::Display;

use smqtt_client::{Error, ErrorKind};

use crate::console;
use crate::exit::Exit;

/// Why a command ends without having done what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// One line; more only where a place in a policy's text is shown.
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    /// A policy or attribute text that does not parse, with a caret at the place.
    pub(crate) fn syntax(what: &str, source: &str, error: &smqtt_policy::ParseError) -> Self {
        let rendered = error.render(source);
        let rendered = rendered.strip_prefix("error: ").unwrap_or(&rendered);
        Self::input(format!("{what}: {rendered}"))
    }

    /// An input file that cannot be read.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::input(format!(
            "cannot read {}: {}: check the name and its permissions",
            path.display(),
            without_number(error)
        ))
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn report(&self) {
        console::error(&self.message);
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind().into(), with_next_step(&error))
    }
}

impl From<smqtt_pki::Error> for Failure {
    fn from(error: smqtt_pki::Error) -> Self {
        Self::new(Exit::Identity, error.to_string())
    }
}

/// The library's message and, where the library cannot know it, the flag or command that helps.
fn with_next_step(error: &Error) -> String {
    let next = match error {
        Error::InsecureTransport(broker) => {
            return format!(
                "refusing to connect to {broker} without TLS, because it is not this machine: use mqtts://, or --allow-plain-transport if that is meant"
            );
        }
        Error::Unreachable { .. } => "is it running there? --broker names another",
        Error::Broken { .. } => {
            "is that the broker's port, with TLS for mqtts:// and without for mqtt://?"
        }
        Error::TimedOut { .. } => "check the address and any firewall between",
        Error::Untrusted { .. } => {
            "do not go on unless you know why; the broker's certificate must come from this device's authority"
        }
        Error::Refused { .. } => "the broker's log says more",
        Error::ConnectionLost(_) => "what was not acknowledged may or may not have arrived",
        other => match other.kind() {
            ErrorKind::Unexpected => "--log debug shows more",
            _ => return other.to_string(),
        },
    };
    join(error, next)
}

/// `what: why` with a next step behind it, on one line.
pub(crate) fn join(what: &dyn Display, next: &str) -> String {
    format!("{what}; {next}")
}

/// The operating system's words without its number.
pub(crate) fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
