//! Reading and writing canonical bytes: big-endian integers, length-prefixed text.

use crate::Error;

/// A cursor over an encoding that never reads past its end.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts on an encoding of at most `limit` bytes.
    pub(crate) fn new(bytes: &'a [u8], limit: usize) -> Result<Self, Error> {
        if bytes.len() > limit {
            return Err(Error::EncodingTooLong {
                bytes: bytes.len(),
                limit,
            });
        }
        Ok(Self { bytes })
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(Error::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(Error::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A count of four bytes.
    pub(crate) fn count(&mut self) -> Result<usize, Error> {
        // No target of this project has a usize of fewer than 32 bits; beyond it is too many anyway.
        Ok(usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A text behind its length of two bytes.
    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| Error::NotCanonical {
            what: "text that is not UTF-8",
        })
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(Error::TrailingBytes { bytes }),
        }
    }
}

/// Appends `text` behind its length of two bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    // Every text that is encoded was checked against a limit below 2^16 when it was made.
    let length = u16::try_from(text.len()).expect("texts are bounded by MAX_TOPIC_BYTES");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
