//! Certificate revocation lists (RFC 5280 §5).

use core::time::Duration;
use std::collections::BTreeMap;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::BorrowedCertRevocationList;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::ReasonCode;

use crate::anchor::{CHAIN_ALGORITHMS, parse};
use crate::pem_text::section;
use crate::{Error, Serial, TrustAnchor, Validity};

/// The certificates that an authority, a root or an intermediate, has taken back: a complete list, whose signature was
/// verified. All lists of an authority together are its [`Revocations`](crate::Revocations).
#[derive(Clone, Debug)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    number: CrlNumber,
    validity: Validity,
    revoked: BTreeMap<Serial, Revocation>,
}

/// A list's number, which grows from each list of an authority to the next (RFC 5280 §5.2.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlNumber {
    /// First, so that longer numbers order behind shorter ones.
    length: usize,
    /// Most significant first, without leading zeros.
    digits: Vec<u8>,
}

/// A certificate to put on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The certificate's serial number.
    pub serial: Serial,
    /// When it was taken back.
    pub at: UnixTime,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate was taken back (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationReason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// Its private key is, or may be, known to others.
    KeyCompromise,
    /// Another certificate takes its place.
    Superseded,
    /// Its owner is out of service.
    CessationOfOperation,
    /// It is suspended, and may be reinstated: then it leaves the list.
    CertificateHold,
}

impl RevocationReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
    ];

    /// The reason in words joined by hyphens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::CertificateHold => "certificate-hold",
        }
    }
}

/// The most bytes that a number has (RFC 5280 §5.2.3).
const MAX_NUMBER: usize = 20;

impl RevocationList {
    /// Reads a list, as PEM (the first of the text) or DER, and verifies that it is this authority's.
    ///
    /// Whether it is still current is another question: see [`RevocationList::validity`].
    ///
    /// # Errors
    /// [`Error::RevocationList`] if it can not be read, is not complete (a delta, or a part), or not signed by the
    /// authority.
    pub fn read(text: &[u8], anchor: &TrustAnchor) -> Result<Self, Error> {
        // A DER SEQUENCE begins with a byte that no PEM text begins with.
        let der = if text.first() == Some(&0x30) {
            CertificateRevocationListDer::from(text.to_vec())
        } else {
            CertificateRevocationListDer::from_pem_slice(text).map_err(|e| Error::Pem {
                expected: "revocation list",
                reason: e.to_string(),
            })?
        };
        Self::verify(der, anchor)
    }

    /// As [`RevocationList::read`], for DER.
    ///
    /// # Errors
    /// As [`RevocationList::read`].
    pub fn verify(
        der: CertificateRevocationListDer<'static>,
        anchor: &TrustAnchor,
    ) -> Result<Self, Error> {
        Self::verify_by(der, anchor.root())
    }

    /// As [`RevocationList::verify`], for the list of whoever has this certificate, which was verified.
    pub(crate) fn verify_by(
        der: CertificateRevocationListDer<'static>,
        issuer: &CertificateDer<'_>,
    ) -> Result<Self, Error> {
        let (number, validity, revoked) = {
            let list = match CertificateRevocationList::from_der(&der) {
                Ok(([], list)) => list,
                Ok(_) => return Err(refused("data follows it")),
                Err(e) => return Err(refused(format!("it can not be read: {e}"))),
            };
            check_signature(&list, &parse(issuer)?)?;
            // TLS handshakes read it with this stricter reader.
            BorrowedCertRevocationList::from_der(&der)
                .map_err(|e| refused(format!("it can not be read: {e}")))?;
            let number = read_number(&list)?;
            let Some(next_update) = list.next_update() else {
                return Err(refused("it does not say when the next one comes"));
            };
            let validity = Validity::new(time(list.last_update()), time(next_update))
                .map_err(|_| refused("it ends before it begins"))?;
            let revoked = list
                .iter_revoked_certificates()
                .map(read_entry)
                .collect::<Result<Vec<_>, _>>()?;
            (number, validity, revoked.into_iter().flatten().collect())
        };
        Ok(Self {
            der,
            number,
            validity,
            revoked,
        })
    }

    /// Whether the authority has taken this certificate back.
    #[must_use]
    pub fn revokes(&self, serial: Serial) -> bool {
        self.revoked.contains_key(&serial)
    }

    /// The serial numbers on it.
    pub fn serials(&self) -> impl ExactSizeIterator<Item = Serial> {
        self.revoked.keys().copied()
    }

    /// What is on it.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Revocation> {
        self.revoked.values()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> &CrlNumber {
        &self.number
    }

    /// From when it holds, and until when the authority promises another: past that, it tells nothing of who was revoked
    /// since.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The list as DER.
    #[must_use]
    pub fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }

    /// The list as PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        section("X509 CRL", &self.der)
    }
}

impl CrlNumber {
    fn from_digits(digits: &[u8]) -> Result<Self, Error> {
        let start = digits.iter().position(|b| *b != 0).unwrap_or(digits.len());
        let digits = digits[start..].to_vec();
        if digits.len() > MAX_NUMBER {
            return Err(refused("its number is larger than RFC 5280 allows"));
        }
        Ok(Self {
            length: digits.len(),
            digits,
        })
    }
}

impl From<u64> for CrlNumber {
    fn from(number: u64) -> Self {
        let bytes = number.to_be_bytes();
        let digits = bytes[(number.leading_zeros() / 8) as usize..].to_vec();
        Self {
            length: digits.len(),
            digits,
        }
    }
}

impl core::fmt::Display for CrlNumber {
    /// Decimal if it fits 64 bits, hexadecimal with `0x` otherwise.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.length <= 8 {
            let number = self.digits.iter().fold(0, |n, b| n << 8 | u64::from(*b));
            return write!(f, "{number}");
        }
        write!(f, "0x{}", data_encoding::HEXLOWER.encode(&self.digits))
    }
}

/// The name of a list's issuer, as DER.
pub(crate) fn issuer_of<'a>(der: &'a CertificateRevocationListDer<'_>) -> Result<&'a [u8], Error> {
    match CertificateRevocationList::from_der(der) {
        Ok((_, list)) => Ok(list.tbs_cert_list.issuer.as_raw()),
        Err(e) => Err(refused(format!("it can not be read: {e}"))),
    }
}

fn check_signature(
    list: &CertificateRevocationList<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), Error> {
    if list.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(refused("another authority issued it"));
    }
    let may_sign = issuer
        .key_usage()
        .ok()
        .flatten()
        .is_none_or(|usage| usage.value.crl_sign());
    if !may_sign {
        return Err(refused(
            "its issuer's certificate does not permit it to issue revocation lists",
        ));
    }
    // RFC 5280 §5.1.1.2
    if list.signature_algorithm != list.tbs_cert_list.signature {
        return Err(refused("it names two signature algorithms"));
    }
    if list.signature_value.unused_bits != 0 {
        return Err(refused("its signature is no whole number of bytes"));
    }
    let key = &issuer.public_key().subject_public_key.data;
    let signed = list.tbs_cert_list.as_ref();
    let signature = &list.signature_value.data;
    CHAIN_ALGORITHMS
        .iter()
        .any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
        .then_some(())
        .ok_or_else(|| refused("the authority's signature does not fit it"))
}

/// The number. Refuses extensions that would make the list mean something else than it says: a critical one that is not
/// understood may not be ignored (RFC 5280 §5.2).
fn read_number(list: &CertificateRevocationList<'_>) -> Result<CrlNumber, Error> {
    for extension in list.extensions() {
        if extension.critical {
            return Err(refused(
                "it is not a complete list: give one without deltas and distribution points",
            ));
        }
        if let ParsedExtension::ParseError { .. } = extension.parsed_extension() {
            return Err(refused("it has a broken extension"));
        }
    }
    match list.crl_number() {
        Some(number) => CrlNumber::from_digits(&number.to_bytes_be()),
        None => Err(refused("it has no number")),
    }
}

/// `None` for a serial number that no device certificate has.
fn read_entry(entry: &RevokedCertificate<'_>) -> Result<Option<(Serial, Revocation)>, Error> {
    if entry.extensions().iter().any(|e| e.critical) {
        return Err(refused(
            "it revokes certificates of other authorities, or with conditions",
        ));
    }
    let reason = match entry.reason_code() {
        Some((_, ReasonCode::KeyCompromise)) => RevocationReason::KeyCompromise,
        Some((_, ReasonCode::Superseded)) => RevocationReason::Superseded,
        Some((_, ReasonCode::CessationOfOperation)) => RevocationReason::CessationOfOperation,
        Some((_, ReasonCode::CertificateHold)) => RevocationReason::CertificateHold,
        _ => RevocationReason::Unspecified,
    };
    let revocation = |serial| Revocation {
        serial,
        at: time(entry.revocation_date),
        reason,
    };
    let serial = Serial::from_der_integer(entry.raw_serial());
    Ok(serial.map(|serial| (serial, revocation(serial))))
}

fn time(time: ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn refused(reason: impl Into<String>) -> Error {
    Error::RevocationList(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_as_numbers_do() {
        let number = |n: u64| CrlNumber::from(n);
        assert!(number(0) < number(1));
        assert!(number(9) < number(10));
        assert!(number(255) < number(256));
        assert_eq!(number(256).to_string(), "256");
        assert_eq!(number(0).to_string(), "0");
        assert_eq!(CrlNumber::from_digits(&[0, 1, 0]).unwrap(), number(256));
        let large = CrlNumber::from_digits(&[1; 20]).unwrap();
        assert!(number(u64::MAX) < large);
        assert!(large.to_string().starts_with("0x0101"));
        assert!(CrlNumber::from_digits(&[1; 21]).is_err());
    }
}
