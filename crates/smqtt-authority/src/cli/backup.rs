//! `backup` and `restore`.

use std::path::Path;

use smqtt_authority::{Actor, Authority, Directory, Share, now, restore};
use smqtt_pki::files;

use super::args::{Backup, Restore};
use super::failure::Failure;
use super::keys::{ask_openly, at_terminal, warn_if_unsealed};
use super::output::print;
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn backup(dir: &Path, command: Backup) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let secrets = directory.secrets(keeper.as_deref())?;
    let authority = Authority::open(directory).await?;
    let written = authority
        .backup(&secrets, &command.out, &Actor::operator(), now())
        .await;
    authority.close().await;
    eprintln!(
        "backup of {} bytes written to {}",
        written?,
        word(&command.out)
    );
    Ok(())
}

/// The most bytes of a file with shares.
const MAX_SHARES: u64 = 64 * 1024;

pub(crate) async fn restore_from(dir: &Path, command: Restore) -> Result<(), Failure> {
    let shares = read_shares(&command.shares)?;
    // Before a passphrase is asked for.
    drop(Share::combine(&shares)?);
    let keeper = command.seal.keeper()?;
    let restored = restore(
        &command.backup,
        &shares,
        dir,
        keeper.as_deref(),
        command.register.database.as_deref(),
        &Actor::operator(),
        now(),
    )
    .await?;
    print(restored.directory.fingerprint())?;
    eprintln!(
        "authority {:?} restored into {} as it was at {}: {} devices, {} entries of the audit log verified",
        restored.contents.name,
        word(dir),
        rfc3339(restored.contents.made.as_secs()),
        restored.devices,
        restored.audit_entries,
    );
    eprintln!(
        "what was issued or taken back since is not in it: have devices of that time enrol again, and take them back again"
    );
    warn_if_unsealed(&restored.directory)
}

/// The shares in these files; without any, those that are typed or piped in.
pub(crate) fn read_shares(paths: &[std::path::PathBuf]) -> Result<Vec<Share>, Failure> {
    let mut shares = Vec::new();
    for path in paths {
        let bytes = files::read(
            path,
            MAX_SHARES,
            "give a file with a share of the backup key",
        )?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Failure::input(format!("{} is no text", path.display())))?;
        let found = Share::read_all(text)?;
        if found.is_empty() {
            return Err(Failure::input(format!(
                "{} holds no share: a share is a line that begins with smqtt-share:",
                path.display()
            )));
        }
        shares.extend(found);
    }
    if !paths.is_empty() {
        return Ok(shares);
    }
    if !at_terminal() {
        let mut text = zeroize::Zeroizing::new(String::new());
        std::io::Read::read_to_string(
            &mut std::io::Read::take(std::io::stdin(), MAX_SHARES),
            &mut text,
        )
        .map_err(|e| Failure::unexpected(format!("can not read shares from stdin: {e}")))?;
        return Ok(Share::read_all(&text)?);
    }
    ask_for_shares()
}

fn ask_for_shares() -> Result<Vec<Share>, Failure> {
    let mut shares: Vec<Share> = Vec::new();
    loop {
        let needed = shares.first().map(|first| usize::from(first.threshold()));
        if needed.is_some_and(|needed| shares.len() >= needed) {
            return Ok(shares);
        }
        let of = needed.map_or(String::new(), |needed| format!(" of {needed}"));
        let line = ask_openly(&format!("Share {}{of}: ", shares.len() + 1))?;
        if line.is_empty() {
            return Ok(shares);
        }
        match Share::read(&line) {
            Ok(share) if shares.iter().any(|other| other.index() == share.index()) => {
                eprintln!("share {} was given already", share.index());
            }
            Ok(share) => shares.push(share),
            Err(error) => eprintln!("{error}"),
        }
    }
}
