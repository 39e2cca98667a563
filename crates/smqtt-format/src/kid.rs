//! The key id: a key frame's name, made from its bytes.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 over a whole key frame as it stands on the wire (tag included). The first 8 bytes are its [`KeyId`].
#[must_use]
pub fn frame_digest(frame: &[u8]) -> [u8; 32] {
    Sha256::digest(frame).into()
}

/// Names a key frame: the first 8 bytes of SHA-256 over its bytes.
///
/// The name certifies itself: a frame that was fetched from anywhere either hashes to the name or is another frame.
/// Eight bytes do not resist a search of 2^64, so nothing rests on the name alone: content keys are derived from the
/// whole digest, and two frames of one name exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KeyId::LEN]);

impl KeyId {
    /// Length in bytes.
    pub const LEN: usize = 8;

    /// The name of the key frame with these bytes.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        Self::of_digest(&frame_digest(frame))
    }

    /// The name of the key frame with this [`frame_digest`].
    #[must_use]
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *digest;
        Self([a, b, c, d, e, f, g, h])
    }

    /// The 8 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; KeyId::LEN]> for KeyId {
    fn from(bytes: [u8; KeyId::LEN]) -> Self {
        Self(bytes)
    }
}

/// 16 lower-case hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text is not a key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 16 lower-case hexadecimal digits")]
pub struct ParseKeyIdError;

/// Reads exactly what [`Display`](fmt::Display) writes: upper-case digits are refused, so that a key id has one spelling.
impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn digit(byte: u8) -> Result<u8, ParseKeyIdError> {
            match byte {
                b'0'..=b'9' => Ok(byte - b'0'),
                b'a'..=b'f' => Ok(byte - b'a' + 10),
                _ => Err(ParseKeyIdError),
            }
        }
        let digits: &[u8; 2 * Self::LEN] =
            text.as_bytes().try_into().map_err(|_| ParseKeyIdError)?;
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}
