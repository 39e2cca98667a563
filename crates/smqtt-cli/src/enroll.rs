//! `smqtt enroll`: exchange a one-time token for an identity directory.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use smqtt_client::{Enrolment, Error, ErrorKind, enrol};

use crate::exit::Exit;
use crate::failure::{Failure, join};
use crate::interrupt::Interrupt;
use crate::json;

const EXAMPLES: &str = "\
Examples:
  # fingerprint and token come from the authority's operator
  smqtt enroll --authority https://authority.example:8443 \\
    --ca-fingerprint sha256:4f1c... --token mxxmdmne... --out keys/anna

  # the token by a pipe, so that no process list shows it
  smqtt enroll --authority https://authority.example:8443 \\
    --ca-fingerprint sha256:4f1c... --token - --out keys/anna < token.txt

The private key is made here and never leaves this device.
Exit codes: smqtt --help";

/// The longest token that is read from standard input, in bytes.
const MAX_TOKEN: u64 = 4_096;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The authority's address: https://HOST:PORT
    #[arg(
        long,
        value_name = "URL",
        env = "SMQTT_AUTHORITY",
        hide_env_values = true
    )]
    authority: String,

    /// The fingerprint of the authority's root certificate, as `smqtt-authority fingerprint` prints it
    #[arg(
        long,
        value_name = "sha256:HEX",
        env = "SMQTT_CA_FINGERPRINT",
        hide_env_values = true
    )]
    ca_fingerprint: String,

    /// The one-time token; - reads it from standard input
    #[arg(
        long,
        value_name = "TOKEN",
        env = "SMQTT_TOKEN",
        hide_env_values = true
    )]
    token: String,

    /// The identity directory to write; it must not exist yet
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,

    /// Seconds that the authority may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Print what was enrolled as one JSON object
    #[arg(long)]
    json: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of every log.
        f.debug_struct("Options")
            .field("authority", &self.authority)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize)]
struct Enrolled<'a> {
    device: &'a str,
    attributes: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_policy: Option<&'a str>,
    epoch: u64,
    broker: Option<&'a str>,
    directory: String,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let fingerprint = options
        .ca_fingerprint
        .parse()
        .map_err(|error: smqtt_pki::Error| Failure::input(error.to_string()))?;
    let token = read_token(&options.token)?;
    let enrolment = Enrolment::new(&options.authority, fingerprint, token)?
        .timeout(Duration::from_secs(options.timeout));
    let interrupt = Interrupt::listen()?;
    let enrolled = tokio::select! {
        biased;
        enrolled = enrol(enrolment, &options.out) => enrolled.map_err(explain)?,
        () = interrupt.asked() => {
            return Err(Failure::new(
                Exit::Lost,
                "interrupted: if the authority has seen the token, ask for a new one",
            ));
        }
    };
    let device = enrolled.device.to_string();
    let attributes = enrolled.attributes.to_string();
    let directory = options.out.display().to_string();
    if options.json {
        let report = Enrolled {
            device: &device,
            attributes: &attributes,
            key_policy: enrolled
                .key_policy
                .as_ref()
                .map(smqtt_client::Policy::as_str),
            epoch: enrolled.epoch.get(),
            broker: enrolled.broker.as_deref(),
            directory,
        };
        let _ = json::line(&mut std::io::stdout().lock(), &report);
    } else {
        use std::io::Write as _;
        // Nobody reads it any more: the identity is written all the same.
        let _ = writeln!(
            anstream::stdout(),
            "enrolled {device} with attributes {attributes}{}: {directory}",
            with_key_policy(enrolled.key_policy.as_ref())
        );
    }
    Ok(Exit::Done)
}

fn read_token(token: &str) -> Result<String, Failure> {
    let text = if token == "-" {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_TOKEN)
            .read_to_string(&mut text)
            .map_err(|error| Failure::file(std::path::Path::new("-"), &error))?;
        text
    } else {
        token.to_owned()
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::input(
            "the token is empty: `smqtt-authority device add` prints one",
        ));
    }
    Ok(text.to_owned())
}

/// The library's message with the step that helps at an authority.
fn explain(error: Error) -> Failure {
    let next = match &error {
        // The authority says itself what to do.
        Error::EnrolmentRefused { .. } => return Failure::new(Exit::Refused, error.to_string()),
        Error::Unreachable { .. } => "is the authority running there? --authority names another",
        Error::Broken { .. } => "is that the authority's port?",
        Error::TimedOut { .. } => "check the address and any firewall between",
        Error::Untrusted { .. } => {
            "compare with `smqtt-authority fingerprint` at the authority, and do not enrol if they differ"
        }
        Error::Identity(_) => return Failure::new(Exit::Identity, error.to_string()),
        other if other.kind() == ErrorKind::Unexpected => "is this an SMQTT authority?",
        _ => return error.into(),
    };
    Failure::new(error.kind().into(), join(&error, next))
}

/// `, key policy …`, if there is one.
pub(crate) fn with_key_policy(policy: Option<&smqtt_client::Policy>) -> String {
    policy.map_or_else(String::new, |policy| format!(", key policy {policy}"))
}
