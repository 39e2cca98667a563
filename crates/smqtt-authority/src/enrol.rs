//! Enrolment: a token and a certificate request for a certificate and an attribute key.

use std::net::IpAddr;
use std::time::Duration;

use smqtt_abe::Suite;
use smqtt_pki::enrolment::{EnrolRequest, EnrolResponse, EnrolmentToken, ProblemCode, SecretBytes};
use smqtt_pki::{CertificateRequest, DeviceId, IssuedCertificate, UnixTime, Validity};
use smqtt_policy::{Attribute, AttributeSet, Epoch};
use zeroize::Zeroizing;

use crate::clock::system_rng;
use crate::issuer::Keys;
use crate::register::audit::{self, Act, Actor};
use crate::register::{self, TokenRecord};
use crate::{Error, Issuer};

/// How long a device's certificate is valid: 90 days.
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
    epoch: Epoch,
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
                    return Err(self.note(refusal, device, &actor, now).await);
                }
            };
            let device = entitled.device.clone();
            let keys = self.keys.clone();
            let certified = self.certified.clone();
            let csr = request.csr.clone();
            let made = tokio::task::spawn_blocking(move || {
                make(&keys, &certified, &csr, &entitled, now).map(|made| (entitled, made))
            });
            let (entitled, made) = match made.await.map_err(|_| Error::Task)? {
                Ok(both) => both,
                Err(refusal) => return Err(self.note(refusal, Some(device), &actor, now).await),
            };
            match self.record(&entitled, &made, &actor, now).await? {
                Recorded::Done { broker } => {
                    return Ok(EnrolResponse {
                        device: entitled.device,
                        certificate_chain: made.certificate.chain_pem(),
                        ca: self.keys.root_pem.clone(),
                        suite: Suite::FabeoCpBls12381.id(),
                        parameters: self.keys.parameters_bytes.clone(),
                        attribute_key: SecretBytes::from(made.attribute_key.as_slice()),
                        epoch: entitled.epoch.get(),
                        attributes: entitled.attributes,
                        broker,
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
        let found = register::find_token(register.reader(), &digest)
            .await
            .map_err(|e| (None, e.into()))?;
        let Some(TokenRecord {
            device,
            attributes,
            expires,
            used,
        }) = found
        else {
            return Err(invalid());
        };
        let ask = "ask the authority's operator for a new one (`smqtt-authority device token";
        if used {
            let refusal = Refusal::new(
                ProblemCode::TokenUsed,
                format!("{ask} {device} --re-enrol`)"),
            );
            return Err((Some(device), refusal));
        }
        if expires < now {
            let refusal = Refusal::new(ProblemCode::TokenExpired, format!("{ask} {device}`)"));
            return Err((Some(device), refusal));
        }
        let epoch = register.epoch().await.map_err(|e| (None, e.into()))?;
        Ok(Entitled {
            digest,
            device,
            attributes,
            epoch,
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
            epoch,
        } = entitled;
        let register = self.authority.register();
        let broker = register.addresses().await?.broker;
        let mut transaction = register.write().await?;
        let same = register::epoch(&mut *transaction).await? == *epoch
            && register::device(&mut *transaction, device)
                .await?
                .attributes
                == *attributes;
        if !same || !register::consume_token(&mut transaction, digest, device, now).await? {
            return Ok(Recorded::Stale);
        }
        register::record_enrolment(
            &mut transaction,
            device,
            &made.certificate,
            attributes,
            *epoch,
            now,
        )
        .await?;
        let detail = format!(
            "serial {} epoch {epoch} attributes {attributes}",
            made.certificate.serial
        );
        let act = Act {
            action: "enrol",
            subject: device.as_str(),
            detail: &detail,
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(Recorded::Done { broker })
    }

    /// Records a refusal in the audit log. A failure of that is logged and does not change the answer.
    async fn note(
        &self,
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
        let written: Result<(), Error> = async {
            let mut transaction = self.authority.register().write().await?;
            let subject = device.as_ref().map_or("", DeviceId::as_str);
            let act = Act {
                action: "enrol",
                subject,
                detail: &detail,
            };
            audit::append(&mut transaction, actor, &act, refusal.code().as_str(), now).await?;
            transaction.commit().await?;
            Ok(())
        }
        .await;
        if let Err(error) = written {
            tracing::error!(%error, "a refused enrolment could not be recorded");
        }
        refusal
    }
}

enum Recorded {
    Done {
        broker: Option<String>,
    },
    /// The token was used, or the epoch or the attributes changed, since they were read.
    Stale,
}

/// What a device gets.
struct Made {
    certificate: IssuedCertificate,
    attribute_key: Zeroizing<Vec<u8>>,
}

/// Verifies the certificate request and computes certificate and attribute key. Milliseconds of work: not for an async
/// worker, and not inside of a transaction.
fn make(
    keys: &Keys,
    certified: &[String],
    csr: &str,
    entitled: &Entitled,
    now: UnixTime,
) -> Result<Made, Refusal> {
    let refused = |e: smqtt_pki::Error| match ProblemCode::from(&e) {
        ProblemCode::Internal => Refusal::Failed(e.into()),
        code => Refusal::new(code, e.to_string()),
    };
    let request = CertificateRequest::from_pem(csr).map_err(refused)?;
    request.check_name(&entitled.device).map_err(refused)?;
    let attributes: AttributeSet =
        entitled
            .attributes
            .parse()
            .map_err(|error| Error::Attributes {
                text: entitled.attributes.clone(),
                error,
            })?;
    let rng = &mut system_rng();
    let attribute_key = keys
        .master
        .issue(
            &keys.parameters,
            &attributes.with_epoch(entitled.epoch),
            rng,
        )
        .map_err(Error::from)?
        .to_bytes();
    let validity = Validity::starting(now, DEVICE_LIFETIME).map_err(refused)?;
    let is_public = |attribute: &&Attribute| {
        let name = attribute.name();
        name.is_some_and(|name| certified.iter().any(|public| public == name))
    };
    let public = attributes.stated().filter(is_public);
    let shown: Vec<String> = public.map(ToString::to_string).collect();
    let certificate = keys
        .ca
        .issue_device_with(&request, &entitled.device, &shown, validity, rng)
        .map_err(refused)?;
    Ok(Made {
        certificate,
        attribute_key,
    })
}
