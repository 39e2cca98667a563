//! `smqtt key`: look into the files of the encryption.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde::Serialize;
use smqtt_abe::{Kind, Summary};
use smqtt_policy::Epoch;
use zeroize::Zeroizing;

use crate::console::printable;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json;

const EXAMPLES: &str = "\
Examples:
  smqtt key inspect keys/anna/attribute.key
  smqtt key inspect keys/anna/parameters.cbor --json

Two files belong together if they show the same parameters.";

/// More than any key or parameters have.
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what a key or public parameters are for; never a secret
    #[command(after_help = EXAMPLES)]
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The file: an attribute key, public parameters, or an authority's master key; - is standard
    /// input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is shown. Nothing of it is secret.
#[derive(Debug, Serialize)]
struct Report {
    /// `parameters`, `master-key`, `attribute-key` or `policy-key`.
    kind: &'static str,
    bytes: usize,
    suite: String,
    parameters: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

pub(crate) fn run(command: &Command) -> Result<Exit, Failure> {
    let Command::Inspect(options) = command;
    let bytes = read(&options.file)?;
    let summary = Summary::of(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", options.file.display())))?;
    let report = Report::new(bytes.len(), &summary);
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: there is nothing else to do.
    let _ = if options.json {
        json::line(&mut out, &report)
    } else {
        out.write_all(report.text().as_bytes())
    };
    Ok(Exit::Done)
}

/// The file, wiped when dropped: it may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Never moved while it grows, which would leave copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_BYTES as u64)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES as u64).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::file(path, &error))?;
    Ok(bytes)
}

impl Report {
    fn new(bytes: usize, summary: &Summary) -> Self {
        let mut report = Self {
            kind: "parameters",
            bytes,
            suite: summary.suite.to_string(),
            parameters: HEXLOWER.encode(&summary.parameters),
            attributes: None,
            policy: None,
            epoch: None,
        };
        match &summary.kind {
            Kind::MasterKey => report.kind = "master-key",
            Kind::AttributeKey(held) => {
                report.kind = "attribute-key";
                report.epoch = held.epoch().map(Epoch::get);
                report.attributes = Some(held.without_epoch().to_string());
            }
            Kind::PolicyKey(policy) => {
                report.kind = "policy-key";
                report.policy = Some(policy.to_string());
            }
            _ => {}
        }
        report
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<16} {value}");
        };
        let kind = match self.kind {
            "master-key" => "master key of an authority: it opens everything, keep it secret",
            "attribute-key" => "attribute key of a device: keep it secret",
            "policy-key" => "policy key of a device: keep it secret",
            _ => "public parameters",
        };
        row("kind", &kind);
        row("size", &format_args!("{} bytes", self.bytes));
        row("suite", &self.suite);
        row("parameters", &self.parameters);
        if let Some(attributes) = &self.attributes {
            row("attributes", &printable(attributes));
        }
        if let Some(policy) = &self.policy {
            row("policy", &printable(policy));
        }
        if let Some(epoch) = self.epoch {
            row("epoch", &epoch);
        }
        text
    }
}
