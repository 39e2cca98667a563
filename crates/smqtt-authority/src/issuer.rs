//! The authority with its secret keys.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smqtt_abe::{cp, kp};
use smqtt_pki::files::{self, StagedDirectory};
use smqtt_pki::{
    AuthorityIdentity, CertificateAuthority, Fingerprint, IdentityKey, Intermediate,
    IssuedCertificate, RevocationList, ServerName, UnixTime, Validity,
};

use crate::clock::system_rng;
use crate::directory::FileState;
use crate::enrol::DEVICE_LIFETIME;
use crate::limiter::AuditBudget;
use crate::register::audit::{self, Act, Actor};
use crate::secrets::{CA_KEY, Keeper};
use crate::{Authority, Error, register};

/// An authority with its root key and ABE master key in memory. Both are erased when dropped, and shown nowhere.
#[derive(Clone)]
pub struct Issuer {
    pub(crate) authority: Arc<Authority>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) audit_budget: Arc<AuditBudget>,
    /// Names of the attributes that certificates show.
    pub(crate) certified: Arc<[String]>,
    /// How long a device's certificate is valid.
    pub(crate) device_lifetime: Duration,
    /// What the authority itself connects to brokers and signs its state with, once it was needed.
    pub(crate) own: Arc<Mutex<Option<Arc<AuthorityIdentity>>>>,
    /// The root's own list, PEM, and of when its file was.
    pub(crate) root_list: Arc<Mutex<Option<(FileState, String)>>>,
}

pub(crate) struct Keys {
    /// Who issues: the intermediate, or the root where there is none.
    pub(crate) ca: CertificateAuthority,
    /// The root, where there is an intermediate and the root's key is still here.
    pub(crate) root: Option<CertificateAuthority>,
    pub(crate) root_pem: String,
    pub(crate) master: cp::MasterKey,
    pub(crate) parameters: cp::PublicParameters,
    pub(crate) parameters_bytes: Vec<u8>,
    /// For key policies: made of `master`, so that every instance and every backup has the same.
    pub(crate) policy_master: kp::MasterKey,
    pub(crate) policy_parameters: kp::PublicParameters,
    pub(crate) policy_parameters_bytes: Vec<u8>,
}

/// What [`Issuer::write_server_files`] has written.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// The certificate's serial number.
    pub serial: smqtt_pki::Serial,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl Issuer {
    /// Loads the secret keys. A keeper is needed if they are sealed.
    ///
    /// # Errors
    /// As [`Directory::secrets`](crate::Directory::secrets); [`smqtt_pki::Error::Missing`], [`Error::Damaged`].
    pub fn load(authority: Authority, keeper: Option<&dyn Keeper>) -> Result<Self, Error> {
        let directory = authority.directory();
        let secrets = directory.secrets(keeper)?;
        let ca = directory.certificate_authority(&secrets)?;
        let (master, parameters) = directory.abe_keys(&secrets)?;
        let root = match (ca.intermediate(), secrets.get(CA_KEY)) {
            (Some(_), Some(_)) => Some(directory.root_authority(&secrets)?),
            _ => None,
        };
        let policy_master = kp::MasterKey::beside(&master);
        let policy_parameters = policy_master.public_parameters();
        let keys = Keys {
            policy_parameters_bytes: policy_parameters.to_bytes(),
            policy_parameters,
            policy_master,
            root_pem: ca.root_pem(),
            root,
            parameters_bytes: parameters.to_bytes(),
            ca,
            master,
            parameters,
        };
        Ok(Self {
            authority: Arc::new(authority),
            keys: Arc::new(keys),
            audit_budget: Arc::new(AuditBudget::new()),
            certified: Arc::default(),
            device_lifetime: DEVICE_LIFETIME,
            own: Arc::default(),
            root_list: Arc::default(),
        })
    }

    /// How long the device certificates issued from now on are valid. Default: 90 days.
    #[must_use]
    pub fn device_lifetime(mut self, lifetime: Duration) -> Self {
        self.device_lifetime = lifetime;
        self
    }

    /// Has the certificates issued from now on show those attributes of their device that have one of these names.
    /// **Everybody who sees a certificate reads them**: the broker, for its rules, and whoever gets a key frame. By
    /// default none is shown.
    #[must_use]
    pub fn certifying(mut self, names: &[String]) -> Self {
        self.certified = names.into();
        self
    }

    /// The authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Issues a server's certificate, recorded in the register before it is returned.
    pub(crate) async fn issue_server(
        &self,
        hosts: &[ServerName<'static>],
        lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(IssuedCertificate, IdentityKey), Error> {
        let validity = Validity::starting(now, lifetime)?;
        let (issued, key) = self
            .keys
            .ca
            .issue_server(hosts, validity, &mut system_rng())?;
        let names: Vec<_> = hosts.iter().map(ServerName::to_str).collect();
        let names = names.join(" ");
        let detail = format!("serial {}", issued.serial);
        let mut transaction = self.authority.register().write().await?;
        register::certificate_of_server(&mut transaction, &names, &issued, now).await?;
        let act = Act {
            action: "server-issue",
            subject: &names,
            detail: &detail,
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok((issued, key))
    }

    /// Issues a list of all certificates that were taken back and have not expired. It holds for `lifetime`; its number is
    /// recorded in the register before it is returned.
    ///
    /// # Errors
    /// [`smqtt_pki::Error::Validity`], [`Error::Register`].
    pub async fn issue_crl(
        &self,
        lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<RevocationList, Error> {
        let transaction = self.authority.register().write().await?;
        self.issue_list(transaction, lifetime, actor, now).await
    }

    /// Issues a list where there is none, or the newest is getting old. Several instances may ask: only one issues it.
    pub(crate) async fn refresh_list(
        &self,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<(), Error> {
        let stale = |list: Option<register::ListRecord>| {
            let Some(list) = list else { return Ok(true) };
            // One that another intermediate has issued is of no use any more.
            let lists = list.der.map(|der| self.complete_list(der)).transpose()?;
            let fresh = crate::effects::fresh(list.issued, list.next_update, now);
            Ok::<_, Error>(lists.flatten().is_none() || !fresh)
        };
        let register = self.authority.register();
        if !stale(register::newest_list(register.reader()).await?)? {
            return Ok(());
        }
        let mut transaction = register.write().await?;
        if stale(register::newest_list(&mut *transaction).await?)? {
            self.issue_list(transaction, lifetime, &Actor::service(), now)
                .await?;
        }
        Ok(())
    }

    /// Whether another intermediate issues by now, put in place by another instance on the same register: what this one
    /// issues, nobody takes.
    pub(crate) async fn is_superseded(&self) -> Result<bool, Error> {
        let reader = self.authority.register().reader();
        let newest = register::newest_list(reader).await?;
        // Whoever puts an intermediate in place issues a list with it.
        let own = match newest.and_then(|list| list.der) {
            Some(der) => self.complete_list(der)?.is_some(),
            None => true,
        };
        if own {
            return Ok(false);
        }
        // One that was requested after the last that was put in place is newer: its installation was interrupted.
        let own = self.keys.ca.intermediate();
        let key = own.map(|own| data_encoding::HEXLOWER.encode(&own.key_digest()));
        let installed = register::installed_since(reader, key.as_deref().unwrap_or("")).await?;
        Ok(installed.is_some_and(|name| own.map(Intermediate::name) != Some(name.as_str())))
    }

    async fn issue_list(
        &self,
        mut transaction: register::Write,
        lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<RevocationList, Error> {
        let (list, number) = self.sign_list(&mut transaction, lifetime, now).await?;
        let act = Act {
            action: "crl-issue",
            subject: &number.to_string(),
            detail: &format!("{} certificates", list.serials().len()),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(list)
    }

    /// Issues a server's certificate into a new directory: `server.crt` (the chain with the root at its end),
    /// `server.key` (mode 0600) and `ca.crt`.
    ///
    /// # Errors
    /// [`smqtt_pki::Error::Exists`] if something is there already, [`smqtt_pki::Error::Hosts`], [`Error::Register`].
    pub async fn write_server_files(
        &self,
        directory: &Path,
        hosts: &[ServerName<'static>],
        lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<ServerFiles, Error> {
        let staged = StagedDirectory::create(directory)?;
        let (issued, key) = self.issue_server(hosts, lifetime, actor, now).await?;
        let at = |name: &str| staged.path().join(name);
        files::write_public(&at("server.crt"), issued.chain_pem().as_bytes())?;
        files::write_private(&at("server.key"), key.to_pem()?.as_bytes())?;
        files::write_public(&at("ca.crt"), self.keys.root_pem.as_bytes())?;
        staged.commit()?;
        Ok(ServerFiles {
            serial: issued.serial,
            fingerprint: issued.fingerprint(),
            validity: issued.validity,
        })
    }
}
