//! From one version of the format to the next.

use std::io;

use bytes::Bytes;

use super::engine::{Change, Engine, Table};

/// Says what is to be changed so that the tables of one version become those of the next. All of it is one
/// commit.
pub(crate) type Migration = fn(&dyn Engine) -> io::Result<Vec<Change>>;

/// The first leads from version 1 to version 2, and so on.
pub(crate) const MIGRATIONS: &[Migration] = &[];

/// The version that the migrations lead to.
pub(crate) fn version(migrations: &[Migration]) -> u32 {
    u32::try_from(migrations.len()).map_or(u32::MAX, |steps| steps + 1)
}

/// The key in [`Table::Meta`] of the version that the tables have. The format file says so as well, which is
/// written behind it; without the key it is 1.
const VERSION_KEY: &[u8] = b"version";

/// Brings the tables to the last version, from where a migration that was cut off has got to. `last` is
/// the number of the last commit.
///
/// # Errors
/// Of the system, or a migration does not understand what it finds. What was committed stays, and the
/// next try goes on behind that.
pub(crate) fn migrate(
    engine: &mut dyn Engine,
    migrations: &[Migration],
    mut last: u64,
) -> io::Result<()> {
    let from = version_of(engine)?;
    for (step, migration) in (1_u32..).zip(migrations) {
        if step < from {
            continue;
        }
        let mut changes = migration(engine)?;
        changes.push(Change {
            table: Table::Meta,
            key: Bytes::from_static(VERSION_KEY),
            value: Some(Bytes::copy_from_slice(&(step + 1).to_be_bytes())),
        });
        last += 1;
        engine.commit(last, &changes, true)?;
        tracing::info!(
            version = step + 1,
            changes = changes.len(),
            "migrated the store"
        );
    }
    Ok(())
}

fn version_of(engine: &dyn Engine) -> io::Result<u32> {
    let mut version = 1;
    engine.scan(Table::Meta, &mut |key, value| {
        if key == VERSION_KEY {
            let bytes = value.try_into().map_err(io::Error::other)?;
            version = u32::from_be_bytes(bytes);
        }
        Ok(())
    })?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::place::{Place, open_with};
    use super::*;

    /// Doubles what is retained: twice would show.
    fn double(engine: &dyn Engine) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        engine.scan(Table::Retained, &mut |key, value| {
            changes.push(Change {
                table: Table::Retained,
                key: Bytes::copy_from_slice(key),
                value: Some([value, value].concat().into()),
            });
            Ok(())
        })?;
        Ok(changes)
    }

    fn fail(_: &dyn Engine) -> io::Result<Vec<Change>> {
        Err(io::Error::other("no such thing"))
    }

    fn begin(data_dir: &Path) {
        let mut opened = open_with(data_dir, &[]).expect("a new store");
        let change = Change {
            table: Table::Retained,
            key: Bytes::from_static(b"t"),
            value: Some(Bytes::from_static(b"x")),
        };
        opened.engine.commit(1, &[change], true).expect("commit");
    }

    fn retained(data_dir: &Path, migrations: &[Migration]) -> Result<String, String> {
        let opened = open_with(data_dir, migrations).map_err(|error| error.to_string())?;
        let mut found = String::new();
        let mut visit = |_: &[u8], value: &[u8]| {
            found.push_str(std::str::from_utf8(value).expect("text"));
            Ok(())
        };
        opened
            .engine
            .scan(Table::Retained, &mut visit)
            .expect("readable");
        Ok(found)
    }

    #[test]
    fn each_step_is_taken_once_and_there_is_no_way_back() {
        let dir = tempfile::tempdir().expect("directory");
        begin(dir.path());
        let format = Place::of(dir.path()).format;
        let first = std::fs::read_to_string(&format).expect("format");
        assert_eq!(retained(dir.path(), &[]).as_deref(), Ok("x"));
        assert_eq!(retained(dir.path(), &[double]).as_deref(), Ok("xx"));
        assert_eq!(retained(dir.path(), &[double]).as_deref(), Ok("xx"));
        assert_eq!(
            retained(dir.path(), &[double, double, double]).as_deref(),
            Ok("xxxxxxxx")
        );
        let error = retained(dir.path(), &[double]).expect_err("too old");
        assert!(
            error.contains("format 4") && error.contains("up to 2"),
            "{error}"
        );
        // The end came before the format file was written.
        std::fs::write(&format, first).expect("write");
        assert_eq!(
            retained(dir.path(), &[double, double, double]).as_deref(),
            Ok("xxxxxxxx")
        );
        let now = std::fs::read_to_string(&format).expect("format");
        assert!(now.contains("version = 4"), "{now}");
    }

    #[test]
    fn a_step_that_fails_leaves_those_before_it_and_is_tried_again() {
        let dir = tempfile::tempdir().expect("directory");
        begin(dir.path());
        let error = retained(dir.path(), &[double, fail]).expect_err("fails");
        assert!(
            error.contains("no such thing") && error.contains("format 1"),
            "{error}"
        );
        assert_eq!(
            retained(dir.path(), &[double, double]).as_deref(),
            Ok("xxxx")
        );
    }

    #[test]
    fn a_new_store_has_the_newest_format() {
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(retained(dir.path(), &[double, double]).as_deref(), Ok(""));
        let format = std::fs::read_to_string(Place::of(dir.path()).format).expect("format");
        assert!(format.contains("version = 3"), "{format}");
    }
}
