//! Backups: all of an authority in one encrypted file, and an authority made of it.
//!
//! A backup is encrypted with the authority's backup key, which is one of its secrets. Outside of the authority the key
//! exists as shares only: who holds too few of them, and a backup, has nothing.

mod format;
mod restore;
mod shares;
mod stream;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use smqtt_pki::files;
use smqtt_pki::{Fingerprint, UnixTime};

use crate::clock::system_rng;
use crate::directory::{
    CA_CERTIFICATE, ISSUING_CERTIFICATES, MAX_FILE, PARAMETERS, PROFILE, REGISTER, ROOT_LIST,
};
use crate::register::audit::{self, Act, Actor};
use crate::register::safety;
use crate::secrets::{BACKUP_KEY, DataKey, Keeper, Secrets, backup_key_id};
use crate::{Authority, Error};
use format::{About, Writing};

pub use restore::{Restored, restore};
pub use shares::Share;

/// How a backup key is split.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// How many shares open a backup.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
    /// Makes a new key first: backups made from then on do not open with earlier shares.
    pub new_key: bool,
}

/// The files beside secrets and register.
const PLAIN: [&str; 3] = [PROFILE, CA_CERTIFICATE, PARAMETERS];
/// Those that are there where an intermediate issues.
const OF_INTERMEDIATE: [&str; 2] = [ISSUING_CERTIFICATES, ROOT_LIST];
/// Before the names of secrets.
const SECRET: &str = "secret/";
/// Before the register is copied into the backup, in the authority's directory.
const SNAPSHOT: &str = ".register.snapshot";

const HINT: &str = "restore the authority's directory from a backup";

impl Authority {
    /// Splits the backup key into shares and hands them to `deliver`. Backups made with this key, earlier ones too, open with
    /// any `threshold` of them.
    ///
    /// What `deliver` was given is recorded once it has returned; if the program is ended before, backups are refused until
    /// shares are made again.
    ///
    /// # Errors
    /// [`Error::Shares`], those of [`Directory::secrets`](crate::Directory::secrets), and those of `deliver`.
    pub async fn make_shares<E: From<Error>>(
        &self,
        keeper: Option<&dyn Keeper>,
        split: Split,
        actor: &Actor,
        now: UnixTime,
        deliver: impl FnOnce(&[Share]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Split {
            threshold,
            count,
            new_key,
        } = split;
        let rng = &mut system_rng();
        let mut transaction = self.register().write().await?;
        let mut secrets = self.directory().secrets(keeper)?;
        let stored = secrets.get(BACKUP_KEY).map(backup_key).transpose()?;
        let key = match stored {
            Some(key) if !new_key => key,
            _ => DataKey::random(rng),
        };
        let shares = Share::split(&key, threshold, count, rng)?;
        if secrets.get(BACKUP_KEY) != Some(&key.as_bytes()[..]) {
            // Authorities made by an earlier version have none.
            let directory = self.directory().path();
            secrets.store(directory, keeper, BACKUP_KEY, key.as_bytes())?;
        }
        deliver(&shares)?;
        let key_id = key_name(key.as_bytes());
        if let Some(share) = shares.first() {
            safety::note_shares(&mut transaction, share, &key_id, now).await?;
            let act = Act {
                action: "shares-make",
                subject: &key_id,
                detail: &format!("{threshold} of {count}, set {}", share.set()),
            };
            audit::append(&mut transaction, actor, &act, "ok", now).await?;
        }
        transaction.commit().await.map_err(Error::from)?;
        Ok(())
    }

    /// Writes a backup of the whole authority into a new file: complete or not at all. The register may be in use meanwhile.
    ///
    /// # Errors
    /// [`Error::NoShares`] while nobody could open it, [`smqtt_pki::Error::Exists`] if something is there already,
    /// [`Error::Backup`], [`Error::Register`].
    pub async fn backup(
        &self,
        secrets: &Secrets,
        out: &Path,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<u64, Error> {
        let key = backup_key(secrets.get(BACKUP_KEY).ok_or(Error::NoShares)?)?;
        let key_id = key_name(key.as_bytes());
        if !self.register().has_shares_of(&key_id).await? {
            return Err(Error::NoShares);
        }
        let occupied = || smqtt_pki::Error::Exists { path: out.into() };
        if fs::symlink_metadata(out).is_ok() {
            return Err(occupied().into());
        }
        let name = out.file_name().ok_or_else(occupied)?;
        let failed = |e: io::Error| Error::Backup {
            path: out.into(),
            reason: e.to_string(),
        };

        let register = self.snapshot().await?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let partial = Partial(out.with_file_name(hidden));
        // Left there by a crash.
        let _ = fs::remove_file(&partial.0);
        files::write_private(&partial.0, b"")?;
        let file = File::options()
            .append(true)
            .open(&partial.0)
            .map_err(failed)?;

        let directory = self.directory();
        let about = About::new(directory.name(), directory.fingerprint(), now);
        let mut writing = Writing::begin(file, &key, &mut system_rng()).map_err(failed)?;
        writing
            .entry(format::ABOUT, &about.to_bytes())
            .map_err(failed)?;
        for name in PLAIN {
            let content = files::read(&directory.path().join(name), MAX_FILE, HINT)?;
            writing.entry(name, &content).map_err(failed)?;
        }
        for name in OF_INTERMEDIATE {
            match files::read(&directory.path().join(name), MAX_FILE, HINT) {
                Ok(content) => writing.entry(name, &content).map_err(failed)?,
                Err(smqtt_pki::Error::Missing { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        for (name, secret) in secrets.iter() {
            writing
                .entry(&format!("{SECRET}{name}"), secret)
                .map_err(failed)?;
        }
        let length = register.metadata().map_err(failed)?.len();
        writing
            .long_entry(REGISTER, length, &mut BufReader::new(register).take(length))
            .map_err(failed)?;
        let file = writing.finish().map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        fs::rename(&partial.0, out).map_err(failed)?;
        files::sync_directory(match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        })?;

        let mut transaction = self.register().write().await?;
        let act = Act {
            action: "backup",
            subject: &out.to_string_lossy(),
            detail: &format!("key {key_id}"),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(size)
    }

    /// The register as it is at this moment, in a file that has no name any more.
    async fn snapshot(&self) -> Result<File, Error> {
        let directory = self.directory().path();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| smqtt_pki::Error::Io {
                action: "write",
                path,
                source,
            }
        };
        // One at a time, so that what an earlier one left there can be told from what another has just begun.
        let profile = directory.join(PROFILE);
        let lock = File::open(&profile).map_err(failed(&profile))?;
        lock.lock().map_err(failed(&profile))?;
        let path = directory.join(SNAPSHOT);
        let _ = fs::remove_file(&path);
        files::write_private(&path, b"")?;
        let taken = self.register().snapshot(&path).await;
        let file = File::open(&path).map_err(failed(&path));
        let _ = fs::remove_file(&path);
        taken?;
        Ok(file?)
    }
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn backup_key(bytes: &[u8]) -> Result<DataKey, Error> {
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Error::Damaged {
        path: BACKUP_KEY.into(),
        reason: "it is no key of 32 bytes".into(),
    })?;
    Ok(DataKey::from_bytes(bytes))
}

/// What identifies a backup key, as text.
fn key_name(key: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&backup_key_id(key))
}

/// What a backup says about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Contents {
    /// The authority's name.
    pub name: String,
    /// Its root certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// When the backup was made.
    pub made: UnixTime,
}
