//! Where the store lies: `store/` in the data directory, with a file that says which format it has.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::engine::{COMMIT_KEY, Engine, Mark, Table};
use super::journal;
use super::migration::{MIGRATIONS, Migration, migrate, version};
use crate::Error;

const TITLE: &str = "smqtt-broker store";

/// The paths below a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) format: PathBuf,
}

impl Place {
    /// In this data directory.
    pub(crate) fn of(data_dir: &Path) -> Place {
        let directory = data_dir.join("store");
        Place {
            database: directory.join("db"),
            format: directory.join("format"),
            directory,
        }
    }

    /// An error about it.
    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Store {
            path: self.directory.clone(),
            reason: reason.into(),
        }
    }

    fn system(&self, error: &io::Error) -> Error {
        self.error(format!(
            "{error}; see permissions, free space and the health of the disk"
        ))
    }
}

/// An engine that is open.
pub(crate) struct Opened {
    pub(crate) place: Place,
    pub(crate) engine: Box<dyn Engine>,
}

/// Opens the store in this data directory, which the caller has locked, or makes one. A torn tail is
/// cut off.
///
/// # Errors
/// [`Error::Store`]: it cannot be read or written, was made by a later version, or is damaged.
pub(crate) fn open(data_dir: &Path) -> Result<Opened, Error> {
    open_with(data_dir, MIGRATIONS)
}

/// The same, where these are all migrations.
pub(crate) fn open_with(data_dir: &Path, migrations: &[Migration]) -> Result<Opened, Error> {
    let place = Place::of(data_dir);
    make(&place).map_err(|error| place.system(&error))?;
    let (version, mark) = match read_format(&place, version(migrations))? {
        Some(format) => format,
        None => (version(&[]), begin(&place)?),
    };
    if !place.database.exists() {
        return Err(place.error(format!(
            "{} is missing; restore it from a backup, or remove {} to begin with an empty store",
            place.database.display(),
            place.format.display()
        )));
    }
    look_at_journals(&place, &mark, data_dir)?;
    let mut disk = Disk::open(&place.database, mark).map_err(|error| {
        place.error(format!(
            "{error}; if the disk is not full, run: smqtt-broker store check --data-dir {}",
            data_dir.display()
        ))
    })?;
    let newest = self::version(migrations);
    if version < newest {
        last_commit(&disk)
            .and_then(|last| migrate(&mut disk, migrations, last))
            .and_then(|()| write_format(&place, newest, &mark))
            .map_err(|error| {
                place.error(format!(
                    "it has format {version} and was not brought to {newest}: {error}; nothing is lost: restore free space, or run the version that made it"
                ))
            })?;
    }
    Ok(Opened {
        place,
        engine: Box::new(disk),
    })
}

/// Makes what is missing of the directories and the database.
fn make(place: &Place) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&place.directory)?;
    if place.database.exists() || place.format.exists() {
        return Ok(());
    }
    // Whole or not at all: the database is made beside its place and moved there.
    let new = place.directory.join("db.new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    drop(Disk::open(&new, [0; 16])?);
    fs::rename(&new, &place.database)?;
    File::open(&place.directory)?.sync_all()
}

/// Gives a new database its format.
fn begin(place: &Place) -> Result<Mark, Error> {
    let mut mark = [0; 16];
    smqtt_pki::tls::provider()
        .secure_random
        .fill(&mut mark)
        .map_err(|_| place.error("the system has no randomness"))?;
    let committed = {
        let disk = Disk::open(&place.database, mark).map_err(|error| place.system(&error))?;
        last_commit(&disk).map_err(|error| place.system(&error))?
    };
    if committed != 0 {
        return Err(place.error(format!(
            "{} is missing beside a store that is in use; restore it from a backup",
            place.format.display()
        )));
    }
    // The first version: the tables are empty, and migrate as any others.
    write_format(place, version(&[]), &mark).map_err(|error| place.system(&error))?;
    Ok(mark)
}

fn write_format(place: &Place, version: u32, mark: &Mark) -> io::Result<()> {
    let hex: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{TITLE}\nversion = {version}\nmark = {hex}\n");
    write_whole(&place.format, text.as_bytes())
}

/// Writes a file that is there whole or not at all, also after a crash.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The mark of the store, if it has a format file.
pub(crate) fn read_mark(place: &Place) -> Result<Option<Mark>, Error> {
    let format = read_format(place, version(MIGRATIONS))?;
    Ok(format.map(|(_, mark)| mark))
}

/// Reads the format file, if there is one: the version, up to `newest`, and the store's mark.
fn read_format(place: &Place, newest: u32) -> Result<Option<(u32, Mark)>, Error> {
    let text = match fs::read_to_string(&place.format) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(place.system(&error)),
        Ok(text) => text,
    };
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once(" = "))
            .find_map(|(name, value)| (name == key).then_some(value))
    };
    let version = value("version").and_then(|version| version.parse::<u32>().ok());
    let mark = value("mark").and_then(parse_mark);
    match (text.lines().next(), version, mark) {
        (Some(TITLE), Some(version), _) if version > newest => Err(place.error(format!(
            "it has format {version}, and this smqtt-broker knows up to {newest}; run a later one"
        ))),
        (Some(TITLE), Some(version @ 1..), Some(mark)) => Ok(Some((version, mark))),
        _ => Err(place.error(format!(
            "{} is not a format file of this program; restore it from a backup",
            place.format.display()
        ))),
    }
}

fn parse_mark(hex: &str) -> Option<Mark> {
    let mut mark = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in mark.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(mark)
}

fn look_at_journals(place: &Place, mark: &Mark, data_dir: &Path) -> Result<(), Error> {
    let findings = journal::check(&place.database, mark).map_err(|error| place.system(&error))?;
    if let Some(damage) = findings.damaged.first() {
        return Err(place.error(format!(
            "{} is damaged at byte {}, with {} whole commits behind that; nothing was changed. Run: smqtt-broker store check --data-dir {}",
            damage.file.display(),
            damage.offset,
            damage.behind,
            data_dir.display()
        )));
    }
    if let Some(torn) = findings.torn {
        tracing::warn!(
            file = %torn.file.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            "cut off a commit that was not finished when the broker ended; nobody was told that it was safe"
        );
        journal::cut(&torn.file, torn.offset).map_err(|error| place.system(&error))?;
    }
    Ok(())
}

/// The number of the last commit, 0 before the first.
///
/// # Errors
/// Of the system.
pub(crate) fn last_commit(engine: &dyn Engine) -> io::Result<u64> {
    let mut last = 0;
    engine.scan(Table::Meta, &mut |key, value| {
        if key == COMMIT_KEY
            && let Some(number) = value.first_chunk()
        {
            last = u64::from_be_bytes(*number);
        }
        Ok(())
    })?;
    Ok(last)
}
