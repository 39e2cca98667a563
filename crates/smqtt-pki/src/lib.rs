//! Identities of SMQTT: who a device, a broker or an authority is, and how that is proved.
//!
//! - [`CertificateAuthority`] issues device and server certificates; [`CertificateRequest`] is what a device asks with.
//! - [`TrustAnchor`] verifies a device's chain and yields a [`VerifiedDevice`], which verifies signatures.
//! - [`AuthorityIdentity`] is the authority itself as a client of brokers; it signs the state that [`verify_state`] reads.
//! - [`Intermediate`] is an authority below the root that issues in its stead, so that the root's key can be kept offline.
//! - [`RevocationList`] says which certificates an authority has taken back, [`Revocations`] all lists below one root.
//! - [`Identity`] is a device's bundle on disk: key, certificate, root, ABE parameters and attribute key.
//! - [`tls`] builds rustls configurations: TLS 1.3 only, X25519MLKEM768 first, no process-wide provider needed.
//! - [`enrolment`] holds the messages of the authority's HTTP API.
//! - [`files`] reads and writes private files, and stages a directory so that it appears whole or not at all.
//!
//! **Invariants.** A [`VerifiedDevice`] exists only after its chain was verified to the trust anchor for client
//! authentication. A private key is read only from a file that its owner alone can read, and written only to a new
//! file of mode 0600. The clock and the randomness of everything that issues or verifies are parameters; only TLS
//! handshakes, built by rustls, use the operating system's own.
//!
//! ```
//! use core::time::Duration;
//! use rand_chacha::rand_core::SeedableRng;
//! use smqtt_pki::{CertificateAuthority, CertificateRequest, DeviceId, IdentityKey, UnixTime, Validity};
//!
//! # fn main() -> Result<(), smqtt_pki::Error> {
//! let mut rng = rand_chacha::ChaCha20Rng::from_seed([7; 32]); // the operating system's generator outside of examples
//! let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
//! let days = |n: u64| Validity::starting(now, Duration::from_secs(n * 86_400));
//!
//! let authority = CertificateAuthority::create("Example plant", days(3650)?, &mut rng)?;
//! let id: DeviceId = "sensor-17".parse()?;
//! let key = IdentityKey::generate(&mut rng);
//! let request = CertificateRequest::from_pem(&key.csr_pem(&id)?)?;
//! let issued = authority.issue_device(&request, &id, days(90)?, &mut rng)?;
//!
//! let device = authority.trust_anchor().verify_device(&issued.chain, now)?;
//! assert_eq!(device.id(), &id);
//! device.verify_signature(b"reading", &key.sign(b"reading"))?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod admin;
mod anchor;
mod attribute_urn;
mod authority_state;
mod ca;
mod crl;
mod device_id;
pub mod enrolment;
mod error;
pub mod files;
mod fingerprint;
mod identity;
mod intermediate;
mod key;
mod pem_text;
mod request;
mod revocations;
mod serial;
mod signer;
pub mod tls;
mod validity;

pub use admin::{AdminName, VerifiedAdmin};
pub use anchor::{
    KeyType, PresentedDevice, TrustAnchor, VerifiedDevice, certificate_validity, named_device,
};
pub use attribute_urn::{ATTRIBUTE_URN, MAX_CERTIFIED_ATTRIBUTES};
pub use authority_state::{AUTHORITY_DEVICE, AuthorityIdentity, verify_state};
pub use ca::{CertificateAuthority, IssuedCertificate};
pub use crl::{CrlNumber, Revocation, RevocationList, RevocationReason};
pub use device_id::DeviceId;
pub use error::Error;
pub use fingerprint::Fingerprint;
pub use identity::{
    Identity, IdentityParts, KeyPolicyParts, RenewalParts, Reservation, StagedRenewal,
};
pub use intermediate::Intermediate;
pub use key::IdentityKey;
pub use pem_text::{certificates_from_pem, certificates_to_pem};
pub use request::CertificateRequest;
pub use revocations::Revocations;
pub use serial::Serial;
pub use validity::Validity;

pub use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
