//! An authority made of a backup.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use smqtt_pki::UnixTime;
use smqtt_pki::files::{self, StagedDirectory};

use super::format::{self, About, Head, Reading};
use super::{Contents, OF_INTERMEDIATE, PLAIN, SECRET, Share, key_name};
use crate::directory::{DATABASE, MAX_FILE, REGISTER};
use crate::register::audit::{self, Act, Actor};
use crate::secrets::{Keeper, NAMES, Secrets};
use crate::{Authority, Directory, Error};

/// What was restored.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The new authority.
    pub directory: Directory,
    /// What the backup says about itself.
    pub contents: Contents,
    /// How many devices are registered.
    pub devices: usize,
    /// How many rows of the audit log were verified.
    pub audit_entries: u64,
}

/// Makes an authority at `path` of a backup, which the shares open: complete and verified, or not at all, and never over
/// anything. Its secrets are sealed if there is a keeper. With `database` its register goes into that PostgreSQL database, which
/// must be empty, in one transaction; which database the backup was made of does not matter.
///
/// # Errors
/// [`Error::Shares`] if they are too few or of another key, [`Error::Backup`] if the file is no backup or was changed,
/// [`smqtt_pki::Error::Exists`] if something other than an empty directory is at `path`; [`Error::Damaged`] and
/// [`Error::AuditBroken`] if what was backed up does not fit together; [`Error::Database`].
pub async fn restore(
    backup: &Path,
    shares: &[Share],
    path: &Path,
    keeper: Option<&dyn Keeper>,
    database: Option<&str>,
    actor: &Actor,
    now: UnixTime,
) -> Result<Restored, Error> {
    let failed = |e: io::Error| Error::Backup {
        path: backup.into(),
        reason: e.to_string(),
    };
    let mut file = BufReader::new(File::open(backup).map_err(failed)?);
    let head = Head::read(&mut file).map_err(failed)?;
    let key = Share::combine(shares)?;
    if let Some(share) = shares.first()
        && share.key_id() != head.key_id()
    {
        return Err(Error::Shares(format!(
            "the backup is encrypted with key {}, the shares are of key {}",
            data_encoding::HEXLOWER.encode(head.key_id()),
            key_name(key.as_bytes()),
        )));
    }
    let staged = StagedDirectory::create(path)?;
    let mut reading = Reading::begin(file, &head, &key).map_err(failed)?;
    let mut secrets = Secrets::default();
    let mut contents = None;
    let mut found = BTreeSet::new();
    while let Some((name, length)) = reading.next().map_err(failed)? {
        let at = staged.path().join(&name);
        if name == format::ABOUT {
            let about = reading.content(length, MAX_FILE).map_err(failed)?;
            contents = Some(About::parse(&about).map_err(failed)?);
        } else if PLAIN.contains(&name.as_str()) || OF_INTERMEDIATE.contains(&name.as_str()) {
            files::write_public(&at, &reading.content(length, MAX_FILE).map_err(failed)?)?;
        } else if let Some(secret) = name
            .strip_prefix(SECRET)
            .filter(|name| NAMES.contains(name))
        {
            secrets.put(secret, &reading.content(length, MAX_FILE).map_err(failed)?);
        } else if name == REGISTER {
            files::write_private(&at, b"")?;
            let mut register = File::options().append(true).open(&at).map_err(failed)?;
            reading.copy(length, &mut register).map_err(failed)?;
            register.sync_all().map_err(failed)?;
        } else {
            return Err(Error::Backup {
                path: backup.into(),
                reason: format!("it holds {name:?}, which this program does not know: update it"),
            });
        }
        found.insert(name);
    }
    let needed = PLAIN.iter().chain([&format::ABOUT, &REGISTER]);
    if let Some(missing) = needed.copied().find(|name| !found.contains(*name)) {
        return Err(Error::Backup {
            path: backup.into(),
            reason: format!("it holds no {missing}"),
        });
    }
    let contents = contents.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
    secrets.write_new(staged.path(), keeper)?;

    let directory = Directory::open(staged.path())?;
    directory.certificate_authority(&secrets)?;
    directory.root_list()?;
    directory.abe_keys(&secrets)?;
    let authority = Authority::open(directory).await?;
    authority.check_register().await?;
    let mut verified = authority.verify_audit(&[]).await?;
    let mut authority = authority;
    if let Some(url) = database {
        let register = Directory::take_database(&staged.path().join(DATABASE), url).await?;
        register.fill_from(authority.register()).await?;
        register.close().await;
        authority.close().await;
        std::fs::remove_file(staged.path().join(REGISTER)).map_err(failed)?;
        authority = Authority::open(Directory::open(staged.path())?).await?;
        verified = authority.verify_audit(&[]).await?;
    }
    let devices = authority.devices().await?.len();
    let mut transaction = authority.register().write().await?;
    let act = Act {
        action: "restore",
        subject: &backup.to_string_lossy(),
        detail: &format!(
            "made {} with key {}",
            contents.made.as_secs(),
            key_name(key.as_bytes())
        ),
    };
    audit::append(&mut transaction, actor, &act, "ok", now).await?;
    transaction.commit().await?;
    authority.close().await;
    staged.commit()?;
    Ok(Restored {
        directory: Directory::open(path)?,
        contents,
        devices,
        audit_entries: verified.entries,
    })
}
