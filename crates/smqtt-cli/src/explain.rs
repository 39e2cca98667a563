//! `smqtt explain`: why a captured payload can be read, or not. Nothing leaves this device.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;
use smqtt_client::{Capture, Findings, Refusal};
use smqtt_pki::UnixTime;

use crate::console::printable;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::IdentityOption;
use crate::{inspect, json, policy};

const EXAMPLES: &str = "\
Examples:
  # a message with its key frame in front
  smqtt sub -i keys/anna -t plant/7/plan --raw -C 1 | smqtt explain -i keys/anna -t plant/7/plan

  # a message whose key frame was announced
  smqtt explain -i keys/anna -t plant/7/temperature --frame frame.bin message.bin

Ends with exit code 0 whether the payload can be read or not; --json says which, as \"readable\".";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The file that holds the payload; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,

    #[command(flatten)]
    identity: IdentityOption,

    /// The topic at which the payload was captured [default: the first one that the key frame names]
    #[arg(short, long, value_name = "TOPIC")]
    topic: Option<String>,

    /// The file that holds the announced key frame of the message
    #[arg(long, value_name = "FILE")]
    frame: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    readable: bool,
    /// The refusal's code, as `smqtt sub` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    held: String,
    /// This device's key policy, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_policy: Option<String>,
    /// The smallest sets of conditions of which one would do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Vec<String>>,
    next: String,
}

pub(crate) fn run(options: &Options) -> Result<Exit, Failure> {
    let identity = options.identity.load()?;
    let payload = inspect::read(&options.file)?;
    let frame = options.frame.as_deref().map(inspect::read).transpose()?;
    let capture = Capture {
        payload: &payload,
        topic: options.topic.as_deref(),
        frame: frame.as_deref(),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let findings = capture.examine(&identity, UnixTime::since_unix_epoch(now))?;
    let held = smqtt_client::attributes(&identity)?.without_epoch();
    let report = Report::new(
        &findings,
        if held.is_empty() {
            "none".to_owned()
        } else {
            held.to_string()
        },
        smqtt_client::key_policy(&identity)?.map(|policy| policy.to_string()),
    );
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: there is nothing else to do.
    let _ = if options.json {
        json::line(&mut out, &report)
    } else {
        out.write_all(report.text(&findings).as_bytes())
    };
    Ok(Exit::Done)
}

impl Report {
    fn new(findings: &Findings, held: String, key_policy: Option<String>) -> Self {
        let missing = findings.explanation.as_ref().map(policy::missing);
        let missing = missing.unwrap_or_default();
        let reason = findings.outcome.as_ref().err();
        Self {
            readable: reason.is_none(),
            reason: reason.map(Refusal::code),
            detail: reason.map(ToString::to_string),
            topic: findings.topic.clone(),
            kid: findings.kid.map(|kid| kid.to_string()),
            publisher: findings.publisher.as_ref().map(ToString::to_string),
            epoch: findings.epoch,
            policy: findings.policy.clone(),
            tags: findings.tags.clone(),
            held,
            key_policy,
            next: match reason {
                None => "nothing: this device reads it".to_owned(),
                Some(reason) => next(reason, findings, &missing),
            },
            missing,
        }
    }

    fn text(&self, findings: &Findings) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<11} {value}");
        };
        match &findings.outcome {
            Ok(Some(message)) => row(
                "readable",
                &format_args!("yes: {} bytes", message.payload.len()),
            ),
            Ok(None) => row("readable", &"yes: a key frame that this device can open"),
            Err(reason) => row(
                "readable",
                &format_args!("no: {}", printable(&reason.to_string())),
            ),
        }
        for (name, value) in [
            ("topic", &self.topic),
            ("key id", &self.kid),
            ("publisher", &self.publisher),
            ("policy", &self.policy),
            ("tags", &self.tags),
        ] {
            if let Some(value) = value {
                row(name, &printable(value));
            }
        }
        if let Some(epoch) = self.epoch {
            row("epoch", &epoch);
        }
        row("held", &self.held);
        if let Some(policy) = &self.key_policy {
            row("key policy", &printable(policy));
        }
        for (index, set) in self.missing.iter().enumerate() {
            let name = if index == 0 { "missing" } else { "or" };
            row(name, &printable(&set.join(" and ")));
        }
        row("what to do", &printable(&self.next));
        text
    }
}

fn next(reason: &Refusal, findings: &Findings, missing: &[Vec<String>]) -> String {
    match reason {
        Refusal::NotAuthorised { .. } => {
            let needed = alternatives(missing);
            format!("ask the authority's operator for {needed}, then get a new attribute key")
        }
        Refusal::NoKeyPolicy { .. } => {
            "ask the authority's operator for a key policy that these tags satisfy, then smqtt renew".to_owned()
        }
        Refusal::OutsideKeyPolicy { .. } => {
            let needed = alternatives(missing);
            if needed.is_empty() {
                "ask the authority's operator for a wider key policy, then smqtt renew".to_owned()
            } else {
                format!(
                    "this device's key policy asks for {needed} as well: ask the publisher to tag it so, or the authority's operator for a wider key policy"
                )
            }
        }
        Refusal::UnknownKey => match (&findings.topic, findings.kid) {
            (Some(topic), Some(kid)) => format!(
                "capture what is retained at {} and give it as --frame",
                smqtt_format::announce::topic(topic, &kid)
            ),
            _ => "give --topic, and as --frame what is retained at smqtt/keys/TOPIC/KEY-ID".to_owned(),
        },
        Refusal::EpochAhead { .. } => "get a new attribute key: smqtt renew".to_owned(),
        Refusal::ExpiredEpoch { .. } => {
            "ask the publisher to publish it again: it is from before this device's key".to_owned()
        }
        Refusal::Expired { .. } | Refusal::NotYetValid { .. } => {
            "compare this device's clock with the publisher's (smqtt doctor)".to_owned()
        }
        Refusal::Plaintext => {
            "look at the publisher: it does not seal; smqtt inspect shows the bytes' kind".to_owned()
        }
        Refusal::WrongTopic { .. } => {
            "look at who runs the broker: the message was moved".to_owned()
        }
        Refusal::Altered => {
            "give the right --topic; if that is right, the message was altered on the way".to_owned()
        }
        Refusal::UntrustedPublisher(_) => {
            "find out under which authority the publisher enrolled; it is not this device's, or its certificate is over"
                .to_owned()
        }
        _ => "compare with docs/envelope.md, Refusals: the bytes are not what a publisher made".to_owned(),
    }
}

/// `a and b, or c`
fn alternatives(missing: &[Vec<String>]) -> String {
    let sets: Vec<_> = missing.iter().map(|set| set.join(" and ")).collect();
    sets.join(", or ")
}
