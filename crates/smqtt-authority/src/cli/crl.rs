//! `device revoke` and `crl`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use smqtt_authority::{Actor, Authority, Directory, now};
use smqtt_pki::files;

use super::args::{Crl, DeviceRevoke};
use super::failure::Failure;
use super::keys;
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn revoke(dir: &Path, command: DeviceRevoke) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let serials = authority
        .revoke_device(
            &command.name,
            command.reason.into(),
            &Actor::operator(),
            now(),
        )
        .await?;
    authority.close().await;
    let name = &command.name;
    if serials.is_empty() {
        eprintln!("{name} has no certificate to take back; a token that it had is void");
        return Ok(());
    }
    for serial in &serials {
        eprintln!("certificate {serial} of {name} is taken back");
    }
    eprintln!(
        "it can still read what is encrypted for its attributes in the epoch of its key, if it gets hold of it"
    );
    eprintln!("next, for the broker, which has the file as tls.crl:");
    eprintln!("  smqtt-authority crl --out ca.crl");
    Ok(())
}

pub(crate) async fn issue(dir: &Path, command: Crl) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let list = issuer
        .issue_crl(command.valid, &Actor::operator(), now())
        .await?;
    issuer.authority().close().await;
    replace(&command.out, list.to_pem().as_bytes())?;
    eprintln!(
        "revocation list {} with {} certificates written to {}",
        list.number(),
        list.serials().len(),
        word(&command.out),
    );
    eprintln!(
        "it holds until {}: issue the next one before",
        rfc3339(list.validity().not_after().as_secs())
    );
    Ok(())
}

/// Puts a file in the place of another in one step, so that a broker never reads half of one.
fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let beside = path.with_file_name(name);
    // Left there by a crash.
    let _ = fs::remove_file(&beside);
    files::write_public(&beside, content).map_err(smqtt_authority::Error::from)?;
    fs::rename(&beside, path).map_err(|source| {
        smqtt_authority::Error::from(smqtt_pki::Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    })?;
    Ok(())
}
