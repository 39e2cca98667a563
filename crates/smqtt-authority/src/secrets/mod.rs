//! The secrets of an authority, in memory and on disk.
//!
//! Two layouts: *sealed*, all of them in one encrypted file `secrets.sealed`, or *unsealed*, each in a file of its own. One
//! file and one rename make sealing, and changing what it is sealed with, complete or not at all: where `secrets.sealed`
//! is, it is what counts, and files that an interrupted seal left beside it are removed by the next that opens it.

pub(crate) mod aead;
pub(crate) mod keeper;
mod sealed;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use smqtt_pki::files;
use zeroize::Zeroizing;

use crate::Error;
use crate::clock::system_rng;
pub use keeper::{DataKey, Keeper, KeyFile, Method, Passphrase};

/// The sealed file.
pub(crate) const SEALED: &str = "secrets.sealed";
/// The root's private key, PKCS#8 PEM; it may be kept elsewhere if an intermediate issues.
pub(crate) const CA_KEY: &str = "ca.key";
/// The private key of the intermediate that issues, PKCS#8 PEM.
pub(crate) const ISSUING_KEY: &str = "issuing.key";
/// The private key of the intermediate that has been requested from the root, PKCS#8 PEM.
pub(crate) const NEXT_ISSUING_KEY: &str = "issuing-next.key";
/// The ABE master key.
pub(crate) const MASTER_KEY: &str = "abe-master.key";
/// What backups are encrypted with, 32 bytes.
pub(crate) const BACKUP_KEY: &str = "backup.key";
/// All names, which are the files' names in the unsealed layout.
pub(crate) const NAMES: [&str; 5] = [
    CA_KEY,
    ISSUING_KEY,
    NEXT_ISSUING_KEY,
    MASTER_KEY,
    BACKUP_KEY,
];

const HINT: &str = "restore the authority's directory from a backup";
/// The most bytes of one secret, and of the sealed file.
const MAX: u64 = 64 * 1024;

/// Whether, and how, the secrets in a directory are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// Each is a file that its owner can read.
    Unsealed,
    /// They are encrypted.
    Sealed(Method),
}

impl Sealing {
    /// How the secrets in this directory are kept.
    pub(crate) fn of(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(SEALED);
        if !path.exists() {
            return Ok(Self::Unsealed);
        }
        let file = files::read_private(&path, MAX, HINT)?;
        sealed::method(&file)
            .map(Self::Sealed)
            .map_err(|e| e.at(&path))
    }
}

/// The secrets by name. Erased from memory when dropped, and shown nowhere.
#[derive(Default)]
pub struct Secrets(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Secrets {
    /// The secret of this name, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|secret| secret.as_slice())
    }

    /// As [`Secrets::get`], for one that must be there.
    pub(crate) fn need(&self, name: &'static str, directory: &Path) -> Result<&[u8], Error> {
        self.get(name).ok_or_else(|| {
            smqtt_pki::Error::Missing {
                path: directory.join(name),
                hint: HINT,
            }
            .into()
        })
    }

    pub(crate) fn put(&mut self, name: &str, secret: &[u8]) {
        self.0
            .insert(name.to_owned(), Zeroizing::new(secret.to_vec()));
    }

    /// Names and secrets, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.as_slice()))
    }

    /// Writes them into a directory that holds none: sealed if there is a keeper.
    pub(crate) fn write_new(
        &self,
        directory: &Path,
        keeper: Option<&dyn Keeper>,
    ) -> Result<(), Error> {
        match keeper {
            Some(keeper) => {
                let file = sealed::seal(self, keeper, &mut system_rng())?;
                Ok(files::write_private(&directory.join(SEALED), &file)?)
            }
            None => {
                for (name, secret) in self.iter() {
                    files::write_private(&directory.join(name), secret)?;
                }
                Ok(())
            }
        }
    }

    /// Reads the secrets of a directory. A keeper is needed if they are sealed.
    pub(crate) fn read(directory: &Path, keeper: Option<&dyn Keeper>) -> Result<Self, Error> {
        let path = directory.join(SEALED);
        if !path.exists() {
            return Self::read_unsealed(directory);
        }
        let file = files::read_private(&path, MAX, HINT)?;
        let method = sealed::method(&file).map_err(|e| e.at(&path))?;
        let keeper = keeper.ok_or(Error::Sealed { method })?;
        if keeper.method() != method {
            return Err(Error::Sealed { method });
        }
        let secrets = sealed::open(&file, keeper).map_err(|e| e.at(&path))?;
        secrets.remove_unsealed(directory)?;
        Ok(secrets)
    }

    fn read_unsealed(directory: &Path) -> Result<Self, Error> {
        let mut secrets = Self::default();
        for name in NAMES {
            match files::read_private(&directory.join(name), MAX, HINT) {
                Ok(secret) => drop(secrets.0.insert(name.to_owned(), secret)),
                Err(smqtt_pki::Error::Missing { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(secrets)
    }

    /// Puts these in the place of what the directory has, sealed by the keeper. Complete or not at all; what an
    /// interruption leaves is finished by the next [`Secrets::read`].
    pub(crate) fn seal(&self, directory: &Path, keeper: &dyn Keeper) -> Result<(), Error> {
        let file = sealed::seal(self, keeper, &mut system_rng())?;
        files::replace_private(&directory.join(SEALED), &file)?;
        self.remove_unsealed(directory)
    }

    /// Adds or replaces one secret on disk, in the layout that the directory has.
    pub(crate) fn store(
        &mut self,
        directory: &Path,
        keeper: Option<&dyn Keeper>,
        name: &str,
        secret: &[u8],
    ) -> Result<(), Error> {
        self.put(name, secret);
        match keeper {
            Some(keeper) => self.seal(directory, keeper),
            None => Ok(files::replace_private(&directory.join(name), secret)?),
        }
    }

    /// Removes one secret from the disk.
    pub(crate) fn remove(
        &mut self,
        directory: &Path,
        keeper: Option<&dyn Keeper>,
        name: &str,
    ) -> Result<(), Error> {
        if self.0.remove(name).is_none() {
            return Ok(());
        }
        if let Some(keeper) = keeper {
            return self.seal(directory, keeper);
        }
        let path = directory.join(name);
        fs::remove_file(&path).map_err(|source| smqtt_pki::Error::Io {
            action: "remove",
            path,
            source,
        })?;
        Ok(files::sync_directory(directory)?)
    }

    /// These secrets in a file of their own, sealed.
    pub(crate) fn to_sealed(&self, keeper: &dyn Keeper) -> Result<Vec<u8>, Error> {
        sealed::seal(self, keeper, &mut system_rng())
    }

    /// How a file of sealed secrets is sealed.
    pub(crate) fn sealed_method(path: &Path) -> Result<Method, Error> {
        let file = files::read_private(path, MAX, HINT)?;
        sealed::method(&file).map_err(|e| e.at(path))
    }

    /// Opens a file of sealed secrets.
    pub(crate) fn open_sealed(path: &Path, keeper: &dyn Keeper) -> Result<Self, Error> {
        let file = files::read_private(path, MAX, HINT)?;
        let method = sealed::method(&file).map_err(|e| e.at(path))?;
        if keeper.method() != method {
            return Err(Error::Sealed { method });
        }
        sealed::open(&file, keeper).map_err(|e| e.at(path))
    }

    /// Removes files of the unsealed layout that hold what these hold.
    fn remove_unsealed(&self, directory: &Path) -> Result<(), Error> {
        for name in NAMES {
            let path = directory.join(name);
            match files::read_private(&path, MAX, HINT) {
                Err(smqtt_pki::Error::Missing { .. }) => continue,
                Ok(found) if self.get(name) == Some(found.as_slice()) => {}
                Ok(_) => {
                    return Err(Error::Damaged {
                        path,
                        reason: format!("{SEALED} beside it holds another secret of this name"),
                    });
                }
                Err(other) => return Err(other.into()),
            }
            fs::remove_file(&path).map_err(|source| smqtt_pki::Error::Io {
                action: "remove",
                path,
                source,
            })?;
        }
        Ok(files::sync_directory(directory)?)
    }
}

/// The first bytes of a hash of a backup key, which tell keys apart and nothing else.
pub(crate) fn backup_key_id(key: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(b"smqtt backup key id");
    hash.update(key);
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    id
}
