//! Why bytes are not an envelope, or fields can not become one.

/// Why bytes are not an envelope, or fields can not be encoded as one.
///
/// `part` names the field in the words of `docs/envelope.md`; `offset` counts bytes from the start of the CBOR item that was
/// being read (the payload, or the byte string that the field is wrapped in).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The payload starts like neither a key frame nor a sealed message: most likely it is plaintext.
    #[error(
        "this is not an SMQTT envelope: it starts neither as a key frame nor as a sealed message"
    )]
    NotAnEnvelope,
    /// The input ends inside a field.
    #[error("the envelope ends inside its {part}, at byte {offset}: it was cut off")]
    Truncated {
        /// The field that is cut off.
        part: &'static str,
        /// Where the field starts, in bytes.
        offset: usize,
    },
    /// A field has another type or value than the format allows there.
    #[error("the envelope's {part}, at byte {offset}, is not what the format allows there")]
    Unexpected {
        /// The field.
        part: &'static str,
        /// Where the field starts, in bytes.
        offset: usize,
    },
    /// The same content has a shorter or otherwise canonical encoding (RFC 8949 §4.2.1).
    #[error("the envelope's {part}, at byte {offset}, is not encoded deterministically")]
    NotDeterministic {
        /// The field.
        part: &'static str,
        /// Where the field starts, in bytes.
        offset: usize,
    },
    /// Bytes are left over after the last field.
    #[error("{count} bytes follow the end of the {part}, at byte {offset}")]
    TrailingBytes {
        /// What had ended.
        part: &'static str,
        /// Where it had ended, in bytes.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// The key frame states another version of the format.
    #[error("the key frame has format version {0}; this program reads version 1")]
    UnsupportedVersion(u64),
    /// The key frame is signed with an algorithm that this version does not have.
    #[error("the key frame is signed with COSE algorithm {0}; this program knows -7 (ES256)")]
    UnsupportedAlgorithm(i64),
    /// A field is longer than the format allows, in bytes (for a certificate chain: in certificates).
    #[error("the envelope's {part} is {length} long; the limit is {limit}")]
    TooLong {
        /// The field.
        part: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A field that may not be empty is empty.
    #[error("the envelope's {part} is empty")]
    Empty {
        /// The field.
        part: &'static str,
    },
}
