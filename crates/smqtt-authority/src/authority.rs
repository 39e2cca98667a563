//! The register and its acts, without any secret key.

use std::time::Duration;

use smqtt_pki::enrolment::EnrolmentToken;
use smqtt_pki::{DeviceId, RevocationReason, Serial, UnixTime};
use smqtt_policy::AttributeSet;

use crate::clock::system_rng;
use crate::register::audit::{self, Act, Actor, AuditEntry};
use crate::register::{self, Register, Write};
use crate::{DeviceRecord, DeviceState, Directory, Error};

/// An authority whose register is open.
pub struct Authority {
    directory: Directory,
    register: Register,
}

/// A token that was just given out. It is shown this once.
pub struct Grant {
    /// The device that may enrol with it.
    pub device: DeviceId,
    /// The device's attributes, canonical text.
    pub attributes: String,
    /// The token.
    pub token: EnrolmentToken,
    /// Until when it can be used.
    pub expires: UnixTime,
}

const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(1);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

impl Authority {
    /// Opens the register of an authority.
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Migration`], or [`smqtt_pki::Error::Missing`] if it is gone.
    pub async fn open(directory: Directory) -> Result<Self, Error> {
        let register = directory.register().await?;
        Ok(Self {
            directory,
            register,
        })
    }

    /// The authority's directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// Closes the register.
    pub async fn close(&self) {
        self.register.close().await;
    }

    /// Registers a device and gives out its first token.
    ///
    /// # Errors
    /// [`Error::Attributes`], [`Error::NoAttributes`], [`Error::DeviceExists`], [`Error::TokenLifetime`].
    pub async fn add_device(
        &self,
        name: &DeviceId,
        attributes: &str,
        token_lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Grant, Error> {
        let set: AttributeSet = attributes.parse().map_err(|error| Error::Attributes {
            text: attributes.into(),
            error,
        })?;
        if set.is_empty() {
            return Err(Error::NoAttributes);
        }
        let attributes = set.to_string();
        let act = Act {
            action: "device-add",
            subject: name.as_str(),
            detail: &attributes,
        };
        let mut transaction = self.register.write().await?;
        if !register::insert_device(&mut transaction, name, &attributes, now).await? {
            audit::append(&mut transaction, actor, &act, "device-exists", now).await?;
            transaction.commit().await?;
            return Err(Error::DeviceExists(name.clone()));
        }
        let (token, expires) = give_token(&mut transaction, name, token_lifetime, now).await?;
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(Grant {
            device: name.clone(),
            attributes,
            token,
            expires,
        })
    }

    /// Gives out a new token for a device; the one before it, if unused, is void. A device that is enrolled already,
    /// or was revoked, gets one only with `re_enrol`.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::AlreadyEnrolled`], [`Error::DeviceRevoked`], [`Error::TokenLifetime`].
    pub async fn renew_token(
        &self,
        name: &DeviceId,
        re_enrol: bool,
        token_lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Grant, Error> {
        let mut transaction = self.register.write().await?;
        let device = register::device(&mut *transaction, name).await?;
        let detail = if re_enrol { "re-enrol" } else { "" };
        let act = Act {
            action: "device-token",
            subject: name.as_str(),
            detail,
        };
        let refusal = match device.state {
            DeviceState::Enrolled if !re_enrol => {
                Some(("already-enrolled", Error::AlreadyEnrolled(name.clone())))
            }
            DeviceState::Revoked if !re_enrol => {
                Some(("revoked", Error::DeviceRevoked(name.clone())))
            }
            _ => None,
        };
        if let Some((outcome, error)) = refusal {
            audit::append(&mut transaction, actor, &act, outcome, now).await?;
            transaction.commit().await?;
            return Err(error);
        }
        register::withdraw_tokens(&mut transaction, name).await?;
        let (token, expires) = give_token(&mut transaction, name, token_lifetime, now).await?;
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(Grant {
            device: device.name,
            attributes: device.attributes,
            token,
            expires,
        })
    }

    /// Takes back all valid certificates of a device, and its unused token. Returns the certificates' serial numbers; they
    /// stand on every revocation list from the next on.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::Register`].
    pub async fn revoke_device(
        &self,
        name: &DeviceId,
        reason: RevocationReason,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Vec<Serial>, Error> {
        let mut transaction = self.register.write().await?;
        register::device(&mut *transaction, name).await?;
        register::withdraw_tokens(&mut transaction, name).await?;
        let serials = register::revoke_certificates(&mut transaction, name, reason, now).await?;
        let listed: Vec<_> = serials.iter().map(Serial::to_string).collect();
        let act = Act {
            action: "device-revoke",
            subject: name.as_str(),
            detail: &format!("{} serials {}", reason.as_str(), listed.join(" ")),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(serials)
    }

    /// All devices, by name.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn devices(&self) -> Result<Vec<DeviceRecord>, Error> {
        register::devices(self.register.reader()).await
    }

    /// One device.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::Register`].
    pub async fn device(&self, name: &DeviceId) -> Result<DeviceRecord, Error> {
        register::device(self.register.reader(), name).await
    }

    /// Shows every row of the audit log and its chain value to `visit`, oldest first, and verifies the chain on the way. Returns how many
    /// there are and the last chain value: noted elsewhere, it proves later that none of them was changed.
    ///
    /// # Errors
    /// [`Error::AuditBroken`] at the first row that does not fit, [`Error::Register`].
    pub async fn audit(
        &self,
        visit: impl FnMut(&AuditEntry, &[u8; 32]),
    ) -> Result<(u64, [u8; 32]), Error> {
        audit::walk(self.register.reader(), visit).await
    }

    /// The URL at which devices reach the authority, if its service has run.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn url(&self) -> Result<Option<String>, Error> {
        Ok(self.register.addresses().await?.url)
    }
}

async fn give_token(
    transaction: &mut Write,
    device: &DeviceId,
    lifetime: Duration,
    now: UnixTime,
) -> Result<(EnrolmentToken, UnixTime), Error> {
    if !(MIN_TOKEN_LIFETIME..=MAX_TOKEN_LIFETIME).contains(&lifetime) {
        return Err(Error::TokenLifetime);
    }
    let token = EnrolmentToken::random(&mut system_rng());
    let expires =
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + lifetime.as_secs()));
    register::insert_token(transaction, &token.digest(), device, now, expires).await?;
    Ok((token, expires))
}
