//! The root kept offline: its key leaves the service, an intermediate issues, and the root signs it where no network reaches.
//!
//! What goes to the root is a [`RootRequest`], what comes back a [`RootAnswer`]: text in PEM form, with nothing secret in it.
//! The root has nothing to remember: what it has taken back stands in its own list, which it signed, and the list's number is the
//! time.

use std::path::Path;
use std::time::Duration;

use smqtt_pki::{
    CertificateAuthority, CertificateRequest, Fingerprint, IdentityKey, Intermediate, Revocation,
    RevocationList, RevocationReason, TrustAnchor, UnixTime, Validity, certificates_from_pem,
    certificates_to_pem, files,
};

use crate::clock::system_rng;
use crate::directory::{CA_CERTIFICATE, ISSUING_CERTIFICATES, ROOT_LIST, root_list};
use crate::effects::replace;
use crate::register::audit::{self, Act, Actor};
use crate::register::{self, Write};
use crate::secrets::{CA_KEY, ISSUING_KEY, Keeper, Method, NEXT_ISSUING_KEY, Sealing, Secrets};
use crate::{Authority, Directory, Error, Issuer};

/// How the root and the intermediate stand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RootStatus {
    /// Whether the root's key is in this directory; `None` if the secrets are sealed and were not opened.
    pub key_here: Option<bool>,
    /// Whether an intermediate was requested and not installed yet; `None` as above.
    pub requested: Option<bool>,
    /// The intermediate that issues; `None` where the root does.
    pub intermediate: Option<Intermediate>,
    /// The root's own list.
    pub list: Option<RevocationList>,
    /// How many valid certificates of devices the root itself has issued, before there was an intermediate.
    pub issued_by_root: u64,
}

/// A request for an intermediate's certificate, as it goes to the root.
pub struct RootRequest {
    request: CertificateRequest,
    intermediates: Vec<Intermediate>,
    list: Option<RevocationList>,
}

/// [`RootRequest`] as text, and the key that it is for.
pub struct Request {
    /// The text, for [`RootRequest::read`].
    pub text: String,
    /// SHA-256 of the public key, hexadecimal: for the eyes of who signs.
    pub key: String,
}

/// What the root has signed: the intermediate's certificate, and a new list of the root's own.
pub struct RootAnswer {
    /// The certificate.
    pub intermediate: Intermediate,
    /// The list.
    pub list: RevocationList,
}

/// The root with its key.
pub struct OfflineRoot(CertificateAuthority);

/// What [`Authority::install_intermediate`] has done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Installed {
    /// The intermediate that issues now.
    pub intermediate: Intermediate,
    /// Whether its key is another than before: a running service has to be started again.
    pub new_key: bool,
    /// The intermediates that count no more, by name.
    pub revoked: Vec<String>,
}

/// How many earlier intermediates are remembered.
const EARLIER: usize = 8;
const MAX: u64 = 1024 * 1024;
const HINT: &str = "give a file that is there";

fn refused(reason: impl Into<String>) -> Error {
    Error::Root(reason.into())
}

fn hex(digest: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest)
}

impl RootRequest {
    /// Reads a request to this root.
    ///
    /// # Errors
    /// [`Error::Root`] if there is none, or if what is with it is another root's.
    pub fn read(text: &str, anchor: &TrustAnchor) -> Result<Self, Error> {
        let odd = |e: smqtt_pki::Error| refused(format!("the request can not be used: {e}"));
        let request = CertificateRequest::from_pem(text).map_err(odd)?;
        let mut intermediates = Vec::new();
        if text.contains("BEGIN CERTIFICATE-----") {
            for certificate in certificates_from_pem(text.as_bytes()).map_err(odd)? {
                intermediates.push(Intermediate::verify(certificate, anchor).map_err(odd)?);
            }
        }
        let list = match text.contains("BEGIN X509 CRL-----") {
            true => Some(RevocationList::read(text.as_bytes(), anchor).map_err(odd)?),
            false => None,
        };
        Ok(Self {
            request,
            intermediates,
            list,
        })
    }

    /// SHA-256 of the public key that a certificate is requested for, hexadecimal.
    #[must_use]
    pub fn key(&self) -> String {
        hex(&self.request.key_digest())
    }

    /// The intermediates with another key that were not taken back.
    #[must_use]
    pub fn earlier(&self) -> Vec<&Intermediate> {
        let standing = |i: &&Intermediate| {
            let listed = self.list.as_ref().is_some_and(|l| l.revokes(i.serial()));
            i.key_digest() != self.request.key_digest() && !listed
        };
        self.intermediates.iter().filter(standing).collect()
    }
}

impl RootAnswer {
    /// Reads what this root has signed.
    ///
    /// # Errors
    /// [`Error::Root`].
    pub fn read(text: &str, anchor: &TrustAnchor) -> Result<Self, Error> {
        let odd = |e: smqtt_pki::Error| refused(format!("the answer can not be used: {e}"));
        // With what there is already beside it, a request could pass for an answer that changes nothing.
        if text.contains("BEGIN CERTIFICATE REQUEST-----") {
            return Err(refused(
                "the answer can not be used: it is a request, which the root has to sign first",
            ));
        }
        let mut certificates = certificates_from_pem(text.as_bytes()).map_err(odd)?;
        let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
            return Err(refused("the answer holds more than one certificate"));
        };
        Ok(Self {
            intermediate: Intermediate::verify(certificate, anchor).map_err(odd)?,
            list: RevocationList::read(text.as_bytes(), anchor).map_err(odd)?,
        })
    }

    /// The answer as text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let certificate = core::slice::from_ref(self.intermediate.certificate());
        certificates_to_pem(certificate) + &self.list.to_pem()
    }
}

impl OfflineRoot {
    /// How an exported root is sealed.
    ///
    /// # Errors
    /// [`Error::Damaged`], and those of reading a file.
    pub fn method(path: &Path) -> Result<Method, Error> {
        Secrets::sealed_method(path)
    }

    /// Opens a root that [`Authority::export_root`] has written.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::Sealed`] for another kind of key, [`Error::Damaged`].
    pub fn open(path: &Path, keeper: &dyn Keeper) -> Result<Self, Error> {
        let secrets = Secrets::open_sealed(path, keeper)?;
        let damaged = |reason: &str| Error::Damaged {
            path: path.into(),
            reason: reason.into(),
        };
        let (Some(key), Some(certificate)) = (secrets.get(CA_KEY), secrets.get(CA_CERTIFICATE))
        else {
            return Err(damaged("it holds no root: give a file of `root export`"));
        };
        let key = std::str::from_utf8(key).map_err(|_| damaged("its key is no PEM text"))?;
        let root = CertificateAuthority::load(key, certificate);
        Ok(Self(root.map_err(|e| damaged(&e.to_string()))?))
    }

    /// The root certificate.
    #[must_use]
    pub fn trust_anchor(&self) -> &TrustAnchor {
        self.0.trust_anchor()
    }

    /// Signs an intermediate's certificate for `lifetime`, and a list that holds as long as it. With `revoke_earlier` the
    /// list names all intermediates that have another key: whatever they have issued counts no more.
    ///
    /// # Errors
    /// [`smqtt_pki::Error::Validity`], [`smqtt_pki::Error::Issue`].
    pub fn sign(
        &self,
        request: &RootRequest,
        lifetime: Duration,
        revoke_earlier: bool,
        now: UnixTime,
    ) -> Result<RootAnswer, Error> {
        let validity = Validity::starting(now, lifetime)?;
        let intermediate =
            self.0
                .issue_intermediate(&request.request, validity, &mut system_rng())?;
        let revoked: Vec<_> = request
            .earlier()
            .into_iter()
            .filter(|_| revoke_earlier)
            .map(|earlier| Revocation {
                serial: earlier.serial(),
                at: now,
                reason: RevocationReason::KeyCompromise,
            })
            .collect();
        let until = intermediate.validity().not_after();
        let list = root_list(&self.0, &revoked, &[], request.list.as_ref(), until, now)?;
        Ok(RootAnswer { intermediate, list })
    }
}

impl Authority {
    /// How root and intermediate stand. Without a keeper nothing is said of sealed secrets.
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Damaged`], and those of [`Directory::secrets`].
    pub async fn root_status(
        &self,
        keeper: Option<&dyn Keeper>,
        now: UnixTime,
    ) -> Result<RootStatus, Error> {
        let directory = self.directory();
        let opened = match (directory.sealing()?, keeper) {
            (Sealing::Sealed(_), None) => None,
            (_, keeper) => Some(directory.secrets(keeper)?),
        };
        let mut transaction = self.register().write().await?;
        let issued_by_root = self.issued_by_root(&mut transaction, now).await?;
        let has = |name: &str| opened.as_ref().map(|secrets| secrets.get(name).is_some());
        Ok(RootStatus {
            key_here: has(CA_KEY),
            requested: has(NEXT_ISSUING_KEY),
            intermediate: directory.intermediate().cloned(),
            list: directory.root_list()?,
            issued_by_root,
        })
    }

    async fn issued_by_root(&self, transaction: &mut Write, now: UnixTime) -> Result<u64, Error> {
        let start = match self.directory().intermediates().last() {
            Some(first) => first.validity().not_before().as_secs() + Validity::CLOCK_SKEW.as_secs(),
            None => now.as_secs(),
        };
        register::issued_until(transaction, start, now).await
    }

    /// Writes the root's key and certificate into a new file, sealed by `with`. The key stays here too, until
    /// [`Authority::remove_root`].
    ///
    /// # Errors
    /// [`Error::Root`] if the key is not here any more, [`smqtt_pki::Error::Exists`], those of [`Directory::secrets`].
    pub async fn export_root(
        &self,
        keeper: Option<&dyn Keeper>,
        out: &Path,
        with: &dyn Keeper,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        let directory = self.directory();
        let mut transaction = self.register().write().await?;
        let secrets = directory.secrets(keeper)?;
        let root = root_here(directory, &secrets)?;
        let mut exported = Secrets::default();
        exported.put(CA_KEY, root.key_pem()?.as_bytes());
        exported.put(CA_CERTIFICATE, root.root_pem().as_bytes());
        files::write_private(out, &exported.to_sealed(with)?)?;
        // Read back before anybody relies on it.
        OfflineRoot::open(out, with)?;
        self.note_root(
            &mut transaction,
            "root-export",
            with.method().as_str(),
            actor,
            now,
        )
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes the root's key from this directory, after a look into the export that keeps it.
    ///
    /// # Errors
    /// [`Error::Root`] if no intermediate issues, if the export is of another root, or if certificates of devices are valid
    /// that the root itself has issued: nobody could take them back.
    pub async fn remove_root(
        &self,
        keeper: Option<&dyn Keeper>,
        exported: &OfflineRoot,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        let directory = self.directory();
        let mut transaction = self.register().write().await?;
        let mut secrets = directory.secrets(keeper)?;
        root_here(directory, &secrets)?;
        if directory.intermediate().is_none() {
            return Err(refused(
                "the root itself issues here: make an intermediate first, with `smqtt-authority root renew`",
            ));
        }
        if exported.trust_anchor().fingerprint() != directory.fingerprint() {
            return Err(refused(format!(
                "the export is of another root, {}",
                exported.trust_anchor().fingerprint()
            )));
        }
        let count = self.issued_by_root(&mut transaction, now).await?;
        if count > 0 {
            return Err(refused(format!(
                "{count} certificates of devices were issued by the root itself and are valid: without its key they could not be taken back; wait until the devices have renewed and those have expired"
            )));
        }
        secrets.remove(directory.path(), keeper, CA_KEY)?;
        self.note_root(&mut transaction, "root-remove", "", actor, now)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes a request for an intermediate's certificate: for the key that it has, or for a new one, which then waits for
    /// [`Authority::install_intermediate`].
    ///
    /// # Errors
    /// Those of [`Directory::secrets`], [`Error::Register`].
    pub async fn request_intermediate(
        &self,
        keeper: Option<&dyn Keeper>,
        new_key: bool,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Request, Error> {
        let directory = self.directory();
        let mut transaction = self.register().write().await?;
        let mut secrets = directory.secrets(keeper)?;
        let key = match (new_key, directory.intermediate()) {
            (false, Some(_)) => {
                let issuing = directory.certificate_authority(&secrets)?;
                IdentityKey::from_pem(&issuing.key_pem()?)?
            }
            _ => {
                let key = IdentityKey::generate(&mut system_rng());
                let pem = key.to_pem()?;
                secrets.store(directory.path(), keeper, NEXT_ISSUING_KEY, pem.as_bytes())?;
                key
            }
        };
        let csr = key.unnamed_csr_pem()?;
        let digest = hex(&CertificateRequest::from_pem(&csr)?.key_digest());
        let known: Vec<_> = directory
            .intermediates()
            .iter()
            .map(|i| i.certificate().clone())
            .collect();
        let list = directory.root_list()?.map(|list| list.to_pem());
        let text = format!(
            "# Request of the SMQTT authority {:?} to its root {}\n# for an intermediate with the key {digest}\n{csr}{}{}",
            directory.name(),
            directory.fingerprint(),
            certificates_to_pem(&known),
            list.unwrap_or_default(),
        );
        self.note_root(
            &mut transaction,
            "intermediate-request",
            &digest,
            actor,
            now,
        )
        .await?;
        transaction.commit().await?;
        Ok(Request { text, key: digest })
    }

    /// Puts an intermediate in place that the root has signed, with the root's new list. Done again after an interruption,
    /// it completes what was begun.
    ///
    /// What follows from it, a revocation list and, where intermediates were taken back, a new epoch, is
    /// [`Issuer::after_install`]'s.
    ///
    /// # Errors
    /// [`Error::Root`] for an answer to another request or of another root, one that has expired or is older than what is
    /// here.
    pub async fn install_intermediate(
        &self,
        keeper: Option<&dyn Keeper>,
        answer: &RootAnswer,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Installed, Error> {
        let directory = self.directory();
        let mut transaction = self.register().write().await?;
        let mut secrets = directory.secrets(keeper)?;
        let new = &answer.intermediate;
        let fits = |name: &str| {
            let key = secrets
                .get(name)
                .and_then(|key| std::str::from_utf8(key).ok());
            let key = key.and_then(|key| IdentityKey::from_pem(key).ok());
            key.is_some_and(|key| key.check_certificate(new.certificate()).is_ok())
        };
        let from_request = fits(NEXT_ISSUING_KEY);
        if !from_request && !fits(ISSUING_KEY) {
            return Err(refused(
                "the certificate is for another key than the one that was requested here: give the answer to the last `root request`",
            ));
        }
        if answer.list.revokes(new.serial()) {
            return Err(refused("the root's list names the intermediate itself"));
        }
        new.validity()
            .check(now)
            .and_then(|()| answer.list.validity().check(now))
            .map_err(|e| refused(format!("the answer does not hold now: {e}")))?;
        let before = directory.root_list()?;
        if before.is_some_and(|before| answer.list.number() < before.number()) {
            return Err(refused(
                "the root's list in the answer is older than the one here: have the root sign the last request",
            ));
        }
        let known = directory.intermediates();
        let counts_no_more = |i: &&Intermediate| answer.list.revokes(i.serial());
        let revoked = known
            .iter()
            .filter(counts_no_more)
            .map(|i| i.name().to_owned());
        let revoked: Vec<_> = revoked.collect();
        let mut certificates = vec![new.certificate().clone()];
        certificates.extend(
            known
                .iter()
                .filter(|i| i.key_digest() != new.key_digest())
                .map(|i| i.certificate().clone())
                .take(EARLIER),
        );
        let at = |name: &str| directory.path().join(name);
        replace(&at(ROOT_LIST), answer.list.to_pem().as_bytes())?;
        let text = certificates_to_pem(&certificates);
        // From here on the new one issues, whichever of the two names its key has.
        replace(&at(ISSUING_CERTIFICATES), text.as_bytes())?;
        files::sync_directory(directory.path())?;
        if from_request && let Some(key) = secrets.get(NEXT_ISSUING_KEY) {
            let key = zeroize::Zeroizing::new(key.to_vec());
            secrets.store(directory.path(), keeper, ISSUING_KEY, &key)?;
            secrets.remove(directory.path(), keeper, NEXT_ISSUING_KEY)?;
        }
        let installed = Installed {
            new_key: known.first().map(Intermediate::key_digest) != Some(new.key_digest()),
            intermediate: new.clone(),
            revoked,
        };
        let detail = format!(
            "{} serial {} until {}; the root's list {} names {}",
            new.name(),
            new.serial(),
            new.validity().not_after().as_secs(),
            answer.list.number(),
            answer.list.serials().len(),
        );
        self.note_root(
            &mut transaction,
            "intermediate-install",
            &detail,
            actor,
            now,
        )
        .await?;
        transaction.commit().await?;
        Ok(installed)
    }

    async fn note_root(
        &self,
        transaction: &mut Write,
        action: &'static str,
        detail: &str,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        let subject = self.directory().fingerprint().to_string();
        let act = Act {
            action,
            subject: &subject,
            detail,
        };
        audit::append(transaction, actor, &act, "ok", now).await
    }
}

impl Issuer {
    /// The root, if its key is still here.
    ///
    /// # Errors
    /// Those of [`Directory::secrets`].
    pub fn root(directory: &Directory, keeper: Option<&dyn Keeper>) -> Result<OfflineRoot, Error> {
        let secrets = directory.secrets(keeper)?;
        root_here(directory, &secrets).map(OfflineRoot)
    }

    /// What follows from an intermediate that was just put in place: a revocation list, which it signs; and, if others were
    /// taken back, a new epoch at once, so that every device renews and gets a certificate of the new one.
    ///
    /// # Errors
    /// [`Error::Register`], [`smqtt_pki::Error::Validity`].
    pub async fn after_install(
        &self,
        installed: &Installed,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Option<u64>, Error> {
        let settings = register::settings(self.authority.register().reader()).await?;
        self.issue_crl(settings.crl_valid, actor, now).await?;
        if installed.revoked.is_empty() {
            return Ok(None);
        }
        let advanced = self
            .advance_epoch(Some(Duration::ZERO), "intermediate-revoke", actor, now)
            .await?;
        Ok(Some(advanced.epoch))
    }
}

fn root_here(directory: &Directory, secrets: &Secrets) -> Result<CertificateAuthority, Error> {
    if secrets.get(CA_KEY).is_none() {
        return Err(refused(
            "the root's key is not here any more: use the file that `smqtt-authority root export` has written",
        ));
    }
    directory.root_authority(secrets)
}

/// Reads a request or an answer.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = files::read(path, MAX, HINT)?;
    String::from_utf8(bytes).map_err(|_| refused(format!("{} is no text", path.display())))
}

impl RootRequest {
    /// Reads a request to this root from a file.
    ///
    /// # Errors
    /// As [`RootRequest::read`], and those of reading a file.
    pub fn read_file(path: &Path, anchor: &TrustAnchor) -> Result<Self, Error> {
        Self::read(&read_text(path)?, anchor)
    }
}

impl RootAnswer {
    /// Reads an answer of this root from a file.
    ///
    /// # Errors
    /// As [`RootAnswer::read`], and those of reading a file.
    pub fn read_file(path: &Path, anchor: &TrustAnchor) -> Result<Self, Error> {
        Self::read(&read_text(path)?, anchor)
    }

    /// The fingerprint of the intermediate's certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.intermediate.fingerprint()
    }
}
