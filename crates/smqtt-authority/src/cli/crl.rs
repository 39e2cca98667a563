//! `crl`.

use std::path::Path;
use std::time::Duration;

use smqtt_authority::{Actor, Authority, now};

use super::args::Crl;
use super::failure::Failure;
use super::keys;
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn issue(dir: &Path, command: Crl) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let operator = Actor::operator();
    remember(
        issuer.authority(),
        &command.out,
        Some(command.valid),
        &operator,
    )
    .await?;
    let list = issuer.issue_crl(command.valid, &operator, now()).await?;
    let written = issuer.write_crl().await;
    issuer.authority().close().await;
    written?;
    eprintln!(
        "revocation list {} with {} certificates written to {}",
        list.number(),
        list.serials().len(),
        word(&command.out),
    );
    eprintln!(
        "it holds until {}: a running service renews it in time, else issue the next one before",
        rfc3339(list.validity().not_after().as_secs())
    );
    Ok(())
}

/// Remembers where revocation lists are written, and for how long each holds, if that is another place than before.
pub(crate) async fn remember(
    authority: &Authority,
    file: &Path,
    valid: Option<Duration>,
    actor: &Actor,
) -> Result<(), Failure> {
    // A path that holds wherever the service or a later command is started.
    let file = std::path::absolute(file).map_err(|source| {
        smqtt_authority::Error::from(smqtt_pki::Error::Io {
            action: "find",
            path: file.to_owned(),
            source,
        })
    })?;
    let before = authority.settings().await?;
    let valid = valid.unwrap_or(before.crl_valid);
    if before.crl_out.as_ref() != Some(&file) || before.crl_valid != valid {
        let change = |settings: &mut smqtt_authority::Settings| {
            settings.crl_out = Some(file);
            settings.crl_valid = valid;
        };
        authority.change_settings(change, actor, now()).await?;
    }
    Ok(())
}
