//! Putting what a renewal yields in the place of what there is, and keeping the keys of earlier epochs.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    ATTRIBUTE_KEY, CHAIN, HINT, Identity, KeyPolicyParts, MAX_ABE, POLICY_KEY, POLICY_PARAMETERS,
    PROFILE, ROOT_LIST, SCHEMA, list_from_pem,
};
use crate::enrolment::SealingEpoch;
use crate::files;
use crate::{Error, RevocationList};

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
    /// What key policies need; `None` keeps what is there.
    pub key_policy: Option<KeyPolicyParts<'a>>,
    /// The epoch of the policy key that is replaced; `None` if there is none, or it is not to be kept.
    pub earlier_policy_epoch: Option<u64>,
}

impl Identity {
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
            earlier_policy: parts
                .earlier_policy_epoch
                .zip(self.policy_key.as_ref())
                .map(|(epoch, key)| (epoch, key.clone())),
            identity: None,
            schema: parts.schema.is_some(),
            policy_key: parts.key_policy.map(|parts| parts.granted.is_some()),
            _lock: lock,
        };
        staged.clear()?;
        let mut profile = self.profile.clone();
        profile.broker = parts.broker.map(Into::into).or(profile.broker);
        profile.sealing = parts.sealing.to_vec();
        if let Some(given) = &parts.key_policy {
            profile.key_policy = given.granted.map(|(policy, _)| policy.to_owned());
            files::write_public(&at(POLICY_PARAMETERS), given.parameters)?;
            if let Some((_, key)) = given.granted {
                files::write_private(&at(POLICY_KEY), key)?;
            }
        }
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
    /// The policy key that is replaced, and its epoch.
    earlier_policy: Option<(u64, Zeroizing<Vec<u8>>)>,
    identity: Option<Identity>,
    /// Whether there is a new policy key; `None` if that part stays as it is.
    policy_key: Option<bool>,
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
        let keep = |name: &str, earlier: &Option<(u64, Zeroizing<Vec<u8>>)>| {
            let Some((epoch, key)) = earlier else {
                return Ok(());
            };
            let kept = earlier_name(name, *epoch);
            let staged = self.directory.join(format!("{kept}{STAGED}"));
            files::write_private(&staged, key)?;
            files::rename(&staged, &self.directory.join(kept))
        };
        keep(POLICY_KEY, &self.earlier_policy)?;
        if let Some(granted) = self.policy_key {
            swap(POLICY_PARAMETERS)?;
            let key = self.directory.join(POLICY_KEY);
            if granted {
                swap(POLICY_KEY)?;
            } else if key.exists() {
                files::remove(&key)?;
            }
        }
        keep(ATTRIBUTE_KEY, &self.earlier)?;
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
        for name in [ATTRIBUTE_KEY, POLICY_KEY] {
            for (_, path) in earlier_keys(&self.directory, name)?
                .into_iter()
                .skip(EARLIER_KEYS)
            {
                files::remove(&path)?;
            }
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

/// Where the key of an earlier epoch is kept: `attribute.key` becomes `attribute.7.key`.
fn earlier_name(name: &str, epoch: u64) -> String {
    let stem = name.strip_suffix(".key").unwrap_or(name);
    format!("{stem}.{epoch}.key")
}

/// The keys of earlier epochs in a bundle, the newest first, read.
pub(super) fn read_earlier(directory: &Path, name: &str) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    earlier_keys(directory, name)?
        .into_iter()
        .map(|(_, path)| files::read_private(&path, MAX_ABE, HINT))
        .collect()
}

/// The keys of earlier epochs in a bundle, the newest first.
fn earlier_keys(directory: &Path, name: &str) -> Result<Vec<(u64, PathBuf)>, Error> {
    let stem = name.strip_suffix("key").unwrap_or(name);
    let mut found: Vec<(u64, PathBuf)> = files::list(directory)?
        .into_iter()
        .filter_map(|path| {
            let epoch = path
                .file_name()?
                .to_str()?
                .strip_prefix(stem)?
                .strip_suffix(".key")?
                .parse()
                .ok()?;
            Some((epoch, path))
        })
        .collect();
    found.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    Ok(found)
}
