//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use crate::{DeviceId, Fingerprint};

/// What can go wrong with an identity, a certificate or a file that holds one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device name that no certificate can carry.
    #[error(
        "{0:?} is not a device name: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    )]
    DeviceId(String),
    /// A name that no administrator can have.
    #[error(
        "{0:?} is not a name for an administrator: use 1 to 48 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    )]
    AdminName(String),
    /// A fingerprint that is not `sha256:` and 64 hexadecimal digits.
    #[error(
        "{0:?} is not a fingerprint: give sha256: followed by 64 hexadecimal digits, as `smqtt-authority fingerprint` prints it"
    )]
    Fingerprint(String),
    /// A serial number that is not 1 to 32 hexadecimal digits.
    #[error("{0:?} is not a certificate serial number: give its hexadecimal digits")]
    Serial(String),
    /// A name for a certificate authority that a certificate cannot carry.
    #[error("{0:?} is not a name for an authority: use 1 to 64 printable characters")]
    AuthorityName(String),
    /// A validity that ends before it begins, or beyond the year 9999.
    #[error("the validity is impossible: it must end after it begins, before the year 10000")]
    Validity,
    /// A state of an authority that can not be taken, or not be made.
    #[error("the authority's state is not usable: {0}")]
    State(String),
    /// No host name was given for a server certificate, or too many.
    #[error("a server certificate takes 1 to {max} host names, {given} were given")]
    Hosts {
        /// How many were given.
        given: usize,
        /// How many a certificate may carry.
        max: usize,
    },
    /// Text that should be PEM and is not, or holds nothing of the kind expected.
    #[error("no {expected} in PEM form found: {reason}")]
    Pem {
        /// What should have been there, such as "certificate".
        expected: &'static str,
        /// What the reader met instead.
        reason: String,
    },
    /// A private key that is not an ECDSA P-256 key in PKCS#8.
    #[error("not an ECDSA P-256 private key in PKCS#8 form")]
    PrivateKey,
    /// A private key that does not belong to the certificate beside it.
    #[error(
        "the private key does not belong to the certificate: use the pair that was made together"
    )]
    KeyMismatch,

    /// A certificate request that can not be read.
    #[error("the certificate request can not be read: {0}")]
    MalformedRequest(&'static str),
    /// A request for a key of a kind that the authority does not certify.
    #[error(
        "the certificate request is for an unsupported kind of key: use ECDSA P-256 or Ed25519"
    )]
    UnsupportedKey,
    /// A request whose signature does not prove possession of its private key.
    #[error("the certificate request is not signed by the key that it asks a certificate for")]
    ProofOfPossession,
    /// A request that asks for another name than the one it is entitled to.
    #[error("the certificate request is for {requested:?}, not for {expected}")]
    RequestName {
        /// The name in the request; empty if there is none.
        requested: String,
        /// The name that the requester may have.
        expected: DeviceId,
    },
    /// Encoding or signing a certificate failed.
    #[error("the certificate could not be issued: {0}")]
    Issue(String),

    /// A certificate that can not be read.
    #[error("the certificate can not be read: {0}")]
    MalformedCertificate(String),
    /// A chain with no certificate, or with more than is sensible.
    #[error("a chain has 1 to {max} certificates, this one has {given}")]
    ChainLength {
        /// How many there are.
        given: usize,
        /// How many there may be.
        max: usize,
    },
    /// A certificate that can not anchor trust, because it is no certificate authority's.
    #[error(
        "the certificate is not a certificate authority's: give the authority's root certificate, ca.crt"
    )]
    NotAnAuthority,
    /// The chain's end-entity certificate, or its root, is past its validity.
    #[error("the certificate has expired: renew it at the authority")]
    Expired,
    /// The chain's end-entity certificate, or its root, is not valid yet.
    #[error("the certificate is not valid yet: check this machine's clock")]
    NotYetValid,
    /// The chain does not lead to the trust anchor, or is not meant for this use.
    #[error("the certificate is not trusted: {0}")]
    Untrusted(String),
    /// A certificate that is no administrator's.
    #[error("the certificate is not an administrator's: `smqtt-authority admin add` issues one")]
    NotAnAdmin,
    /// The certificate, or the intermediate authority that issued it, is on the root's revocation list.
    #[error(
        "the certificate, or the authority that issued it, was taken back: enrol again, or renew at the authority"
    )]
    Revoked,
    /// A certificate that this authority has not issued.
    #[error("another authority has issued the certificate, or it was altered")]
    OtherIssuer,
    /// A certificate that is no intermediate authority's.
    #[error("the certificate is not an intermediate authority's: {0}")]
    NotAnIntermediate(&'static str),
    /// A certificate of the right authority that names no device.
    #[error("the certificate names no SMQTT device: {0}")]
    NotADevice(&'static str),
    /// A revocation list that can not be read or trusted.
    #[error("the revocation list is unusable: {0}")]
    RevocationList(String),
    /// A signature that its alleged signer did not make over this message.
    #[error("the signature is not the device's, or the signed data was altered")]
    BadSignature,

    /// A file that should be there is not.
    #[error("{path} is missing: {hint}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
    },
    /// A private file that others than its owner can read or write.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something is already where a new directory should go.
    #[error(
        "{path} exists already: choose another directory, or remove this one if it is no longer needed"
    )]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A file larger than anything that belongs in its place.
    #[error("{path} is larger than {limit} bytes: it is not what belongs there")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The operating system refused to read or write.
    #[error("can not {action} {path}: {source}")]
    Io {
        /// What was attempted, such as "read".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A file whose content is not what belongs there.
    #[error("{path} is damaged: {reason}; restore it or enrol the device again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An identity directory written by a newer program.
    #[error("{path} has format version {found}, this program reads up to {supported}: update it")]
    FormatVersion {
        /// The file that says so.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The root certificate in an identity directory is not the one that it was enrolled with.
    #[error(
        "{path} has fingerprint {found}, the identity was enrolled with {expected}: restore it or enrol the device again"
    )]
    ForeignRoot {
        /// The root certificate's file.
        path: PathBuf,
        /// The fingerprint of what is there.
        found: Fingerprint,
        /// The fingerprint noted at enrolment.
        expected: Fingerprint,
    },
    /// rustls refused a certificate or a key.
    #[error("the TLS configuration is unusable: {0}")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// A function that gives an I/O error its action and path, for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
