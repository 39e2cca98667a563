//! Who keeps the key to the sealed secrets: a passphrase, a key file; later a key management service or a PKCS#11 token.

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::aead::{Cipher, NONCE, TAG};
use crate::Error;

/// The key that the secrets are encrypted with: random, new at each seal, and stored only as its keeper wrapped it. Erased
/// from memory when dropped.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A new key.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        Self(key)
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// By what a data key is wrapped. The number stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Method {
    /// A passphrase, through argon2id.
    Passphrase = 1,
    /// A file of random bytes.
    KeyFile = 2,
}

impl Method {
    /// The method in words joined by hyphens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
        }
    }

    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Passphrase, Self::KeyFile]
            .into_iter()
            .find(|method| *method as u8 == number)
    }
}

/// Wraps data keys and unwraps them again. What a key management service or a hardware token does, too: the secrets never
/// leave this program, only data keys go to their keeper.
pub trait Keeper: Send + Sync {
    /// Which kind of keeper this is.
    fn method(&self) -> Method;

    /// Encrypts a data key. At most 1024 bytes; whatever [`Keeper::unwrap`] needs besides the keeper's own secret is among
    /// them.
    ///
    /// # Errors
    /// [`Error::Keeper`].
    fn wrap(&self, key: &DataKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Error>;

    /// Decrypts a data key.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if this keeper did not wrap it or it was changed since, [`Error::Keeper`].
    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, Error>;
}

const SALT: usize = 16;
/// A nonce, and a data key with its tag.
const BOX: usize = NONCE + 32 + TAG;

/// A passphrase. Erased from memory when dropped.
pub struct Passphrase(Zeroizing<String>);

/// The least number of characters of a passphrase that something is sealed with.
const MIN_PASSPHRASE: usize = 12;
/// RFC 9106 §4, the second recommended option: 64 MiB, three passes, four lanes.
const COST: [u32; 3] = [64 * 1024, 3, 4];
/// The most that a file may ask for: 1 GiB, so that a changed one can not exhaust the machine.
const MAX_COST: [u32; 3] = [1024 * 1024, 64, 64];

impl Passphrase {
    /// A passphrase to open with.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// A passphrase to seal with.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`] for less than 12 characters.
    pub fn chosen(text: Zeroizing<String>) -> Result<Self, Error> {
        if text.chars().count() < MIN_PASSPHRASE {
            return Err(Error::WeakPassphrase {
                least: MIN_PASSPHRASE,
            });
        }
        Ok(Self(text))
    }

    fn cipher(&self, cost: [u32; 3], salt: &[u8]) -> Result<Cipher, Error> {
        let failed = |e: argon2::Error| Error::Keeper(format!("argon2id: {e}"));
        let params = Params::new(cost[0], cost[1], cost[2], Some(32)).map_err(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(self.0.as_bytes(), salt, &mut *key)
            .map_err(failed)?;
        Ok(Cipher::new(&key))
    }
}

impl Keeper for Passphrase {
    fn method(&self) -> Method {
        Method::Passphrase
    }

    fn wrap(&self, key: &DataKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Error> {
        let mut wrapped = Vec::with_capacity(12 + SALT + BOX);
        for cost in COST {
            wrapped.extend_from_slice(&cost.to_be_bytes());
        }
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        wrapped.extend_from_slice(&salt);
        enclose(&self.cipher(COST, &salt)?, key, wrapped, rng)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, Error> {
        if wrapped.len() != 12 + SALT + BOX {
            return Err(Error::WrongKey(Method::Passphrase));
        }
        let (head, sealed) = wrapped.split_at(12 + SALT);
        let mut cost = [0; 3];
        for (cost, bytes) in cost.iter_mut().zip(head.as_chunks::<4>().0) {
            *cost = u32::from_be_bytes(*bytes);
        }
        if cost.iter().zip(MAX_COST).any(|(cost, most)| *cost > most) {
            return Err(Error::WrongKey(Method::Passphrase));
        }
        let cipher = self.cipher(cost, &head[12..])?;
        disclose(&cipher, head, sealed).ok_or(Error::WrongKey(Method::Passphrase))
    }
}

/// The content of a key file: at least 32 bytes, random. Erased from memory when dropped.
pub struct KeyFile(Zeroizing<Vec<u8>>);

impl KeyFile {
    /// The most bytes of a key file.
    pub const MAX_LEN: u64 = 4096;

    /// Takes the whole content of a file.
    ///
    /// # Errors
    /// [`Error::Keeper`] for less than 32 bytes.
    pub fn new(content: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        if content.len() < 32 {
            return Err(Error::Keeper(
                "a key file has at least 32 bytes, all random: make one with `head -c 32 /dev/urandom`".into(),
            ));
        }
        Ok(Self(content))
    }

    fn cipher(&self, salt: &[u8]) -> Result<Cipher, Error> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), &self.0)
            .expand(b"smqtt-authority key file 1", &mut *key)
            .map_err(|e| Error::Keeper(e.to_string()))?;
        Ok(Cipher::new(&key))
    }
}

impl Keeper for KeyFile {
    fn method(&self) -> Method {
        Method::KeyFile
    }

    fn wrap(&self, key: &DataKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Error> {
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        enclose(&self.cipher(&salt)?, key, salt.to_vec(), rng)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, Error> {
        if wrapped.len() != SALT + BOX {
            return Err(Error::WrongKey(Method::KeyFile));
        }
        let (salt, sealed) = wrapped.split_at(SALT);
        disclose(&self.cipher(salt)?, salt, sealed).ok_or(Error::WrongKey(Method::KeyFile))
    }
}

/// Appends nonce, encrypted key and tag to the head, which is authenticated with them.
fn enclose(
    cipher: &Cipher,
    key: &DataKey,
    head: Vec<u8>,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let mut text = Zeroizing::new(Vec::with_capacity(32 + TAG));
    text.extend_from_slice(key.as_bytes());
    cipher
        .seal(&nonce, &head, &mut text)
        .map_err(|_| Error::Keeper("the data key can not be encrypted".into()))?;
    let mut wrapped = head;
    wrapped.extend_from_slice(&nonce);
    wrapped.extend_from_slice(&text);
    Ok(wrapped)
}

fn disclose(cipher: &Cipher, head: &[u8], sealed: &[u8]) -> Option<DataKey> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let key = cipher.open(nonce, head, sealed).ok()?;
    Some(DataKey::from_bytes(key.as_slice().try_into().ok()?))
}
