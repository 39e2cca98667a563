//! The diagnostic capture: every byte that the broker sees after TLS, both directions, appended to
//! one file. What can't be found in it, the broker did not see.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use parking_lot::Mutex;

/// An open capture file.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    left: u64,
}

impl CaptureFile {
    /// Opens `path` for appending, with mode 0600, to grow to at most `max_bytes`.
    ///
    /// # Errors
    /// What the system says; a file that group or others can read is made private or refused.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        let left = max_bytes.saturating_sub(metadata.len());
        Ok(CaptureFile {
            state: Mutex::new(State { file, left }),
        })
    }

    /// Appends `bytes` as far as the size limit lets them. The capture never disturbs the traffic:
    /// the first failure or the limit ends it with a line in the log.
    pub(crate) fn append(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        if state.left == 0 {
            return;
        }
        let take = usize::try_from(state.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        if let Err(error) = state.file.write_all(&bytes[..take]) {
            tracing::error!(%error, "capture stopped: cannot write to its file");
            state.left = 0;
            return;
        }
        state.left -= take as u64;
        if state.left == 0 {
            tracing::warn!("capture stopped: it has reached capture.max_bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_private_and_bounded_over_restarts() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("capture");
        let capture = CaptureFile::open(&path, 10).expect("open");
        capture.append(b"abcd");
        drop(capture);
        let capture = CaptureFile::open(&path, 10).expect("open again");
        capture.append(b"efgh");
        capture.append(b"ijkl");
        capture.append(b"mnop");
        assert_eq!(std::fs::read(&path).expect("read"), b"abcdefghij");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("metadata")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert!(CaptureFile::open(dir.path(), 10).is_err());
    }
}
