//! A reader that takes deterministic CBOR (RFC 8949 §4.2.1) and nothing else, over `minicbor`.

use minicbor::decode::Error as DecodeError;
use minicbor::{Decoder, Encoder};

use crate::Error;

/// Reads CBOR items one after another and refuses every encoding that is not the shortest, or of indefinite length.
pub(crate) struct Reader<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            decoder: Decoder::new(bytes),
        }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.decoder.position()
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.decoder.input().get(self.position()..).unwrap_or(&[])
    }

    /// Refuses whatever is left.
    pub(crate) fn end(&self, part: &'static str) -> Result<(), Error> {
        match self.rest().len() {
            0 => Ok(()),
            count => Err(Error::TrailingBytes {
                part,
                offset: self.position(),
                count,
            }),
        }
    }

    pub(crate) fn unsigned(&mut self, part: &'static str) -> Result<u64, Error> {
        self.item(part, |decoder| {
            let value = decoder.u64()?;
            Ok((value, value, 0))
        })
    }

    /// An integer of either sign.
    pub(crate) fn integer(&mut self, part: &'static str) -> Result<i64, Error> {
        self.item(part, |decoder| {
            let value = decoder.i64()?;
            // Major type 1 encodes -1 - n.
            let argument = if value < 0 { !value } else { value };
            Ok((value, argument.unsigned_abs(), 0))
        })
    }

    pub(crate) fn bytes(&mut self, part: &'static str) -> Result<&'a [u8], Error> {
        self.item(part, |decoder| {
            let value = decoder.bytes()?;
            Ok((value, value.len() as u64, value.len()))
        })
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn bytes_of<const N: usize>(
        &mut self,
        part: &'static str,
    ) -> Result<&'a [u8; N], Error> {
        let offset = self.position();
        self.bytes(part)?
            .try_into()
            .map_err(|_| Error::Unexpected { part, offset })
    }

    pub(crate) fn text(&mut self, part: &'static str) -> Result<&'a str, Error> {
        self.item(part, |decoder| {
            let value = decoder.str()?;
            Ok((value, value.len() as u64, value.len()))
        })
    }

    /// The head of an array; the number of its elements.
    pub(crate) fn array(&mut self, part: &'static str) -> Result<u64, Error> {
        self.item(part, |decoder| {
            let length = decoder.array()?.ok_or_else(indefinite)?;
            Ok((length, length, 0))
        })
    }

    /// The head of an array that must have `length` elements.
    pub(crate) fn array_of(&mut self, length: u64, part: &'static str) -> Result<(), Error> {
        let offset = self.position();
        if self.array(part)? == length {
            Ok(())
        } else {
            Err(Error::Unexpected { part, offset })
        }
    }

    /// The head of a map; the number of its entries.
    pub(crate) fn map(&mut self, part: &'static str) -> Result<u64, Error> {
        self.item(part, |decoder| {
            let length = decoder.map()?.ok_or_else(indefinite)?;
            Ok((length, length, 0))
        })
    }

    /// The head of a map that must have `length` entries.
    pub(crate) fn map_of(&mut self, length: u64, part: &'static str) -> Result<(), Error> {
        let offset = self.position();
        if self.map(part)? == length {
            Ok(())
        } else {
            Err(Error::Unexpected { part, offset })
        }
    }

    pub(crate) fn tag(&mut self, tag: u64, part: &'static str) -> Result<(), Error> {
        let offset = self.position();
        let found = self.item(part, |decoder| {
            let value = decoder.tag()?.as_u64();
            Ok((value, value, 0))
        })?;
        if found == tag {
            Ok(())
        } else {
            Err(Error::Unexpected { part, offset })
        }
    }

    /// A map key, or a value that has to be this one.
    pub(crate) fn expect(&mut self, value: u64, part: &'static str) -> Result<(), Error> {
        let offset = self.position();
        if self.unsigned(part)? == value {
            Ok(())
        } else {
            Err(Error::Unexpected { part, offset })
        }
    }

    /// Whether the next item is an array.
    pub(crate) fn next_is_array(&self) -> bool {
        self.rest().first().is_some_and(|byte| byte >> 5 == 4)
    }

    /// Reads one item and checks that its head is the shortest for its argument. `read` returns the value, the head's
    /// argument, and how many bytes follow the head.
    fn item<T>(
        &mut self,
        part: &'static str,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<(T, u64, usize), DecodeError>,
    ) -> Result<T, Error> {
        let offset = self.position();
        let (value, argument, body) = read(&mut self.decoder).map_err(|error| {
            if error.is_end_of_input() {
                Error::Truncated { part, offset }
            } else {
                Error::Unexpected { part, offset }
            }
        })?;
        if self.position() - offset == head_len(argument) + body {
            Ok(value)
        } else {
            Err(Error::NotDeterministic { part, offset })
        }
    }
}

fn indefinite() -> DecodeError {
    DecodeError::message("indefinite length")
}

/// Length in bytes of the shortest head with this argument (RFC 8949 §4.2.1).
pub(crate) const fn head_len(argument: u64) -> usize {
    match argument {
        0..=0x17 => 1,
        0x18..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends CBOR to `out`. Writing to a vector can not fail, and `minicbor` writes the shortest heads.
pub(crate) fn write(
    out: &mut Vec<u8>,
    items: impl FnOnce(
        &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) {
    items(&mut Encoder::new(out)).expect("writing to a vector can not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_heads_than_needed_are_refused() {
        for (bytes, argument) in [
            (&[0x18, 0x17][..], 0x17),
            (&[0x19, 0x00, 0xff][..], 0xff),
            (&[0x1a, 0x00, 0x00, 0xff, 0xff][..], 0xffff),
            (
                &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
                0xffff_ffff_u64,
            ),
        ] {
            assert_eq!(
                Reader::new(bytes).unsigned("x"),
                Err(Error::NotDeterministic {
                    part: "x",
                    offset: 0
                }),
                "{argument}"
            );
        }
    }

    #[test]
    fn shortest_heads_are_read() {
        for value in [0, 0x17, 0x18, 0xff, 0x100, 0xffff, 0x1_0000, u64::MAX] {
            let mut bytes = Vec::new();
            write(&mut bytes, |e| e.u64(value)?.ok());
            assert_eq!(bytes.len(), head_len(value));
            assert_eq!(Reader::new(&bytes).unsigned("x"), Ok(value));
        }
        for value in [-1, -7, -24, -25, -256, -257, i64::MIN] {
            let mut bytes = Vec::new();
            write(&mut bytes, |e| e.i64(value)?.ok());
            assert_eq!(Reader::new(&bytes).integer("x"), Ok(value));
        }
    }

    #[test]
    fn indefinite_lengths_are_refused() {
        let unexpected = Error::Unexpected {
            part: "x",
            offset: 0,
        };
        assert_eq!(
            Reader::new(&[0x5f, 0x41, 0, 0xff]).bytes("x"),
            Err(unexpected.clone())
        );
        assert_eq!(
            Reader::new(&[0x7f, 0xff]).text("x"),
            Err(unexpected.clone())
        );
        assert_eq!(
            Reader::new(&[0x9f, 0xff]).array("x"),
            Err(unexpected.clone())
        );
        assert_eq!(Reader::new(&[0xbf, 0xff]).map("x"), Err(unexpected));
    }

    #[test]
    fn a_length_beyond_the_input_is_truncation_not_an_allocation() {
        let huge = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(
            Reader::new(&huge).bytes("x"),
            Err(Error::Truncated {
                part: "x",
                offset: 0
            })
        );
    }
}
