//! Private files and directories that appear whole or not at all.
//!
//! A reader of a private file checks the permissions of the very file that it has opened, so that nobody can swap it
//! in between. A [`StagedDirectory`] is filled beside its destination and renamed there at the end: after a crash at
//! any moment there is either the complete directory or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::{Error, certificates_from_pem};

/// The most that is read from a file of certificates or from a key file, in bytes.
const MAX_PEM: u64 = 256 * 1024;

/// Reads a whole file of at most `limit` bytes. `hint` says what to do if it is missing.
///
/// # Errors
/// [`Error::Missing`], [`Error::TooLarge`], [`Error::Io`].
pub fn read(path: &Path, limit: u64, hint: &'static str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut file = open(path, hint)?;
    read_to(&mut file, path, limit, &mut bytes)?;
    Ok(bytes)
}

/// As [`read`], for a file with a secret: its group and others must have no access at all, and the bytes are erased
/// from memory when dropped.
///
/// # Errors
/// As [`read`], and [`Error::Exposed`].
pub fn read_private(
    path: &Path,
    limit: u64,
    hint: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut file = open(path, hint)?;
    check_private(&file, path)?;
    // With the size known no buffer is outgrown and left behind, unerased.
    let size = file
        .metadata()
        .map_err(Error::io("read", path))?
        .len()
        .min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    read_to(&mut file, path, limit, &mut bytes)?;
    Ok(bytes)
}

/// Reads a certificate chain (PEM) from a file.
///
/// # Errors
/// As [`read`] and [`certificates_from_pem`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates_from_pem(&read(
        path,
        MAX_PEM,
        "give a file with a certificate chain in PEM form",
    )?)
}

/// Reads a private key of any kind that rustls supports (PKCS#8, SEC 1 or PKCS#1, PEM) from a private file.
///
/// # Errors
/// As [`read_private`]; [`Error::Pem`] if there is no private key in it.
pub fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read_private(path, MAX_PEM, "give a file with a private key in PEM form")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| Error::Pem {
        expected: "private key",
        reason: e.to_string(),
    })
}

/// Writes a new file that its owner alone can access (mode 0600) and waits until it is on the disk.
///
/// # Errors
/// [`Error::Exists`] if something is there already, [`Error::Io`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_new(path, bytes, 0o600)
}

/// Writes a new file that everyone may read (mode 0644, less the process' mask) and waits until it is on the disk.
///
/// # Errors
/// [`Error::Exists`] if something is there already, [`Error::Io`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_new(path, bytes, 0o644)
}

/// Puts a private file (mode 0600) in the place of what is there, in one step and durably: after a crash at any moment
/// there is the old content or the new.
///
/// # Errors
/// [`Error::Io`].
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let beside = path.with_file_name(name);
    match fs::remove_file(&beside) {
        // Left there by a crash.
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("remove", beside)(e)),
    }
    write_private(&beside, bytes)?;
    fs::rename(&beside, path).map_err(Error::io("write", path))?;
    sync_directory(parent_of(path))
}

/// A new directory of mode 0700, filled out of sight and put in place by [`StagedDirectory::commit`].
///
/// Dropped before that, it is removed with everything in it.
#[derive(Debug)]
pub struct StagedDirectory {
    staging: PathBuf,
    destination: PathBuf,
    committed: bool,
}

impl StagedDirectory {
    /// Begins a directory that shall become `destination`. Missing parents are made.
    ///
    /// # Errors
    /// [`Error::Exists`] if something other than an empty directory is there, [`Error::Io`] if the parent can not be
    /// written: better known before anything irrevocable is done than after.
    pub fn create(destination: &Path) -> Result<Self, Error> {
        check_vacant(destination)?;
        let name = destination.file_name().ok_or_else(|| Error::Exists {
            path: destination.into(),
        })?;
        let parent = parent_of(destination);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        for attempt in 0..1000u32 {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".partial-{}-{attempt}", std::process::id()));
            let staging = parent.join(hidden);
            match make_private_directory(&staging) {
                Ok(()) => {
                    return Ok(Self {
                        staging,
                        destination: destination.into(),
                        committed: false,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", staging)(e)),
            }
        }
        Err(Error::io("create", destination)(
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// Where to put the files for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Where the directory will be.
    #[must_use]
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Puts the directory in place, durably. An empty directory there is replaced, nothing else ever is.
    ///
    /// # Errors
    /// [`Error::Exists`] if something has appeared there meanwhile, [`Error::Io`].
    pub fn commit(mut self) -> Result<(), Error> {
        check_vacant(&self.destination)?;
        sync_directory(&self.staging)?;
        // rename(2) replaces an empty directory only: what appears after the check is safe too.
        fs::rename(&self.staging, &self.destination).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => Error::Exists {
                path: self.destination.clone(),
            },
            _ => Error::io("create", &self.destination)(source),
        })?;
        self.committed = true;
        sync_directory(parent_of(&self.destination))
    }
}

impl Drop for StagedDirectory {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the name says that it is partial.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

/// Whether nothing, or nothing but an empty directory, is at the path.
fn check_vacant(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("look at", path)(e)),
        Ok(metadata) if metadata.is_dir() => {
            let mut entries = fs::read_dir(path).map_err(Error::io("look at", path))?;
            if entries.next().is_none() {
                Ok(())
            } else {
                Err(Error::Exists { path: path.into() })
            }
        }
        Ok(_) => Err(Error::Exists { path: path.into() }),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn open(path: &Path, hint: &'static str) -> Result<File, Error> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            path: path.into(),
            hint,
        },
        _ => Error::io("open", path)(source),
    })?;
    if file.metadata().map_err(Error::io("open", path))?.is_dir() {
        return Err(Error::io("read", path)(io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

fn read_to(file: &mut File, path: &Path, limit: u64, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let read = file
        .take(limit + 1)
        .read_to_end(bytes)
        .map_err(Error::io("read", path))?;
    if read as u64 > limit {
        return Err(Error::TooLarge {
            path: path.into(),
            limit,
        });
    }
    Ok(())
}

#[cfg(unix)]
fn check_private(file: &File, path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file
        .metadata()
        .map_err(Error::io("read", path))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::Exposed {
            path: path.into(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_private(_: &File, _: &Path) -> Result<(), Error> {
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.into() },
        _ => Error::io("create", path)(source),
    })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", path))
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The paths of what is in a directory.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .map_err(Error::io("look at", directory))
}

/// Puts a file in the place of another, or in a free one, in one step.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("replace", to))
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::io("remove", path))
}

/// Locks a directory against others who lock it; until the file is dropped, or the process ends.
pub(crate) fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(".lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(Error::io("open", &path))?;
    file.try_lock().map_err(|error| {
        let source = match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another renewal of this identity is under way",
            ),
            fs::TryLockError::Error(error) => error,
        };
        Error::io("lock", &path)(source)
    })?;
    Ok(file)
}

/// Makes a directory's entries durable.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("write", path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
