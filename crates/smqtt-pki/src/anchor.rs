//! Verifying devices against the authority's root.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::attribute_urn::{self, ATTRIBUTE_URN, MAX_CERTIFIED_ATTRIBUTES};
use crate::pem_text::{MAX_CERTIFICATES, certificates_from_pem};
use crate::{DeviceId, Error, Fingerprint, RevocationList, Serial, Validity};

/// The kind of a device's key, which decides how its signatures are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// ECDSA with P-256 and SHA-256 (COSE algorithm ES256, -7).
    EcdsaP256,
    /// Ed25519 (COSE algorithm EdDSA, -8).
    Ed25519,
}

/// The authority's root certificate, which everything is verified against.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    root: CertificateDer<'static>,
    anchor: rustls_pki_types::TrustAnchor<'static>,
    fingerprint: Fingerprint,
    validity: Validity,
    list: Option<Arc<RevocationList>>,
}

impl TrustAnchor {
    /// Verifies a signature by [`CertificateAuthority::sign_statement`](crate::CertificateAuthority::sign_statement).
    ///
    /// # Errors
    /// [`Error::BadSignature`].
    pub fn verify_statement(&self, statement: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        crate::intermediate::verify_statement(&self.root, statement, signature)
    }

    /// Trusts this root certificate, given as DER.
    ///
    /// # Errors
    /// [`Error::MalformedCertificate`], or [`Error::NotAnAuthority`] if it is no authority's certificate.
    pub fn new(root: CertificateDer<'static>) -> Result<Self, Error> {
        let parsed = parse(&root)?;
        let validity = Validity::of(&parsed)?;
        let is_authority = parsed
            .basic_constraints()
            .ok()
            .flatten()
            .is_some_and(|c| c.value.ca)
            && parsed
                .key_usage()
                .ok()
                .flatten()
                .is_none_or(|u| u.value.key_cert_sign());
        if !is_authority {
            return Err(Error::NotAnAuthority);
        }
        let anchor = webpki::anchor_from_trusted_cert(&root)
            .map_err(|e| Error::MalformedCertificate(e.to_string()))?
            .to_owned();
        Ok(Self {
            fingerprint: Fingerprint::of(&root),
            anchor,
            validity,
            root,
            list: None,
        })
    }

    /// With the root's own revocation list: nothing that an intermediate on it has issued is trusted. An older list than the
    /// one that is known, by its number, changes nothing.
    ///
    /// A list that has expired still counts: what was taken back stays so.
    ///
    /// # Errors
    /// [`Error::RevocationList`] if it is not this root's.
    pub fn with_list(mut self, list: CertificateRevocationListDer<'static>) -> Result<Self, Error> {
        let list = RevocationList::verify(list, &self)?;
        let older = |known: &Arc<RevocationList>| list.number() <= known.number();
        if !self.list.as_ref().is_some_and(older) {
            self.list = Some(Arc::new(list));
        }
        Ok(self)
    }

    /// The root's own revocation list, if it is known.
    #[must_use]
    pub fn list(&self) -> Option<&RevocationList> {
        self.list.as_deref()
    }

    /// Trusts the one certificate of a PEM text.
    ///
    /// # Errors
    /// As [`TrustAnchor::new`]; [`Error::Pem`] and [`Error::ChainLength`] if the text does not hold exactly one.
    pub fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let mut certificates = certificates_from_pem(text)?;
        match (certificates.pop(), certificates.len()) {
            (Some(root), 0) => Self::new(root),
            (_, more) => Err(Error::ChainLength {
                given: more + 1,
                max: 1,
            }),
        }
    }

    /// The root certificate.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The root certificate's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When the root certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether what the other root has signed is signed by this one too: the same name and the same key, as in a root
    /// certificate that was renewed (RFC 5280 §6.1.1 (d)).
    #[must_use]
    pub fn is_same_authority(&self, other: &TrustAnchor) -> bool {
        self.anchor == other.anchor
    }

    /// Verifies a device's certificate chain, end entity first; intermediates follow, the root may be among them.
    ///
    /// The chain must lead to this root, be valid at `now` (the root too) and permit client authentication, and its
    /// end entity must name exactly one device, in its URI and its common name alike. Of revocations only those on
    /// the [root's own list](Self::with_list) count, if it is known: see [`Revocations`](crate::Revocations).
    ///
    /// # Errors
    /// [`Error::ChainLength`], [`Error::MalformedCertificate`], [`Error::Untrusted`], [`Error::Expired`],
    /// [`Error::NotYetValid`], [`Error::Revoked`], [`Error::NotADevice`], [`Error::UnsupportedKey`].
    pub fn verify_device(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<VerifiedDevice, Error> {
        let (end_entity, issuers) = self.verify_client(chain, now)?;
        VerifiedDevice::read(end_entity, issuers)
    }

    /// Verifies a client's certificate chain, whoever it is, and returns its end entity and the serial numbers of the
    /// intermediates above it.
    pub(crate) fn verify_client<'a, 'c>(
        &self,
        chain: &'a [CertificateDer<'c>],
        now: UnixTime,
    ) -> Result<(&'a CertificateDer<'c>, Box<[Serial]>), Error> {
        let (end_entity, intermediates) = match chain {
            [end_entity, rest @ ..] if chain.len() <= MAX_CERTIFICATES => (end_entity, rest),
            _ => {
                return Err(Error::ChainLength {
                    given: chain.len(),
                    max: MAX_CERTIFICATES,
                });
            }
        };
        self.validity.check(now)?;
        let certificate = EndEntityCert::try_from(end_entity)
            .map_err(|e| Error::MalformedCertificate(e.to_string()))?;
        let on_list = |serial: &[u8]| {
            let serial = Serial::from_der_integer(serial);
            serial.is_some_and(|serial| self.list().is_some_and(|list| list.revokes(serial)))
        };
        let not_taken_back = |path: &VerifiedPath<'_>| {
            let issuers = path.intermediate_certificates();
            let mut serials = issuers.map(|issuer| issuer.serial());
            match on_list(path.end_entity().serial()) || serials.any(on_list) {
                true => Err(webpki::Error::CertRevoked),
                false => Ok(()),
            }
        };
        let path = certificate
            .verify_for_usage(
                CHAIN_ALGORITHMS,
                core::slice::from_ref(&self.anchor),
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                Some(&not_taken_back),
            )
            .map_err(|e| match e {
                webpki::Error::CertExpired { .. } => Error::Expired,
                webpki::Error::CertNotValidYet { .. } => Error::NotYetValid,
                webpki::Error::CertRevoked => Error::Revoked,
                other => Error::Untrusted(other.to_string()),
            })?;
        let issuers = path
            .intermediate_certificates()
            .filter_map(|issuer| Serial::from_der_integer(issuer.serial()))
            .collect();
        Ok((end_entity, issuers))
    }
}

/// The authority signs with P-256 and SHA-256; nothing else is accepted in a chain.
pub(crate) const CHAIN_ALGORITHMS: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::ECDSA_P256_SHA256];

/// A device whose certificate chain was verified.
#[derive(Clone)]
pub struct VerifiedDevice {
    id: DeviceId,
    serial: Serial,
    fingerprint: Fingerprint,
    validity: Validity,
    key_type: KeyType,
    key: ParsedPublicKey,
    attributes: Box<[String]>,
    issuers: Box<[Serial]>,
}

impl VerifiedDevice {
    /// The device's name.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The certificate's serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The serial numbers of the intermediates between it and the root.
    #[must_use]
    pub fn issuers(&self) -> &[Serial] {
        &self.issuers
    }

    /// The certificate's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When the certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The attributes that the certificate shows to everyone who sees it, as texts of the policy language:
    /// the few that the authority was told to certify, in [`ATTRIBUTE_URN`](crate::ATTRIBUTE_URN) URIs.
    #[must_use]
    pub fn attributes(&self) -> &[String] {
        &self.attributes
    }

    /// The kind of the device's key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Verifies a signature of the device over a message: ES256 as `r ‖ s`, or Ed25519; 64 bytes either way.
    ///
    /// # Errors
    /// [`Error::BadSignature`] if it is not the device's signature over exactly this message.
    pub fn verify_signature(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        self.key
            .verify_sig(message, signature)
            .map_err(|_| Error::BadSignature)
    }

    /// Reads who a certificate names. The caller has verified the chain.
    fn read(certificate: &CertificateDer<'_>, issuers: Box<[Serial]>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        let id = device_named_by(&parsed)?;
        let serial = serial_of(&parsed)?;
        let key_type = KeyType::of(parsed.public_key()).ok_or(Error::UnsupportedKey)?;
        let bytes = parsed.public_key().subject_public_key.as_ref();
        let key = match key_type {
            KeyType::EcdsaP256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
            KeyType::Ed25519 => ParsedPublicKey::new(&ED25519, bytes),
        }
        .map_err(|_| {
            Error::MalformedCertificate("its public key is not a point of its curve".into())
        })?;
        Ok(Self {
            id,
            issuers,
            attributes: attributes_of(&parsed)?,
            serial,
            fingerprint: Fingerprint::of(certificate),
            validity: Validity::of(&parsed)?,
            key_type,
            key,
        })
    }
}

impl core::fmt::Debug for VerifiedDevice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VerifiedDevice")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// What a certificate says of its device, without a look at who has signed it: for who knows the certificate by its
/// [`fingerprint`](Self::fingerprint), as the authority does that has issued it.
#[derive(Clone, Debug)]
pub struct PresentedDevice {
    /// The device's name.
    pub id: DeviceId,
    /// The certificate's serial number.
    pub serial: Serial,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl PresentedDevice {
    /// Reads a certificate. Nothing in it is to be believed before the fingerprint was compared.
    ///
    /// # Errors
    /// [`Error::MalformedCertificate`], [`Error::NotADevice`].
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        Ok(Self {
            id: device_named_by(&parsed)?,
            serial: serial_of(&parsed)?,
            fingerprint: Fingerprint::of(certificate),
            validity: Validity::of(&parsed)?,
        })
    }
}

fn serial_of(certificate: &X509Certificate<'_>) -> Result<Serial, Error> {
    Serial::from_der_integer(certificate.raw_serial())
        .ok_or_else(|| Error::MalformedCertificate("its serial number is not of 128 bits".into()))
}

/// The device that a certificate names, without a look at who has signed it: to compare with a device that has proved
/// to be one, never to trust.
///
/// # Errors
/// [`Error::MalformedCertificate`], [`Error::NotADevice`].
pub fn named_device(certificate: &[u8]) -> Result<DeviceId, Error> {
    device_named_by(&parse(&CertificateDer::from(certificate))?)
}

/// When a certificate is valid, without a look at who has signed it.
///
/// # Errors
/// [`Error::MalformedCertificate`], also if there is none.
pub fn certificate_validity(certificate: Option<&CertificateDer<'_>>) -> Result<Validity, Error> {
    let none = || Error::MalformedCertificate("there is none".into());
    Validity::of(&parse(certificate.ok_or_else(none)?)?)
}

/// What the certificate's URIs say about its device beside the name.
fn attributes_of(certificate: &X509Certificate<'_>) -> Result<Box<[String]>, Error> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| Error::MalformedCertificate(e.to_string()))?;
    let mut attributes = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name
            && let Some(encoded) = uri.strip_prefix(ATTRIBUTE_URN)
        {
            let text = attribute_urn::decode(encoded).ok_or_else(|| {
                Error::MalformedCertificate("an attribute in it is not well-formed".into())
            })?;
            attributes.push(text);
        }
    }
    if attributes.len() > MAX_CERTIFIED_ATTRIBUTES {
        return Err(Error::MalformedCertificate(
            "it has too many attributes".into(),
        ));
    }
    Ok(attributes.into())
}

/// The device that a certificate names in its one `urn:smqtt:device:` URI and in its common name.
pub(crate) fn device_named_by(certificate: &X509Certificate<'_>) -> Result<DeviceId, Error> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| Error::MalformedCertificate(e.to_string()))?
        .ok_or(Error::NotADevice("it has no subject alternative name"))?;
    let mut devices = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => DeviceId::from_urn(uri),
            _ => None,
        });
    let id = devices
        .next()
        .ok_or(Error::NotADevice("it has no URI urn:smqtt:device:<name>"))?;
    if devices.next().is_some() {
        return Err(Error::NotADevice("it names more than one"));
    }
    // Brokers that take the user name from the common name (mosquitto's use_identity_as_username) must see the same.
    let mut common_names = certificate.subject().iter_common_name();
    match (
        common_names.next().and_then(|name| name.as_str().ok()),
        common_names.next(),
    ) {
        (Some(name), None) if name == id.as_str() => Ok(id),
        _ => Err(Error::NotADevice(
            "its common name is another than its URI says",
        )),
    }
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(Error::MalformedCertificate("data follows it".into())),
        Err(e) => Err(Error::MalformedCertificate(e.to_string())),
    }
}
