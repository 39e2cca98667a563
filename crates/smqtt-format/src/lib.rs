//! The structure of SMQTT envelopes, without keys.
//!
//! What travels as an MQTT payload is one of three things, each deterministic CBOR (RFC 8949 §4.2.1) and nothing else:
//!
//! | object | COSE type | made |
//! |---|---|---|
//! | [`KeyFrame`] | `COSE_Sign1` (tag 18) | once per publisher, policy and key period |
//! | [`SealedMessage`] | `COSE_Encrypt0` (tag 16) | once per PUBLISH |
//! | inline: key frame ‖ sealed message | CBOR sequence (RFC 8742) | once per PUBLISH, self-contained |
//!
//! Beside them stands the [`SignedState`] that an authority publishes: `COSE_Sign1` too.
//!
//! This crate encodes and parses them. It holds no key, opens nothing, verifies nothing but structure: it is as much as a
//! broker may know. `docs/envelope.md` is the normative text.
//!
//! # Invariant
//!
//! A byte string has at most one reading, and a reading has exactly one byte string: whatever parses, re-encodes to
//! the same bytes. Anything else (a longer integer than needed, an indefinite length, keys out of order, a field
//! that is not known, bytes left over) is refused. Parsing borrows from its input, allocates nothing and does not panic.
//!
//! # Example
//!
//! ```
//! use smqtt_format::{Envelope, KeyId, SealedMessage, Sequence};
//!
//! let kid = KeyId::of(b"the bytes of a key frame");
//! let ciphertext = [0u8; 5 + SealedMessage::TAG_LEN];
//! let mut payload = Vec::new();
//! SealedMessage::write_head(&mut payload, &kid, Sequence::FIRST, 5);
//! payload.extend_from_slice(&ciphertext);
//!
//! let Envelope::Sealed(message) = Envelope::parse(&payload)? else {
//!     panic!("a sealed message");
//! };
//! assert_eq!(message.kid(), kid);
//! assert_eq!(message.sequence(), Sequence::FIRST);
//! assert_eq!(message.ciphertext(), ciphertext);
//! assert_eq!(payload.len() - 5, 37); // the whole overhead
//! # Ok::<(), smqtt_format::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod announce;
mod cbor;
mod content;
mod envelope;
mod error;
mod frame;
mod kid;
mod media;
mod sealed;
mod state;
mod structures;

pub use content::{Access, CONFIRMATION_LEN, KeyFrameContent, MessageRules, VERSION};
pub use envelope::Envelope;
pub use error::Error;
pub use frame::{KeyFrame, SignatureAlgorithm, UnsignedKeyFrame};
pub use kid::{KeyId, frame_digest};
pub use media::{KEY_FRAME_CONTENT_TYPE, MEDIA_TYPE, MEDIA_TYPE_INLINE};
pub use sealed::{SealedMessage, Sequence};
pub use state::{
    AuthorityState, STATE_CONTENT_TYPE, STATE_TOPIC, Sealing, SignedState, sealing_epoch,
};
pub use structures::{countersign_structure, enc_structure, external_aad, sig_structure};
