//! AES-256-GCM over whole buffers.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;

/// A key that was read from nowhere a peer could choose; 32 bytes always fit.
pub(crate) struct Cipher(Aes256Gcm);

/// It was not sealed with this key and these associated data, or was changed since.
#[derive(Debug)]
pub(crate) struct Inauthentic;

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Encrypts the buffer in place and appends the tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE],
        associated: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<(), Inauthentic> {
        let tag = self
            .0
            .encrypt_inout_detached(
                &Nonce::from(*nonce),
                associated,
                buffer.as_mut_slice().into(),
            )
            .map_err(|_| Inauthentic)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    /// Decrypts ciphertext and tag.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Inauthentic> {
        let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(Inauthentic)?;
        let mut buffer = Zeroizing::new(text.to_vec());
        self.0
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                associated,
                buffer.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| Inauthentic)?;
        Ok(buffer)
    }
}
