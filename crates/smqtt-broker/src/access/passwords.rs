//! The password file: a line `user:$argon2id$…` (PHC string) for each user.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};

use crate::Error;

/// Users and what their passwords are verified against.
#[derive(Debug, Clone, Default)]
pub struct Passwords {
    users: BTreeMap<String, PasswordHash>,
}

/// More memory or time than this for one password would let a hash take the broker down: in KiB.
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_ITERATIONS: u32 = 64;
/// A million users.
const MAX_FILE: u64 = 128 * 1024 * 1024;
/// A user name is at most so long, in bytes.
const MAX_USER: usize = 256;

impl Passwords {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::PasswordFile`]: it is not there, not well-formed, or others can write it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refuse = |reason: String| Error::PasswordFile {
            path: path.to_owned(),
            reason,
        };
        let meta = std::fs::metadata(path).map_err(|error| {
            refuse(format!(
                "{error}; make it with smqtt-broker passwd FILE USER"
            ))
        })?;
        if meta.len() > MAX_FILE {
            return Err(refuse(format!("it is larger than {MAX_FILE} bytes")));
        }
        match meta.permissions().mode() {
            mode if mode & 0o022 != 0 => {
                return Err(refuse("others can write it; chmod 600 it".into()));
            }
            mode if mode & 0o044 != 0 => {
                tracing::warn!(file = %path.display(), "others can read the password file: chmod 600 it");
            }
            _ => {}
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Passwords::parse(&text).map_err(|(line, reason)| refuse(format!("line {line}: {reason}")))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let refuse = |reason: &str| (index + 1, reason.to_owned());
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line
                .rsplit_once(':')
                .ok_or_else(|| refuse("expected USER:HASH"))?;
            check_user(user).map_err(|reason| refuse(&reason))?;
            let hash = PasswordHash::new(hash.trim_end())
                .map_err(|_| refuse("the hash is not a PHC string, $argon2id$…"))?;
            if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
                return Err(refuse("only argon2id hashes are accepted"));
            }
            let params = Params::try_from(&hash)
                .map_err(|_| refuse("the parameters of the hash are not those of argon2id"))?;
            if params.m_cost() > MAX_MEMORY
                || params.t_cost() > MAX_ITERATIONS
                || params.p_cost() > 16
            {
                return Err(refuse("the hash costs too much to verify"));
            }
            if users.insert(user.to_owned(), hash).is_some() {
                return Err(refuse("the user stands here a second time"));
            }
        }
        Ok(Passwords { users })
    }

    /// Whether there is such a user.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Whether it is the user's password. Takes as long for a user that does not exist. Costs time and
    /// memory: not for a worker's thread.
    pub(crate) fn verify(&self, user: &str, password: &[u8]) -> bool {
        match self.users.get(user) {
            Some(hash) => Argon2::default().verify_password(password, hash).is_ok(),
            None => {
                // What the others cost: the most frequent case is one set of parameters for all.
                let hash = self
                    .users
                    .values()
                    .next()
                    .cloned()
                    .or_else(|| hash(b"-").ok());
                let _ = hash.map(|hash| Argon2::default().verify_password(password, &hash));
                false
            }
        }
    }

    /// The users, in order.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }
}

/// A password file that nobody else edits meanwhile.
#[derive(Debug)]
pub struct PasswordFile {
    path: PathBuf,
    passwords: Passwords,
    _lock: std::fs::File,
}

impl PasswordFile {
    /// Opens a file to be changed; one that is not there is empty.
    ///
    /// # Errors
    /// [`Error::PasswordFile`].
    pub fn edit(path: &Path) -> Result<Self, Error> {
        let refuse = |error: std::io::Error| Error::PasswordFile {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        // The lock is a file of its own: the file itself is replaced.
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(beside(path, ".lock"))
            .map_err(refuse)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| refuse(error.into()))?;
        let passwords = match path.try_exists().map_err(refuse)? {
            true => Passwords::read(path)?,
            false => Passwords::default(),
        };
        Ok(PasswordFile {
            path: path.to_owned(),
            passwords,
            _lock: lock,
        })
    }

    /// Sets a user's password. Returns whether the user is new.
    ///
    /// # Errors
    /// [`Error::PasswordFile`].
    pub fn set(&mut self, user: &str, password: &[u8]) -> Result<bool, Error> {
        let refuse = |reason: String| Error::PasswordFile {
            path: self.path.clone(),
            reason,
        };
        check_user(user).map_err(refuse)?;
        if password.is_empty() {
            return Err(refuse("the password is empty".into()));
        }
        let hash = hash(password).map_err(refuse)?;
        Ok(self.passwords.users.insert(user.to_owned(), hash).is_none())
    }

    /// Removes a user. Returns whether there was one.
    pub fn delete(&mut self, user: &str) -> bool {
        self.passwords.users.remove(user).is_some()
    }

    /// Puts the changed file in the place of the other, whole, with mode 0600.
    ///
    /// # Errors
    /// [`Error::PasswordFile`].
    pub fn save(&self) -> Result<(), Error> {
        let write = || -> std::io::Result<()> {
            let staged = beside(&self.path, ".new");
            match std::fs::remove_file(&staged) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&staged)?;
            for (user, hash) in &self.passwords.users {
                writeln!(file, "{user}:{hash}")?;
            }
            file.sync_all()?;
            std::fs::rename(&staged, &self.path)?;
            let directory = self
                .path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| Error::PasswordFile {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn check_user(user: &str) -> Result<(), String> {
    if user.is_empty()
        || user.len() > MAX_USER
        || user.contains(|c: char| c.is_control() || c == ':')
        || user.starts_with('#')
    {
        return Err(format!(
            "\"{}\" is no user name: 1 to {MAX_USER} bytes, without control characters and colons, not beginning with #",
            user.escape_debug()
        ));
    }
    Ok(())
}

/// argon2id with the parameters that OWASP recommends: 19 MiB, two iterations, one lane.
fn hash(password: &[u8]) -> Result<PasswordHash, String> {
    let mut salt = [0; 16];
    smqtt_pki::tls::provider()
        .secure_random
        .fill(&mut salt)
        .map_err(|_| "the system has no randomness for a salt")?;
    Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_changed_and_read() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("passwords");
        let mut file = PasswordFile::edit(&path).expect("new");
        assert!(file.set("alice", b"first").expect("set"));
        assert!(!file.set("alice", b"secret").expect("set"));
        assert!(file.set("b b", b"other").expect("set"));
        file.set("a:b", b"x").expect_err("a colon");
        file.set("carol", b"").expect_err("empty");
        file.save().expect("saved");
        drop(file);
        let mode = std::fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            !std::fs::read_to_string(&path)
                .expect("text")
                .contains("secret")
        );
        let passwords = Passwords::read(&path).expect("readable");
        assert_eq!(passwords.users().collect::<Vec<_>>(), ["alice", "b b"]);
        assert!(passwords.verify("alice", b"secret"));
        assert!(!passwords.verify("alice", b"first"));
        assert!(!passwords.verify("nobody", b"secret"));
        let mut file = PasswordFile::edit(&path).expect("again");
        assert!(file.delete("alice") && !file.delete("alice"));
        file.save().expect("saved");
        assert!(!Passwords::read(&path).expect("readable").has("alice"));
    }

    #[test]
    fn what_is_no_password_file_is_refused_with_its_line() {
        let good = hash(b"x").expect("hash").to_string();
        for (text, part) in [
            ("alice".to_owned(), "expected USER:HASH"),
            ("alice:secret".to_owned(), "PHC"),
            (format!("a:{good}\na:{good}"), "second time"),
            (format!(":{good}"), "no user name"),
            (
                format!("a:{}", good.replace("argon2id", "argon2i")),
                "only argon2id",
            ),
            (
                format!("a:{}", good.replace("m=19456", "m=4194304")),
                "costs too much",
            ),
        ] {
            let (_, reason) = Passwords::parse(&text).expect_err(&text);
            assert!(reason.contains(part), "{text}: {reason}");
        }
        let (line, _) = Passwords::parse(&format!("# users\na:{good}\n\nb")).expect_err("b");
        assert_eq!(line, 4);
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("passwords");
        std::fs::write(&path, "").expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).expect("mode");
        let error = Passwords::read(&path).expect_err("refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
