//! The format of `secrets.sealed`; docs/authority.md has it byte by byte.

use std::path::Path;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::Secrets;
use super::aead::{Cipher, NONCE, TAG};
use super::keeper::{DataKey, Keeper, Method};
use crate::Error;

const MAGIC: &[u8; 8] = b"SMQTTKEY";
const VERSION: u8 = 1;
/// Magic, version, method, length of the wrapped data key.
const HEAD: usize = 8 + 1 + 1 + 2;
const MAX_WRAPPED: usize = 1024;

/// Why a sealed file can not be opened.
#[derive(Debug)]
pub(super) enum Refused {
    Version(u8),
    Damaged(&'static str),
    Other(Error),
}

impl Refused {
    pub(super) fn at(self, path: &Path) -> Error {
        match self {
            Self::Version(found) => Error::FormatVersion {
                path: path.into(),
                found: found.into(),
                supported: VERSION.into(),
            },
            Self::Damaged(reason) => Error::Damaged {
                path: path.into(),
                reason: reason.into(),
            },
            Self::Other(error) => error,
        }
    }
}

/// By what the file is sealed.
pub(super) fn method(file: &[u8]) -> Result<Method, Refused> {
    parse(file).map(|parts| parts.method)
}

struct Parts<'a> {
    method: Method,
    /// Head and wrapped key: what is authenticated with the secrets.
    head: &'a [u8],
    wrapped: &'a [u8],
    nonce: &'a [u8; NONCE],
    sealed: &'a [u8],
}

fn parse(file: &[u8]) -> Result<Parts<'_>, Refused> {
    let cut = Refused::Damaged("it ends early");
    if !file.starts_with(MAGIC) {
        return Err(Refused::Damaged("it is no sealed file"));
    }
    let [version, method, high, low] = *file
        .get(8..HEAD)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .ok_or(Refused::Damaged("it ends early"))?;
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let method = Method::of(method).ok_or(Refused::Damaged(
        "it is sealed in a way that this program does not know",
    ))?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_WRAPPED {
        return Err(Refused::Damaged("its wrapped key is too long"));
    }
    let Some((head, rest)) = file.split_at_checked(HEAD + length) else {
        return Err(cut);
    };
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(cut)?;
    Ok(Parts {
        method,
        head,
        wrapped: &head[HEAD..],
        nonce,
        sealed,
    })
}

/// Encrypts the secrets under a new data key.
pub(super) fn seal(
    secrets: &Secrets,
    keeper: &dyn Keeper,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    let key = DataKey::random(rng);
    let wrapped = keeper.wrap(&key, rng)?;
    let length = u16::try_from(wrapped.len())
        .ok()
        .filter(|length| usize::from(*length) <= MAX_WRAPPED)
        .ok_or_else(|| Error::Keeper("the wrapped key is too long".into()))?;
    let mut file = Vec::new();
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[VERSION, keeper.method() as u8]);
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(&wrapped);

    // With the size known no buffer is outgrown and left behind, unerased.
    let size: usize = secrets
        .iter()
        .map(|(name, secret)| 5 + name.len() + secret.len())
        .sum();
    let mut text = Zeroizing::new(Vec::with_capacity(size + TAG));
    let unfit = || Error::Keeper("a secret is too long".into());
    for (name, secret) in secrets.iter() {
        text.push(u8::try_from(name.len()).map_err(|_| unfit())?);
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(
            &u32::try_from(secret.len())
                .map_err(|_| unfit())?
                .to_be_bytes(),
        );
        text.extend_from_slice(secret);
    }
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    Cipher::new(key.as_bytes())
        .seal(&nonce, &file, &mut text)
        .map_err(|_| Error::Keeper("the secrets can not be encrypted".into()))?;
    file.extend_from_slice(&nonce);
    file.extend_from_slice(&text);
    Ok(file)
}

/// Decrypts the secrets.
pub(super) fn open(file: &[u8], keeper: &dyn Keeper) -> Result<Secrets, Refused> {
    let parts = parse(file)?;
    let key = keeper.unwrap(parts.wrapped).map_err(Refused::Other)?;
    let text = Cipher::new(key.as_bytes())
        .open(parts.nonce, parts.head, parts.sealed)
        .map_err(|_| Refused::Damaged("it was changed after it was sealed"))?;
    let mut secrets = Secrets::default();
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        let entry = take_entry(&mut rest).ok_or(Refused::Damaged(
            "what was sealed in it is no list of secrets",
        ))?;
        secrets.put(entry.0, entry.1);
    }
    Ok(secrets)
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let (length, after) = rest.split_first()?;
    let (name, after) = after.split_at_checked(usize::from(*length))?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (secret, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((std::str::from_utf8(name).ok()?, secret))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::secrets::KeyFile;

    fn keeper(byte: u8) -> KeyFile {
        KeyFile::new(Zeroizing::new(vec![byte; 32])).unwrap()
    }

    fn sealed() -> Vec<u8> {
        let mut secrets = Secrets::default();
        secrets.put("ca.key", b"one");
        secrets.put("abe-master.key", b"");
        seal(&secrets, &keeper(1), &mut StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_keeper_alone() {
        let opened = open(&sealed(), &keeper(1)).unwrap();
        assert_eq!(opened.get("ca.key"), Some(&b"one"[..]));
        assert_eq!(opened.get("abe-master.key"), Some(&b""[..]));
        assert!(matches!(
            open(&sealed(), &keeper(2)),
            Err(Refused::Other(Error::WrongKey(Method::KeyFile)))
        ));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let file = sealed();
        for at in 0..file.len() {
            for flip in [1, 0x80] {
                let mut changed = file.clone();
                changed[at] ^= flip;
                assert!(open(&changed, &keeper(1)).is_err(), "byte {at}");
            }
            assert!(open(&file[..at], &keeper(1)).is_err(), "cut at {at}");
        }
        assert!(open(&[&file[..], &[0]].concat(), &keeper(1)).is_err());
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let file = sealed();
        assert_eq!(&file[..12], b"SMQTTKEY\x01\x02\x00\x4c");
        // Wrapped key, nonce, two entries, tag.
        let entries = (5 + 14) + (5 + 6 + 3);
        assert_eq!(file.len(), 12 + 76 + 12 + entries + 16);
    }
}
