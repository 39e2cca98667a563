//! `audit list`, `verify`, `checkpoint` and `export`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use smqtt_authority::{
    Authority, Checkpoint, Directory, Verified, now, read_checkpoints, verify_audit_export,
};
use smqtt_pki::{TrustAnchor, files};

use super::args::{AuditCheckpoint, AuditExport, AuditList, AuditVerify};
use super::failure::Failure;
use super::keys;
use super::output::{Output, print};
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn list(dir: &Path, command: AuditList) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let mut output = Output::new();
    let outcome = authority
        .audit(|entry, _| {
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

pub(crate) async fn verify(dir: &Path, command: AuditVerify) -> Result<(), Failure> {
    let mut checkpoints = Vec::new();
    for path in &command.checkpoints {
        checkpoints.extend(read_checkpoints(path)?);
    }
    let verified = match &command.export {
        Some(export) => verify_export(dir, &command, export, &checkpoints)?,
        None => {
            let authority = Authority::open(Directory::open(dir)?).await?;
            let outcome = authority.verify_audit(&checkpoints).await;
            authority.close().await;
            outcome?
        }
    };
    let chain = data_encoding::HEXLOWER.encode(&verified.chain);
    print(format_args!(
        "{} entries, none changed or missing; chain value {chain}",
        verified.entries
    ))?;
    say_coverage(&verified);
    Ok(())
}

fn say_coverage(verified: &Verified) {
    let (agreed, covered) = (verified.checkpoints, verified.covered);
    if agreed == 0 {
        eprintln!(
            "no checkpoint covers it: entries cut off at the end would not be seen; make one with `smqtt-authority audit checkpoint`"
        );
    } else {
        let agree = match agreed {
            1 => "checkpoint agrees",
            _ => "checkpoints agree",
        };
        eprintln!("{agreed} signed {agree}, the last covers entry {covered}");
    }
}

fn verify_export(
    dir: &Path,
    command: &AuditVerify,
    export: &Path,
    checkpoints: &[Checkpoint],
) -> Result<Verified, Failure> {
    let anchor = match &command.ca {
        Some(path) => {
            let hint = "give the authority's root certificate, ca.crt";
            TrustAnchor::from_pem(&files::read(path, 1024 * 1024, hint)?)?
        }
        None => Directory::open(dir)?.trust_anchor().clone(),
    };
    let file = File::open(export)
        .map_err(|e| Failure::input(format!("can not read {}: {e}", export.display())))?;
    Ok(verify_audit_export(
        &mut BufReader::new(file),
        &anchor,
        checkpoints,
    )?)
}

pub(crate) async fn checkpoint(dir: &Path, command: AuditCheckpoint) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let made = issuer.checkpoint(now()).await;
    issuer.authority().close().await;
    let Some(checkpoint) = made? else {
        return Err(Failure::input("the audit log is empty"));
    };
    let Some(out) = &command.out else {
        return print(checkpoint.to_json());
    };
    let mut line = checkpoint.to_json();
    line.push('\n');
    files::write_public(out, line.as_bytes())?;
    eprintln!(
        "checkpoint of {} entries written to {}; keep it where nobody changes both it and the authority",
        checkpoint.sequence,
        word(out)
    );
    Ok(())
}

pub(crate) async fn export(dir: &Path, command: AuditExport) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let count =
        match &command.out {
            None => {
                let mut to = BufWriter::new(std::io::stdout());
                issuer.export_audit(&mut to, now()).await
            }
            Some(out) => {
                files::write_private(out, b"")?;
                let file = File::options().append(true).open(out).map_err(|source| {
                    smqtt_pki::Error::Io {
                        action: "write",
                        path: out.clone(),
                        source,
                    }
                })?;
                let mut to = BufWriter::new(file);
                let count = issuer.export_audit(&mut to, now()).await;
                to.flush()
                    .and_then(|()| to.get_ref().sync_all())
                    .map_err(|e| {
                        Failure::unexpected(format!("can not write {}: {e}", out.display()))
                    })?;
                count
            }
        };
    issuer.authority().close().await;
    eprintln!(
        "{} entries exported, with a signed checkpoint at the end",
        count?
    );
    Ok(())
}
