//! `--out-dir`: one file a message.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use smqtt_client::Received;

/// The longest part of a file's name that the topic makes, in bytes: with key id, number and suffix it
/// stays below the 255 of most file systems.
const MAX_TOPIC: usize = 180;
/// How many files may want the same name: retained messages that come again.
const MAX_SAME: u32 = 10_000;

/// A directory into which messages go. What is opened is readable by its owner only.
pub(super) struct Files {
    directory: PathBuf,
    /// Whether what is written has to be on the disk when [`sync`](Self::sync) returns.
    durable: bool,
    /// Whether the directory has names that may not be on the disk.
    unsynced: bool,
}

impl Files {
    /// Makes the directory if there is none.
    pub(super) fn new(directory: &Path, durable: bool) -> io::Result<Self> {
        // Nothing that is synced in a directory is there after a crash if the directory is not.
        let mut made = Vec::new();
        if durable {
            let above = directory.ancestors().take_while(|path| !path.exists());
            made.extend(above.filter_map(Path::parent).map(Path::to_owned));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        for parent in made {
            sync_directory(&parent)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            durable,
            unsynced: false,
        })
    }

    /// Writes a payload to a file of its own and returns the file's name. The file is there under this
    /// name once it is whole, after a crash, too, if it is to be durable; nothing that is there is overwritten, no link is
    /// followed.
    pub(super) fn write(&mut self, message: &Received) -> io::Result<String> {
        let stem = format!(
            "{}.{}.{}",
            encoded(&message.topic),
            message.kid,
            message.sequence.get()
        );
        // What a crash has left is in nobody's way: in a container every program has the same process id.
        let part = self
            .directory
            .join(format!(".{stem}.{:08x}.part", rand::random::<u32>()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        let written = file
            .write_all(&message.payload)
            .and_then(|()| {
                if self.durable {
                    file.sync_all()
                } else {
                    Ok(())
                }
            })
            .and_then(|()| self.link(&part, stem));
        drop(file);
        let removed = fs::remove_file(&part);
        let name = written?;
        self.unsynced = true;
        removed.map(|()| name)
    }

    /// What was written so far is on the disk under its names, if it is to be durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.durable && self.unsynced {
            sync_directory(&self.directory)?;
        }
        self.unsynced = false;
        Ok(())
    }

    fn link(&self, part: &Path, stem: String) -> io::Result<String> {
        for number in 1..=MAX_SAME {
            let name = if number == 1 {
                stem.clone()
            } else {
                format!("{stem}-{number}")
            };
            match fs::hard_link(part, self.directory.join(&name)) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "there are {MAX_SAME} files of the name {stem} already"
        )))
    }
}

/// The names in a directory are on the disk.
fn sync_directory(directory: &Path) -> io::Result<()> {
    // The parent of a relative path of one part is empty.
    let here = directory.as_os_str().is_empty();
    let directory = if here { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

/// A topic as a file's name: letters, digits, `-`, `_` and dots that do not stand first as they are, every
/// other byte as % and two hexadecimal digits. So it names no directory, and no hidden file.
fn encoded(topic: &str) -> String {
    let mut name = String::new();
    for (index, byte) in topic.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_')
            || (byte == b'.' && index > 0);
        let piece = if plain {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        if name.len() + piece.len() > MAX_TOPIC {
            break;
        }
        name.push_str(&piece);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_topic_leaves_the_directory_or_hides() {
        assert_eq!(encoded("plant/7/temp.raw"), "plant%2F7%2Ftemp.raw");
        assert_eq!(encoded("../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(encoded("/etc"), "%2Fetc");
        assert_eq!(encoded(".."), "%2E.");
        assert_eq!(encoded("a b\n\u{fc}\\"), "a%20b%0A%C3%BC%5C");
        let long = encoded(&"/x".repeat(30_000));
        assert!(
            long.len() <= MAX_TOPIC && long.ends_with(['x', 'F']),
            "{long}"
        );
    }
}
