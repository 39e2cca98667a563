//! Administrators: who may ask what over the network.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smqtt_pki::enrolment::ProblemCode;
use smqtt_pki::{
    AdminName, CertificateDer, CertificateRequest, DeviceId, IssuedCertificate, RevocationReason,
    UnixTime, Validity, named_device,
};

use crate::clock::system_rng;
use crate::register::audit::{self, Act, Actor};
use crate::{Authority, Error, Issuer, Refusal, register};

/// What an administrator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Read everything, change nothing.
    Auditor,
    /// Everything that the API offers.
    Operator,
}

impl Role {
    /// The role in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Auditor, Self::Operator]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An administrator as the register knows it. Times are seconds since 1970.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdminRecord {
    /// The name.
    pub name: AdminName,
    /// What it may do.
    pub role: Role,
    /// The serial number of the one certificate that counts.
    pub serial: String,
    /// When that was issued.
    pub created: u64,
    /// Until when it is valid.
    pub expires: u64,
}

/// Somebody who is not admitted.
pub(crate) struct Denied {
    /// The administrator, if it is one.
    name: Option<AdminName>,
    /// The device, if it is one.
    device: Option<DeviceId>,
    refusal: Refusal,
}

impl Authority {
    /// All administrators, by name.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn admins(&self) -> Result<Vec<AdminRecord>, Error> {
        self.register().admins().await
    }
}

impl Issuer {
    /// Makes somebody an administrator, with a certificate for the key of a request. One of that name is replaced: its
    /// certificate counts no longer, and its role is the new one.
    ///
    /// # Errors
    /// [`smqtt_pki::Error::Validity`], [`Error::Register`].
    pub async fn add_admin(
        &self,
        name: &AdminName,
        role: Role,
        request: &CertificateRequest,
        lifetime: Duration,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<IssuedCertificate, Error> {
        let validity = Validity::starting(now, lifetime)?;
        let ca = &self.keys.ca;
        let issued = ca.issue_admin(request, name, validity, &mut system_rng())?;
        let subject = format!("admin:{name}");
        let mut transaction = self.authority.register().write().await?;
        let before = register::take_admin(&mut transaction, name, now).await?;
        if let Some(serial) = &before {
            let reason = RevocationReason::Superseded;
            register::revoke_serial(&mut transaction, serial, reason, now).await?;
        }
        register::certificate_of_server(&mut transaction, &subject, &issued, now).await?;
        register::put_admin(&mut transaction, name, role, issued.serial, now).await?;
        let replaced = before.map_or_else(String::new, |serial| format!(" instead of {serial}"));
        let act = Act {
            action: "admin-add",
            subject: name.as_str(),
            detail: &format!("{role} serial {}{replaced}", issued.serial),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(issued)
    }

    /// Takes an administrator's rights back, at once, and issues a revocation list that names the certificate.
    ///
    /// # Errors
    /// [`Error::NoSuchAdmin`], [`Error::Register`].
    pub async fn remove_admin(
        &self,
        name: &AdminName,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut transaction = self.authority.register().write().await?;
        let Some(serial) = register::take_admin(&mut transaction, name, now).await? else {
            return Err(Error::NoSuchAdmin(name.clone()));
        };
        let reason = RevocationReason::CessationOfOperation;
        register::revoke_serial(&mut transaction, &serial, reason, now).await?;
        let settings = register::settings(&mut *transaction).await?;
        let (_, crl) = self
            .sign_list(&mut transaction, settings.crl_valid, now)
            .await?;
        let act = Act {
            action: "admin-remove",
            subject: name.as_str(),
            detail: &format!("serial {serial} crl {crl}"),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Who presents this chain, if it is an administrator with this role.
    ///
    /// # Errors
    /// Why not, for [`Issuer::note_denied`].
    pub(crate) async fn administrator(
        &self,
        chain: &[CertificateDer<'static>],
        needed: Role,
        now: UnixTime,
    ) -> Result<Actor, Denied> {
        let recognised = match self.recognise(chain, needed, now).await {
            Ok(recognised) => recognised,
            Err(error) => Err((None, error.into())),
        };
        recognised
            .map(|name| Actor::admin(&name))
            .map_err(|(name, refusal)| Denied {
                name,
                device: chain.first().and_then(|own| named_device(own).ok()),
                refusal,
            })
    }

    /// Records in the audit log who was denied, if a certificate was presented.
    pub(crate) async fn note_denied(
        &self,
        denied: Denied,
        address: IpAddr,
        now: UnixTime,
    ) -> Refusal {
        let Denied {
            name,
            device,
            refusal,
        } = denied;
        if refusal.code() == ProblemCode::CertificateRequired {
            return refusal;
        }
        let actor = name.map_or_else(|| Actor::address(address), |name| Actor::admin(&name));
        self.note("admin-call", refusal, device, &actor, now).await
    }

    async fn recognise(
        &self,
        chain: &[CertificateDer<'static>],
        needed: Role,
        now: UnixTime,
    ) -> Result<Result<AdminName, (Option<AdminName>, Refusal)>, Error> {
        if chain.is_empty() {
            let detail = "present an administrator's certificate in the TLS handshake: `smqtt-authority admin add` issues one";
            let refusal = Refusal::new(ProblemCode::CertificateRequired, detail);
            return Ok(Err((None, refusal)));
        }
        let anchor = self.authority.directory().trust_anchor();
        let verified = match anchor.verify_admin(chain, now) {
            Ok(verified) => verified,
            Err(error) => {
                let code = match error {
                    smqtt_pki::Error::Expired => ProblemCode::CertificateExpired,
                    _ => ProblemCode::Forbidden,
                };
                return Ok(Err((None, Refusal::new(code, error.to_string()))));
            }
        };
        let name = verified.name;
        let known = self.authority.register().admin(&name).await?;
        let known = known.filter(|admin| admin.serial == verified.serial.to_string());
        // To the last byte, as for renewals: the key of an intermediate alone makes nobody an administrator.
        let reader = self.authority.register().reader();
        let recorded = register::fingerprint_of(reader, verified.serial).await?;
        let same = recorded == Some(verified.fingerprint.to_string());
        let known = known.filter(|_| same);
        Ok(match known {
            Some(admin) if admin.role >= needed => Ok(name),
            Some(_) => {
                let detail = format!("{name} is an {}: this takes an {needed}", Role::Auditor);
                Err((Some(name), Refusal::new(ProblemCode::Forbidden, detail)))
            }
            None => {
                let detail = format!(
                    "{name} was removed, or has another certificate since: ask an operator"
                );
                let refusal = Refusal::new(ProblemCode::CertificateRevoked, detail);
                Err((Some(name), refusal))
            }
        })
    }
}
