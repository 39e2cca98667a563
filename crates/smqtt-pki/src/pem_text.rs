//! Certificates and keys as PEM text (RFC 7468).

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::Error;

/// The most certificates that one file or chain may hold.
pub(crate) const MAX_CERTIFICATES: usize = 16;

/// Reads all certificates of a PEM text, in their order. Other PEM sections and text between sections are skipped.
///
/// # Errors
/// [`Error::Pem`] if a section is broken or there is no certificate, [`Error::ChainLength`] for more than 16.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_slice_iter(text) {
        certificates.push(section.map_err(|e| Error::Pem {
            expected: "certificate",
            reason: e.to_string(),
        })?);
        if certificates.len() > MAX_CERTIFICATES {
            return Err(Error::ChainLength {
                given: certificates.len(),
                max: MAX_CERTIFICATES,
            });
        }
    }
    if certificates.is_empty() {
        return Err(Error::Pem {
            expected: "certificate",
            reason: "the text holds none".into(),
        });
    }
    Ok(certificates)
}

/// Writes certificates as PEM text, in their order, with line feeds as line endings.
#[must_use]
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|der| section("CERTIFICATE", der))
        .collect()
}

/// One PEM section.
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}
