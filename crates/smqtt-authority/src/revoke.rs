//! Taking devices back, for good or for a while, and removing them.
//!
//! One act is one transaction: register, revocation list, epoch, state and audit record. [`Issuer::deliver`] carries it out of
//! the register.

use serde::Serialize;
use smqtt_pki::{DeviceId, RevocationReason, Serial, UnixTime};

use crate::register::audit::{self, Act, Actor};
use crate::register::{self, Write};
use crate::{DeviceState, Error, Issuer};

/// What an act of revocation, suspension, reinstatement or removal has done.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Revoked {
    /// The serial numbers of the certificates that it concerns.
    pub serials: Vec<String>,
    /// The epoch that it has begun.
    pub epoch: Option<u64>,
    /// From when publishers seal for that epoch, in seconds since 1970.
    pub seal_from: Option<u64>,
    /// The number of the revocation list that tells of it.
    pub crl: u64,
}

impl Issuer {
    /// Takes back all valid certificates of a device, and its unused token; issues a revocation list, and with `advance` begins
    /// a new epoch, so that the device's attribute key opens nothing that is sealed from then on.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::Register`].
    pub async fn revoke_device(
        &self,
        name: &DeviceId,
        reason: RevocationReason,
        advance: bool,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Revoked, Error> {
        let mut act = self.begin(now).await?;
        let device = register::device(&mut *act.transaction, name).await?;
        register::withdraw_tokens(&mut act.transaction, name).await?;
        let serials =
            register::revoke_certificates(&mut act.transaction, name, reason, now).await?;
        register::set_suspended(&mut act.transaction, name, None).await?;
        // Without a certificate it has no key either.
        let advance = advance && device.serial.is_some();
        let entry = ("device-revoke", reason.as_str());
        self.conclude(act, name, serials, advance, entry, actor, now)
            .await
    }

    /// Takes back a device's valid certificates until it is reinstated: it can neither connect nor renew.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::NotEnrolled`], [`Error::DeviceRevoked`], [`Error::Register`].
    pub async fn suspend_device(
        &self,
        name: &DeviceId,
        advance: bool,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Revoked, Error> {
        let mut act = self.begin(now).await?;
        match register::device(&mut *act.transaction, name).await?.state {
            DeviceState::Registered => return Err(Error::NotEnrolled(name.clone())),
            DeviceState::Revoked => return Err(Error::DeviceRevoked(name.clone())),
            DeviceState::Suspended => return Err(Error::DeviceSuspended(name.clone())),
            DeviceState::Enrolled => {}
        }
        let reason = RevocationReason::CertificateHold;
        let serials =
            register::revoke_certificates(&mut act.transaction, name, reason, now).await?;
        register::set_suspended(&mut act.transaction, name, Some(now)).await?;
        let entry = ("device-suspend", "");
        self.conclude(act, name, serials, advance, entry, actor, now)
            .await
    }

    /// Gives a suspended device back what it had.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::NotSuspended`], [`Error::Register`].
    pub async fn reinstate_device(
        &self,
        name: &DeviceId,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Revoked, Error> {
        let mut act = self.begin(now).await?;
        let device = register::device(&mut *act.transaction, name).await?;
        if device.state != DeviceState::Suspended {
            return Err(Error::NotSuspended(name.clone()));
        }
        let serials = register::release_certificates(&mut act.transaction, name).await?;
        register::set_suspended(&mut act.transaction, name, None).await?;
        let entry = ("device-reinstate", "");
        self.conclude(act, name, serials, false, entry, actor, now)
            .await
    }

    /// Removes a device: it is on no list any more, and its name can be given anew. What it still has is taken back as at
    /// [`Issuer::revoke_device`].
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::Register`].
    pub async fn remove_device(
        &self,
        name: &DeviceId,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Revoked, Error> {
        let mut act = self.begin(now).await?;
        let device = register::device(&mut *act.transaction, name).await?;
        register::withdraw_tokens(&mut act.transaction, name).await?;
        let reason = RevocationReason::CessationOfOperation;
        let serials =
            register::revoke_certificates(&mut act.transaction, name, reason, now).await?;
        register::remove_device(&mut act.transaction, name, now).await?;
        let advance = matches!(device.state, DeviceState::Enrolled | DeviceState::Suspended);
        let entry = ("device-remove", "");
        self.conclude(act, name, serials, advance, entry, actor, now)
            .await
    }

    async fn begin(&self, now: UnixTime) -> Result<Running, Error> {
        Ok(Running {
            own: self.own_identity(now).await?,
            transaction: self.authority.register().write().await?,
        })
    }

    #[allow(clippy::too_many_arguments)]
    async fn conclude(
        &self,
        act: Running,
        name: &DeviceId,
        serials: Vec<Serial>,
        advance: bool,
        (action, reason): (&'static str, &str),
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Revoked, Error> {
        let Running {
            mut transaction,
            own,
        } = act;
        let settings = register::settings(&mut *transaction).await?;
        let (_, crl) = self
            .sign_list(&mut transaction, settings.crl_valid, now)
            .await?;
        let mut detail = format!("{reason}{} crl {crl}", listed(&serials));
        let mut begun = None;
        if advance {
            let seal_from = now.as_secs() + settings.revocation_overlap.as_secs();
            let epoch = register::begin_epoch(&mut transaction, seal_from, action, now).await?;
            detail.push_str(&format!(" epoch {epoch} seal-from {seal_from}"));
            begun = Some((epoch.get(), seal_from));
        }
        let state = self.sign_state(&mut transaction, &own, now).await?;
        detail.push_str(&format!(" state {state}"));
        let act = Act {
            action,
            subject: name.as_str(),
            detail: detail.trim_start(),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        self.keep_identity(own);
        Ok(Revoked {
            serials: serials.iter().map(Serial::to_string).collect(),
            epoch: begun.map(|(epoch, _)| epoch),
            seal_from: begun.map(|(_, from)| from),
            crl,
        })
    }
}

/// An act that is under way.
struct Running {
    transaction: Write,
    own: crate::effects::Own,
}

fn listed(serials: &[Serial]) -> String {
    let mut text = String::new();
    if !serials.is_empty() {
        text.push_str(" serials");
    }
    for serial in serials {
        text.push_str(&format!(" {serial}"));
    }
    text
}
