//! Enrolment: a token and a certificate request for a certificate and an attribute key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    EnrolRequest, EnrolResponse, EnrolmentToken, PolicyKeyGrant, ProblemCode, SecretBytes,
};
use smqtt_pki::{CertificateRequest, DeviceId, IssuedCertificate, UnixTime};
use smqtt_policy::Epoch;
use zeroize::Zeroizing;

use crate::devices::in_words;
use crate::grant::{aside, device_certificate, few, issue_key, issue_policy_key, refused, sealing};
use crate::register::audit::{self, Act, Actor};
use crate::register::{
    self, Changes, DeviceCertificate, Done, Particulars, SharedAct, Standing, Terms, TokenRecord,
    Write,
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
            let recording = Recording {
                entitled: &entitled,
                made: &made,
                actor: &actor,
                now,
            };
            match self.authority.register().share(&recording).await? {
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
                let subject = device.as_ref().map_or("", DeviceId::as_str);
                let act = Act {
                    action,
                    subject,
                    detail: &detail,
                };
                register
                    .share(&Refused {
                        actor: &actor,
                        act,
                        code,
                        now,
                    })
                    .await
            }
        });
        let written: Result<(), Error> = written.await.unwrap_or(Err(Error::Task));
        if let Err(error) = written {
            tracing::error!(%error, "a refusal could not be recorded");
        }
        refusal
    }
}

/// A refusal, for the audit log.
struct Refused<'a> {
    actor: &'a Actor,
    act: Act<'a>,
    code: ProblemCode,
    now: UnixTime,
}

impl SharedAct for Refused<'_> {
    type Outcome = ();

    async fn perform(&self, transaction: &mut Write) -> Result<Done<()>, Error> {
        let (act, code) = (&self.act, self.code.as_str());
        audit::append(transaction, self.actor, act, code, self.now).await?;
        Ok(Done::Changed(()))
    }
}

/// Consumes the token and records what was made, if all is still as it was.
struct Recording<'a> {
    entitled: &'a Entitled,
    made: &'a Made,
    actor: &'a Actor,
    now: UnixTime,
}

impl SharedAct for Recording<'_> {
    type Outcome = Recorded;

    async fn perform(&self, transaction: &mut Write) -> Result<Done<Recorded>, Error> {
        let Self {
            entitled,
            made,
            actor,
            now,
        } = *self;
        let Entitled {
            digest,
            device,
            attributes,
            key_policy,
            epoch,
            ..
        } = entitled;
        let found = register::token_standing(transaction, digest, now).await?;
        let same = found.filter(|found| {
            found.epoch == *epoch
                && found.attributes == *attributes
                && found.key_policy == *key_policy
                && !found.suspended
        });
        let Some(token) = same else {
            return Ok(Done::Unchanged(Recorded::Stale));
        };
        let mut changes = Changes::default();
        if made.again {
            let serial = made.certificate.serial;
            let standing = register::standing(&mut **transaction, device, serial).await?;
            if !matches!(standing, Standing::Good { .. }) {
                return Ok(Done::Unchanged(Recorded::Stale));
            }
        } else {
            if !token.usable {
                return Ok(Done::Unchanged(Recorded::Stale));
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
        audit::append_with(transaction, changes, actor, &act, "ok", now).await?;
        let terms = register::terms(transaction, now).await?;
        Ok(Done::Changed(Recorded::Done(terms)))
    }
}

enum Recorded {
    Done(Arc<Terms>),
    /// The token was used, or the epoch or the attributes changed, since they were read.
    Stale,
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

fn used(device: &DeviceId) -> Refusal {
    Refusal::new(
        ProblemCode::TokenUsed,
        format!("{ASK} {device} --re-enrol`)"),
    )
}

const ASK: &str = "ask the authority's operator for a new one (`smqtt-authority device token";
