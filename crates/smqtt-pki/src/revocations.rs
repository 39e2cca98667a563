//! All revocation lists of an authority together, as brokers read them from one file.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::anchor::parse;
use crate::crl::{issuer_of, refused};
use crate::{
    CrlNumber, Error, Fingerprint, Intermediate, RevocationList, Serial, TrustAnchor, Validity,
    certificates_to_pem,
};

/// What an authority has taken back: the list of each intermediate that issues, and the root's, which names intermediates.
///
/// Each list's signature was verified, and each intermediate's certificate, to the root. There is always the root's list if
/// there is an intermediate's: without it nobody could tell whether the intermediate still counts.
#[derive(Clone, Debug)]
pub struct Revocations {
    /// The root's first, if there is one.
    lists: Vec<Listed>,
    intermediates: Vec<Intermediate>,
    validity: Validity,
}

#[derive(Clone, Debug)]
struct Listed {
    /// SHA-256 of the issuer's public key.
    issuer: Fingerprint,
    list: RevocationList,
}

/// The most lists, and certificates, of one authority.
const MAX_LISTS: usize = 16;

impl Revocations {
    /// Reads lists, and the certificates of the intermediates that have issued some of them, in any order: PEM, or DER for
    /// a root's list alone. Verifies them all to this root.
    ///
    /// Whether they are still current is another question: see [`Revocations::validity`].
    ///
    /// # Errors
    /// [`Error::RevocationList`] if one can not be read, is not complete, not of this authority, or if the root's is missing;
    /// [`Error::Pem`] if there is none; those of [`Intermediate::verify`].
    pub fn read(text: &[u8], anchor: &TrustAnchor) -> Result<Self, Error> {
        // A DER SEQUENCE begins with a byte that no PEM text begins with.
        if text.first() == Some(&0x30) {
            let der = CertificateRevocationListDer::from(text.to_vec());
            return Self::verify([der], &[], anchor);
        }
        let broken = |expected, e: rustls_pki_types::pem::Error| Error::Pem {
            expected,
            reason: e.to_string(),
        };
        let mut intermediates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text).take(MAX_LISTS + 1) {
            let certificate = certificate.map_err(|e| broken("certificate", e))?;
            if &certificate != anchor.root() {
                intermediates.push(Intermediate::verify(certificate, anchor)?);
            }
        }
        let lists = CertificateRevocationListDer::pem_slice_iter(text)
            .take(MAX_LISTS + 1)
            .map(|list| list.map_err(|e| broken("revocation list", e)))
            .collect::<Result<Vec<_>, _>>()?;
        if lists.is_empty() {
            return Err(Error::Pem {
                expected: "revocation list",
                reason: "the text holds none".into(),
            });
        }
        Self::verify(lists, &intermediates, anchor)
    }

    /// As [`Revocations::read`], from what was read before.
    ///
    /// # Errors
    /// As [`Revocations::read`].
    pub fn verify(
        lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>,
        intermediates: &[Intermediate],
        anchor: &TrustAnchor,
    ) -> Result<Self, Error> {
        let mut verified: Vec<Listed> = Vec::new();
        for der in lists {
            let by = issuer_of(&der)?;
            let named = |certificate: &CertificateDer<'_>| {
                Ok::<_, Error>(parse(certificate)?.subject().as_raw() == by)
            };
            let mut issuer = named(anchor.root())?.then_some(anchor.root());
            for intermediate in intermediates {
                if issuer.is_none() && named(intermediate.certificate())? {
                    issuer = Some(intermediate.certificate());
                }
            }
            let issuer = issuer.ok_or_else(|| refused("another authority issued it"))?;
            let key = Fingerprint::of(parse(issuer)?.public_key().raw);
            let list = RevocationList::verify_by(der, issuer)?;
            if verified.iter().any(|other| other.issuer == key) {
                return Err(refused(
                    "there are two of one issuer: give the newest alone",
                ));
            }
            verified.push(Listed { issuer: key, list });
        }
        if verified.len() > MAX_LISTS || intermediates.len() > MAX_LISTS {
            return Err(refused("there are more of them than any authority issues"));
        }
        let root = root_key(anchor)?;
        verified.sort_by_key(|listed| listed.issuer != root);
        let validity = match verified.as_slice() {
            [] => return Err(refused("there is none")),
            [first, ..] if first.issuer != root => {
                return Err(refused(
                    "the root's is missing, which says whether the intermediate still counts: give the file as `smqtt-authority crl` wrote it",
                ));
            }
            [first, rest @ ..] => rest.iter().try_fold(first.list.validity(), |span, other| {
                span.common(&other.list.validity())
            })?,
        };
        Ok(Self {
            lists: verified,
            intermediates: intermediates.to_vec(),
            validity,
        })
    }

    /// Whether the certificate with this number, a device's, a server's or an intermediate's, was taken back.
    #[must_use]
    pub fn revokes(&self, serial: Serial) -> bool {
        self.lists.iter().any(|listed| listed.list.revokes(serial))
    }

    /// The lists, the root's first.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = &RevocationList> {
        self.lists.iter().map(|listed| &listed.list)
    }

    /// The root's list.
    ///
    /// # Panics
    /// Never: it was verified to be there.
    #[must_use]
    pub fn of_root(&self) -> &RevocationList {
        &self.lists.first().expect("verified to be there").list
    }

    /// The newest list that names devices: an intermediate's, or the root's where that issues itself.
    ///
    /// Its number is the one that the authority's [state](crate::verify_state) tells. (The root's own list beside an
    /// intermediate's counts by itself.)
    #[must_use]
    pub fn of_devices(&self) -> &RevocationList {
        let intermediates = self.lists().skip(1);
        intermediates
            .max_by(|a, b| a.number().cmp(b.number()))
            .unwrap_or(self.of_root())
    }

    /// The intermediates whose certificates are with the lists.
    #[must_use]
    pub fn intermediates(&self) -> &[Intermediate] {
        &self.intermediates
    }

    /// How many certificates were taken back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists().map(|list| list.serials().len()).sum()
    }

    /// Whether none was taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When all of them hold. Past that, they tell nothing of who was revoked since.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The first list here that is older than the one of the same issuer in `before`: its number and the other's.
    #[must_use]
    pub fn older_than<'a>(
        &'a self,
        before: &'a Revocations,
    ) -> Option<(&'a CrlNumber, &'a CrlNumber)> {
        self.lists.iter().find_map(|listed| {
            let mut others = before.lists.iter();
            let other = others.find(|other| other.issuer == listed.issuer)?;
            let (number, other) = (listed.list.number(), other.list.number());
            (number < other).then_some((number, other))
        })
    }

    /// All of it as PEM text, which [`Revocations::read`] reads: each intermediate's certificate, then the lists.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut text: String = self
            .intermediates
            .iter()
            .map(|i| certificates_to_pem(core::slice::from_ref(i.certificate())))
            .collect();
        // What reads the first list only shall find that of the devices.
        for listed in self.lists.iter().rev() {
            text.push_str(&listed.list.to_pem());
        }
        text
    }
}

fn root_key(anchor: &TrustAnchor) -> Result<Fingerprint, Error> {
    Ok(Fingerprint::of(parse(anchor.root())?.public_key().raw))
}
