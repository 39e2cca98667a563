//! What an act changes outside of the register: the state at the brokers, the revocation list's file.
//!
//! Both are made and kept in the transaction of the act. They are delivered after it; what could not be delivered, or was
//! interrupted, the service delivers later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smqtt_format::AuthorityState;
use smqtt_pki::{
    AuthorityIdentity, CertificateRevocationListDer, RevocationList, RevocationReason, Revocations,
    UnixTime, Validity, files, tls,
};

use crate::clock::system_rng;
use crate::directory::{ROOT_LIST, root_list};
use crate::publish::publish_state;
use crate::register::{self, Write};
use crate::{Error, Issuer};

/// How long the authority's own identity is valid.
const IDENTITY_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// When less is left of it, another is issued.
const IDENTITY_MARGIN: Duration = Duration::from_secs(45 * 86_400);
/// Until when the next state comes at the latest. The service makes it at half of that.
pub(crate) const STATE_LIFETIME: Duration = Duration::from_secs(14 * 86_400);

/// The authority's own identity, and whether the register knows it.
pub(crate) struct Own {
    pub(crate) identity: Arc<AuthorityIdentity>,
    recorded: bool,
}

/// What [`Issuer::deliver`] has done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Delivered {
    /// The file in which the newest revocation list was written, with its number.
    pub crl: Option<(PathBuf, u64)>,
    /// Each broker that had an older state, and whether it has the newest now.
    pub brokers: Vec<(String, Result<(), String>)>,
}

impl Issuer {
    /// The authority's own identity: the one that this process has, or a new one.
    pub(crate) async fn own_identity(&self, now: UnixTime) -> Result<Own, Error> {
        let held = self.own.lock().map_err(|_| Error::Task)?.clone();
        if let Some(identity) = held {
            let left = identity.certificate().validity.not_after().as_secs();
            if left > now.as_secs() + IDENTITY_MARGIN.as_secs() {
                return Ok(Own {
                    identity,
                    recorded: true,
                });
            }
        }
        let validity = Validity::starting(now, IDENTITY_LIFETIME)?;
        let identity = self.keys.ca.issue_authority(validity, &mut system_rng())?;
        Ok(Own {
            identity: Arc::new(identity),
            recorded: false,
        })
    }

    /// Keeps an identity for the process' later acts, once the register knows it.
    pub(crate) fn keep_identity(&self, own: Own) {
        if let Ok(mut held) = self.own.lock() {
            *held = Some(own.identity);
        }
    }

    /// Signs a state of what is true inside of the transaction and keeps it; returns its sequence number.
    pub(crate) async fn sign_state(
        &self,
        transaction: &mut Write,
        own: &Own,
        now: UnixTime,
    ) -> Result<u64, Error> {
        if !own.recorded {
            let subject = smqtt_pki::AUTHORITY_DEVICE;
            let certificate = own.identity.certificate();
            register::certificate_of_server(transaction, subject, certificate, now).await?;
        }
        let last = register::newest_state(&mut **transaction).await?;
        let state = AuthorityState {
            sequence: last.map_or(0, |state| state.sequence) + 1,
            issued: now.as_secs(),
            next_update: now.as_secs() + STATE_LIFETIME.as_secs(),
            epoch: register::epoch(&mut **transaction).await?.get(),
            sealing: register::sealing(&mut **transaction, now).await?,
            crl_number: register::crl_number(&mut **transaction).await?,
            parameters: self.keys.parameters.hash(),
        };
        let bytes = own.identity.sign_state(&state)?;
        register::insert_state(transaction, &state, &bytes).await?;
        Ok(state.sequence)
    }

    /// Issues a revocation list of what is true inside of the transaction and keeps it.
    pub(crate) async fn sign_list(
        &self,
        transaction: &mut Write,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<(RevocationList, u64), Error> {
        let validity = Validity::starting(now, lifetime)?;
        let revoked = register::revocations(transaction, now).await?;
        let number = register::next_list_number(transaction).await?;
        let list = self.keys.ca.issue_crl(&revoked, number, validity)?;
        self.list_at_root(transaction, &revoked, now).await?;
        register::keep_list(transaction, number, &list, now).await?;
        Ok((list, number))
    }

    /// Has the root's own list name what was taken back too, as long as there are certificates that the root itself has
    /// issued, before there was an intermediate.
    async fn list_at_root(
        &self,
        transaction: &mut Write,
        revoked: &[smqtt_pki::Revocation],
        now: UnixTime,
    ) -> Result<(), Error> {
        let directory = self.authority.directory();
        let (Some(root), Some(first)) = (&self.keys.root, directory.intermediates().last()) else {
            return Ok(());
        };
        let start = first.validity().not_before().as_secs() + Validity::CLOCK_SKEW.as_secs();
        let before = directory.root_list()?;
        let listed: Vec<_> = before.iter().flat_map(|before| before.entries()).collect();
        let is_listed = |revocation: &smqtt_pki::Revocation| listed.contains(&revocation);
        let reinstated: Vec<_> = listed
            .iter()
            .filter(|entry| entry.reason == RevocationReason::CertificateHold)
            .map(|entry| entry.serial)
            .filter(|serial| {
                revoked
                    .iter()
                    .all(|revocation| revocation.serial != *serial)
            })
            .collect();
        let is_complete = revoked.iter().all(is_listed) && reinstated.is_empty();
        if is_complete || register::issued_until(transaction, start, now).await? == 0 {
            return Ok(());
        }
        let until = self.keys.ca.validity().not_after();
        let list = root_list(root, revoked, &reinstated, before.as_ref(), until, now)?;
        replace(&directory.path().join(ROOT_LIST), list.to_pem().as_bytes())
    }

    /// The newest list with what belongs to it; `None` if another than the authority that issues now has issued it.
    pub(crate) fn complete_list(&self, der: Vec<u8>) -> Result<Option<Revocations>, Error> {
        let directory = self.authority.directory();
        let anchor = directory.trust_anchor();
        let list = CertificateRevocationListDer::from(der);
        let mut lists: Vec<_> = directory
            .root_list()?
            .map(|list| list.der().clone())
            .into_iter()
            .collect();
        lists.push(list.clone());
        let own: Vec<_> = self.keys.ca.intermediate().cloned().into_iter().collect();
        let only = if own.is_empty() { vec![list] } else { lists };
        Ok(Revocations::verify(only, &own, anchor).ok())
    }

    /// Delivers what acts have left: writes the newest revocation list where such lists are written, and publishes the newest
    /// state to each broker that has an older one. A broker gets `patience` for it.
    ///
    /// # Errors
    /// Those of writing the file and [`Error::Register`]; a broker that can not be reached is none.
    pub async fn deliver(&self, patience: Duration, now: UnixTime) -> Result<Delivered, Error> {
        let crl = self.write_list(false).await?;
        let mut brokers = Vec::new();
        let reader = self.authority.register().reader();
        if let Some(state) = register::newest_state(reader).await? {
            for broker in register::brokers(reader).await? {
                if broker.published < state.sequence {
                    let outcome = self.publish_to(&broker.url, patience, now).await?;
                    brokers.push((broker.url, outcome));
                }
            }
        }
        Ok(Delivered { crl, brokers })
    }

    /// Writes the newest revocation list to the file that is remembered for it, whatever stands there.
    ///
    /// # Errors
    /// Those of writing the file, [`Error::Register`].
    pub async fn write_crl(&self) -> Result<(), Error> {
        self.write_list(true).await.map(drop)
    }

    /// Writes the newest list to the remembered file, if it is not there yet or `anyway`.
    pub(crate) async fn write_list(&self, anyway: bool) -> Result<Option<(PathBuf, u64)>, Error> {
        let reader = self.authority.register().reader();
        let Some(path) = register::settings(reader).await?.crl_out else {
            return Ok(None);
        };
        let mut done = None;
        // Once more if meanwhile another process had a newer one: the last to write has written the newest.
        while let Some(list) = register::newest_list(reader).await? {
            let standing = done
                .as_ref()
                .map_or(list.written, |(_, number): &(PathBuf, u64)| *number);
            if standing == list.number && (done.is_some() || !anyway) {
                break;
            }
            let Some(der) = list.der else { break };
            let Some(lists) = self.complete_list(der)? else {
                break;
            };
            replace(&path, lists.to_pem().as_bytes())?;
            register::note_list_written(reader, list.number).await?;
            done = Some((path.clone(), list.number));
        }
        Ok(done)
    }

    /// Publishes the newest state to one broker.
    pub(crate) async fn publish_to(
        &self,
        url: &str,
        patience: Duration,
        now: UnixTime,
    ) -> Result<Result<(), String>, Error> {
        let own = self.own_identity(now).await?;
        if !own.recorded {
            let mut transaction = self.authority.register().write().await?;
            let subject = smqtt_pki::AUTHORITY_DEVICE;
            let certificate = own.identity.certificate();
            register::certificate_of_server(&mut transaction, subject, certificate, now).await?;
            let act = register::audit::Act {
                action: "authority-issue",
                subject,
                detail: &format!("serial {}", certificate.serial),
            };
            let actor = register::audit::Actor::service();
            register::audit::append(&mut transaction, &actor, &act, "ok", now).await?;
            transaction.commit().await?;
        }
        let anchor = self.authority.directory().trust_anchor();
        let config = tls::authority_client_config(&own.identity, anchor, &[tls::ALPN_MQTT])?;
        self.keep_identity(own);
        let config = Arc::new(config);
        let register = self.authority.register();
        // As with the file: the last to publish has published the newest.
        let mut last = 0;
        while let Some(state) = register::newest_state(register.reader()).await? {
            if state.sequence <= last {
                break;
            }
            if let Err(reason) = publish_state(url, &config, state.signed, patience).await {
                return Ok(Err(reason));
            }
            register::note_published(register.reader(), url, state.sequence).await?;
            last = state.sequence;
        }
        Ok(Ok(()))
    }

    /// Signs a state anew without any other change, where there is none or the last is getting old.
    pub(crate) async fn refresh_state(&self, now: UnixTime) -> Result<(), Error> {
        let own = self.own_identity(now).await?;
        let mut transaction = self.authority.register().write().await?;
        let last = register::newest_state(&mut *transaction).await?;
        if last.is_some_and(|state| fresh(state.issued, state.next_update, now)) {
            return Ok(());
        }
        let sequence = self.sign_state(&mut transaction, &own, now).await?;
        let act = register::audit::Act {
            action: "state-sign",
            subject: &sequence.to_string(),
            detail: "",
        };
        let actor = register::audit::Actor::service();
        register::audit::append(&mut transaction, &actor, &act, "ok", now).await?;
        transaction.commit().await?;
        self.keep_identity(own);
        Ok(())
    }
}

/// Whether something that was made at `issued` is in the first half of its time.
pub(crate) fn fresh(issued: u64, next_update: u64, now: UnixTime) -> bool {
    now.as_secs() < issued + next_update.saturating_sub(issued) / 2
}

/// Puts a file in the place of another in one step, so that a broker never reads half of one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    // Two processes may write at the same time.
    name.push(format!(".new-{}", std::process::id()));
    let beside = path.with_file_name(name);
    // Left there by a crash.
    let _ = std::fs::remove_file(&beside);
    files::write_public(&beside, content)?;
    std::fs::rename(&beside, path).map_err(|source| {
        let _ = std::fs::remove_file(&beside);
        smqtt_pki::Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        }
    })?;
    Ok(())
}
