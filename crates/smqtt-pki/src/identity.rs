//! A device's bundle on disk.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::anchor::{device_named_by, parse};
use crate::enrolment::SealingEpoch;
use crate::files::{self, StagedDirectory};
use crate::{
    DeviceId, Error, Fingerprint, IdentityKey, RevocationList, TrustAnchor, Validity,
    certificates_from_pem,
};

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
}

/// What a renewal yields, to be put in the place of what an [`Identity`] has.
pub struct RenewalParts<'a> {
    /// The device's certificate chain, PEM, for the key that the device has.
    pub chain_pem: &'a str,
    /// The root's own revocation list, PEM; `None` keeps the one that is there.
    pub root_list: Option<&'a str>,
    /// ABE attribute key.
    pub attribute_key: &'a [u8],
    /// The epoch of the attribute key that is replaced; `None` if it is not to be kept.
    pub earlier_epoch: Option<u64>,
    /// The broker's URL, if the authority named one.
    pub broker: Option<&'a str>,
    /// From when publishers seal for which epoch.
    pub sealing: &'a [SealingEpoch],
    /// The authority's schema of attributes, TOML, if it has one.
    pub schema: Option<&'a str>,
}

/// `identity.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Profile {
    version: u32,
    device: DeviceId,
    authority: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broker: Option<String>,
    ca_fingerprint: Fingerprint,
    suite: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sealing: Vec<SealingEpoch>,
}

/// The format version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
const PROFILE: &str = "identity.toml";
const KEY: &str = "device.key";
const CHAIN: &str = "device.crt";
const CA: &str = "ca.crt";
const ROOT_LIST: &str = "ca.crl";
const PARAMETERS: &str = "parameters.cbor";
const ATTRIBUTE_KEY: &str = "attribute.key";
const SCHEMA: &str = "schema.toml";
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
            earlier_keys: earlier_keys(directory)?
                .into_iter()
                .map(|(_, path)| files::read_private(&path, MAX_ABE, HINT))
                .collect::<Result<_, _>>()?,
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

    /// Writes what a renewal has yielded beside what is there and loads it, with all of [`Identity::load`]'s checks. What is
    /// there stays in use until [`StagedRenewal::commit`]. One renewal at a time; what an interrupted one has left is removed.
    ///
    /// # Errors
    /// [`Error::Io`], also where another renewal is under way, and those of [`Identity::load`] for parts that do not fit.
    pub fn stage_renewal(&self, parts: &RenewalParts<'_>) -> Result<StagedRenewal, Error> {
        let at = |name: &str| self.directory.join(format!("{name}{STAGED}"));
        let lock = files::lock(&self.directory)?;
        let mut staged = StagedRenewal {
            directory: self.directory.clone(),
            earlier: parts
                .earlier_epoch
                .map(|epoch| (epoch, self.attribute_key.clone())),
            identity: None,
            schema: parts.schema.is_some(),
            _lock: lock,
        };
        staged.clear()?;
        let mut profile = self.profile.clone();
        profile.broker = parts.broker.map(Into::into).or(profile.broker);
        profile.sealing = parts.sealing.to_vec();
        files::write_public(&at(PROFILE), profile.to_toml()?.as_bytes())?;
        files::write_private(&at(ATTRIBUTE_KEY), parts.attribute_key)?;
        files::write_public(&at(CHAIN), parts.chain_pem.as_bytes())?;
        if let Some(schema) = parts.schema {
            files::write_public(&at(SCHEMA), schema.as_bytes())?;
        }
        if let Some(list) = parts.root_list.map(str::as_bytes) {
            let list = list_from_pem(list)?;
            let known = self.anchor.clone().with_list(list)?;
            // Of two, the newer: nobody has an older one put in its place.
            let newest = known.list().map(RevocationList::to_pem).unwrap_or_default();
            files::write_public(&at(ROOT_LIST), newest.as_bytes())?;
        }
        staged.identity = Some(Self::load_preferring(&self.directory, STAGED)?);
        Ok(staged)
    }
}

/// What the names of files end with that are not in use yet.
const STAGED: &str = ".new";
/// How many keys of earlier epochs are kept.
const EARLIER_KEYS: usize = 3;

/// A renewal that is written, and not in use yet. Given up when dropped.
///
/// # Crash safety
/// The device's key stays, so every mixture of old and new files is a bundle that works. [`StagedRenewal::commit`] renames them
/// one by one in an order that never loses a key; interrupted, it leaves a bundle that can be renewed again.
pub struct StagedRenewal {
    directory: PathBuf,
    /// The key that is replaced, and its epoch.
    earlier: Option<(u64, Zeroizing<Vec<u8>>)>,
    identity: Option<Identity>,
    /// Whether the authority has a schema.
    schema: bool,
    _lock: std::fs::File,
}

impl StagedRenewal {
    /// The identity as it will be.
    ///
    /// # Panics
    /// Never: it was loaded when it was staged.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity.as_ref().expect("it was loaded when staged")
    }

    /// Puts the new files in the places of the old, durably.
    ///
    /// # Errors
    /// [`Error::Io`]; what is there then works, and can be renewed again.
    pub fn commit(mut self) -> Result<Identity, Error> {
        let swap = |name: &str| {
            let staged = self.directory.join(format!("{name}{STAGED}"));
            files::rename(&staged, &self.directory.join(name))
        };
        // Until when to seal for which epoch comes before the key from which that would else be guessed.
        swap(PROFILE)?;
        if let Some((epoch, key)) = &self.earlier {
            let kept = self.directory.join(format!("attribute.{epoch}.key"));
            let staged = self
                .directory
                .join(format!("attribute.{epoch}.key{STAGED}"));
            files::write_private(&staged, key)?;
            files::rename(&staged, &kept)?;
        }
        swap(ATTRIBUTE_KEY)?;
        swap(CHAIN)?;
        if self.schema {
            swap(SCHEMA)?;
        } else if self.directory.join(SCHEMA).exists() {
            files::remove(&self.directory.join(SCHEMA))?;
        }
        if self.directory.join(format!("{ROOT_LIST}{STAGED}")).exists() {
            swap(ROOT_LIST)?;
        }
        files::sync_directory(&self.directory)?;
        for (_, path) in earlier_keys(&self.directory)?
            .into_iter()
            .skip(EARLIER_KEYS)
        {
            files::remove(&path)?;
        }
        let directory = self.directory.clone();
        self.identity = None;
        Identity::load(&directory)
    }

    /// Removes staged files.
    fn clear(&self) -> Result<(), Error> {
        for entry in files::list(&self.directory)? {
            let ours = entry.file_name().and_then(|name| name.to_str());
            if ours.is_some_and(|name| name.ends_with(STAGED)) {
                files::remove(&entry)?;
            }
        }
        Ok(())
    }
}

impl Drop for StagedRenewal {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next renewal tries again.
        let _ = self.clear();
    }
}

/// The keys of earlier epochs in a bundle, the newest first.
fn earlier_keys(directory: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found: Vec<(u64, PathBuf)> = files::list(directory)?
        .into_iter()
        .filter_map(|path| {
            let epoch = path
                .file_name()?
                .to_str()?
                .strip_prefix("attribute.")?
                .strip_suffix(".key")?
                .parse()
                .ok()?;
            Some((epoch, path))
        })
        .collect();
    found.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    Ok(found)
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
        if let Some(schema) = parts.schema {
            files::write_public(&at(SCHEMA), schema.as_bytes())?;
        }
        let mut identity = Identity::load(staged.path())?;
        identity.directory = staged.destination().into();
        staged.commit()?;
        Ok(identity)
    }
}

impl Profile {
    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e: toml::de::Error| Error::Damaged {
            path: path.into(),
            reason: e.message().into(),
        };
        // The version decides how to read the rest.
        let Version { version } = toml::from_str(text).map_err(damaged)?;
        if version != VERSION {
            return Err(Error::FormatVersion {
                path: path.into(),
                found: version,
                supported: VERSION,
            });
        }
        toml::from_str(text).map_err(damaged)
    }

    fn to_toml(&self) -> Result<String, Error> {
        let body = toml::to_string(self).map_err(|e| Error::Damaged {
            path: PROFILE.into(),
            reason: e.to_string(),
        })?;
        Ok(format!(
            "# An SMQTT device's identity. Made by `smqtt enroll`.\n{body}"
        ))
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
