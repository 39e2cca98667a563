//! Directories on disk.

use std::path::Path;

use fjall::Database;

/// Makes a directory, if there is none, in which nobody else looks: topics are nobody else's business.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Memory for blocks that were read.
const CACHE: u64 = 2 << 20;
/// Journals beyond this are emptied into tables.
const JOURNALS: u64 = 64 << 20;

/// Opens the database in a directory of its own, which is made if it is missing.
///
/// # Errors
/// In words.
pub(crate) fn open_database(directory: &Path) -> Result<Database, String> {
    make_private(directory).map_err(|error| crate::error::in_words(&error).to_string())?;
    Database::builder(directory)
        .worker_threads(1)
        .cache_size(CACHE)
        .max_journaling_size(JOURNALS)
        .manual_journal_persist(true)
        .open()
        .map_err(|error| match error {
            fjall::Error::Locked => "another program uses it".into(),
            error => error.to_string(),
        })
}
