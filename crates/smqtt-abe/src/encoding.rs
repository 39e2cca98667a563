//! Reading and writing objects: deterministic CBOR (RFC 8949 §4.2) arrays of fixed shape.
//!
//! Every object is one array: encoding version, suite number, then byte strings in a fixed order.
//! A reader takes the one encoding that the writer makes, and nothing after it.

use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::{Error, Suite, oracle::MESSAGE_BYTES};

/// The encoding version that this program writes and reads.
pub(crate) const VERSION: u8 = 1;

/// What errors call a ciphertext.
pub(crate) const CIPHERTEXT: &str = "ciphertext";

/// Longest head of a CBOR item.
const HEAD_BYTES: usize = 9;

/// The bytes of an object; wiped when dropped, and never moved while they grow.
pub(crate) fn write(suite: Suite, fields: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let room = 3 * HEAD_BYTES + fields.iter().map(|f| HEAD_BYTES + f.len()).sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    let mut encoder = Encoder::new(&mut *out);
    let written: Result<(), minicbor::encode::Error<core::convert::Infallible>> = (|| {
        encoder.array(2 + fields.len() as u64)?;
        encoder.u8(VERSION)?.u8(suite.id())?;
        for field in fields {
            encoder.bytes(field)?;
        }
        Ok(())
    })();
    written.expect("writing to a vector does not fail");
    out
}

/// The `N` byte strings of an object.
///
/// # Errors
/// Another version or suite, anything but the canonical encoding, trailing bytes.
pub(crate) fn read<'b, const N: usize>(
    object: &'static str,
    suite: Suite,
    bytes: &'b [u8],
) -> Result<[&'b [u8]; N], Error> {
    let malformed = |reason| Error::Malformed { object, reason };
    let shape = |_| malformed("it is not a CBOR array of the expected shape");
    let mut decoder = Decoder::new(bytes);
    let length = decoder.array().map_err(shape)?;
    let version = decoder.u8().map_err(shape)?;
    if version != VERSION {
        return Err(Error::WrongVersion {
            object,
            found: version,
            expected: VERSION,
        });
    }
    let id = decoder.u8().map_err(shape)?;
    if id != suite.id() {
        return Err(Error::WrongSuite {
            object,
            found: id,
            expected: suite.id(),
        });
    }
    if length != Some(2 + N as u64) {
        return Err(malformed("it is not a CBOR array of the expected shape"));
    }
    let mut fields: [&[u8]; N] = [&[]; N];
    for field in &mut fields {
        *field = decoder.bytes().map_err(shape)?;
    }
    if decoder.position() != bytes.len() {
        return Err(malformed("bytes follow its end"));
    }
    // Longer heads than needed would be a second spelling of the same object.
    if *write(suite, &fields) != bytes {
        return Err(malformed("it is not in deterministic encoding"));
    }
    Ok(fields)
}

/// The group elements of a ciphertext, which the masked message follows: all but its end.
///
/// # Errors
/// It has not the length that its policy or attributes give it.
pub(crate) fn elements(ciphertext: &[u8], expected: usize) -> Result<&[u8], Error> {
    match ciphertext.split_last_chunk::<MESSAGE_BYTES>() {
        Some((elements, _)) if ciphertext.len() == expected => Ok(elements),
        _ => Err(Error::WrongLength {
            object: CIPHERTEXT,
            found: ciphertext.len(),
            expected,
        }),
    }
}

/// A field of exactly `L` bytes.
pub(crate) fn fixed<'b, const L: usize>(
    object: &'static str,
    field: &'b [u8],
    reason: &'static str,
) -> Result<&'b [u8; L], Error> {
    field
        .try_into()
        .map_err(|_| Error::Malformed { object, reason })
}
