//! The authority on disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use smqtt_abe::{Suite, cp};
use smqtt_pki::files::{self, StagedDirectory};
use smqtt_pki::{
    CertificateAuthority, CrlNumber, Fingerprint, Intermediate, Revocation, RevocationList, Serial,
    ServerName, TrustAnchor, UnixTime, Validity, certificates_from_pem, certificates_to_pem,
};

use crate::clock::system_rng;
use crate::register::Register;
use crate::register::audit::{Act, Actor};
use crate::secrets::{
    BACKUP_KEY, CA_KEY, DataKey, ISSUING_KEY, Keeper, MASTER_KEY, NEXT_ISSUING_KEY, SEALED,
    Sealing, Secrets,
};
use crate::{Error, register};

/// An authority's directory. Mode 0700.
///
/// | file | content | mode |
/// |---|---|---|
/// | `authority.toml` | format version, name, ABE suite, root fingerprint, host names | 0644 |
/// | `ca.crt` | root certificate, PEM | 0644 |
/// | `issuing.crt` | certificates of the intermediate that issues, and of earlier ones, PEM; none where the root issues | 0644 |
/// | `ca.crl` | the root's own revocation list, PEM: the intermediates that were taken back | 0644 |
/// | `secrets.sealed` | root key and intermediate's key (PKCS#8 PEM), ABE master key and backup key, encrypted | 0600 |
/// | `ca.key`, `issuing.key`, `abe-master.key`, `backup.key` | instead of it: the same, unsealed | 0600 |
/// | `parameters.cbor` | ABE public parameters | 0644 |
/// | `register.sqlite` | devices, tokens, certificates, audit log; with `-wal` and `-shm` beside it | 0600 |
/// | `database.url` | instead of it: the URL of the PostgreSQL database that holds them | 0600 |
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    profile: Profile,
    anchor: TrustAnchor,
    intermediates: Vec<Intermediate>,
}

/// What an authority is made with.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The root certificate's common name.
    pub name: String,
    /// Names and addresses under which devices reach the authority, beside those of this machine.
    pub hosts: Vec<ServerName<'static>>,
    /// The URL of an empty PostgreSQL database for the register, in place of a file in the directory.
    pub database: Option<String>,
    /// Whether the root itself issues, without an intermediate: then its key can never be kept offline.
    pub single: bool,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            name: "SMQTT authority".into(),
            hosts: Vec::new(),
            database: None,
            single: false,
        }
    }
}

/// When a file was written, and its length.
pub(crate) type FileState = (SystemTime, u64);

/// `authority.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Profile {
    version: u32,
    name: String,
    suite: u8,
    ca_fingerprint: Fingerprint,
    #[serde(default)]
    hosts: Vec<String>,
}

const VERSION: u32 = 1;
pub(crate) const PROFILE: &str = "authority.toml";
pub(crate) const CA_CERTIFICATE: &str = "ca.crt";
pub(crate) const ISSUING_CERTIFICATES: &str = "issuing.crt";
pub(crate) const ROOT_LIST: &str = "ca.crl";
pub(crate) const PARAMETERS: &str = "parameters.cbor";
pub(crate) const REGISTER: &str = "register.sqlite";
pub(crate) const DATABASE: &str = "database.url";
const HINT: &str = "restore the authority's directory from a backup";

pub(crate) const MAX_FILE: u64 = 16 * 1024 * 1024;

/// How long a root certificate is valid: ten years.
const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
/// How long an intermediate's certificate is valid unless said otherwise: three years, so that a broker's certificate of one
/// year has its whole time for two of them.
pub const INTERMEDIATE_LIFETIME: Duration = Duration::from_secs(1095 * 86_400);

impl Directory {
    /// Makes a new authority at `path`: complete or not at all, never over an existing one. Its secrets are sealed if there is
    /// a keeper.
    ///
    /// # Errors
    /// [`Error::AuthorityExists`], [`smqtt_pki::Error::Exists`] if something else than an empty directory is there, and
    /// those of writing files.
    pub async fn init(
        path: &Path,
        options: &InitOptions,
        keeper: Option<&dyn Keeper>,
        now: UnixTime,
    ) -> Result<Self, Error> {
        if path.join(PROFILE).exists() {
            return Err(Error::AuthorityExists { path: path.into() });
        }
        let staged = StagedDirectory::create(path)?;
        let rng = &mut system_rng();
        let ca = CertificateAuthority::create(
            &options.name,
            Validity::starting(now, ROOT_LIFETIME)?,
            rng,
        )?;
        let issuing = match options.single {
            true => None,
            false => {
                let validity = Validity::starting(now, INTERMEDIATE_LIFETIME)?;
                Some(ca.create_intermediate(validity, rng)?)
            }
        };
        let (master, parameters) = cp::setup(rng);
        let profile = Profile {
            version: VERSION,
            name: options.name.clone(),
            suite: Suite::FabeoCpBls12381.id(),
            ca_fingerprint: ca.fingerprint(),
            hosts: options
                .hosts
                .iter()
                .map(|host| host.to_str().into_owned())
                .collect(),
        };
        let text = toml::to_string(&profile).map_err(|e| Error::Damaged {
            path: path.join(PROFILE),
            reason: e.to_string(),
        })?;
        let at = |name: &str| staged.path().join(name);
        files::write_public(
            &at(PROFILE),
            format!("# An SMQTT authority. Made by `smqtt-authority init`.\n{text}").as_bytes(),
        )?;
        files::write_public(&at(CA_CERTIFICATE), ca.root_pem().as_bytes())?;
        files::write_public(&at(PARAMETERS), &parameters.to_bytes())?;
        let mut secrets = Secrets::default();
        secrets.put(CA_KEY, ca.key_pem()?.as_bytes());
        let mut intermediates = Vec::new();
        if let Some(issuing) = &issuing {
            secrets.put(ISSUING_KEY, issuing.key_pem()?.as_bytes());
            intermediates.extend(issuing.intermediate().cloned());
            let list = root_list(&ca, &[], &[], None, issuing.validity().not_after(), now)?;
            files::write_public(&at(ROOT_LIST), list.to_pem().as_bytes())?;
            let certificate = core::slice::from_ref(issuing.certificate());
            let text = certificates_to_pem(certificate);
            files::write_public(&at(ISSUING_CERTIFICATES), text.as_bytes())?;
        }
        secrets.put(MASTER_KEY, &master.to_bytes());
        secrets.put(BACKUP_KEY, DataKey::random(rng).as_bytes());
        secrets.write_new(staged.path(), keeper)?;

        let register = match &options.database {
            Some(url) => Self::take_database(&at(DATABASE), url).await?,
            None => {
                // SQLite gives its companion files the permissions of the register itself.
                files::write_private(&at(REGISTER), b"")?;
                Register::open(&at(REGISTER)).await?
            }
        };
        let mut transaction = register.write().await?;
        let act = Act {
            action: "init",
            subject: &profile.name,
            detail: &profile.ca_fingerprint.to_string(),
        };
        register::audit::append(&mut transaction, &Actor::operator(), &act, "ok", now).await?;
        transaction.commit().await?;
        register.close().await;

        staged.commit()?;
        Ok(Self {
            path: path.into(),
            profile,
            anchor: ca.trust_anchor().clone(),
            intermediates,
        })
    }

    /// Opens the authority at `path`. Reads no secret.
    ///
    /// # Errors
    /// [`Error::NoAuthority`], [`Error::FormatVersion`], [`Error::Damaged`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let at = |name: &str| path.join(name);
        let text = files::read(&at(PROFILE), MAX_FILE, HINT).map_err(|e| match e {
            smqtt_pki::Error::Missing { .. } => Error::NoAuthority { path: path.into() },
            other => other.into(),
        })?;
        let profile = Profile::parse(&text, &at(PROFILE))?;
        let anchor = TrustAnchor::from_pem(&files::read(&at(CA_CERTIFICATE), MAX_FILE, HINT)?)
            .map_err(|e| Error::Damaged {
                path: at(CA_CERTIFICATE),
                reason: e.to_string(),
            })?;
        if anchor.fingerprint() != profile.ca_fingerprint {
            return Err(Error::Damaged {
                path: at(CA_CERTIFICATE),
                reason: "its fingerprint is not the one in authority.toml".into(),
            });
        }
        let intermediates = read_intermediates(&at(ISSUING_CERTIFICATES), &anchor)?;
        Ok(Self {
            path: path.into(),
            profile,
            anchor,
            intermediates,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.profile.name
    }

    /// The root certificate.
    #[must_use]
    pub fn trust_anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The intermediate that issues; `None` where the root does.
    #[must_use]
    pub fn intermediate(&self) -> Option<&Intermediate> {
        self.intermediates.first()
    }

    /// The intermediates of which something may still be in use: the one that issues first.
    #[must_use]
    pub fn intermediates(&self) -> &[Intermediate] {
        &self.intermediates
    }

    /// The root's own revocation list as it is now; `None` where the root issues.
    ///
    /// # Errors
    /// [`Error::Damaged`], and those of reading a file.
    pub fn root_list(&self) -> Result<Option<RevocationList>, Error> {
        let path = self.path.join(ROOT_LIST);
        match files::read(&path, MAX_FILE, HINT) {
            Ok(text) => RevocationList::read(&text, &self.anchor)
                .map(Some)
                .map_err(|e| Error::Damaged {
                    path,
                    reason: e.to_string(),
                }),
            Err(smqtt_pki::Error::Missing { .. }) if self.intermediates.is_empty() => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// What tells a list that has been replaced; `None` if there is none.
    pub(crate) fn root_list_changed(&self) -> Option<FileState> {
        let file = std::fs::metadata(self.path.join(ROOT_LIST)).ok()?;
        Some((file.modified().ok()?, file.len()))
    }

    /// Whether another key issues by now than when this was opened.
    pub(crate) fn is_replaced(&self) -> Result<bool, Error> {
        let now = read_intermediates(&self.path.join(ISSUING_CERTIFICATES), &self.anchor)?;
        let key = |intermediate: &Intermediate| intermediate.key_digest();
        Ok(now.first().map(key) != self.intermediate().map(key))
    }

    /// The root certificate's fingerprint: what devices pin when they enrol.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.anchor.fingerprint()
    }

    /// The host names and addresses that were given at [`Directory::init`].
    ///
    /// # Errors
    /// [`Error::Damaged`] if one is none.
    pub fn hosts(&self) -> Result<Vec<ServerName<'static>>, Error> {
        let host = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| Error::Damaged {
                path: self.path.join(PROFILE),
                reason: format!("{name:?} is no host"),
            })
        };
        self.profile.hosts.iter().map(host).collect()
    }

    /// Whether, and how, the secrets are sealed.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::FormatVersion`], and those of reading files.
    pub fn sealing(&self) -> Result<Sealing, Error> {
        Sealing::of(&self.path)
    }

    /// Reads the secrets. A keeper is needed if they are sealed.
    ///
    /// # Errors
    /// [`Error::Sealed`] without one, or with one of another kind; [`Error::WrongKey`], [`Error::Damaged`],
    /// [`smqtt_pki::Error::Exposed`].
    pub fn secrets(&self, keeper: Option<&dyn Keeper>) -> Result<Secrets, Error> {
        Secrets::read(&self.path, keeper)
    }

    /// Seals the secrets, or changes what they are sealed with, and records it. `keeper` opens them as they are now. After a
    /// crash at any moment they are as before or as asked for.
    ///
    /// # Errors
    /// As [`Directory::secrets`], and [`Error::Register`].
    pub async fn seal(
        &self,
        keeper: Option<&dyn Keeper>,
        with: &dyn Keeper,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        let register = self.register().await?;
        // Also keeps two of them apart: the register's write lock is held until the end.
        let mut transaction = register.write().await?;
        let secrets = self.secrets(keeper)?;
        self.certificate_authority(&secrets)?;
        self.abe_keys(&secrets)?;
        let act = Act {
            action: "seal",
            subject: &self.profile.name,
            detail: with.method().as_str(),
        };
        register::audit::append(&mut transaction, actor, &act, "ok", now).await?;
        secrets.seal(&self.path, with)?;
        transaction.commit().await?;
        register.close().await;
        Ok(())
    }

    /// Decodes the key that issues and pairs it with its certificate.
    pub(crate) fn certificate_authority(
        &self,
        secrets: &Secrets,
    ) -> Result<CertificateAuthority, Error> {
        let Some(intermediate) = self.intermediate() else {
            return self.root_authority(secrets);
        };
        let damaged = |reason: String| Error::Damaged {
            path: self.secret_path(ISSUING_KEY),
            reason,
        };
        let load = |secret: &[u8]| {
            let key = std::str::from_utf8(secret).map_err(|_| smqtt_pki::Error::PrivateKey)?;
            let anchor = self.anchor.clone();
            CertificateAuthority::load_intermediate(key, intermediate.clone(), anchor)
        };
        // A crash may have left the key in the place where it waited for its certificate.
        if let Some(next) = secrets.get(NEXT_ISSUING_KEY)
            && let Ok(authority) = load(next)
        {
            return Ok(authority);
        }
        load(secrets.need(ISSUING_KEY, &self.path)?).map_err(|e| damaged(e.to_string()))
    }

    /// Decodes the root key and pairs it with its certificate.
    pub(crate) fn root_authority(&self, secrets: &Secrets) -> Result<CertificateAuthority, Error> {
        let damaged = |reason: String| Error::Damaged {
            path: self.secret_path(CA_KEY),
            reason,
        };
        let key = std::str::from_utf8(secrets.need(CA_KEY, &self.path)?)
            .map_err(|_| damaged("it is not PEM text".into()))?;
        let root = files::read(&self.path.join(CA_CERTIFICATE), MAX_FILE, HINT)?;
        CertificateAuthority::load(key, &root).map_err(|e| damaged(e.to_string()))
    }

    /// Decodes the ABE master key and public parameters and checks that they belong together.
    pub(crate) fn abe_keys(
        &self,
        secrets: &Secrets,
    ) -> Result<(cp::MasterKey, cp::PublicParameters), Error> {
        let (secret, public) = (self.secret_path(MASTER_KEY), self.path.join(PARAMETERS));
        let damaged = |path: &Path, reason: String| Error::Damaged {
            path: path.into(),
            reason,
        };
        let master = cp::MasterKey::from_bytes(secrets.need(MASTER_KEY, &self.path)?)
            .map_err(|e| damaged(&secret, e.to_string()))?;
        let parameters = cp::PublicParameters::from_bytes(&files::read(&public, MAX_FILE, HINT)?)
            .map_err(|e| damaged(&public, e.to_string()))?;
        if master.public_parameters().hash() != parameters.hash() {
            return Err(damaged(
                &public,
                "it does not belong to abe-master.key".into(),
            ));
        }
        Ok((master, parameters))
    }

    /// The file that holds this secret.
    fn secret_path(&self, name: &str) -> PathBuf {
        let sealed = self.path.join(SEALED);
        if sealed.exists() {
            sealed
        } else {
            self.path.join(name)
        }
    }

    /// Opens the register.
    pub(crate) async fn register(&self) -> Result<Register, Error> {
        let at = self.path.join(DATABASE);
        if at.exists() {
            let url = files::read_private(&at, MAX_FILE, HINT)?;
            let url = std::str::from_utf8(&url).map_err(|_| Error::Damaged {
                path: at.clone(),
                reason: "it is not UTF-8 text".into(),
            })?;
            let register = Register::connect(url.trim()).await?;
            // The first thing that every authority has recorded.
            let own = self.profile.ca_fingerprint.to_string();
            return match register.origin().await? {
                Some(origin) if origin == own => Ok(register),
                found => Err(Error::ForeignRegister {
                    found: found.unwrap_or_else(|| "none".into()),
                    path: at,
                }),
            };
        }
        let path = self.path.join(REGISTER);
        if !path.exists() {
            return Err(smqtt_pki::Error::Missing { path, hint: HINT }.into());
        }
        Register::open(&path).await
    }

    /// Connects to a database that nobody has used yet, and notes its URL in a file.
    pub(crate) async fn take_database(file: &Path, url: &str) -> Result<Register, Error> {
        let register = Register::connect(url).await?;
        if register.origin().await?.is_some() {
            return Err(Error::Database {
                reason: "it holds an authority's register already".into(),
            });
        }
        files::write_private(file, format!("{url}\n").as_bytes())?;
        Ok(register)
    }
}

/// The certificates of the intermediates, the one that issues first; empty where the root does.
fn read_intermediates(path: &Path, anchor: &TrustAnchor) -> Result<Vec<Intermediate>, Error> {
    let text = match files::read(path, MAX_FILE, HINT) {
        Ok(text) => text,
        Err(smqtt_pki::Error::Missing { .. }) => return Ok(Vec::new()),
        Err(other) => return Err(other.into()),
    };
    certificates_from_pem(&text)
        .and_then(|certificates| {
            let verified = certificates.into_iter();
            verified
                .map(|der| Intermediate::verify(der, anchor))
                .collect()
        })
        .map_err(|e| Error::Damaged {
            path: path.into(),
            reason: e.to_string(),
        })
}

/// The root's own list: what was on it before, and these, without who was suspended and is `reinstated`. It holds until `until`.
///
/// Its number is the time, so that it grows without anything that an offline root would have to remember.
pub(crate) fn root_list(
    root: &CertificateAuthority,
    revoked: &[Revocation],
    reinstated: &[Serial],
    before: Option<&RevocationList>,
    until: UnixTime,
    now: UnixTime,
) -> Result<RevocationList, Error> {
    let mut entries: std::collections::BTreeMap<_, _> = before
        .into_iter()
        .flat_map(RevocationList::entries)
        .map(|entry| (entry.serial, *entry))
        .collect();
    for revocation in revoked {
        entries.insert(revocation.serial, *revocation);
    }
    for serial in reinstated {
        entries.remove(serial);
    }
    let entries: Vec<_> = entries.into_values().collect();
    let mut number = now.as_secs();
    // Two within a second, or a clock that was ahead.
    while before.is_some_and(|before| *before.number() >= CrlNumber::from(number)) {
        number += 1 + number / 1_000_000;
    }
    let begins = now.as_secs().saturating_sub(Validity::CLOCK_SKEW.as_secs());
    let begins = UnixTime::since_unix_epoch(Duration::from_secs(begins));
    Ok(root.issue_crl(&entries, number, Validity::new(begins, until)?)?)
}

impl Profile {
    fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |reason: &str| Error::Damaged {
            path: path.into(),
            reason: reason.into(),
        };
        let text = std::str::from_utf8(text).map_err(|_| damaged("it is not UTF-8 text"))?;
        let Version { version } = toml::from_str(text).map_err(|e| damaged(e.message()))?;
        if version != VERSION {
            return Err(Error::FormatVersion {
                path: path.into(),
                found: version,
                supported: VERSION,
            });
        }
        let profile: Self = toml::from_str(text).map_err(|e| damaged(e.message()))?;
        if profile.suite != Suite::FabeoCpBls12381.id() {
            return Err(damaged("its ABE suite is not known to this program"));
        }
        Ok(profile)
    }
}
