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
    let topic = command.topic.as_deref();
    let (devices, what) = match (&command.policy, &command.tags) {
        (Some(text), _) => {
            let policy = authority.policy(text).await?;
            let devices = authority.who(&policy, topic).await?;
            (devices, format!("satisfies {policy}"))
        }
        (None, tags) => {
            let tags = authority.tags(tags.as_deref().unwrap_or_default()).await?;
            let devices = authority.who_reads_tags(&tags, topic).await?;
            (devices, format!("has a key policy that {tags} satisfies"))
        }
    };
    authority.close().await;
    let (heading, by_tags) = match command.tags {
        Some(_) => ("KEY POLICY", true),
        None => ("ATTRIBUTES", false),
    };
    if command.json {
        print(Value::from(devices.iter().map(to_json).collect::<Vec<_>>()))?;
    } else if !devices.is_empty() {
        let mut rows = vec![["NAME", "STATE", heading].map(String::from).to_vec()];
        rows.extend(devices.iter().map(|device| {
            vec![
                device.name.to_string(),
                device.state.as_str().into(),
                match by_tags {
                    true => device.key_policy.clone().unwrap_or_default(),
                    false => device.attributes.clone(),
                },
            ]
        }));
        print(table(&rows).trim_end())?;
    }
    nobody(devices.is_empty(), &what, command.strict)
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
    nobody(readers == 0, &format!("satisfies {new}"), command.strict)
}

/// A policy that nobody satisfies: a warning, or an error where that was asked for.
fn nobody(nobody: bool, what: &str, strict: bool) -> Result<(), Failure> {
    let message = || format!("no registered device {what}: nobody could read what is sealed so");
    match (nobody, strict) {
        (true, true) => Err(Failure::input(message())),
        (true, false) => {
            eprintln!("warning: {}", message());
            Ok(())
        }
        (false, _) => Ok(()),
    }
}
