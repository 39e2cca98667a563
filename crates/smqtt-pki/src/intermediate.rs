//! Intermediate authorities: they issue, so that the root's key can be kept where no network reaches it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use rand::CryptoRng;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use crate::anchor::{CHAIN_ALGORITHMS, parse};
use crate::ca::{params, refused, statement_message};
use crate::{
    CertificateAuthority, CertificateRequest, Error, Fingerprint, IdentityKey, KeyType, Serial,
    TrustAnchor, Validity,
};

/// An intermediate authority's certificate, which the root has signed: it may issue end-entity certificates and revocation
/// lists, and no further authority (RFC 5280 §4.2.1.9, pathLenConstraint 0).
#[derive(Clone, PartialEq, Eq)]
pub struct Intermediate {
    certificate: CertificateDer<'static>,
    name: String,
    serial: Serial,
    validity: Validity,
    key_digest: [u8; 32],
}

impl Intermediate {
    /// Verifies that the root has signed this certificate for an intermediate authority. Whether it is valid now, and was
    /// not taken back, is another question.
    ///
    /// # Errors
    /// [`Error::MalformedCertificate`]; [`Error::NotAnIntermediate`] says what it lacks; [`Error::OtherIssuer`].
    pub fn verify(
        certificate: CertificateDer<'static>,
        anchor: &TrustAnchor,
    ) -> Result<Self, Error> {
        let parsed = parse(&certificate)?;
        check_issued(&parsed, &parse(anchor.root())?)?;
        let malformed =
            |e: x509_parser::error::X509Error| Error::MalformedCertificate(e.to_string());
        let constraints = parsed.basic_constraints().map_err(malformed)?;
        if !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(Error::NotAnIntermediate("it is no certificate authority's"));
        }
        let usage = parsed.key_usage().map_err(malformed)?;
        if !usage.is_some_and(|usage| usage.value.key_cert_sign() && usage.value.crl_sign()) {
            return Err(Error::NotAnIntermediate(
                "its key usage does not permit certificates and revocation lists",
            ));
        }
        if KeyType::of(parsed.public_key()) != Some(KeyType::EcdsaP256) {
            return Err(Error::NotAnIntermediate("its key is not ECDSA P-256"));
        }
        let serial = Serial::from_der_integer(parsed.raw_serial()).ok_or_else(|| {
            Error::MalformedCertificate("its serial number is not of 128 bits".into())
        })?;
        let name = parsed.subject().iter_common_name().next();
        Ok(Self {
            name: name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            serial,
            validity: Validity::of(&parsed)?,
            key_digest: Sha256::digest(parsed.public_key().raw).into(),
            certificate,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its common name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// SHA-256 of its public key, as [`CertificateRequest::key_digest`].
    #[must_use]
    pub fn key_digest(&self) -> [u8; 32] {
        self.key_digest
    }

    /// Verifies a signature by [`CertificateAuthority::sign_statement`].
    ///
    /// # Errors
    /// [`Error::BadSignature`].
    pub fn verify_statement(&self, statement: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        verify_statement(&self.certificate, statement, signature)
    }
}

impl core::fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Intermediate")
            .field("name", &self.name)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Issues the certificate of an intermediate authority for the key in a request. Its name is made of this root's and of
    /// the key: another key has another name, so that nobody takes the one's revocation list for the other's.
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] for a key other than P-256, [`Error::Validity`], [`Error::Issue`], also if this is an
    /// intermediate itself.
    pub fn issue_intermediate<R: CryptoRng + ?Sized>(
        &self,
        request: &CertificateRequest,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Intermediate, Error> {
        if self.intermediate.is_some() {
            return Err(Error::Issue(
                "an intermediate authority issues no other: the root does".into(),
            ));
        }
        if request.key_type() != KeyType::EcdsaP256 {
            return Err(Error::UnsupportedKey);
        }
        let name = {
            let root = parse(self.anchor.root())?;
            let mut names = root.subject().iter_common_name();
            let root = names.next().and_then(|name| name.as_str().ok());
            let key = data_encoding::HEXLOWER.encode(&request.key_digest()[..4]);
            let suffix = format!(" issuing CA {key}");
            let room = MAX_NAME - suffix.len();
            root.unwrap_or("SMQTT")
                .chars()
                .take(room)
                .collect::<String>()
                + &suffix
        };
        let validity = validity.within(&self.anchor.validity())?;
        let mut params = params(&name, Serial::random(rng), validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params
            .signed_by(request.public_key(), &self.issuer()?)
            .map_err(refused)?;
        Intermediate::verify(certificate.into(), &self.anchor)
    }

    /// An authority below this root, with a new key.
    ///
    /// # Errors
    /// As [`issue_intermediate`](Self::issue_intermediate).
    pub fn create_intermediate<R: CryptoRng + ?Sized>(
        &self,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let key = IdentityKey::generate(rng);
        let request = CertificateRequest::from_pem(&key.unnamed_csr_pem()?)?;
        Ok(Self {
            intermediate: Some(self.issue_intermediate(&request, validity, rng)?),
            key,
            anchor: self.anchor.clone(),
        })
    }

    /// Loads an intermediate authority from its key (PKCS#8, PEM), its certificate and the root.
    ///
    /// # Errors
    /// [`Error::PrivateKey`], [`Error::KeyMismatch`].
    pub fn load_intermediate(
        key_pem: &str,
        intermediate: Intermediate,
        anchor: TrustAnchor,
    ) -> Result<Self, Error> {
        let key = IdentityKey::from_pem(key_pem)?;
        key.check_certificate(intermediate.certificate())?;
        Ok(Self {
            key,
            anchor,
            intermediate: Some(intermediate),
        })
    }
}

/// RFC 5280 ub-common-name.
const MAX_NAME: usize = 64;

/// Whether a certificate names this authority as its issuer. An intermediate's name is made of its key, so that another key
/// has another name. Signatures are for whoever gets the chain to verify.
pub(crate) fn names_issuer(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
}

/// Checks that the issuer has signed this certificate, and nothing else.
pub(crate) fn check_issued(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), Error> {
    if certificate.issuer().as_raw() != issuer.subject().as_raw()
        || certificate.signature_algorithm != certificate.tbs_certificate.signature
        || certificate.signature_value.unused_bits != 0
    {
        return Err(Error::OtherIssuer);
    }
    let key = &issuer.public_key().subject_public_key.data;
    let signed = certificate.tbs_certificate.as_ref();
    let signature = &certificate.signature_value.data;
    CHAIN_ALGORITHMS
        .iter()
        .any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
        .then_some(())
        .ok_or(Error::OtherIssuer)
}

/// Verifies a statement by the key of this authority's certificate.
pub(crate) fn verify_statement(
    certificate: &CertificateDer<'_>,
    statement: &[u8],
    signature: &[u8; 64],
) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    let key = parsed.public_key().subject_public_key.as_ref();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
        .map_err(|_| Error::BadSignature)?
        .verify_sig(&statement_message(statement), signature)
        .map_err(|_| Error::BadSignature)
}
