//! The engine on disk: fjall, a log-structured merge tree with a journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::RwLock;

use super::engine::{COMMIT_KEY, Change, Engine, Mark, Reader, Table, Visit, commit_value};
use super::journal;

/// A fjall database with the store's tables.
pub(crate) struct Disk {
    path: PathBuf,
    mark: Mark,
    /// Empty while it is closed, because it could not be opened again after a failure.
    open: Arc<RwLock<Option<Open>>>,
}

struct Open {
    database: Database,
    tables: [Keyspace; Table::ALL.len()],
}

/// Memory for blocks that were read.
const CACHE: u64 = 16 << 20;
/// Journals beyond this are emptied into tables: what a start has to read again at most, about.
const JOURNALS: u64 = 192 << 20;
/// What a table keeps in memory before it is written out.
const MEMTABLE: u64 = 8 << 20;

impl Disk {
    /// Opens the database at `path`, or makes one. Journals have been [checked](journal::check)
    /// before: the database itself cuts a journal at the first byte that it does not understand.
    ///
    /// # Errors
    /// Of the system, or the files are damaged.
    pub(crate) fn open(path: &Path, mark: Mark) -> io::Result<Disk> {
        Ok(Disk {
            path: path.to_owned(),
            mark,
            open: Arc::new(RwLock::new(Some(Open::at(path)?))),
        })
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let database = Database::builder(path)
            .worker_threads(1)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .manual_journal_persist(true)
            .open()
            .map_err(io_error)?;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
            tables.push(database.keyspace(table.name(), options).map_err(io_error)?);
        }
        let tables = tables
            .try_into()
            .map_err(|_| io::Error::other("tables are missing"))?;
        Ok(Open { database, tables })
    }

    fn table(&self, table: Table) -> &Keyspace {
        &self.tables[table as usize]
    }
}

impl Engine for Disk {
    fn commit(&mut self, number: u64, changes: &[Change], sync: bool) -> io::Result<()> {
        let open = self.open.read();
        let open = open.as_ref().ok_or_else(closed)?;
        let mode = match sync {
            true => PersistMode::SyncData,
            false => PersistMode::Buffer,
        };
        let mut batch = open.database.batch().durability(Some(mode));
        batch.insert(
            open.table(Table::Meta),
            Bytes::from_static(COMMIT_KEY),
            commit_value(number, &self.mark),
        );
        for change in changes {
            let table = open.table(change.table);
            match &change.value {
                Some(value) => batch.insert(table, change.key.clone(), value.clone()),
                None => batch.remove(table, change.key.clone()),
            }
        }
        batch.commit().map_err(io_error)
    }

    fn mend(&mut self, last: u64) -> io::Result<()> {
        // Nobody reads meanwhile, and nothing holds the files open.
        let mut open = self.open.write();
        *open = None;
        // What the failed commit has left is cut off rather than trusted: after a failed sync the
        // system shows bytes that may not be on the medium.
        journal::cut_behind(&self.path, &self.mark, last)?;
        *open = Some(Open::at(&self.path)?);
        Ok(())
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> io::Result<()> {
        let open = self.open.read();
        let open = open.as_ref().ok_or_else(closed)?;
        for entry in open.table(table).iter() {
            let (key, value) = entry.into_inner().map_err(io_error)?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(DiskReader(self.open.clone()))
    }
}

struct DiskReader(Arc<RwLock<Option<Open>>>);

impl Reader for DiskReader {
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Bytes>> {
        let open = self.0.read();
        let open = open.as_ref().ok_or_else(closed)?;
        let value = open.table(table).get(key).map_err(io_error)?;
        // A copy: a slice would keep the block alive that it was read with.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }
}

fn closed() -> io::Error {
    io::Error::other("the store is closed after a failure, and is tried again")
}

/// What the system said, where it said something.
fn io_error(error: fjall::Error) -> io::Error {
    match error {
        fjall::Error::Io(error) => error,
        error => io::Error::other(error.to_string()),
    }
}
