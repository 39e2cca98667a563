//! Our keys in the form that rcgen signs with.

use crate::IdentityKey;

/// Lets rcgen sign with an [`IdentityKey`], deterministically, instead of with a key and randomness of its own.
pub(crate) struct RcgenKey<'a>(pub(crate) &'a IdentityKey);

impl rcgen::PublicKeyData for RcgenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for RcgenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign_der(message))
    }
}
