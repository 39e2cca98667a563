//! Certificates of the people and programs that run an authority from afar. They are no device's, and no device's is theirs.

use core::fmt;
use core::str::FromStr;

use rand::CryptoRng;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;

use crate::anchor::parse;
use crate::{
    CertificateAuthority, CertificateRequest, DeviceId, Error, Fingerprint, IssuedCertificate,
    Serial, TrustAnchor, Validity,
};

/// What an administrator's subject alternative name (a URI) begins with.
const URN: &str = "urn:smqtt:admin:";
/// What its common name begins with: no device's name has a colon.
const COMMON_NAME: &str = "admin:";

/// The name of an administrator: 1 to 48 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdminName(Box<str>);

impl AdminName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 48;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdminName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s.parse::<DeviceId>() {
            Ok(_) if s.len() <= Self::MAX_LEN => Ok(Self(s.into())),
            _ => Err(Error::AdminName(s.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for AdminName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An administrator whose certificate chain was verified.
#[derive(Clone, Debug)]
pub struct VerifiedAdmin {
    /// The name.
    pub name: AdminName,
    /// The certificate's serial number.
    pub serial: Serial,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
}

impl CertificateAuthority {
    /// Issues an administrator's certificate for the key of a request, whatever name that asks for: common name
    /// `admin:<name>`, URI `urn:smqtt:admin:<name>`, client authentication only. What its owner may do, it does not say.
    ///
    /// # Errors
    /// [`Error::Validity`], [`Error::Issue`].
    pub fn issue_admin<R: CryptoRng + ?Sized>(
        &self,
        request: &CertificateRequest,
        name: &AdminName,
        validity: Validity,
        rng: &mut R,
    ) -> Result<IssuedCertificate, Error> {
        let uri = format!("{URN}{name}")
            .try_into()
            .map_err(|e: rcgen::Error| Error::Issue(e.to_string()))?;
        self.issue(
            request.public_key(),
            &format!("{COMMON_NAME}{name}"),
            vec![SanType::URI(uri)],
            ExtendedKeyUsagePurpose::ClientAuth,
            validity,
            rng,
        )
    }
}

impl TrustAnchor {
    /// Verifies an administrator's certificate chain as [`TrustAnchor::verify_device`] does a device's. Whether it still
    /// counts is another question.
    ///
    /// # Errors
    /// As [`TrustAnchor::verify_device`]; [`Error::NotAnAdmin`] for whatever is none, a device's above all.
    pub fn verify_admin(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<VerifiedAdmin, Error> {
        let (end_entity, _) = self.verify_client(chain, now)?;
        let parsed = parse(end_entity)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| Error::MalformedCertificate(e.to_string()))?
            .ok_or(Error::NotAnAdmin)?;
        let name = match names.value.general_names.as_slice() {
            [GeneralName::URI(uri)] => uri.strip_prefix(URN).ok_or(Error::NotAnAdmin)?,
            _ => return Err(Error::NotAnAdmin),
        };
        let name: AdminName = name.parse().map_err(|_| Error::NotAnAdmin)?;
        let serial = Serial::from_der_integer(parsed.raw_serial()).ok_or_else(|| {
            Error::MalformedCertificate("its serial number is not of 128 bits".into())
        })?;
        Ok(VerifiedAdmin {
            name,
            serial,
            fingerprint: Fingerprint::of(end_entity),
        })
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::IdentityKey;

    #[test]
    fn an_administrator_is_no_device_and_a_device_no_administrator() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let year = Validity::starting(now, Duration::from_secs(365 * 86_400)).unwrap();
        let ca = CertificateAuthority::create("a", year, &mut rng).unwrap();
        let device: DeviceId = "anna".parse().unwrap();
        let csr = IdentityKey::generate(&mut rng).csr_pem(&device).unwrap();
        let request = CertificateRequest::from_pem(&csr).unwrap();
        let day = Validity::starting(now, Duration::from_secs(86_400)).unwrap();
        let name: AdminName = "anna".parse().unwrap();
        let admin = ca.issue_admin(&request, &name, day, &mut rng).unwrap();
        let thing = ca.issue_device(&request, &device, day, &mut rng).unwrap();
        let own = ca.issue_authority(day, &mut rng).unwrap();

        let anchor = ca.trust_anchor();
        let verified = anchor.verify_admin(&admin.chain, now).unwrap();
        assert_eq!((verified.name, verified.serial), (name, admin.serial));
        assert!(matches!(
            anchor.verify_device(&admin.chain, now),
            Err(Error::NotADevice(_))
        ));
        for other in [&thing.chain, &own.certificate().chain] {
            assert!(matches!(
                anchor.verify_admin(other, now),
                Err(Error::NotAnAdmin)
            ));
        }
        let later = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000 + 86_401));
        assert!(matches!(
            anchor.verify_admin(&admin.chain, later),
            Err(Error::Expired)
        ));
    }

    #[test]
    fn names_fit_a_common_name() {
        assert!("a".repeat(48).parse::<AdminName>().is_ok());
        for bad in ["", "a b", "a'--", "-a", &"a".repeat(49)] {
            assert!(bad.parse::<AdminName>().is_err(), "{bad}");
        }
    }
}
