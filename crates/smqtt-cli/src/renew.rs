//! `smqtt renew`: a new certificate, and an attribute key of the current epoch.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use smqtt_client::{Epoch, Error, renew};

use crate::exit::Exit;
use crate::failure::{Failure, join};
use crate::json;
use crate::options::IdentityOption;

const EXAMPLES: &str = "\
Examples:
  # from a daily timer
  smqtt renew -i keys/anna

The authority knows the device by its certificate. What it gives is tried before it takes the place
of what is there; interrupted at any moment, the directory holds an identity that works. The private
key stays. smqtt sub, pub -l and rr --serve renew by themselves; see their help.
Exit codes: smqtt --help";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    identity: IdentityOption,

    /// How long the authority may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    attributes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_policy: Option<String>,
    epoch: u64,
    epoch_before: Option<u64>,
    certificate_expires: String,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let timeout = Duration::from_secs(options.timeout);
    let renewed = renew(&options.identity.identity, timeout)
        .await
        .map_err(explain)?;
    let seconds = renewed.expires.as_secs();
    let expires = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string());
    let report = Report {
        attributes: renewed.attributes.to_string(),
        key_policy: renewed.key_policy.as_ref().map(ToString::to_string),
        epoch: renewed.epoch.get(),
        epoch_before: renewed.before.map(Epoch::get),
        certificate_expires: expires,
    };
    // Nobody reads it any more: the identity is renewed all the same.
    let _ = if options.json {
        json::line(&mut std::io::stdout().lock(), &report)
    } else {
        writeln!(
            anstream::stdout(),
            "renewed: epoch {}, attributes {}{}, certificate valid until {}",
            report.epoch,
            report.attributes,
            crate::enroll::with_key_policy(renewed.key_policy.as_ref()),
            report.certificate_expires
        )
    };
    Ok(Exit::Done)
}

/// The library's message with the step that helps.
fn explain(error: Error) -> Failure {
    let next = match &error {
        // The authority says itself what to do.
        Error::EnrolmentRefused { .. } => return Failure::new(Exit::Refused, error.to_string()),
        Error::Identity(_) => return Failure::new(Exit::Identity, error.to_string()),
        Error::Unreachable { .. } => {
            "is the authority running? The identity is as it was; try again later"
        }
        Error::Broken { .. } | Error::TimedOut { .. } => {
            "the identity is as it was; try again later"
        }
        _ => return error.into(),
    };
    Failure::new(error.kind().into(), join(&error, next))
}
