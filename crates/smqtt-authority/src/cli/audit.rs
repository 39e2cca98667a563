//! `audit list` and `verify`.

use std::path::Path;

use smqtt_authority::{Authority, Directory};

use super::args::AuditList;
use super::failure::Failure;
use super::output::{Output, print};
use super::table::rfc3339;

pub(crate) async fn list(dir: &Path, command: AuditList) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let mut output = Output::new();
    let outcome = authority
        .audit(|entry| {
            if command.json {
                let mut object = serde_json::json!(entry);
                object["time"] = rfc3339(entry.time).into();
                output.line(object);
            } else {
                output.line(format_args!(
                    "{:>6}  {}  {:<20}  {:<13}  {:<17}  {}  {}",
                    entry.sequence,
                    rfc3339(entry.time),
                    entry.actor,
                    entry.action,
                    entry.outcome,
                    entry.subject,
                    entry.detail
                ));
            }
        })
        .await;
    authority.close().await;
    output.finish()?;
    outcome?;
    Ok(())
}

pub(crate) async fn verify(dir: &Path) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let outcome = authority.audit(|_| {}).await;
    authority.close().await;
    let (count, chain) = outcome?;
    let chain: String = chain.iter().map(|byte| format!("{byte:02x}")).collect();
    print(format_args!(
        "{count} entries, none changed or missing; chain value {chain}"
    ))
}
