//! A device's bundle on disk.

mod profile;
mod renewal;

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

pub use renewal::{RenewalParts, StagedRenewal};

use crate::anchor::{device_named_by, parse};
use crate::enrolment::SealingEpoch;
use crate::files::{self, StagedDirectory};
use crate::{DeviceId, Error, IdentityKey, TrustAnchor, Validity, certificates_from_pem};
use profile::{Profile, VERSION};
use renewal::read_earlier;

/// Everything that a device needs to connect, seal and open, loaded from its directory.
///
/// | file | content | mode |
/// |---|---|---|
/// | `identity.toml` | format version, device name, URLs of authority and broker, root fingerprint, ABE suite | 0644 |
/// | `device.key` | private key, PKCS#8 PEM | 0600 |
/// | `device.crt` | certificate chain, PEM, the device's first | 0644 |
/// | `ca.crt` | the authority's root certificate, PEM | 0644 |
/// | `ca.crl` | the root's own revocation list, PEM, if the authority gave one: which intermediates are trusted no more | 0644 |
/// | `parameters.cbor` | ABE public parameters, opaque here | 0644 |
/// | `attribute.key` | ABE attribute key, opaque here | 0600 |
/// | `schema.toml` | the authority's schema of attributes, opaque here, if it has one | 0644 |
/// | `attribute.N.key` | ABE attribute key of the earlier epoch N, for what was sealed then; at most three | 0600 |
/// | `kp-parameters.cbor` | ABE public parameters of key policies, opaque here, if the authority has them | 0644 |
/// | `policy.key` | ABE policy key, opaque here, if the device has a key policy, which `identity.toml` names | 0600 |
/// | `policy.N.key` | ABE policy key of the earlier epoch N; at most three | 0600 |
///
/// The directory itself has mode 0700. The PEM files are what OpenSSL-based tools take:
/// `mosquitto_pub --cafile ca.crt --cert device.crt --key device.key`.
pub struct Identity {
    directory: PathBuf,
    profile: Profile,
    key: IdentityKey,
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
    anchor: TrustAnchor,
    parameters: Vec<u8>,
    attribute_key: Zeroizing<Vec<u8>>,
    earlier_keys: Vec<Zeroizing<Vec<u8>>>,
    policy_parameters: Option<Vec<u8>>,
    policy_key: Option<Zeroizing<Vec<u8>>>,
    earlier_policy_keys: Vec<Zeroizing<Vec<u8>>>,
    schema: Option<String>,
}

/// What an enrolment yields, to be written as an [`Identity`].
pub struct IdentityParts<'a> {
    /// The device's name.
    pub device: &'a DeviceId,
    /// The authority's URL, `https://…`.
    pub authority: &'a str,
    /// The broker's URL, `mqtts://…`, if the authority named one.
    pub broker: Option<&'a str>,
    /// The id of the ABE suite.
    pub suite: u8,
    /// The device's private key.
    pub key: &'a IdentityKey,
    /// The device's certificate chain, PEM.
    pub chain_pem: &'a str,
    /// The authority's root certificate, PEM.
    pub ca_pem: &'a str,
    /// The root's own revocation list, PEM, if there is one.
    pub root_list: Option<&'a str>,
    /// ABE public parameters.
    pub parameters: &'a [u8],
    /// ABE attribute key.
    pub attribute_key: &'a [u8],
    /// From when publishers seal for which epoch, epochs ascending; empty if that is not known.
    pub sealing: &'a [SealingEpoch],
    /// The authority's schema of attributes, TOML, if it has one.
    pub schema: Option<&'a str>,
    /// What key policies need, if the authority has them.
    pub key_policy: Option<KeyPolicyParts<'a>>,
}

/// What an enrolment or renewal yields for key policies.
#[derive(Clone, Copy)]
pub struct KeyPolicyParts<'a> {
    /// ABE public parameters of key policies.
    pub parameters: &'a [u8],
    /// The device's key policy, canonical text, and the ABE policy key for it; `None` if it has none (any more).
    pub granted: Option<(&'a str, &'a [u8])>,
}

const PROFILE: &str = "identity.toml";
const KEY: &str = "device.key";
const CHAIN: &str = "device.crt";
const CA: &str = "ca.crt";
const ROOT_LIST: &str = "ca.crl";
const PARAMETERS: &str = "parameters.cbor";
const ATTRIBUTE_KEY: &str = "attribute.key";
const SCHEMA: &str = "schema.toml";
const POLICY_PARAMETERS: &str = "kp-parameters.cbor";
const POLICY_KEY: &str = "policy.key";
const HINT: &str = "give the directory that `smqtt enroll` made, or enrol the device again";

const MAX_PROFILE: u64 = 64 * 1024;
const MAX_PEM: u64 = 256 * 1024;
const MAX_ABE: u64 = 16 * 1024 * 1024;
const MAX_SCHEMA: u64 = 1024 * 1024;

impl Identity {
    /// Loads the bundle in `directory` and checks that its parts belong together.
    ///
    /// # Errors
    /// [`Error::Missing`] names the first missing file, [`Error::Exposed`] a private file that others can access (and
    /// the `chmod` to run), [`Error::Damaged`], [`Error::ForeignRoot`] or [`Error::KeyMismatch`] say what does not fit,
    /// [`Error::FormatVersion`], [`Error::TooLarge`], [`Error::Io`].
    pub fn load(directory: &Path) -> Result<Self, Error> {
        Self::load_preferring(directory, "")
    }

    /// As [`Identity::load`], of each file the one with this suffix if it is there.
    fn load_preferring(directory: &Path, suffix: &str) -> Result<Self, Error> {
        let at = |name: &str| {
            let preferred = directory.join(format!("{name}{suffix}"));
            if preferred.exists() {
                preferred
            } else {
                directory.join(name)
            }
        };
        let damaged = |name: &str, reason: String| Error::Damaged {
            path: at(name),
            reason,
        };
        let text = |name: &str, bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| damaged(name, "it is not UTF-8 text".into()))
        };

        let profile = text(PROFILE, files::read(&at(PROFILE), MAX_PROFILE, HINT)?)?;
        let profile = Profile::parse(&profile, &at(PROFILE))?;

        let key = files::read_private(&at(KEY), MAX_PEM, HINT)?;
        let key = std::str::from_utf8(&key)
            .map_err(|_| Error::PrivateKey)
            .and_then(IdentityKey::from_pem)
            .map_err(|e| damaged(KEY, e.to_string()))?;

        let chain = certificates_from_pem(&files::read(&at(CHAIN), MAX_PEM, HINT)?)
            .map_err(|e| damaged(CHAIN, e.to_string()))?;
        let anchor = TrustAnchor::from_pem(&files::read(&at(CA), MAX_PEM, HINT)?)
            .map_err(|e| damaged(CA, e.to_string()))?;
        if anchor.fingerprint() != profile.ca_fingerprint {
            return Err(Error::ForeignRoot {
                path: at(CA),
                found: anchor.fingerprint(),
                expected: profile.ca_fingerprint,
            });
        }
        let anchor = match files::read(&at(ROOT_LIST), MAX_PEM, HINT) {
            Ok(list) => list_from_pem(&list)
                .and_then(|list| anchor.with_list(list))
                .map_err(|e| damaged(ROOT_LIST, e.to_string()))?,
            Err(Error::Missing { .. }) => anchor,
            Err(other) => return Err(other),
        };
        let validity =
            check_own_certificate(&profile.device, &key, &chain).map_err(|e| match e {
                Error::KeyMismatch => damaged(KEY, e.to_string()),
                other => damaged(CHAIN, other.to_string()),
            })?;

        Ok(Self {
            parameters: files::read(&at(PARAMETERS), MAX_ABE, HINT)?,
            attribute_key: files::read_private(&at(ATTRIBUTE_KEY), MAX_ABE, HINT)?,
            earlier_keys: read_earlier(directory, ATTRIBUTE_KEY)?,
            policy_parameters: if at(POLICY_PARAMETERS).exists() {
                Some(files::read(&at(POLICY_PARAMETERS), MAX_ABE, HINT)?)
            } else {
                None
            },
            // Without a policy it is one that was taken away, and the removal was interrupted; the reverse is mended by the
            // next renewal.
            policy_key: if profile.key_policy.is_some() && at(POLICY_KEY).exists() {
                Some(files::read_private(&at(POLICY_KEY), MAX_ABE, HINT)?)
            } else {
                None
            },
            earlier_policy_keys: read_earlier(directory, POLICY_KEY)?,
            schema: if at(SCHEMA).exists() {
                let schema = files::read(&at(SCHEMA), MAX_SCHEMA, HINT)?;
                Some(text(SCHEMA, schema)?)
            } else {
                None
            },
            directory: directory.into(),
            profile,
            key,
            chain,
            validity,
            anchor,
        })
    }

    /// Begins a new bundle in `directory`, before anything irrevocable is done (such as spending an enrolment token):
    /// it proves that the directory can be made.
    ///
    /// # Errors
    /// [`Error::Exists`] if something other than an empty directory is there, [`Error::Io`].
    pub fn reserve(directory: &Path) -> Result<Reservation, Error> {
        StagedDirectory::create(directory).map(Reservation)
    }

    /// Writes a new bundle: whole or not at all, never over anything.
    ///
    /// # Errors
    /// Those of [`Identity::reserve`] and [`Reservation::complete`].
    pub fn create(directory: &Path, parts: &IdentityParts<'_>) -> Result<Self, Error> {
        Self::reserve(directory)?.complete(parts)
    }

    /// The directory that it was loaded from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.profile.device
    }

    /// The authority's URL.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.profile.authority
    }

    /// The broker's URL, if the authority named one.
    #[must_use]
    pub fn broker(&self) -> Option<&str> {
        self.profile.broker.as_deref()
    }

    /// The id of the ABE suite.
    #[must_use]
    pub fn suite(&self) -> u8 {
        self.profile.suite
    }

    /// The device's private key.
    #[must_use]
    pub fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// The device's certificate chain, its own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// When the device's certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The authority's root.
    #[must_use]
    pub fn trust_anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// ABE public parameters, opaque here.
    #[must_use]
    pub fn parameters(&self) -> &[u8] {
        &self.parameters
    }

    /// ABE attribute key, opaque here. A secret.
    #[must_use]
    pub fn attribute_key(&self) -> &[u8] {
        &self.attribute_key
    }

    /// ABE attribute keys of earlier epochs, the newest first, opaque here. Secrets.
    pub fn earlier_attribute_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.earlier_keys.iter().map(|key| key.as_slice())
    }

    /// What the device may open by its policy key, canonical text; `None` if it has no key policy.
    #[must_use]
    pub fn key_policy(&self) -> Option<&str> {
        self.profile.key_policy.as_deref()
    }

    /// ABE public parameters of key policies, opaque here; `None` if the authority had none at the last enrolment or renewal.
    #[must_use]
    pub fn policy_parameters(&self) -> Option<&[u8]> {
        self.policy_parameters.as_deref()
    }

    /// ABE policy key, opaque here, if the device has a key policy. A secret.
    #[must_use]
    pub fn policy_key(&self) -> Option<&[u8]> {
        self.policy_key.as_ref().map(|key| key.as_slice())
    }

    /// ABE policy keys of earlier epochs, the newest first, opaque here. Secrets.
    pub fn earlier_policy_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.earlier_policy_keys.iter().map(|key| key.as_slice())
    }

    /// From when publishers seal for which epoch, epochs ascending, as the authority told at the last enrolment or renewal;
    /// empty if it did not.
    #[must_use]
    pub fn sealing(&self) -> &[SealingEpoch] {
        &self.profile.sealing
    }

    /// The authority's schema of attributes, TOML, as of the last enrolment or renewal; `None` if it had none.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// When the files in the directory were last replaced, now and not when this was loaded: for whoever wants to know whether to
    /// load it anew. `None` if that can not be told.
    #[must_use]
    pub fn renewed_at(&self) -> Option<std::time::SystemTime> {
        // The last file that a renewal replaces before it tidies up.
        let replaced = std::fs::metadata(self.directory.join(CHAIN));
        replaced.and_then(|replaced| replaced.modified()).ok()
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Identity")
            .field("device", &self.profile.device)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// A place for a new bundle, secured before the device enrols. Given up when dropped.
#[derive(Debug)]
pub struct Reservation(StagedDirectory);

impl Reservation {
    /// Writes the bundle and puts it in place. What was written is loaded back, with all of [`Identity::load`]'s checks,
    /// before it appears.
    ///
    /// # Errors
    /// Those of [`Identity::load`] and [`StagedDirectory::commit`].
    pub fn complete(self, parts: &IdentityParts<'_>) -> Result<Identity, Error> {
        let staged = self.0;
        let at = |name: &str| staged.path().join(name);
        let profile = Profile {
            version: VERSION,
            device: parts.device.clone(),
            authority: parts.authority.into(),
            broker: parts.broker.map(Into::into),
            ca_fingerprint: TrustAnchor::from_pem(parts.ca_pem.as_bytes())?.fingerprint(),
            suite: parts.suite,
            key_policy: parts
                .key_policy
                .and_then(|parts| parts.granted)
                .map(|(policy, _)| policy.to_owned()),
            sealing: parts.sealing.to_vec(),
        };
        files::write_public(&at(PROFILE), profile.to_toml()?.as_bytes())?;
        files::write_private(&at(KEY), parts.key.to_pem()?.as_bytes())?;
        files::write_public(&at(CHAIN), parts.chain_pem.as_bytes())?;
        files::write_public(&at(CA), parts.ca_pem.as_bytes())?;
        if let Some(list) = parts.root_list {
            files::write_public(&at(ROOT_LIST), list.as_bytes())?;
        }
        files::write_public(&at(PARAMETERS), parts.parameters)?;
        files::write_private(&at(ATTRIBUTE_KEY), parts.attribute_key)?;
        if let Some(given) = parts.key_policy {
            files::write_public(&at(POLICY_PARAMETERS), given.parameters)?;
            if let Some((_, key)) = given.granted {
                files::write_private(&at(POLICY_KEY), key)?;
            }
        }
        if let Some(schema) = parts.schema {
            files::write_public(&at(SCHEMA), schema.as_bytes())?;
        }
        let mut identity = Identity::load(staged.path())?;
        identity.directory = staged.destination().into();
        staged.commit()?;
        Ok(identity)
    }
}

fn list_from_pem(text: &[u8]) -> Result<CertificateRevocationListDer<'static>, Error> {
    CertificateRevocationListDer::from_pem_slice(text).map_err(|e| Error::Pem {
        expected: "revocation list",
        reason: e.to_string(),
    })
}

/// Checks that the chain's first certificate is this device's and for this key; returns its validity.
fn check_own_certificate(
    device: &DeviceId,
    key: &IdentityKey,
    chain: &[CertificateDer<'_>],
) -> Result<Validity, Error> {
    let own = chain
        .first()
        .ok_or(Error::ChainLength { given: 0, max: 1 })?;
    let parsed = parse(own)?;
    if device_named_by(&parsed)? != *device {
        return Err(Error::NotADevice(
            "it names another than identity.toml does",
        ));
    }
    key.check_certificate(own)?;
    Validity::of(&parsed)
}
