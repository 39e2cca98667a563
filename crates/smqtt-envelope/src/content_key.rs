//! From the encapsulated key to the key of one topic, and AES-256-GCM under it.

use std::ops::Range;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use smqtt_format::{CONFIRMATION_LEN, KeyId, SealedMessage, Sequence, enc_structure};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::padding::pad;

/// HKDF label of content keys; the topic follows.
const CONTENT: &[u8] = b"smqtt/1 content";
/// HKDF label of the confirmation.
const CONFIRM: &[u8] = b"smqtt/1 confirm";

const KEY_LEN: usize = 32;
const IV_LEN: usize = 12;

/// Shows that who signed a frame held the key `shared` inside it: `HKDF-SHA256(ikm = K, salt = SHA-256(certificate), info = "smqtt/1
/// confirm")`, 16 bytes. Whoever takes another's frame and signs it with a key and certificate of their own can not make this.
pub(crate) fn confirmation(shared: &[u8; 32], certificate: &[u8]) -> [u8; CONFIRMATION_LEN] {
    let salt = Sha256::digest(certificate);
    let mut out = [0; CONFIRMATION_LEN];
    Hkdf::<Sha256>::new(Some(&salt), shared)
        .expand(CONFIRM, &mut out)
        .expect("16 bytes are within HKDF's limit");
    out
}

/// Whether `claimed` is the [`confirmation`]; takes constant time.
pub(crate) fn confirms(
    claimed: &[u8; CONFIRMATION_LEN],
    shared: &[u8; 32],
    certificate: &[u8],
) -> bool {
    confirmation(shared, certificate).ct_eq(claimed).into()
}

/// What a message has beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// The length to which the payload is padded.
    pub(crate) padded: Option<usize>,
    /// Whether it gets a signature of its own.
    pub(crate) signed: bool,
}

impl Shape {
    /// What sealing adds to a payload of `length` bytes, padding included.
    pub(crate) fn overhead(&self, sequence: Sequence, length: usize) -> usize {
        let signature = usize::from(self.signed) * SealedMessage::SIGNATURE_OVERHEAD;
        SealedMessage::overhead(sequence, length) + signature
    }
}

/// Where the parts of a sealed message stand.
pub(crate) struct Placed {
    /// Room for the signature; empty where there is none.
    pub(crate) signature: Range<usize>,
    pub(crate) ciphertext: Range<usize>,
}

/// Seals and opens the messages of one key frame at one topic.
///
/// The cipher wipes its key schedule when dropped. Nonces are the caller's care: each [`Sequence`] seals once.
pub(crate) struct ContentKey {
    cipher: Aes256Gcm,
    base_iv: Zeroizing<[u8; IV_LEN]>,
    /// The additional data, the same for every message of the topic.
    additional: Box<[u8]>,
}

impl ContentKey {
    /// `HKDF-SHA256(ikm = K, salt = SHA-256(key frame), info = "smqtt/1 content" ‖ topic)`: 32 bytes of key, 12 of base IV.
    pub(crate) fn derive(shared: &[u8; 32], frame_digest: &[u8; 32], topic: &str) -> Self {
        let mut okm = Zeroizing::new([0; KEY_LEN + IV_LEN]);
        Hkdf::<Sha256>::new(Some(frame_digest), shared)
            .expand_multi_info(&[CONTENT, topic.as_bytes()], &mut *okm)
            .expect("44 bytes are within HKDF's limit");
        let (key, iv) = okm.split_at(KEY_LEN);
        let mut base_iv = Zeroizing::new([0; IV_LEN]);
        base_iv.copy_from_slice(iv);
        Self {
            cipher: Aes256Gcm::new_from_slice(key).expect("32 bytes are a key"),
            base_iv,
            additional: enc_structure(topic).into(),
        }
    }

    /// Base IV XOR left-padded Partial IV (RFC 9052 §3.1).
    fn nonce(&self, sequence: Sequence) -> [u8; IV_LEN] {
        let mut nonce = *self.base_iv;
        for (byte, number) in nonce[IV_LEN - 4..]
            .iter_mut()
            .zip(sequence.get().to_be_bytes())
        {
            *byte ^= number;
        }
        nonce
    }

    /// Appends the sealed message to `out`, which it makes large enough at once. With `padded`, the payload is padded to so many
    /// bytes; with `signed`, there is room for a signature.
    ///
    /// `None` if the payload exceeds AES-GCM's limit of 64 GiB; `out` is then of no use.
    pub(crate) fn seal(
        &self,
        kid: &KeyId,
        sequence: Sequence,
        payload: &[u8],
        shape: &Shape,
        out: &mut Vec<u8>,
    ) -> Option<Placed> {
        let length = shape.padded.unwrap_or(payload.len());
        out.reserve_exact(length + shape.overhead(sequence, length));
        let signature = if shape.signed {
            SealedMessage::write_signed_head(out, kid, sequence, length)
        } else {
            SealedMessage::write_head(out, kid, sequence, length);
            0..0
        };
        let start = out.len();
        match shape.padded {
            Some(length) => pad(payload, length, out),
            None => out.extend_from_slice(payload),
        }
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &Nonce::from(self.nonce(sequence)),
                &self.additional,
                (&mut out[start..]).into(),
            )
            .ok()?;
        out.extend_from_slice(&tag);
        Some(Placed {
            signature,
            ciphertext: start..out.len(),
        })
    }

    /// The payload, if this key at this topic sealed exactly this message.
    pub(crate) fn open(&self, sequence: Sequence, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let (body, tag) = ciphertext.split_last_chunk::<{ SealedMessage::TAG_LEN }>()?;
        let mut payload = body.to_vec();
        // Checks the tag before it decrypts: a failure leaves ciphertext behind, never plaintext.
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(self.nonce(sequence)),
                &self.additional,
                payload.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(shared: u8, frame: u8, topic: &str) -> ContentKey {
        ContentKey::derive(&[shared; 32], &[frame; 32], topic)
    }

    fn sealed(key: &ContentKey, number: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let sequence = Sequence::new(number).expect("not 0");
        let shape = Shape::default();
        key.seal(&KeyId([1; 8]), sequence, b"21.5", &shape, &mut out)
            .expect("short enough");
        out
    }

    #[test]
    fn only_the_same_key_frame_topic_and_number_open() {
        let bytes = sealed(&key(1, 2, "a"), 7);
        let message = SealedMessage::parse(&bytes).expect("valid");
        let open = |key: &ContentKey, number| {
            key.open(Sequence::new(number).expect("not 0"), message.ciphertext())
        };
        assert_eq!(open(&key(1, 2, "a"), 7).as_deref(), Some(&b"21.5"[..]));
        assert_eq!(open(&key(1, 2, "a"), 8), None);
        assert_eq!(open(&key(1, 2, "b"), 7), None);
        assert_eq!(open(&key(1, 3, "a"), 7), None);
        assert_eq!(open(&key(2, 2, "a"), 7), None);
    }

    #[test]
    fn every_number_has_its_own_nonce() {
        let key = key(1, 2, "a");
        let numbers = [1, 2, 255, 256, 65_535, 65_536, u32::MAX];
        let mut nonces: Vec<_> = numbers
            .iter()
            .map(|n| key.nonce(Sequence::new(*n).expect("not 0")))
            .collect();
        // The first eight bytes are the base IV's: the Partial IV is padded on the left.
        assert!(nonces.iter().all(|n| n[..8] == key.base_iv[..8]));
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), numbers.len());
    }

    #[test]
    fn a_confirmation_names_the_certificate() {
        let ours = confirmation(&[1; 32], b"our certificate");
        assert!(confirms(&ours, &[1; 32], b"our certificate"));
        assert!(!confirms(&ours, &[1; 32], b"their certificate"));
        assert!(!confirms(&ours, &[2; 32], b"our certificate"));
    }

    #[test]
    fn sealing_allocates_exactly_what_is_sent() {
        let bytes = sealed(&key(1, 2, "a"), 7);
        assert_eq!(bytes.len(), 4 + 37);
        assert_eq!(bytes.capacity(), bytes.len());
    }
}
