//! The data directory: private, and held by one broker at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// A data directory that this process holds. The lock ends with the value, or with the process
/// however it dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

/// Name of the lock file. It holds the process id of its holder, for people.
const LOCK_FILE: &str = "lock";

impl DataDir {
    /// Makes `path` with mode 0700 unless it exists, and takes its lock.
    ///
    /// # Errors
    /// [`Error::DataDir`] when it cannot be made or written, when group or others can enter it, or
    /// when another broker holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::DataDir {
            path: path.to_owned(),
            reason,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| {
                fail(format!(
                    "cannot make it: {e}; choose another with --data-dir"
                ))
            })?;
        let metadata = std::fs::metadata(path).map_err(|e| fail(format!("cannot read it: {e}")))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(fail(format!(
                "mode {mode:04o} lets others in; run: chmod 700 {}",
                path.display()
            )));
        }
        let mut lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(|e| {
                fail(format!(
                    "cannot write to it: {e}; give this user write access or choose another"
                ))
            })?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(fail("another broker is running on it; stop that one or choose another with --data-dir".into()));
            }
            Err(e) => return Err(fail(format!("cannot lock it: {e}"))),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| {
                fail(format!(
                    "cannot write to it: {e}; free space or choose another"
                ))
            })?;
        Ok(DataDir { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_private_and_taken_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("deep/data");
        let held = DataDir::open(&path).expect("new");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("metadata")
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        let refused = DataDir::open(&path).expect_err("held").to_string();
        assert!(refused.contains("another broker"), "{refused}");
        drop(held);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o750))
            .expect("chmod");
        let refused = DataDir::open(dir.path())
            .expect_err("open to the group")
            .to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
    }
}
