//! The engine's journals, looked at before the engine opens them.
//!
//! The engine cuts a journal at the first byte that it does not understand, wherever that is. Here
//! the torn tail that a crash leaves is told from damage: behind a torn tail there is nothing
//! whole, because every commit is one batch and ends before the next begins.
//!
//! The format is that of fjall 3: a batch is a start (tag 1, number of items `u32`, sequence number
//! `u64`), its items (tag 2, kind, compression, table `u64`, lengths of key `u16`, value `u32` and
//! compressed value `u32`, key, compressed value; or tag 4, table `u64`), and an end (tag 3, XXH3 of
//! the items `u64`, `FJL\x03`); integers are little-endian. Files are made 64 MiB long and are zero
//! behind the last batch.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::engine::{COMMIT_KEY, Mark, commit_number};

/// What is wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) file: PathBuf,
    /// Where the first batch that is not whole begins.
    pub(crate) offset: u64,
    /// Whole batches behind it: more than none, or the file is not the last one.
    pub(crate) behind: u64,
}

/// A torn tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// From there to the last byte that is not zero.
    pub(crate) bytes: u64,
}

/// What [`check`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) batches: u64,
    pub(crate) torn: Option<Torn>,
    pub(crate) damaged: Vec<Damage>,
}

/// Reads all journals in `directory` and changes nothing.
///
/// # Errors
/// Of the system.
pub(crate) fn check(directory: &Path, mark: &Mark) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let journals = journals(directory)?;
    for (index, file) in journals.iter().enumerate() {
        let bytes = fs::read(file)?;
        let mut at = 0;
        while let Some(batch) = batch_at(&bytes, at, mark) {
            findings.batches += 1;
            at = batch.end;
        }
        let used = at + used(&bytes[at..]);
        if used == at {
            continue;
        }
        let behind = batches_in(&bytes[..used], at + 1, mark);
        if behind > 0 || index + 1 < journals.len() {
            findings.damaged.push(Damage {
                file: file.clone(),
                offset: at as u64,
                behind,
            });
        } else {
            findings.torn = Some(Torn {
                file: file.clone(),
                offset: at as u64,
                bytes: (used - at) as u64,
            });
        }
    }
    Ok(findings)
}

/// Cuts a file at `offset`, on the medium.
///
/// # Errors
/// Of the system.
pub(crate) fn cut(file: &Path, offset: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(file)?;
    file.set_len(offset)?;
    file.sync_all()
}

/// Cuts off every commit with a number beyond `last`, whole or torn: there is at most one.
///
/// # Errors
/// Of the system.
pub(crate) fn cut_behind(directory: &Path, mark: &Mark, last: u64) -> io::Result<()> {
    for file in journals(directory)? {
        let bytes = fs::read(&file)?;
        let mut at = 0;
        while let Some(batch) = batch_at(&bytes, at, mark) {
            if batch.commit.is_some_and(|number| number > last) {
                break;
            }
            at = batch.end;
        }
        if used(&bytes[at..]) > 0 {
            cut(&file, at as u64)?;
        }
    }
    File::open(directory)?.sync_all()
}

/// How long it is without the zeros at its end, of which there may be many.
fn used(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let zeros = [0; PAGE];
    let page = bytes
        .chunks(PAGE)
        .rposition(|page| page != &zeros[..page.len()]);
    let begin = page.map_or(0, |page| page * PAGE);
    let end = bytes.len().min(begin + PAGE);
    bytes[begin..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| begin + last + 1)
}

/// The journals, oldest first.
fn journals(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

struct Batch {
    /// Where the next one begins.
    end: usize,
    /// The number of the commit, if it is one of the store's.
    commit: Option<u64>,
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";

/// Takes bytes off the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let taken = take(rest, bytes)?;
    Some(
        taken
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// The whole batch that begins at `at`, if there is one.
fn batch_at(bytes: &[u8], at: usize, mark: &Mark) -> Option<Batch> {
    let mut rest = bytes.get(at..)?;
    if number(&mut rest, 1)? != u64::from(START) {
        return None;
    }
    let items = number(&mut rest, 4)?;
    number(&mut rest, 8)?;
    let content = rest;
    let mut commit = None;
    for index in 0..items {
        match u8::try_from(number(&mut rest, 1)?).ok()? {
            ITEM => {
                number(&mut rest, 2)?;
                number(&mut rest, 8)?;
                let key = usize::try_from(number(&mut rest, 2)?).ok()?;
                number(&mut rest, 4)?;
                let value = usize::try_from(number(&mut rest, 4)?).ok()?;
                let key = take(&mut rest, key)?;
                let value = take(&mut rest, value)?;
                if index == 0 && key == COMMIT_KEY {
                    commit = commit_number(value, mark);
                }
            }
            CLEAR => {
                number(&mut rest, 8)?;
            }
            _ => return None,
        }
    }
    let content = &content[..content.len() - rest.len()];
    let whole = number(&mut rest, 1)? == u64::from(END)
        && number(&mut rest, 8)? == xxh3_64(content)
        && take(&mut rest, TRAILER.len())? == TRAILER;
    whole.then_some(Batch {
        end: bytes.len() - rest.len(),
        commit,
    })
}

/// How many whole batches there are at or behind `from`, wherever they begin.
fn batches_in(bytes: &[u8], from: usize, mark: &Mark) -> u64 {
    let (mut at, mut count) = (from, 0);
    while let Some(next) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte == START))
    {
        at += next;
        match batch_at(bytes, at, mark) {
            // A payload may look like a batch, but not like one of this store's commits.
            Some(batch) if batch.commit.is_some() => {
                count += 1;
                at = batch.end;
            }
            _ => at += 1,
        }
    }
    count
}
