//! `device revoke`, `suspend`, `reinstate` and `remove`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use smqtt_authority::{Actor, Issuer, Revoked, now};
use smqtt_pki::DeviceId;

use super::args::{ActOptions, DeviceReinstate, DeviceRemove, DeviceRevoke, DeviceSuspend};
use super::crl::remember;
use super::epoch::tell;
use super::failure::Failure;
use super::keys;
use super::output::print;
use super::table::rfc3339;

/// How long a broker may take to acknowledge the state before the command goes on; the service tries again.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn revoke(dir: &Path, command: DeviceRevoke) -> Result<(), Failure> {
    let issuer = open(dir, &command.act).await?;
    let revoked = issuer
        .revoke_device(
            &command.name,
            command.reason.into(),
            !command.keep_epoch,
            &Actor::operator(),
            now(),
        )
        .await?;
    finish(
        issuer,
        &command.name,
        "is taken back",
        revoked,
        &command.act,
    )
    .await
}

pub(crate) async fn suspend(dir: &Path, command: DeviceSuspend) -> Result<(), Failure> {
    let issuer = open(dir, &command.act).await?;
    let revoked = issuer
        .suspend_device(
            &command.name,
            command.advance_epoch,
            &Actor::operator(),
            now(),
        )
        .await?;
    finish(issuer, &command.name, "is on hold", revoked, &command.act).await
}

pub(crate) async fn reinstate(dir: &Path, command: DeviceReinstate) -> Result<(), Failure> {
    let issuer = open(dir, &command.act).await?;
    let revoked = issuer
        .reinstate_device(&command.name, &Actor::operator(), now())
        .await?;
    finish(issuer, &command.name, "counts again", revoked, &command.act).await
}

pub(crate) async fn remove(dir: &Path, command: DeviceRemove) -> Result<(), Failure> {
    let issuer = open(dir, &command.act).await?;
    let revoked = issuer
        .remove_device(&command.name, &Actor::operator(), now())
        .await?;
    eprintln!("{} is forgotten; its name can be given anew", command.name);
    finish(
        issuer,
        &command.name,
        "is taken back",
        revoked,
        &command.act,
    )
    .await
}

async fn open(dir: &Path, options: &ActOptions) -> Result<Issuer, Failure> {
    let issuer = keys::issuer(dir, &options.keys).await?;
    if let Some(file) = &options.crl_out {
        remember(issuer.authority(), file, None, &Actor::operator()).await?;
    }
    Ok(issuer)
}

async fn finish(
    issuer: Issuer,
    name: &DeviceId,
    what: &str,
    revoked: Revoked,
    options: &ActOptions,
) -> Result<(), Failure> {
    let delivered = issuer.deliver(PATIENCE, now()).await;
    let settings = issuer.authority().settings().await?;
    issuer.authority().close().await;
    if revoked.serials.is_empty() {
        eprintln!("{name} has no certificate; a token that it had is void");
    }
    for serial in &revoked.serials {
        eprintln!("certificate {serial} of {name} {what}");
    }
    if let (Some(epoch), Some(from)) = (revoked.epoch, revoked.seal_from) {
        eprintln!(
            "epoch {epoch} has begun: publishers seal for it from {}",
            rfc3339(from)
        );
    }
    // What is in the register is done; the rest the service completes.
    let delivered = delivered?;
    tell(&delivered);
    if settings.crl_out.is_none() {
        eprintln!("next, for the broker, which has the file as tls.crl:");
        eprintln!("  smqtt-authority crl --out ca.crl");
    }
    if options.json {
        let brokers: Vec<_> = delivered
            .brokers
            .iter()
            .map(|(url, outcome)| json!({ "url": url, "error": outcome.as_ref().err() }))
            .collect();
        return print(json!({
            "device": name,
            "serials": revoked.serials,
            "epoch": revoked.epoch,
            "seal_from": revoked.seal_from.map(rfc3339),
            "crl": revoked.crl,
            "crl_file": delivered.crl.as_ref().map(|(path, _)| path),
            "brokers": brokers,
        }));
    }
    Ok(())
}
