//! What is remembered of a session, in a database on disk.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use smqtt_envelope::WindowRecord;
use smqtt_format::KeyId;
use smqtt_pki::DeviceId;

use super::frame::{FrameRecord, read_frame, write_frame};
use crate::Error;
use crate::disk::open_database;

/// What is kept in memory before it is written out.
const MEMTABLE: u64 = 2 << 20;
const DEVICE: &[u8] = b"device";
const CLIENT_ID: &[u8] = b"client-id";
/// Filters, each ended by a zero, which no filter has in it.
const FILTERS: &[u8] = b"filters";

/// A session's memory.
pub(crate) struct Store {
    directory: String,
    database: Database,
    meta: Keyspace,
    windows: Keyspace,
    frames: Keyspace,
}

/// What becomes of it in one commit.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) windows: Vec<(KeyId, String, WindowRecord)>,
    pub(crate) frames: Vec<(KeyId, FrameRecord)>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.frames.is_empty()
    }
}

impl Store {
    /// Opens the session of `device`, and forgets the keys that ended before the second `ended`.
    pub(crate) fn open(directory: &Path, device: &DeviceId, ended: u64) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| failed(&directory.display(), error);
        let database = open_database(directory).map_err(|error| failed(&error))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let table = |name| {
            database
                .keyspace(name, options)
                .map_err(|error| failed(&error))
        };
        let store = Self {
            directory: directory.display().to_string(),
            meta: table("meta")?,
            windows: table("windows")?,
            frames: table("frames")?,
            database,
        };
        match store.text(DEVICE)? {
            Some(owner) if owner != device.as_str() => {
                return Err(failed(&format_args!("it is a session of {owner}")));
            }
            Some(_) => {}
            None => store.note(DEVICE, device.as_str().as_bytes())?,
        }
        store.forget(ended)?;
        Ok(store)
    }

    /// The client id that the broker knows the session by: the one that is asked for, which must be that of an earlier time, or
    /// the earlier one, or a new one.
    pub(crate) fn client_id(
        &self,
        asked: Option<&str>,
        new: impl FnOnce() -> String,
    ) -> Result<String, Error> {
        match (self.text(CLIENT_ID)?, asked) {
            (Some(kept), Some(asked)) if kept != asked => Err(self.failed(&format_args!(
                "it is the session of the client id {kept}: give that one or none, or another directory"
            ))),
            (Some(kept), _) => Ok(kept),
            (None, asked) => {
                let id = asked.map_or_else(new, str::to_owned);
                self.note(CLIENT_ID, id.as_bytes())?;
                Ok(id)
            }
        }
    }

    /// The filters that the broker knows from an earlier time.
    pub(crate) fn filters(&self) -> Result<Vec<String>, Error> {
        let text = self.text(FILTERS)?.unwrap_or_default();
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Remembers the filters, before the broker is asked for them: what is not known to be there is not taken back.
    pub(crate) fn note_filters<'a>(
        &self,
        filters: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let mut text = String::new();
        for filter in filters {
            text.push_str(filter);
            text.push('\0');
        }
        self.note(FILTERS, text.as_bytes())
    }

    pub(crate) fn window(&self, kid: &KeyId, topic: &str) -> Result<Option<WindowRecord>, Error> {
        let found = self.windows.get(window_key(kid, topic));
        let Some(bytes) = found.map_err(|error| self.failed(&error))? else {
            return Ok(None);
        };
        let record = WindowRecord::from_bytes(&bytes);
        record
            .map(Some)
            .ok_or_else(|| self.failed(&"a record in it is damaged"))
    }

    pub(crate) fn frame(&self, kid: &KeyId) -> Result<Option<FrameRecord>, Error> {
        let found = self.frames.get(kid.0);
        let Some(bytes) = found.map_err(|error| self.failed(&error))? else {
            return Ok(None);
        };
        let record = read_frame(Bytes::copy_from_slice(&bytes));
        record
            .map(Some)
            .ok_or_else(|| self.failed(&"a key frame in it is damaged"))
    }

    /// All of it or nothing, on the medium when this returns.
    pub(crate) fn commit(&self, changes: &Changes) -> Result<(), Error> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (kid, topic, record) in &changes.windows {
            batch.insert(&self.windows, window_key(kid, topic), record.to_bytes());
        }
        for (kid, record) in &changes.frames {
            batch.insert(&self.frames, kid.0, write_frame(record));
        }
        batch.commit().map_err(|error| self.failed(&error))
    }

    fn forget(&self, ended: u64) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for (table, tells_end) in [
            (&self.windows, window_end as fn(&[u8]) -> Option<u64>),
            (&self.frames, frame_end),
        ] {
            for entry in table.iter() {
                let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
                if tells_end(&value).is_some_and(|ends| ends < ended) {
                    batch.remove(table, key);
                }
            }
        }
        batch.commit().map_err(|error| self.failed(&error))
    }

    fn text(&self, key: &[u8]) -> Result<Option<String>, Error> {
        let value = self.meta.get(key).map_err(|error| self.failed(&error))?;
        let text = value.map(|value| String::from_utf8(value.to_vec()));
        text.transpose()
            .map_err(|_| self.failed(&"a text in it is damaged"))
    }

    fn note(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        batch.insert(&self.meta, key, value);
        batch.commit().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        failed(&self.directory, error)
    }
}

fn failed(directory: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Error {
    Error::Session {
        directory: directory.to_string(),
        reason: error.to_string(),
    }
}

fn window_key(kid: &KeyId, topic: &str) -> Vec<u8> {
    [&kid.0, topic.as_bytes()].concat()
}

fn window_end(record: &[u8]) -> Option<u64> {
    WindowRecord::from_bytes(record).map(|record| record.ends())
}

fn frame_end(record: &[u8]) -> Option<u64> {
    read_frame(Bytes::copy_from_slice(record)).map(|record| record.ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: KeyId = KeyId([7; 8]);

    fn frame(ends: u64) -> FrameRecord {
        FrameRecord {
            ends,
            live: true,
            topic: "smqtt/keys/plant/ü/0707070707070707".to_owned(),
            frame: Bytes::from_static(b"frame"),
        }
    }

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[test]
    fn what_was_kept_is_there_again_until_it_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session");
        let store = Store::open(&path, &device("anna"), 0).unwrap();
        assert_eq!(store.client_id(None, || "new".to_owned()).unwrap(), "new");
        store.note_filters(["a/#", "b"].into_iter()).unwrap();
        let record = WindowRecord::closed(50);
        store
            .commit(&Changes {
                windows: vec![(KID, "a".to_owned(), record)],
                frames: vec![(KID, frame(70))],
            })
            .unwrap();
        assert!(
            Store::open(&path, &device("anna"), 0).is_err(),
            "one program at a time"
        );
        drop(store);

        let store = Store::open(&path, &device("anna"), 50).unwrap();
        assert_eq!(store.window(&KID, "a").unwrap(), Some(record));
        assert_eq!(store.window(&KID, "b").unwrap(), None);
        assert_eq!(store.frame(&KID).unwrap(), Some(frame(70)));
        assert_eq!(store.filters().unwrap(), ["a/#", "b"]);
        assert_eq!(store.client_id(None, || panic!("kept")).unwrap(), "new");
        assert_eq!(
            store.client_id(Some("new"), || panic!("kept")).unwrap(),
            "new"
        );
        assert!(store.client_id(Some("other"), || panic!("kept")).is_err());
        drop(store);

        let store = Store::open(&path, &device("anna"), 51).unwrap();
        assert_eq!(store.window(&KID, "a").unwrap(), None);
        assert!(store.frame(&KID).unwrap().is_some());
        drop(store);
        let Err(error) = Store::open(&path, &device("ben"), 0) else {
            panic!("it is another's")
        };
        assert!(error.to_string().contains("session of anna"), "{error}");
    }
}
