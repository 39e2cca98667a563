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
        if bytes.contains(&0) {
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
        if text.as_bytes().contains(&0) {
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
