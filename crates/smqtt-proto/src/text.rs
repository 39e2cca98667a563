//! UTF-8 strings as MQTT has them: shared, immutable, checked once.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// Why some bytes are not an MQTT string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not well-formed UTF-8, surrogates included (`[MQTT-1.5.4-1]`).
    #[error("not well-formed UTF-8")]
    NotUtf8,
    /// Contains U+0000 (`[MQTT-1.5.4-2]`).
    #[error("contains the null character U+0000")]
    Null,
    /// Longer than 65,535 bytes, the most that its two length bytes can say (`[MQTT-4.7.3-3]` for topics).
    #[error("{length} bytes long, at most 65535 are possible")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// A UTF-8 encoded string (MQTT 5.0 §1.5.4): well-formed, without U+0000, at most 65,535 bytes.
///
/// It shares the bytes that it was decoded from: cloning counts a reference. A string that is to be
/// kept for long should be [detached](MqttString::detach) from the read buffer that it would keep alive.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MqttString(ByteString);

impl MqttString {
    /// The longest string in bytes.
    pub const MAX_LEN: usize = u16::MAX as usize;

    /// The empty string.
    pub const fn empty() -> MqttString {
        MqttString(ByteString::from_static(""))
    }

    /// Checks bytes and shares them.
    ///
    /// # Errors
    /// Says which of the rules of MQTT 5.0 §1.5.4 the bytes break.
    pub fn from_bytes(bytes: Bytes) -> Result<MqttString, TextError> {
        check_length(bytes.len())?;
        if contains_any(&bytes, [0]) {
            return Err(TextError::Null);
        }
        ByteString::try_from(bytes)
            .map(MqttString)
            .map_err(|_| TextError::NotUtf8)
    }

    /// Checks a string and copies it.
    ///
    /// # Errors
    /// U+0000, or longer than [`MqttString::MAX_LEN`].
    pub fn new(text: impl Into<String>) -> Result<MqttString, TextError> {
        let text = text.into();
        check_length(text.len())?;
        if contains_any(text.as_bytes(), [0]) {
            return Err(TextError::Null);
        }
        Ok(MqttString(ByteString::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared bytes of the text.
    pub fn bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// A copy in memory of its own, so that keeping it keeps no read buffer alive.
    pub fn detach(&self) -> MqttString {
        MqttString(ByteString::from(self.as_str().to_owned()))
    }
}

/// Whether one of these bytes occurs. Topics are short and looked through for every message: eight bytes at a time,
/// without branching on what they are.
#[inline]
pub(crate) fn contains_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let in_word = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        // A byte that is zero after the XOR is the only one that borrows into its own high bit.
        wanted.iter().any(|byte| {
            let zeroed = word ^ (ONES * u64::from(*byte));
            zeroed.wrapping_sub(ONES) & !zeroed & HIGH != 0
        })
    };
    let (words, rest) = bytes.as_chunks::<8>();
    if words.iter().any(|word| in_word(*word)) {
        return true;
    }
    match bytes.last_chunk::<8>() {
        Some(last) => in_word(*last),
        None => rest.iter().any(|byte| wanted.contains(byte)),
    }
}

fn check_length(length: usize) -> Result<(), TextError> {
    if length > MqttString::MAX_LEN {
        Err(TextError::TooLong { length })
    } else {
        Ok(())
    }
}

impl Deref for MqttString {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for MqttString {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for MqttString {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for MqttString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MqttString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl TryFrom<&str> for MqttString {
    type Error = TextError;

    fn try_from(text: &str) -> Result<Self, TextError> {
        MqttString::new(text)
    }
}

impl TryFrom<String> for MqttString {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        MqttString::new(text)
    }
}

impl fmt::Debug for MqttString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for MqttString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_byte_is_found_wherever_it_is() {
        for len in 0..40 {
            for noise in [0x01, 0x2A, 0x2C, 0x7F, 0x80, 0xFF] {
                let mut bytes = vec![noise; len];
                assert!(!contains_any(&bytes, [0, b'+', b'#']));
                for place in 0..len {
                    for wanted in [0, b'+', b'#'] {
                        bytes[place] = wanted;
                        assert!(
                            contains_any(&bytes, [0, b'+', b'#']),
                            "{wanted} at {place} of {len}"
                        );
                        assert!(!contains_any(&bytes, [b'?', b'@']));
                    }
                    bytes[place] = noise;
                }
            }
        }
    }
}
