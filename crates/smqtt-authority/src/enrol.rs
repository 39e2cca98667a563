//! Enrolment: a token and a certificate request for a certificate and an attribute key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    EnrolRequest, EnrolResponse, EnrolmentToken, KeyPolicyGrant, PolicyKeyGrant, ProblemCode,
    SealingEpoch, SecretBytes,
};
use smqtt_pki::{CertificateRequest, DeviceId, IssuedCertificate, UnixTime, Validity};
use smqtt_policy::{Attribute, AttributeSet, Epoch, Policy};
use zeroize::Zeroizing;

use crate::clock::system_rng;
use crate::devices::in_words;
use crate::issuer::Keys;
use crate::register::audit::{self, Act, Actor};
use crate::register::{
    self, Changes, DeviceCertificate, Particulars, Standing, Terms, TokenRecord,
};
use crate::{Error, Issuer};

/// How long a device's certificate is valid, if nothing else is said: 90 days.
pub(crate) const DEVICE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// Why an enrolment did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is refused: the peer is told why.
    #[error("{detail}")]
    Refused {
        /// The reason, for programs.
        code: ProblemCode,
        /// The reason, for people.
        detail: String,
    },
    /// Something failed here: the peer is told no more than that.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Refusal {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self::Refused {
            code,
            detail: detail.into(),
        }
    }

    /// The code under which the peer learns of it.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Failed(_) => ProblemCode::Internal,
        }
    }
}

/// What a valid token entitles to.
struct Entitled {
    digest: [u8; 32],
    device: DeviceId,
    attributes: String,
    key_policy: Option<String>,
    epoch: Epoch,
    /// Whether the token is used up: then only the request that has used it gets its answer again.
    used: bool,
    /// What was issued for the token before.
    before: Vec<DeviceCertificate>,
}

impl Issuer {
    /// Enrols the device that a token was given to. The token is consumed if and only if the certificate is recorded.
    /// Refusals are recorded in the audit log too.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        peer: IpAddr,
        now: UnixTime,
    ) -> Result<EnrolResponse, Refusal> {
        let actor = Actor::address(peer);
        // A change of epoch or attributes while keys are computed makes them stale; then once more from the start.
        for _ in 0..4 {
            let entitled = match self.entitlement(request, now).await {
                Ok(entitled) => entitled,
                Err((device, refusal)) => {
                    return Err(self.note("enrol", refusal, device, &actor, now).await);
                }
            };
            let device = entitled.device.clone();
            let issuer = self.clone();
            let csr = request.csr.clone();
            let few = few(&entitled.attributes) && entitled.key_policy.is_none();
            let made = aside(few, move || {
                make(&issuer, &csr, &entitled, now).map(|made| (entitled, made))
            });
            let (entitled, made) = match made.await? {
                Ok(both) => both,
                Err(refusal) => {
                    return Err(self.note("enrol", refusal, Some(device), &actor, now).await);
                }
            };
            match self.record(&entitled, &made, &actor, now).await? {
                Recorded::Done(terms) => {
                    return Ok(EnrolResponse {
                        device: entitled.device,
                        certificate_chain: made.certificate.chain_pem(),
                        ca: self.keys.root_pem.clone(),
                        root_list: self.root_list_pem()?,
                        suite: Suite::FabeoCpBls12381.id(),
                        parameters: self.keys.parameters_bytes.clone(),
                        attribute_key: SecretBytes::from(made.attribute_key.as_slice()),
                        epoch: entitled.epoch.get(),
                        attributes: entitled.attributes,
                        broker: terms.broker.clone(),
                        sealing: sealing(&terms),
                        schema: terms.schema.clone(),
                        key_policy: Some(self.keys.key_policy_grant(made.policy_key)),
                    });
                }
                Recorded::Stale => {}
            }
        }
        Err(Error::Task.into())
    }

    /// Looks the token up: whose it is, and why it is not good enough.
    async fn entitlement(
        &self,
        request: &EnrolRequest,
        now: UnixTime,
    ) -> Result<Entitled, (Option<DeviceId>, Refusal)> {
        let invalid = || {
            let hint =
                "check that it was copied whole, or ask the authority's operator for a new one";
            (None, Refusal::new(ProblemCode::InvalidToken, hint))
        };
        let token: EnrolmentToken = request.token.reveal().parse().map_err(|_| invalid())?;
        let digest = token.digest();
        let register = self.authority.register();
        let found = register::find_token(register.reader(), &digest, now)
            .await
            .map_err(|e| (None, e.into()))?;
        let Some(TokenRecord {
            device,
            attributes,
            key_policy,
            expires,
            used,
            suspended,
            epoch,
            certificates: before,
        }) = found
        else {
            return Err(invalid());
        };
        if suspended {
            let detail = format!("ask the authority's operator to reinstate {device}");
            let refusal = Refusal::new(ProblemCode::DeviceSuspended, detail);
            return Err((Some(device), refusal));
        }
        if expires < now {
            let refusal = Refusal::new(ProblemCode::TokenExpired, format!("{ASK} {device}`)"));
            return Err((Some(device), refusal));
        }
        if used && before.is_empty() {
            let refusal = crate::enrol::used(&device);
            return Err((Some(device), refusal));
        }
        Ok(Entitled {
            digest,
            device,
            attributes,
            key_policy,
            epoch,
            used,
            before,
        })
    }

    /// Consumes the token and records what was made, if all is still as it was.
    async fn record(
        &self,
        entitled: &Entitled,
        made: &Made,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Recorded, Error> {
        let Entitled {
            digest,
            device,
            attributes,
            key_policy,
            epoch,
            ..
        } = entitled;
        let register = self.authority.register();
        let mut transaction = register.join().await?;
        let found = register::token_standing(&mut transaction, digest, now).await?;
        let same = found.filter(|found| {
            found.epoch == *epoch
                && found.attributes == *attributes
                && found.key_policy == *key_policy
                && !found.suspended
        });
        let Some(token) = same else {
            transaction.leave();
            return Ok(Recorded::Stale);
        };
        let mut changes = Changes::default();
        if made.again {
            let serial = made.certificate.serial;
            let standing = register::standing(&mut *transaction, device, serial).await?;
            if !matches!(standing, Standing::Good { .. }) {
                transaction.leave();
                return Ok(Recorded::Stale);
            }
        } else {
            if !token.usable {
                transaction.leave();
                return Ok(Recorded::Stale);
            }
            register::consume_token(&mut changes, digest, now);
            let particulars = Particulars {
                key_digest: &made.key_digest,
                token: Some(digest),
                shown: &made.shown,
            };
            let certificate = &made.certificate;
            register::insert_device_certificate(
                &mut changes,
                device,
                certificate,
                &particulars,
                now,
            );
        }
        let serial = made.certificate.serial.to_string();
        let keys_for = (attributes.as_str(), key_policy.as_deref());
        register::record_key(&mut changes, device, &serial, keys_for, *epoch, true, now);
        let again = if made.again { "again " } else { "" };
        let detail = format!(
            "{again}serial {serial} epoch {epoch} attributes {}",
            in_words(attributes, key_policy.as_deref())
        );
        let act = Act {
            action: "enrol",
            subject: device.as_str(),
            detail: &detail,
        };
        audit::append_with(&mut transaction, changes, actor, &act, "ok", now).await?;
        let terms = register::terms(&mut transaction, now).await?;
        transaction.commit().await?;
        Ok(Recorded::Done(terms))
    }

    /// Records a refusal in the audit log. A failure of that is logged and does not change the answer.
    pub(crate) async fn note(
        &self,
        action: &'static str,
        refusal: Refusal,
        device: Option<DeviceId>,
        actor: &Actor,
        now: UnixTime,
    ) -> Refusal {
        let Some(left_out) = self.audit_budget.take(now) else {
            return refusal;
        };
        let detail = match left_out {
            0 => String::new(),
            n => format!("{n} refusals before this one were not recorded: too many"),
        };
        // On a task of its own: what it is part of concerns others, whether the peer waits for its answer or not.
        let written = tokio::spawn({
            let register = self.authority.register().clone();
            let (actor, code) = (actor.clone(), refusal.code());
            async move {
                let mut transaction = register.join().await?;
                let subject = device.as_ref().map_or("", DeviceId::as_str);
                let act = Act {
                    action,
                    subject,
                    detail: &detail,
                };
                audit::append(&mut transaction, &actor, &act, code.as_str(), now).await?;
                transaction.commit().await?;
                Ok::<(), Error>(())
            }
        });
        let written: Result<(), Error> = written.await.unwrap_or(Err(Error::Task));
        if let Err(error) = written {
            tracing::error!(%error, "a refusal could not be recorded");
        }
        refusal
    }
}

enum Recorded {
    Done(Arc<Terms>),
    /// The token was used, or the epoch or the attributes changed, since they were read.
    Stale,
}

/// From when publishers seal for which epoch, as devices are told.
pub(crate) fn sealing(terms: &Terms) -> Vec<SealingEpoch> {
    let sealing = terms.sealing.iter().cloned();
    sealing.map(SealingEpoch::from).collect()
}

/// What a device gets.
struct Made {
    /// Of the answer that it had before, if it asks again.
    again: bool,
    certificate: IssuedCertificate,
    key_digest: [u8; 32],
    shown: String,
    attribute_key: Zeroizing<Vec<u8>>,
    policy_key: Option<PolicyKeyGrant>,
}

/// Does what takes time with the number of attributes: here if it takes about as long as a TLS handshake, else where other
/// tasks do not wait for it.
pub(crate) async fn aside<T: Send + 'static>(
    few: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    match few {
        true => Ok(work()),
        false => tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Error::Task),
    }
}

/// Whether a device has so few attributes that its key takes less than a millisecond.
pub(crate) fn few(attributes: &str) -> bool {
    attributes.split(',').count() <= 16
}

/// Verifies the certificate request and computes certificate and attribute key: not inside of a transaction.
fn make(issuer: &Issuer, csr: &str, entitled: &Entitled, now: UnixTime) -> Result<Made, Refusal> {
    let request = CertificateRequest::from_pem(csr).map_err(refused)?;
    request.check_name(&entitled.device).map_err(refused)?;
    let key_digest = request.key_digest();
    let (attributes, shown) = issuer.shown_attributes(&entitled.attributes)?;
    let before = entitled
        .before
        .iter()
        .find(|certificate| certificate.key_digest.as_deref() == Some(&key_digest[..]));
    if entitled.used && before.is_none() {
        return Err(used(&entitled.device));
    }
    let attribute_key = issue_key(&issuer.keys, &attributes, entitled.epoch)?;
    let policy_key =
        issue_policy_key(&issuer.keys, entitled.key_policy.as_deref(), entitled.epoch)?;
    let (again, certificate) = match before {
        Some(before) => (true, issuer.chain_of(&before.der).map_err(refused)?),
        None => (
            false,
            device_certificate(issuer, &request, &entitled.device, &shown, now)?,
        ),
    };
    Ok(Made {
        again,
        certificate,
        key_digest,
        shown: shown.join(", "),
        attribute_key,
        policy_key,
    })
}

pub(crate) fn refused(error: smqtt_pki::Error) -> Refusal {
    match ProblemCode::from(&error) {
        ProblemCode::Internal => Refusal::Failed(error.into()),
        code => Refusal::new(code, error.to_string()),
    }
}

fn used(device: &DeviceId) -> Refusal {
    Refusal::new(
        ProblemCode::TokenUsed,
        format!("{ASK} {device} --re-enrol`)"),
    )
}

const ASK: &str = "ask the authority's operator for a new one (`smqtt-authority device token";

/// A device's certificate.
pub(crate) fn device_certificate(
    issuer: &Issuer,
    request: &CertificateRequest,
    device: &DeviceId,
    shown: &[String],
    now: UnixTime,
) -> Result<IssuedCertificate, Refusal> {
    let validity = Validity::starting(now, issuer.device_lifetime).map_err(refused)?;
    issuer
        .keys
        .ca
        .issue_device_with(request, device, shown, validity, &mut system_rng())
        .map_err(refused)
}

/// An attribute key.
pub(crate) fn issue_key(
    keys: &Keys,
    attributes: &AttributeSet,
    epoch: Epoch,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let attributes = attributes.with_epoch(epoch);
    let key = keys
        .master
        .issue(&keys.parameters, &attributes, &mut system_rng())?;
    Ok(key.to_bytes())
}

/// A policy key, for a device that has a key policy.
pub(crate) fn issue_policy_key(
    keys: &Keys,
    policy: Option<&str>,
    epoch: Epoch,
) -> Result<Option<PolicyKeyGrant>, Error> {
    let Some(text) = policy else {
        return Ok(None);
    };
    let policy = Policy::from_canonical(text).map_err(|e| Error::Schema(e.to_string()))?;
    let formula = policy.at_epoch(epoch);
    let key = keys
        .policy_master
        .issue(&keys.policy_parameters, &formula, &mut system_rng())?;
    Ok(Some(PolicyKeyGrant {
        policy: policy.to_string(),
        key: SecretBytes::from(key.to_bytes().as_slice()),
    }))
}

impl Keys {
    /// What an answer has for key policies.
    pub(crate) fn key_policy_grant(&self, granted: Option<PolicyKeyGrant>) -> KeyPolicyGrant {
        KeyPolicyGrant {
            suite: Suite::FabeoKpBls12381.id(),
            parameters: self.policy_parameters_bytes.clone(),
            granted,
        }
    }
}

impl Issuer {
    /// A device's certificate that was issued before, with its chain.
    pub(crate) fn chain_of(&self, der: &[u8]) -> Result<IssuedCertificate, smqtt_pki::Error> {
        let known = self.authority.directory().intermediates();
        self.keys.ca.device_chain(der, known)
    }

    /// The root's own revocation list, for devices to keep. Another process may replace its file at any time.
    pub(crate) fn root_list_pem(&self) -> Result<Option<String>, Error> {
        let directory = self.authority.directory();
        let mut held = self.root_list.lock().map_err(|_| Error::Task)?;
        let file = directory.root_list_changed();
        if let (Some(file), Some((known, text))) = (file, &*held)
            && file == *known
        {
            return Ok(Some(text.clone()));
        }
        let text = directory.root_list()?.map(|list| list.to_pem());
        *held = file.zip(text.clone());
        Ok(text)
    }

    /// A device's attributes, and those of them that its certificate shows.
    pub(crate) fn shown_attributes(
        &self,
        text: &str,
    ) -> Result<(AttributeSet, Vec<String>), Error> {
        let attributes: AttributeSet = text.parse().map_err(|error| Error::Attributes {
            text: text.to_owned(),
            error,
        })?;
        let is_public = |attribute: &&Attribute| {
            let name = attribute.name();
            name.is_some_and(|name| self.certified.iter().any(|public| public == name))
        };
        let public = attributes.stated().filter(is_public);
        let shown = public.map(ToString::to_string).collect();
        Ok((attributes, shown))
    }
}
