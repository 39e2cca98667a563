//! Where queued messages lie: an ordered map from their number, in memory or in a database on disk.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use smqtt_pki::DeviceId;

use crate::Error;
use crate::disk::open_database;

/// What is kept in memory before it is written out.
const MEMTABLE: u64 = 4 << 20;
/// Under which key of the second table the device stands whose messages these are.
const DEVICE: &[u8] = b"device";

/// Queued messages by number; lower ones are older.
pub(crate) enum Store {
    Memory(BTreeMap<u64, Bytes>),
    Disk(Disk),
}

/// A database in a directory of its own.
pub(crate) struct Disk {
    directory: String,
    database: Database,
    messages: Keyspace,
}

/// What becomes of the messages in one commit.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) kept: Vec<(u64, Bytes)>,
    pub(crate) gone: Vec<u64>,
}

impl Store {
    /// Opens the queue of `device` in a directory, or in memory.
    pub(crate) fn open(directory: Option<&Path>, device: &DeviceId) -> Result<Self, Error> {
        let Some(directory) = directory else {
            return Ok(Self::Memory(BTreeMap::new()));
        };
        let failed = |error: &dyn std::fmt::Display| Error::Queue {
            directory: directory.display().to_string(),
            reason: error.to_string(),
        };
        let database = open_database(directory).map_err(|error| failed(&error))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let table = |name| database.keyspace(name, options);
        let messages = table("messages").map_err(|error| failed(&error))?;
        let meta = table("meta").map_err(|error| failed(&error))?;
        match meta.get(DEVICE).map_err(|error| failed(&error))? {
            Some(owner) if *owner != *device.as_str().as_bytes() => {
                let owner = String::from_utf8_lossy(&owner).into_owned();
                return Err(failed(&format_args!("it holds messages of {owner}")));
            }
            Some(_) => {}
            None => {
                let written = meta.insert(DEVICE, device.as_str().as_bytes());
                written.map_err(|error| failed(&error))?;
            }
        }
        Ok(Self::Disk(Disk {
            directory: directory.display().to_string(),
            database,
            messages,
        }))
    }

    /// The numbers of all messages, ascending, with their lengths.
    pub(crate) fn all(&self) -> Result<Vec<(u64, u64)>, Error> {
        match self {
            Self::Memory(messages) => Ok(messages
                .iter()
                .map(|(number, record)| (*number, record.len() as u64))
                .collect()),
            Self::Disk(disk) => disk
                .messages
                .iter()
                .map(|entry| {
                    let (key, value) = entry.into_inner().map_err(|error| disk.failed(&error))?;
                    let number = <[u8; 8]>::try_from(&*key)
                        .map_err(|_| disk.failed(&"a number in it is none"))?;
                    Ok((u64::from_be_bytes(number), value.len() as u64))
                })
                .collect(),
        }
    }

    pub(crate) fn get(&self, number: u64) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Memory(messages) => Ok(messages.get(&number).cloned()),
            Self::Disk(disk) => disk
                .messages
                .get(number.to_be_bytes())
                .map(|value| value.map(|value| Bytes::copy_from_slice(&value)))
                .map_err(|error| disk.failed(&error)),
        }
    }

    /// All of it or nothing. What is kept is on the medium when this returns; what is gone may come again after a crash.
    pub(crate) fn commit(&mut self, changes: Changes) -> Result<(), Error> {
        match self {
            Self::Memory(messages) => {
                messages.extend(changes.kept);
                for number in changes.gone {
                    messages.remove(&number);
                }
                Ok(())
            }
            Self::Disk(disk) => {
                let mode = if changes.kept.is_empty() {
                    PersistMode::Buffer
                } else {
                    PersistMode::SyncData
                };
                let mut batch = disk.database.batch().durability(Some(mode));
                for (number, record) in changes.kept {
                    batch.insert(&disk.messages, number.to_be_bytes(), &*record);
                }
                for number in changes.gone {
                    batch.remove(&disk.messages, number.to_be_bytes());
                }
                batch.commit().map_err(|error| disk.failed(&error))
            }
        }
    }
}

impl Disk {
    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Queue {
            directory: self.directory.clone(),
            reason: error.to_string(),
        }
    }
}
