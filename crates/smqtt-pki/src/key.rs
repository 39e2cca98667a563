//! Private keys of devices, servers and the certificate authority.

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rand::CryptoRng;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::signer::RcgenKey;
use crate::{DeviceId, Error, pem_text};

/// An ECDSA P-256 private key. Erased from memory when dropped; never shown.
pub struct IdentityKey {
    key: SigningKey,
    /// The public key as an uncompressed point (SEC 1 §2.3.3): what certificates carry.
    public: [u8; 65],
}

impl IdentityKey {
    /// A new key from the given source of randomness.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::from_signing_key(SigningKey::generate_from_rng(rng))
    }

    /// Reads a key from PKCS#8 in PEM form (`-----BEGIN PRIVATE KEY-----`).
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if the text holds no such key.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        SigningKey::from_pkcs8_pem(text.trim())
            .map(Self::from_signing_key)
            .map_err(|_| Error::PrivateKey)
    }

    /// The key as PKCS#8 in PEM form, for a file of mode 0600.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if the encoder refuses, which it has no known reason to.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        self.key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| Error::PrivateKey)
    }

    /// The key in the form that rustls takes. The copy is rustls' to keep.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if the encoder refuses, which it has no known reason to.
    pub fn to_der(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let document = self.key.to_pkcs8_der().map_err(|_| Error::PrivateKey)?;
        Ok(PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()).into())
    }

    /// Signs a message: ES256 (RFC 7518 §3.4, RFC 9053 §2.1), `r ‖ s` in 64 bytes.
    ///
    /// Deterministic (RFC 6979): the same key and message give the same signature, and no randomness is needed.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().into()
    }

    /// A certificate request (PKCS#10, PEM) for this key under the given name, signed by the key.
    ///
    /// # Errors
    /// [`Error::Issue`] if the encoder refuses, which it has no known reason to.
    pub fn csr_pem(&self, id: &DeviceId) -> Result<String, Error> {
        self.request(Some(id))
    }

    /// A certificate request (PKCS#10, PEM) for this key under no name, signed by the key: for a device that knows nothing but
    /// its enrolment token, from which the authority tells who it is.
    ///
    /// # Errors
    /// [`Error::Issue`] if the encoder refuses, which it has no known reason to.
    pub fn unnamed_csr_pem(&self) -> Result<String, Error> {
        self.request(None)
    }

    fn request(&self, id: Option<&DeviceId>) -> Result<String, Error> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(id) = id {
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, id.as_str());
        }
        let request = params
            .serialize_request(&RcgenKey(self))
            .map_err(|e| Error::Issue(e.to_string()))?;
        Ok(pem_text::section("CERTIFICATE REQUEST", request.der()))
    }

    /// The public key: an uncompressed point, 65 bytes beginning with 4.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 65] {
        &self.public
    }

    /// Checks that the certificate is for this key.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] if not, [`Error::MalformedCertificate`] if it cannot be read.
    pub fn check_certificate(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|e| Error::MalformedCertificate(e.to_string()))?;
        if parsed.public_key().subject_public_key.as_ref() == self.public {
            Ok(())
        } else {
            Err(Error::KeyMismatch)
        }
    }

    /// An ASN.1 DER signature, as X.509 has it.
    pub(crate) fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    fn from_signing_key(key: SigningKey) -> Self {
        let mut public = [0; 65];
        let point = key.verifying_key().as_affine().to_sec1_point(false);
        public.copy_from_slice(point.as_bytes());
        Self { key, public }
    }
}
