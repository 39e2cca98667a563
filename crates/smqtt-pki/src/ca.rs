//! Issuing certificates.

use core::time::Duration;

use rand::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use crate::anchor::parse;
use crate::attribute_urn::{self, MAX_CERTIFIED_ATTRIBUTES};
use crate::intermediate::{Intermediate, names_issuer};
use crate::signer::RcgenKey;
use crate::{
    CertificateRequest, DeviceId, Error, Fingerprint, IdentityKey, Revocation, RevocationList,
    RevocationReason, Serial, TrustAnchor, Validity, certificates_to_pem,
};

/// A certificate authority: a root, or an intermediate below one, with its key, ECDSA P-256. The key is erased when dropped.
///
/// Every certificate carries key usage, extended key usage, subject and authority key identifiers and basic
/// constraints as RFC 5280 §4.2.1 asks, so that OpenSSL, rustls and embedded stacks take it.
pub struct CertificateAuthority {
    pub(crate) key: IdentityKey,
    pub(crate) anchor: TrustAnchor,
    /// What stands between the root and what it issues; `None` for a root.
    pub(crate) intermediate: Option<Intermediate>,
}

/// A certificate that was just issued.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// End entity first, then what a peer needs to verify it: the intermediate, if one has issued it. A server's chain ends
    /// with the root, so that a client which knows only the root's fingerprint can find it; a device's leaves the root out.
    pub chain: Vec<CertificateDer<'static>>,
    /// The end entity's serial number.
    pub serial: Serial,
    /// When the end entity's certificate is valid: as asked for, but within its issuer's own validity.
    pub validity: Validity,
}

impl IssuedCertificate {
    /// The chain as PEM text.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        certificates_to_pem(&self.chain)
    }

    /// The end entity's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.chain.first().map_or(&[][..], AsRef::as_ref))
    }
}

/// The most names that a server certificate carries.
const MAX_HOSTS: usize = 64;

impl CertificateAuthority {
    /// A new authority: a new key and a self-signed root certificate with the given common name.
    ///
    /// # Errors
    /// [`Error::AuthorityName`] unless the name is 1 to 64 printable characters.
    pub fn create<R: CryptoRng + ?Sized>(
        name: &str,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Self, Error> {
        check_name(name)?;
        let key = IdentityKey::generate(rng);
        let mut params = params(name, Serial::random(rng), validity);
        // One intermediate may stand between the root and devices.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&RcgenKey(&key)).map_err(refused)?;
        Ok(Self {
            key,
            anchor: TrustAnchor::new(root.into())?,
            intermediate: None,
        })
    }

    /// Loads an authority from its key (PKCS#8) and root certificate, both PEM.
    ///
    /// # Errors
    /// [`Error::PrivateKey`], [`Error::KeyMismatch`], and those of [`TrustAnchor::from_pem`].
    pub fn load(key_pem: &str, root_pem: &[u8]) -> Result<Self, Error> {
        let key = IdentityKey::from_pem(key_pem)?;
        let anchor = TrustAnchor::from_pem(root_pem)?;
        key.check_certificate(anchor.root())?;
        Ok(Self {
            key,
            anchor,
            intermediate: None,
        })
    }

    /// The private key as PKCS#8 in PEM form, for a file of mode 0600.
    ///
    /// # Errors
    /// As [`IdentityKey::to_pem`].
    pub fn key_pem(&self) -> Result<Zeroizing<String>, Error> {
        self.key.to_pem()
    }

    /// The certificate that issues: the intermediate's, or the root.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        match &self.intermediate {
            Some(intermediate) => intermediate.certificate(),
            None => self.anchor.root(),
        }
    }

    /// The intermediate; `None` if the root itself issues.
    #[must_use]
    pub fn intermediate(&self) -> Option<&Intermediate> {
        self.intermediate.as_ref()
    }

    /// When the certificate that issues is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        match &self.intermediate {
            Some(intermediate) => intermediate.validity(),
            None => self.anchor.validity(),
        }
    }

    /// The root certificate as a trust anchor.
    #[must_use]
    pub fn trust_anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The root certificate as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        certificates_to_pem(core::slice::from_ref(self.anchor.root()))
    }

    /// The root certificate's fingerprint: what devices pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.anchor.fingerprint()
    }

    /// Issues a device's certificate: common name `id`, URI `urn:smqtt:device:<id>`, client authentication only.
    ///
    /// # Errors
    /// [`Error::RequestName`] if the request asks for another name, [`Error::Validity`] if the span lies outside of
    /// the issuer's, [`Error::Issue`].
    pub fn issue_device<R: CryptoRng + ?Sized>(
        &self,
        request: &CertificateRequest,
        id: &DeviceId,
        validity: Validity,
        rng: &mut R,
    ) -> Result<IssuedCertificate, Error> {
        self.issue_device_with(request, id, &[], validity, rng)
    }

    /// The same, with attributes of the device (texts of the policy language) that everyone who sees the certificate may
    /// read, in [`ATTRIBUTE_URN`](crate::ATTRIBUTE_URN) URIs.
    ///
    /// # Errors
    /// As [`issue_device`](Self::issue_device), and [`Error::Issue`] for more than
    /// [`MAX_CERTIFIED_ATTRIBUTES`].
    pub fn issue_device_with<R: CryptoRng + ?Sized>(
        &self,
        request: &CertificateRequest,
        id: &DeviceId,
        attributes: &[String],
        validity: Validity,
        rng: &mut R,
    ) -> Result<IssuedCertificate, Error> {
        request.check_name(id)?;
        if attributes.len() > MAX_CERTIFIED_ATTRIBUTES {
            return Err(Error::Issue(format!(
                "a certificate has room for {MAX_CERTIFIED_ATTRIBUTES} attributes"
            )));
        }
        let attributes = attributes.iter().map(|text| attribute_urn::encode(text));
        let uris = std::iter::once(id.urn())
            .chain(attributes)
            .map(|uri| Ok(SanType::URI(uri.try_into().map_err(refused)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let issued = self.issue(
            request.public_key(),
            id.as_str(),
            uris,
            ExtendedKeyUsagePurpose::ClientAuth,
            validity,
            rng,
        )?;
        Ok(issued)
    }

    /// A device's certificate that was issued before, given as DER, with its chain: by this authority, by the root itself,
    /// or by one of those `earlier` intermediates. Which one, it is asked for the issuer's name: signatures are not verified.
    ///
    /// # Errors
    /// [`Error::OtherIssuer`] if it names none of them, [`Error::MalformedCertificate`].
    pub fn device_chain(
        &self,
        certificate: &[u8],
        earlier: &[Intermediate],
    ) -> Result<IssuedCertificate, Error> {
        let der = CertificateDer::from(certificate.to_vec());
        let (serial, validity) = {
            let parsed = parse(&der)?;
            let serial = Serial::from_der_integer(parsed.raw_serial()).ok_or_else(|| {
                Error::MalformedCertificate("its serial number is not of 128 bits".into())
            })?;
            (serial, Validity::of(&parsed)?)
        };
        let mut chain = vec![der];
        if let Some(issuer) = self.issuer_of(certificate, earlier)? {
            chain.push(issuer.certificate().clone());
        }
        Ok(IssuedCertificate {
            chain,
            serial,
            validity,
        })
    }

    /// Whether a certificate, given as DER, names the key that issues now as its issuer. Its signature is not verified.
    ///
    /// # Errors
    /// [`Error::MalformedCertificate`].
    pub fn has_issued(&self, certificate: &[u8]) -> Result<bool, Error> {
        let der = CertificateDer::from(certificate);
        Ok(names_issuer(&parse(&der)?, &parse(self.certificate())?))
    }

    /// Who has issued a certificate; `None` for the root.
    fn issuer_of<'a>(
        &'a self,
        certificate: &[u8],
        earlier: &'a [Intermediate],
    ) -> Result<Option<&'a Intermediate>, Error> {
        let der = CertificateDer::from(certificate);
        let certificate = parse(&der)?;
        for intermediate in self.intermediate.iter().chain(earlier) {
            if names_issuer(&certificate, &parse(intermediate.certificate())?) {
                return Ok(Some(intermediate));
            }
        }
        match names_issuer(&certificate, &parse(self.anchor.root())?) {
            true => Ok(None),
            false => Err(Error::OtherIssuer),
        }
    }

    /// Issues a server's certificate with a new key: the hosts are its DNS and IP subject alternative names, the first
    /// is its common name too (if it fits), and it permits server authentication only. The chain ends with the root.
    ///
    /// # Errors
    /// [`Error::Hosts`] for none or more than 64, [`Error::Validity`], [`Error::Issue`].
    pub fn issue_server<R: CryptoRng + ?Sized>(
        &self,
        hosts: &[ServerName<'_>],
        validity: Validity,
        rng: &mut R,
    ) -> Result<(IssuedCertificate, IdentityKey), Error> {
        let first = match hosts.first() {
            Some(first) if hosts.len() <= MAX_HOSTS => first.to_str(),
            _ => {
                return Err(Error::Hosts {
                    given: hosts.len(),
                    max: MAX_HOSTS,
                });
            }
        };
        // RFC 5280 ub-common-name: a longer name stands among the alternative names only.
        let common_name = if first.len() <= 64 {
            first.as_ref()
        } else {
            "smqtt server"
        };
        let names = hosts
            .iter()
            .map(|host| match host {
                ServerName::IpAddress(address) => Ok(SanType::IpAddress((*address).into())),
                other => Ok(SanType::DnsName(
                    other.to_str().into_owned().try_into().map_err(refused)?,
                )),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let key = IdentityKey::generate(rng);
        let mut issued = self.issue(
            &RcgenKey(&key),
            common_name,
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            validity,
            rng,
        )?;
        issued.chain.push(self.anchor.root().clone());
        Ok((issued, key))
    }

    /// Issues a list of the certificates that were taken back. It replaces the one before, so it names all of them that
    /// are still valid; its number is larger than the one's before. `validity` ends when the next list comes at the
    /// latest.
    ///
    /// # Errors
    /// [`Error::Validity`] if the span lies outside of the issuer's, [`Error::Issue`].
    pub fn issue_crl(
        &self,
        revoked: &[Revocation],
        number: u64,
        validity: Validity,
    ) -> Result<RevocationList, Error> {
        let validity = validity.within(&self.validity())?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let at = |time: UnixTime| epoch + Duration::from_secs(time.as_secs());
        let crl = CertificateRevocationListParams {
            this_update: at(validity.not_before()),
            next_update: at(validity.not_after()),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|revocation| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(revocation.serial.as_bytes()),
                    revocation_time: at(revocation.at),
                    reason_code: reason_code(revocation.reason),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = self.issuer()?;
        let list = crl.signed_by(&issuer).map_err(refused)?;
        RevocationList::verify_by(list.into(), self.certificate())
    }

    /// Signs a statement that is no certificate: ES256, verified by [`TrustAnchor::verify_statement`], an intermediate's by
    /// [`Intermediate::verify_statement`]. What is signed begins with a text
    /// that no certificate and no revocation list begins with.
    #[must_use]
    pub fn sign_statement(&self, statement: &[u8]) -> [u8; 64] {
        self.key.sign(&statement_message(statement))
    }

    pub(crate) fn issue<R: CryptoRng + ?Sized>(
        &self,
        public_key: &impl rcgen::PublicKeyData,
        common_name: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
        rng: &mut R,
    ) -> Result<IssuedCertificate, Error> {
        let validity = validity.within(&self.validity())?;
        let serial = Serial::random(rng);
        let mut params = params(common_name, serial, validity);
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params
            .signed_by(public_key, &self.issuer()?)
            .map_err(refused)?;
        Ok(self.with_chain(certificate.into(), serial, validity))
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'_, RcgenKey<'_>>, Error> {
        Issuer::from_ca_cert_der(self.certificate(), RcgenKey(&self.key)).map_err(refused)
    }

    fn with_chain(
        &self,
        certificate: CertificateDer<'static>,
        serial: Serial,
        validity: Validity,
    ) -> IssuedCertificate {
        let mut chain = vec![certificate];
        chain.extend(self.intermediate.as_ref().map(|i| i.certificate().clone()));
        IssuedCertificate {
            chain,
            serial,
            validity,
        }
    }
}

/// What is signed for a statement of an authority.
pub(crate) fn statement_message(statement: &[u8]) -> Vec<u8> {
    [&b"smqtt authority statement\0"[..], statement].concat()
}

/// Refuses names that no authority's certificate can carry.
fn check_name(name: &str) -> Result<(), Error> {
    if name.trim().is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Error::AuthorityName(name.chars().take(80).collect()));
    }
    Ok(())
}

/// What all certificates share.
pub(crate) fn params(common_name: &str, serial: Serial, validity: Validity) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: UnixTime| epoch + Duration::from_secs(time.as_secs());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = at(validity.not_before());
    params.not_after = at(validity.not_after());
    params.use_authority_key_identifier_extension = true;
    params
}

/// RFC 5280 §5.3.1: an unspecified reason is left out.
fn reason_code(reason: RevocationReason) -> Option<rcgen::RevocationReason> {
    match reason {
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
        RevocationReason::Superseded => Some(rcgen::RevocationReason::Superseded),
        RevocationReason::CessationOfOperation => {
            Some(rcgen::RevocationReason::CessationOfOperation)
        }
        RevocationReason::CertificateHold => Some(rcgen::RevocationReason::CertificateHold),
    }
}

pub(crate) fn refused(error: rcgen::Error) -> Error {
    Error::Issue(error.to_string())
}

impl core::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("root", &self.fingerprint())
            .field("intermediate", &self.intermediate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_root_is_refused_at_load() {
        let mut rng =
            <rand_chacha::ChaCha20Rng as rand_chacha::rand_core::SeedableRng>::from_seed([1; 32]);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let validity = Validity::starting(now, Duration::from_secs(1000)).unwrap();
        let a = CertificateAuthority::create("a", validity, &mut rng).unwrap();
        let b = CertificateAuthority::create("b", validity, &mut rng).unwrap();
        let key = a.key_pem().unwrap();
        assert!(CertificateAuthority::load(&key, a.root_pem().as_bytes()).is_ok());
        assert!(matches!(
            CertificateAuthority::load(&key, b.root_pem().as_bytes()),
            Err(Error::KeyMismatch)
        ));
    }
}
