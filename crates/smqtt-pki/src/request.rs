//! Certificate requests (PKCS#10, RFC 2986) as an authority reads them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{DeviceId, Error, KeyType};

/// A certificate request whose signature was verified: who sent it has the private key.
///
/// Only the public key and the common name are taken from it. Extensions that it asks for are ignored: the authority
/// decides what a certificate says.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    common_name: Option<String>,
    key_type: KeyType,
    public_key: rcgen::SubjectPublicKeyInfo,
    key_digest: [u8; 32],
}

impl CertificateRequest {
    /// The longest request that is read, in bytes of PEM text. One for P-256 has about 400.
    pub const MAX_LEN: usize = 16 * 1024;

    /// Reads a request and verifies its proof of possession.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`], [`Error::UnsupportedKey`] for a key other than P-256 and Ed25519,
    /// [`Error::ProofOfPossession`] if the signature is not by the request's own key.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        if text.len() > Self::MAX_LEN {
            return Err(Error::MalformedRequest("it is longer than 16 KiB"));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::MalformedRequest("no CERTIFICATE REQUEST in PEM form found"))?;
        Self::from_der(&der)
    }

    /// As [`CertificateRequest::from_pem`], from DER.
    ///
    /// # Errors
    /// As [`CertificateRequest::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > Self::MAX_LEN {
            return Err(Error::MalformedRequest("it is longer than 16 KiB"));
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| Error::MalformedRequest("it is not a PKCS#10 request in DER"))?;
        if !rest.is_empty() {
            return Err(Error::MalformedRequest("data follows the request"));
        }
        let info = &request.certification_request_info;

        let key_type = KeyType::of(&info.subject_pki).ok_or(Error::UnsupportedKey)?;
        let signature_algorithm = &request.signature_algorithm.algorithm;
        let algorithm: &'static dyn VerificationAlgorithm = match key_type {
            KeyType::EcdsaP256 if *signature_algorithm == OID_SIG_ECDSA_WITH_SHA256 => {
                &ECDSA_P256_SHA256_ASN1
            }
            KeyType::Ed25519 if *signature_algorithm == OID_SIG_ED25519 => &ED25519,
            _ => return Err(Error::ProofOfPossession),
        };
        // Parsing the key also checks that it is a point of the curve.
        UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| Error::ProofOfPossession)?;

        let mut names = info.subject.iter_common_name();
        let common_name = names
            .next()
            .map(|name| name.as_str().map(str::to_owned))
            .transpose()
            .map_err(|_| Error::MalformedRequest("its common name is not text"))?;
        if names.next().is_some() {
            return Err(Error::MalformedRequest("it has more than one common name"));
        }
        Ok(Self {
            common_name,
            key_type,
            key_digest: Sha256::digest(info.subject_pki.raw).into(),
            public_key: rcgen::SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
                .map_err(|_| Error::UnsupportedKey)?,
        })
    }

    /// The name that the request asks for, as it stands there: it may be no [`DeviceId`]. `None` leaves the name to the
    /// authority, as a device does that knows nothing but its enrolment token.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The kind of key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// SHA-256 of the public key as certificates carry it (SubjectPublicKeyInfo).
    #[must_use]
    pub fn key_digest(&self) -> [u8; 32] {
        self.key_digest
    }

    /// Checks that the request asks for this name, or for none.
    ///
    /// # Errors
    /// [`Error::RequestName`] if it asks for another.
    pub fn check_name(&self, id: &DeviceId) -> Result<(), Error> {
        match &self.common_name {
            Some(name) if name != id.as_str() => Err(Error::RequestName {
                requested: name.chars().take(80).collect(),
                expected: id.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The public key in the form that rcgen certifies.
    pub(crate) fn public_key(&self) -> &rcgen::SubjectPublicKeyInfo {
        &self.public_key
    }
}

impl KeyType {
    /// The kind of a certificate's or request's public key; `None` for kinds that are not supported.
    pub(crate) fn of(key: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let algorithm = &key.algorithm;
        if algorithm.algorithm == OID_SIG_ED25519 && algorithm.parameters.is_none() {
            Some(Self::Ed25519)
        } else if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && algorithm.parameters.as_ref()?.as_oid().ok()? == OID_EC_P256
        {
            Some(Self::EcdsaP256)
        } else {
            None
        }
    }
}
