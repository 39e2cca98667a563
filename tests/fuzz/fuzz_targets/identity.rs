//! Certificates, signing requests and names from outside: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smqtt_pki::{
    CertificateDer, CertificateRequest, DeviceId, Fingerprint, TrustAnchor, certificates_from_pem,
};

fuzz_target!(|data: &[u8]| {
    let _ = TrustAnchor::new(CertificateDer::from(data.to_vec()));
    let _ = certificates_from_pem(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = CertificateRequest::from_pem(text);
        if let Ok(id) = text.parse::<DeviceId>() {
            assert_eq!(id.as_str(), text);
        }
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            assert_eq!(fingerprint.to_string().parse::<Fingerprint>().ok(), Some(fingerprint));
        }
    }
});
