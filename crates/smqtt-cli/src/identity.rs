//! `smqtt identity`: look into an identity directory.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde::Serialize;
use smqtt_client::Identity;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::json;
use crate::options::IdentityOption;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print who this device is, what it may read, and until when; never a key
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    identity: IdentityOption,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    device: String,
    attributes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_policy: Option<String>,
    epoch: Option<u64>,
    broker: Option<String>,
    authority: String,
    ca_fingerprint: String,
    certificate_fingerprint: String,
    certificate_expires: String,
    suite: u8,
}

pub(crate) fn run(command: &Command) -> Result<Exit, Failure> {
    let Command::Show(options) = command;
    let identity = options.identity.load()?;
    let held = smqtt_client::attributes(&identity)?;
    let report = Report {
        device: identity.device().to_string(),
        attributes: held.without_epoch().to_string(),
        key_policy: smqtt_client::key_policy(&identity)?.map(|policy| policy.to_string()),
        epoch: held.epoch().map(smqtt_policy::Epoch::get),
        broker: identity.broker().map(str::to_owned),
        authority: identity.authority().to_owned(),
        ca_fingerprint: identity.trust_anchor().fingerprint().to_string(),
        certificate_fingerprint: identity
            .chain()
            .first()
            .map(|certificate| smqtt_pki::Fingerprint::of(certificate).to_string())
            .unwrap_or_default(),
        certificate_expires: until(&identity),
        suite: identity.suite(),
    };
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: there is nothing else to do.
    let _ = if options.json {
        json::line(&mut out, &report)
    } else {
        out.write_all(report.text().as_bytes())
    };
    Ok(Exit::Done)
}

fn until(identity: &Identity) -> String {
    let seconds = identity.validity().not_after().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string())
}

impl Report {
    fn text(&self) -> String {
        let epoch = self
            .epoch
            .map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        let broker = self.broker.as_deref().unwrap_or("none: give --broker");
        let key_policy = self
            .key_policy
            .as_ref()
            .map(|policy| format!("key policy       {policy}\n"))
            .unwrap_or_default();
        format!(
            "device           {}\n\
             attributes       {}\n\
             {key_policy}\
             epoch            {epoch}\n\
             broker           {broker}\n\
             authority        {}\n\
             root             {}\n\
             certificate      {}\n\
             expires          {}\n\
             suite            {}\n",
            self.device,
            self.attributes,
            self.authority,
            self.ca_fingerprint,
            self.certificate_fingerprint,
            self.certificate_expires,
            self.suite,
        )
    }
}
