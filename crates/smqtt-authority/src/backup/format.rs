//! The format of a backup; docs/authority.md has it byte by byte.

use std::io::{self, Read, Write};
use std::time::Duration;

use hkdf::Hkdf;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use smqtt_pki::{Fingerprint, UnixTime};
use zeroize::Zeroizing;

use super::Contents;
use super::stream::{Opening, Sealing};
use crate::secrets::aead::Cipher;
use crate::secrets::{DataKey, backup_key_id};

const MAGIC: &[u8; 8] = b"SMQTTBAK";
const VERSION: u8 = 1;
const SALT: usize = 16;
/// Magic, version, key id, salt.
const HEAD: usize = 8 + 1 + 8 + SALT;
/// The first entry.
pub(super) const ABOUT: &str = "about.json";

/// The first entry's content.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    name: String,
    ca_fingerprint: Fingerprint,
    made: u64,
    program: String,
}

impl About {
    pub(super) fn new(name: &str, ca_fingerprint: Fingerprint, now: UnixTime) -> Self {
        Self {
            name: name.into(),
            ca_fingerprint,
            made: now.as_secs(),
            program: env!("CARGO_PKG_VERSION").into(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn parse(bytes: &[u8]) -> io::Result<Contents> {
        let about: Self = serde_json::from_slice(bytes)?;
        Ok(Contents {
            name: about.name,
            fingerprint: about.ca_fingerprint,
            made: UnixTime::since_unix_epoch(Duration::from_secs(about.made)),
        })
    }
}

fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// The key of one file.
fn cipher(key: &DataKey, head: &[u8]) -> io::Result<Cipher> {
    let (head, salt) = head.split_at(HEAD - SALT);
    let mut file_key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), key.as_bytes())
        .expand_multi_info(&[b"smqtt-authority backup 1", head], &mut *file_key)
        .map_err(|e| refused(e.to_string()))?;
    Ok(Cipher::new(&file_key))
}

/// Writes a backup.
pub(super) struct Writing<W>(Sealing<W>);

impl<W: Write> Writing<W> {
    pub(super) fn begin(mut to: W, key: &DataKey, rng: &mut impl CryptoRng) -> io::Result<Self> {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8] = VERSION;
        head[9..17].copy_from_slice(&backup_key_id(key.as_bytes()));
        rng.fill_bytes(&mut head[17..]);
        to.write_all(&head)?;
        Ok(Self(Sealing::new(to, cipher(key, &head)?)))
    }

    pub(super) fn entry(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.long_entry(name, content.len() as u64, &mut &content[..])
    }

    /// An entry of a length that is known beforehand.
    pub(super) fn long_entry(
        &mut self,
        name: &str,
        length: u64,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let name_length = u8::try_from(name.len()).map_err(|_| refused("a name is too long"))?;
        self.0.write_all(&[name_length])?;
        self.0.write_all(name.as_bytes())?;
        self.0.write_all(&length.to_be_bytes())?;
        if io::copy(content, &mut self.0)? != length {
            return Err(refused(format!("{name} became shorter while it was read")));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

/// Reads a backup.
pub(super) struct Reading<R>(Opening<R>);

/// The head of a backup.
pub(super) struct Head([u8; HEAD]);

impl Head {
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)
            .map_err(|_| refused("it is no backup of an authority: it is too short"))?;
        if !head.starts_with(MAGIC) {
            return Err(refused("it is no backup of an authority"));
        }
        if head[8] != VERSION {
            return Err(refused(format!(
                "it has format version {}, this program reads {VERSION}: update it",
                head[8]
            )));
        }
        Ok(Self(head))
    }

    /// Of which backup key.
    pub(super) fn key_id(&self) -> &[u8] {
        &self.0[9..17]
    }
}

impl<R: Read> Reading<R> {
    pub(super) fn begin(from: R, head: &Head, key: &DataKey) -> io::Result<Self> {
        Ok(Self(Opening::new(from, cipher(key, &head.0)?)))
    }

    /// The next entry's name and length; its content is to be read before the next. `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(String, u64)>> {
        let mut length = [0];
        if self.0.read(&mut length)? == 0 {
            return Ok(None);
        }
        let mut name = vec![0; usize::from(length[0])];
        self.0.read_exact(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| refused("an entry has no name"))?;
        let mut length = [0; 8];
        self.0.read_exact(&mut length)?;
        Ok(Some((name, u64::from_be_bytes(length))))
    }

    /// The content of an entry, which is not longer than `limit`.
    pub(super) fn content(&mut self, length: u64, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let length = usize::try_from(length.min(limit + 1)).map_err(|_| refused("too long"))?;
        if length as u64 > limit {
            return Err(refused("an entry is longer than it can be"));
        }
        let mut content = Zeroizing::new(vec![0; length]);
        self.0.read_exact(&mut content)?;
        Ok(content)
    }

    /// Copies the content of an entry.
    pub(super) fn copy(&mut self, length: u64, to: &mut impl Write) -> io::Result<()> {
        if io::copy(&mut (&mut self.0).take(length), to)? != length {
            return Err(refused("it ends early"));
        }
        Ok(())
    }
}
