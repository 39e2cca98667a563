//! An engine that fails as disks do, and writes down what happened in which order.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::engine::{Change, Engine, Reader, Table, Visit};

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Nothing is written.
    Write,
    /// A part is written.
    ShortWrite,
    /// All is written, and the sync fails.
    Sync,
    /// Nothing is written, and the engine can't be mended either.
    Full,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The engine said that this commit was safe; whether it had synced.
    Committed {
        number: u64,
        synced: bool,
    },
    Failed(Fault),
    /// A worker was told so many things.
    Settled(usize),
}

/// What has happened and what is to happen.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) faults: VecDeque<Fault>,
    pub(super) events: Vec<Event>,
}

/// An engine that follows a script.
pub(super) struct Faulty {
    pub(super) engine: Box<dyn Engine>,
    /// Of the database, for the writes that are cut short.
    pub(super) path: PathBuf,
    pub(super) script: Arc<Mutex<Script>>,
}

impl Faulty {
    /// Leaves half a batch behind the last whole one.
    fn tear(&self) -> io::Result<()> {
        let journals = std::fs::read_dir(&self.path)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
        let newest = journals.max_by_key(|path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stem.and_then(|stem| stem.parse::<u64>().ok())
        });
        let Some(newest) = newest else {
            return Ok(());
        };
        let bytes = std::fs::read(&newest)?;
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let mut file = OpenOptions::new().write(true).open(newest)?;
        file.seek(SeekFrom::Start(end as u64))?;
        // A start that promises more than there is, and half an item.
        file.write_all(&[1, 9, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 2, 0, 0, 3, 3])
    }
}

impl Engine for Faulty {
    fn commit(&mut self, number: u64, changes: &[Change], sync: bool) -> io::Result<()> {
        let fault = self.script.lock().faults.pop_front().unwrap_or(Fault::None);
        if fault != Fault::None {
            self.script.lock().events.push(Event::Failed(fault));
        }
        let failed = || io::Error::from_raw_os_error(28);
        match fault {
            Fault::Write | Fault::Full => return Err(failed()),
            Fault::ShortWrite => {
                self.tear()?;
                return Err(failed());
            }
            Fault::Sync => {
                self.engine.commit(number, changes, false)?;
                return Err(io::Error::from_raw_os_error(5));
            }
            Fault::None => {}
        }
        self.engine.commit(number, changes, sync)?;
        let synced = sync;
        let event = Event::Committed { number, synced };
        self.script.lock().events.push(event);
        Ok(())
    }

    fn mend(&mut self, last: u64) -> io::Result<()> {
        let mut script = self.script.lock();
        if script.faults.front() == Some(&Fault::Full) {
            script.faults.pop_front();
            return Err(io::Error::from_raw_os_error(28));
        }
        drop(script);
        self.engine.mend(last)
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> io::Result<()> {
        self.engine.scan(table, visit)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.engine.reader()
    }
}
