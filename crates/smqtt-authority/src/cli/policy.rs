//! `policy who` and `diff`.

use std::path::Path;

use serde_json::{Value, json};
use smqtt_authority::{Authority, Directory};

use super::args::{PolicyDiff, PolicyWho};
use super::device::to_json;
use super::failure::Failure;
use super::output::{Output, print};
use super::table::table;

pub(crate) async fn who(dir: &Path, command: PolicyWho) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let policy = authority.policy(&command.policy).await?;
    let devices = authority.who(&policy, command.topic.as_deref()).await?;
    authority.close().await;
    if command.json {
        print(Value::from(devices.iter().map(to_json).collect::<Vec<_>>()))?;
    } else if !devices.is_empty() {
        let mut rows = vec![["NAME", "STATE", "ATTRIBUTES"].map(String::from).to_vec()];
        rows.extend(devices.iter().map(|device| {
            vec![
                device.name.to_string(),
                device.state.as_str().into(),
                device.attributes.clone(),
            ]
        }));
        print(table(&rows).trim_end())?;
    }
    nobody(devices.is_empty(), policy.as_str(), command.strict)
}

pub(crate) async fn diff(dir: &Path, command: PolicyDiff) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let old = authority.policy(&command.old).await?;
    let new = authority.policy(&command.new).await?;
    let topic = command.topic.as_deref();
    let diff = authority.policy_diff(&old, &new, topic).await?;
    authority.close().await;
    if command.json {
        print(json!(diff))?;
    } else {
        let mut output = Output::new();
        for name in &diff.gains {
            output.line(format_args!("+ {name}"));
        }
        for name in &diff.loses {
            output.line(format_args!("- {name}"));
        }
        output.finish()?;
        eprintln!(
            "{} gain, {} lose, {} read both",
            diff.gains.len(),
            diff.loses.len(),
            diff.both
        );
    }
    let readers = diff.gains.len() + diff.both;
    nobody(readers == 0, new.as_str(), command.strict)
}

/// A policy that nobody satisfies: a warning, or an error where that was asked for.
fn nobody(nobody: bool, policy: &str, strict: bool) -> Result<(), Failure> {
    let message = || {
        format!(
            "no registered device satisfies {policy}: nobody could read what is sealed under it"
        )
    };
    match (nobody, strict) {
        (true, true) => Err(Failure::input(message())),
        (true, false) => {
            eprintln!("warning: {}", message());
            Ok(())
        }
        (false, _) => Ok(()),
    }
}
