//! Sealed messages: one per PUBLISH.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use crate::cbor::{Reader, head_len, write};
use crate::{Error, KeyId};

/// COSE tag of `COSE_Encrypt0`.
const TAG: u64 = 16;
/// Header label: key id.
const KID: u64 = 4;
/// Header label: Partial IV.
const PARTIAL_IV: u64 = 6;
/// Header label: abbreviated countersignature, version 2 (RFC 9338).
const COUNTERSIGNATURE: u64 = 12;
/// Length in bytes of a message's own signature, r ‖ s.
const SIGNATURE_LEN: usize = 64;
/// The protected header `{1: 3}`: algorithm A256GCM.
pub(crate) const PROTECTED: [u8; 3] = [0xa1, 0x01, 0x03];

/// A message's number under its key frame and topic, counted from 1.
///
/// It travels as the COSE Partial IV: big-endian, without leading zeros, 1 to 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(NonZeroU32);

impl Sequence {
    /// The first message's number, 1.
    pub const FIRST: Self = Self(NonZeroU32::MIN);
    /// The largest number, 2^32 − 1. No key seals more messages than this.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The sequence with this number; `None` for 0.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The number after this one; `None` after [`MAX`](Self::MAX). It never wraps.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The Partial IV, written into `number`.
    pub(crate) fn partial_iv(self, number: &mut [u8; 4]) -> &[u8] {
        *number = self.0.get().to_be_bytes();
        &number[number.len() - self.encoded_len()..]
    }

    /// Length in bytes of the Partial IV, 1 to 4.
    const fn encoded_len(self) -> usize {
        (u32::BITS - self.0.leading_zeros()).div_ceil(8) as usize
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sealed message as it stands on the wire: `COSE_Encrypt0` with A256GCM (RFC 9052 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedMessage<'a> {
    bytes: &'a [u8],
    kid: KeyId,
    sequence: Sequence,
    signature: Option<&'a [u8; SIGNATURE_LEN]>,
    ciphertext: &'a [u8],
}

impl<'a> SealedMessage<'a> {
    /// Length in bytes of the authentication tag at the end of the ciphertext.
    pub const TAG_LEN: usize = 16;
    /// Length in bytes of a message's own signature, r ‖ s.
    pub const SIGNATURE_LEN: usize = SIGNATURE_LEN;
    /// Bytes that its own signature adds to a message.
    pub const SIGNATURE_OVERHEAD: usize = 3 + Self::SIGNATURE_LEN;

    /// Reads a sealed message that fills `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error`] with the first field that is not as `docs/envelope.md` has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.tag(TAG, "sealed message's tag")?;
        reader.array_of(3, "COSE_Encrypt0")?;
        let offset = reader.position();
        if *reader.bytes("sealed message's protected header")? != PROTECTED {
            return Err(Error::Unexpected {
                part: "sealed message's protected header",
                offset,
            });
        }
        let offset = reader.position();
        let part = "sealed message's unprotected header";
        let is_signed = match reader.map(part)? {
            2 => false,
            3 => true,
            _ => return Err(Error::Unexpected { part, offset }),
        };
        reader.expect(KID, "sealed message's header label")?;
        let kid = KeyId(*reader.bytes_of("key id")?);
        reader.expect(PARTIAL_IV, "sealed message's header label")?;
        let sequence = sequence(&mut reader)?;
        let signature = if is_signed {
            reader.expect(COUNTERSIGNATURE, "sealed message's header label")?;
            Some(reader.bytes_of("sealed message's signature")?)
        } else {
            None
        };
        let offset = reader.position();
        let ciphertext = reader.bytes("ciphertext")?;
        if ciphertext.len() < Self::TAG_LEN {
            return Err(Error::Unexpected {
                part: "ciphertext",
                offset,
            });
        }
        reader.end("sealed message")?;
        Ok(Self {
            bytes,
            kid,
            sequence,
            signature,
            ciphertext,
        })
    }

    /// The message's own bytes, tag included.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The key frame under which it is sealed.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// Its number under that frame and its topic.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Its own signature by the publisher's device, if it has one: ES256 over the
    /// [`countersign_structure`](crate::countersign_structure).
    #[must_use]
    pub fn signature(&self) -> Option<&'a [u8; SIGNATURE_LEN]> {
        self.signature
    }

    /// The ciphertext, which ends with the 16 bytes of the authentication tag.
    #[must_use]
    pub fn ciphertext(&self) -> &'a [u8] {
        self.ciphertext
    }

    /// Length in bytes of the payload inside.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.ciphertext.len() - Self::TAG_LEN
    }

    /// Bytes that sealing adds to a payload of `payload_len` bytes: 37 to 40 for sequence numbers up to 65,535 and payloads up to
    /// 65,519 bytes, 44 at the very most (64-bit lengths aside).
    #[must_use]
    pub const fn overhead(sequence: Sequence, payload_len: usize) -> usize {
        Self::head_len(sequence, payload_len) + Self::TAG_LEN
    }

    /// Bytes in front of the ciphertext.
    const fn head_len(sequence: Sequence, payload_len: usize) -> usize {
        let protected = 1 + PROTECTED.len();
        let kid = 2 + KeyId::LEN;
        let partial_iv = 2 + sequence.encoded_len();
        2 + protected + 1 + kid + partial_iv + head_len((payload_len + Self::TAG_LEN) as u64)
    }

    /// Appends everything that stands in front of the ciphertext of a payload of `payload_len` bytes. The caller appends
    /// exactly `payload_len` bytes of ciphertext and the 16 bytes of the tag.
    pub fn write_head(out: &mut Vec<u8>, kid: &KeyId, sequence: Sequence, payload_len: usize) {
        head(out, kid, sequence, payload_len, None);
    }

    /// As [`write_head`](Self::write_head), with room for the message's own signature, which the caller writes at the place that
    /// is returned once the ciphertext is there.
    pub fn write_signed_head(
        out: &mut Vec<u8>,
        kid: &KeyId,
        sequence: Sequence,
        payload_len: usize,
    ) -> Range<usize> {
        head(out, kid, sequence, payload_len, Some(&[0; SIGNATURE_LEN]));
        let end = out.len() - head_len((payload_len + Self::TAG_LEN) as u64);
        end - Self::SIGNATURE_LEN..end
    }
}

/// Everything in front of the ciphertext.
fn head(
    out: &mut Vec<u8>,
    kid: &KeyId,
    sequence: Sequence,
    payload_len: usize,
    signature: Option<&[u8; SIGNATURE_LEN]>,
) {
    write(out, |e| {
        e.tag(minicbor::data::Tag::new(TAG))?
            .array(3)?
            .bytes(&PROTECTED)?
            .map(2 + u64::from(signature.is_some()))?
            .u64(KID)?
            .bytes(kid.as_bytes())?
            .u64(PARTIAL_IV)?
            .bytes(sequence.partial_iv(&mut [0; 4]))?;
        if let Some(signature) = signature {
            e.u64(COUNTERSIGNATURE)?.bytes(signature)?;
        }
        e.bytes_len((payload_len + SealedMessage::TAG_LEN) as u64)?
            .ok()
    });
}

/// Reads a Partial IV: 1 to 4 bytes, the first of them not zero.
fn sequence(reader: &mut Reader<'_>) -> Result<Sequence, Error> {
    let part = "partial iv";
    let offset = reader.position();
    let bytes = reader.bytes(part)?;
    if bytes.first() == Some(&0) {
        return Err(Error::NotDeterministic { part, offset });
    }
    if bytes.len() > size_of::<u32>() {
        return Err(Error::Unexpected { part, offset });
    }
    let number = bytes
        .iter()
        .fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    Sequence::new(number).ok_or(Error::Unexpected { part, offset })
}
