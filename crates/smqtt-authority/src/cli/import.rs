//! `device import`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use smqtt_authority::{
    Actor, Authority, Directory, Error, Grant, Imported, NewDevice, TokenTerms, now,
};
use smqtt_pki::files;
use zeroize::Zeroizing;

use super::args::DeviceImport;
use super::failure::Failure;
use super::output::{Output, print};
use super::table::rfc3339;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// What is wrong with a line.
struct Bad {
    line: u64,
    reason: String,
}

pub(crate) async fn run(dir: &Path, command: DeviceImport) -> Result<(), Failure> {
    let (lines, devices, mut bad) = read(&command)?;
    if let Some(path) = &command.tokens_out
        && path.exists()
    {
        return Err(Failure::input(format!(
            "{} exists: give another --tokens-out",
            path.display()
        )));
    }
    let authority = Authority::open(Directory::open(dir)?).await?;
    let terms = TokenTerms {
        lifetime: command.token_expires,
        uses: command.uses,
    };
    let bar = ProgressBar::new(devices.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    // Lines that can not be read are a reason not to begin, but all others shall be reported too.
    let partly = command.partly;
    let dry = command.dry_run || (!partly && !bad.is_empty());
    let outcomes = import(&authority, &devices, partly, dry, terms, &bar).await;
    bar.finish_and_clear();
    authority.close().await;
    let mut grants = Vec::new();
    for (line, outcome) in lines.iter().zip(outcomes?) {
        match outcome {
            Ok(grant) => grants.push(grant),
            Err(error) => bad.push(Bad {
                line: *line,
                reason: reason(&error),
            }),
        }
    }
    bad.sort_by_key(|bad| bad.line);
    let registered = !dry && (partly || bad.is_empty());
    if registered {
        tell(&command, &grants)?;
    }
    report(&command, &grants, &bad, registered)
}

/// Registers the devices; a dry run is undone.
async fn import(
    authority: &Authority,
    devices: &[NewDevice],
    partly: bool,
    dry: bool,
    terms: TokenTerms,
    bar: &ProgressBar,
) -> Result<Vec<Imported>, Error> {
    let actor = Actor::operator();
    let progress = |done| bar.set_position(done as u64);
    if dry {
        authority
            .check_devices(devices, terms, now(), progress)
            .await
    } else {
        authority
            .import_devices(devices, partly, terms, &actor, now(), progress)
            .await
    }
}

type Read3 = (Vec<u64>, Vec<NewDevice>, Vec<Bad>);

/// Reads the file: the devices with the lines that they stand on, and what is no device.
fn read(command: &DeviceImport) -> Result<Read3, Failure> {
    let shown = command.file.display();
    let source: Box<dyn Read> = if command.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(
            File::open(&command.file)
                .map_err(|e| Failure::input(format!("{shown} can not be opened: {e}")))?,
        )
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .comment(Some(b'#'))
        .from_reader(source.take(MAX_FILE));
    let headers = reader
        .headers()
        .map_err(|e| Failure::input(format!("{shown}: {e}")))?
        .clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let known = ["name", "attributes", "profile", "key-policy"];
    let Some(name) = column("name") else {
        return Err(Failure::input(format!(
            "{shown} does not begin with the names of its columns: {}",
            known.join(", ")
        )));
    };
    let (attributes, profile) = (column("attributes"), column("profile"));
    let key_policy = column("key-policy");
    if let Some(unknown) = headers.iter().find(|header| !known.contains(header)) {
        return Err(Failure::input(format!(
            "{shown} has a column {unknown:?}: those that there are, are {}",
            known.join(", ")
        )));
    }
    let (mut lines, mut devices, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                let reason = error.to_string();
                bad.push(Bad { line, reason });
                if error.is_io_error() {
                    break;
                }
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != headers.len() {
            bad.push(Bad {
                line,
                reason: format!(
                    "it has {} fields instead of {}: put a field that contains commas in quotes",
                    record.len(),
                    headers.len()
                ),
            });
            continue;
        }
        let field = |column: Option<usize>| {
            column
                .and_then(|column| record.get(column))
                .unwrap_or_default()
        };
        match field(Some(name)).parse() {
            Ok(name) => {
                lines.push(line);
                let profile = field(profile);
                devices.push(NewDevice {
                    name,
                    attributes: field(attributes).to_owned(),
                    profile: match profile {
                        "" => command.profile.clone(),
                        given => Some(given.to_owned()),
                    },
                    key_policy: Some(field(key_policy).to_owned())
                        .filter(|policy| !policy.is_empty()),
                });
            }
            Err(error) => {
                let error: smqtt_pki::Error = error;
                bad.push(Bad {
                    line,
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok((lines, devices, bad))
}

fn reason(error: &Error) -> String {
    match error {
        Error::DeviceExists(name) => format!("{name} is registered already"),
        other => other.to_string(),
    }
}

/// Hands the tokens over.
fn tell(command: &DeviceImport, grants: &[Grant]) -> Result<(), Failure> {
    if command.json && command.tokens_out.is_none() {
        return Ok(());
    }
    let line = |grant: &Grant| {
        Zeroizing::new(format!(
            "{},{},{}",
            grant.device,
            *grant.token.reveal(),
            rfc3339(grant.expires.as_secs())
        ))
    };
    const HEADING: &str = "name,token,expires";
    match &command.tokens_out {
        None => {
            let mut output = Output::new();
            output.line(HEADING);
            for grant in grants {
                output.line(&*line(grant));
            }
            output.finish()
        }
        Some(path) => {
            let mut text = Zeroizing::new(format!("{HEADING}\n"));
            for grant in grants {
                text.push_str(&line(grant));
                text.push('\n');
            }
            files::write_private(path, text.as_bytes()).map_err(Failure::from)
        }
    }
}

fn report(
    command: &DeviceImport,
    grants: &[Grant],
    bad: &[Bad],
    registered: bool,
) -> Result<(), Failure> {
    if command.json {
        let device = |grant: &Grant| {
            json!({
                "name": grant.device,
                "attributes": grant.attributes,
                "key_policy": grant.key_policy,
                "token": command.tokens_out.is_none().then(|| grant.token.reveal().to_string()),
                "expires": rfc3339(grant.expires.as_secs()),
            })
        };
        let devices: Vec<Value> = match registered {
            true => grants.iter().map(device).collect(),
            false => Vec::new(),
        };
        let errors: Vec<Value> = bad
            .iter()
            .map(|bad| json!({ "line": bad.line, "reason": bad.reason }))
            .collect();
        print(json!({
            "registered": devices.len(),
            "devices": devices,
            "errors": errors,
        }))?;
    } else {
        for bad in bad {
            eprintln!("line {}: {}", bad.line, bad.reason);
        }
    }
    let count = if registered { grants.len() } else { 0 };
    if bad.is_empty() {
        match command.dry_run {
            true => eprintln!("{} devices could be registered", grants.len()),
            false => eprintln!("{count} devices are registered"),
        }
        return Ok(());
    }
    let otherwise = if registered {
        format!("the other {count} are registered")
    } else {
        "nothing is registered; --partly would take the others".into()
    };
    Err(Failure::input(format!(
        "{} lines are no devices that can be registered: {otherwise}",
        bad.len()
    )))
}
