//! Renewal: a certificate, proved in the TLS handshake, for a new one and an attribute key of the current epoch.
//!
//! In two phases. What is issued stands beside what the device has; that it uses it, it says with the new certificate. Until
//! then nothing is taken from it, and it may ask again: a certificate that was issued for the same key lately is given again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    EnrolResponse, PolicyKeyGrant, ProblemCode, RenewConfirmation, RenewRequest, SecretBytes,
};
use smqtt_pki::{
    CertificateDer, CertificateRequest, DeviceId, IssuedCertificate, PresentedDevice, Serial,
    UnixTime,
};
use smqtt_policy::Epoch;
use zeroize::Zeroizing;

use crate::devices::in_words;
use crate::enrol::Refusal;
use crate::grant::{aside, device_certificate, few, issue_key, issue_policy_key, refused, sealing};
use crate::register::audit::{self, Act, Actor};
use crate::register::{self, Changes, DeviceCertificate, Done, SharedAct, Standing, Terms, Write};
use crate::{Error, Issuer};

/// Who presents a certificate, and what the register says of it.
struct Presented {
    device: DeviceId,
    serial: Serial,
    attributes: String,
    key_policy: Option<String>,
    epoch: Epoch,
    /// The certificates that the device has.
    known: Vec<DeviceCertificate>,
}

struct Renewed {
    /// A certificate that was not issued before.
    issued: Option<IssuedCertificate>,
    /// The chain that the device gets.
    chain: String,
    serial: String,
    key_digest: [u8; 32],
    shown: String,
    attribute_key: Zeroizing<Vec<u8>>,
    policy_key: Option<PolicyKeyGrant>,
}

impl Issuer {
    /// Renews a device. `chain` was verified in the TLS handshake, but for its expiry.
    ///
    /// # Errors
    /// [`Refusal`]; it is in the audit log.
    pub(crate) async fn renew(
        &self,
        chain: &[CertificateDer<'static>],
        request: &RenewRequest,
        peer: IpAddr,
        now: UnixTime,
    ) -> Result<EnrolResponse, Refusal> {
        let actor = Actor::address(peer);
        // A change of epoch or attributes while keys are computed makes them stale; then once more from the start.
        for _ in 0..4 {
            let presented = match self.presented(chain, now).await {
                Ok(presented) => presented,
                Err((device, refusal)) => {
                    return Err(self.note("renew", refusal, device, &actor, now).await);
                }
            };
            let device = presented.device.clone();
            let issuer = self.clone();
            let csr = request.csr.clone();
            let few = few(&presented.attributes) && presented.key_policy.is_none();
            let made = aside(few, move || {
                make(&issuer, &csr, &presented, now).map(|made| (presented, made))
            });
            let (presented, made) = match made.await? {
                Ok(both) => both,
                Err(refusal) => {
                    return Err(self.note("renew", refusal, Some(device), &actor, now).await);
                }
            };
            let recording = Recording {
                presented: &presented,
                made: &made,
                actor: &actor,
                now,
            };
            if let Some(terms) = self.authority.register().share(&recording).await? {
                return Ok(EnrolResponse {
                    device,
                    certificate_chain: made.chain,
                    ca: self.keys.root_pem.clone(),
                    root_list: self.root_list_pem()?,
                    suite: Suite::FabeoCpBls12381.id(),
                    parameters: self.keys.parameters_bytes.clone(),
                    attribute_key: SecretBytes::from(made.attribute_key.as_slice()),
                    epoch: presented.epoch.get(),
                    attributes: presented.attributes,
                    broker: terms.broker.clone(),
                    sealing: sealing(&terms),
                    schema: terms.schema.clone(),
                    key_policy: Some(self.keys.key_policy_grant(made.policy_key)),
                });
            }
        }
        Err(Error::Task.into())
    }

    /// Notes that a device uses the certificate that it presents and the attribute key of this epoch. Saying it again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Refusal`]; it is in the audit log.
    pub(crate) async fn confirm_renewal(
        &self,
        chain: &[CertificateDer<'static>],
        confirmation: RenewConfirmation,
        peer: IpAddr,
        now: UnixTime,
    ) -> Result<DeviceId, Refusal> {
        let actor = Actor::address(peer);
        let presented = match self.presented(chain, now).await {
            Ok(presented) => presented,
            Err((device, refusal)) => {
                return Err(self
                    .note("renew-confirm", refusal, device, &actor, now)
                    .await);
            }
        };
        let confirming = Confirming {
            presented: &presented,
            epoch: confirmation.epoch,
            actor: &actor,
            now,
        };
        self.authority.register().share(&confirming).await?;
        Ok(presented.device)
    }

    /// Who presents this chain, and whether it still counts.
    async fn presented(
        &self,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<Presented, (Option<DeviceId>, Refusal)> {
        // The handshake has verified it, as of its last second if it has expired.
        let none = || smqtt_pki::Error::MalformedCertificate("there is none".into());
        let read = chain
            .first()
            .ok_or_else(none)
            .and_then(PresentedDevice::read);
        let presented = read.map_err(|error| {
            let refusal = Refusal::new(ProblemCode::CertificateRevoked, error.to_string());
            (None, refusal)
        })?;
        let device = &presented.id;
        let failed = |error: Error| (Some(device.clone()), error.into());
        let reader = self.authority.register().reader();
        let refuse = |code, detail: String| (Some(device.clone()), Refusal::new(code, detail));
        let expired = presented.validity.not_after().as_secs();
        if expired < now.as_secs() {
            let settings = register::settings(reader).await.map_err(failed)?;
            let grace = settings.renewal_grace.as_secs();
            if expired + grace < now.as_secs() {
                return Err(refuse(
                    ProblemCode::CertificateExpired,
                    format!(
                        "it can be renewed until {} days after its expiry; enrol again with a token from the authority's operator (`smqtt-authority device token {device} --re-enrol`)",
                        grace / 86_400
                    ),
                ));
            }
        }
        // Only what the register knows, to the last byte: who has an intermediate's key can make no certificate that renews.
        let found =
            register::presented(reader, device, presented.serial, presented.fingerprint, now);
        let found = found.await.map_err(failed)?;
        match found.standing {
            Standing::Good {
                attributes,
                key_policy,
                epoch,
            } => Ok(Presented {
                epoch,
                serial: presented.serial,
                device: presented.id,
                attributes,
                known: found.certificates,
                key_policy,
            }),
            Standing::Other => {
                let detail = "another certificate has this serial number".to_owned();
                Err(refuse(ProblemCode::CertificateRevoked, detail))
            }
            Standing::Suspended => Err(refuse(
                ProblemCode::DeviceSuspended,
                format!("ask the authority's operator to reinstate {device}"),
            )),
            Standing::Revoked | Standing::Unknown => Err(refuse(
                ProblemCode::CertificateRevoked,
                format!("ask the authority's operator whether {device} shall enrol again"),
            )),
        }
    }
}

/// Notes that a device uses what was issued to it.
struct Confirming<'a> {
    presented: &'a Presented,
    epoch: u64,
    actor: &'a Actor,
    now: UnixTime,
}

impl SharedAct for Confirming<'_> {
    type Outcome = ();

    async fn perform(&self, transaction: &mut Write) -> Result<Done<()>, Error> {
        let Presented { device, serial, .. } = self.presented;
        let (epoch, now) = (self.epoch, self.now);
        if !register::confirm_key(transaction, device, *serial, epoch, now).await? {
            return Ok(Done::Unchanged(()));
        }
        let act = Act {
            action: "renew-confirm",
            subject: device.as_str(),
            detail: &format!("serial {serial} epoch {epoch}"),
        };
        audit::append(transaction, self.actor, &act, "ok", now).await?;
        Ok(Done::Changed(()))
    }
}

/// Records what was made, if all is still as it was; comes to `None` if not.
struct Recording<'a> {
    presented: &'a Presented,
    made: &'a Renewed,
    actor: &'a Actor,
    now: UnixTime,
}

impl SharedAct for Recording<'_> {
    type Outcome = Option<Arc<Terms>>;

    async fn perform(&self, transaction: &mut Write) -> Result<Done<Option<Arc<Terms>>>, Error> {
        let Self {
            presented,
            made,
            actor,
            now,
        } = *self;
        let Presented {
            device,
            epoch,
            attributes,
            key_policy,
            ..
        } = presented;
        let standing = register::standing(&mut **transaction, device, presented.serial).await?;
        let Standing::Good {
            attributes: current,
            key_policy: current_policy,
            epoch: newest,
        } = standing
        else {
            return Ok(Done::Unchanged(None));
        };
        if current != *attributes || current_policy != *key_policy || newest != *epoch {
            return Ok(Done::Unchanged(None));
        }
        let mut changes = Changes::default();
        if let Some(issued) = &made.issued {
            let particulars = register::Particulars {
                key_digest: &made.key_digest,
                token: None,
                shown: &made.shown,
            };
            register::insert_device_certificate(&mut changes, device, issued, &particulars, now);
        }
        register::record_key(
            &mut changes,
            device,
            &made.serial,
            (attributes, key_policy.as_deref()),
            *epoch,
            false,
            now,
        );
        let what = if made.issued.is_some() {
            ""
        } else {
            " certificate as before"
        };
        let act = Act {
            action: "renew",
            subject: device.as_str(),
            detail: &format!(
                "serial {}{what} epoch {epoch} attributes {}",
                made.serial,
                in_words(attributes, key_policy.as_deref())
            ),
        };
        audit::append_with(transaction, changes, actor, &act, "ok", now).await?;
        let terms = register::terms(transaction, now).await?;
        Ok(Done::Changed(Some(terms)))
    }
}

/// Verifies the certificate request and computes certificate and attribute key: milliseconds of work.
fn make(
    issuer: &Issuer,
    csr: &str,
    presented: &Presented,
    now: UnixTime,
) -> Result<Renewed, Refusal> {
    let request = CertificateRequest::from_pem(csr).map_err(refused)?;
    request.check_name(&presented.device).map_err(refused)?;
    let key_digest = request.key_digest();
    let (attributes, shown) = issuer.shown_attributes(&presented.attributes)?;
    let attribute_key = issue_key(&issuer.keys, &attributes, presented.epoch)?;
    let key_policy = presented.key_policy.as_deref();
    let policy_key = issue_policy_key(&issuer.keys, key_policy, presented.epoch)?;
    let text = shown.join(", ");
    // The newest for this key that has most of its time before it, and shows what it should.
    let fresh = presented.known.iter().find(|certificate| {
        certificate.key_digest.as_deref() == Some(&key_digest[..])
            && certificate.shown.as_deref() == Some(&text)
            && still_long(certificate.not_after, issuer.device_lifetime, now)
            && issuer.keys.ca.has_issued(&certificate.der).unwrap_or(false)
    });
    if let Some(certificate) = fresh {
        let before = issuer.chain_of(&certificate.der).map_err(refused)?;
        return Ok(Renewed {
            issued: None,
            chain: before.chain_pem(),
            serial: certificate.serial.clone(),
            key_digest,
            shown: text,
            attribute_key,
            policy_key,
        });
    }
    let issued = device_certificate(issuer, &request, &presented.device, &shown, now)?;
    Ok(Renewed {
        chain: issued.chain_pem(),
        serial: issued.serial.to_string(),
        issued: Some(issued),
        key_digest,
        shown: text,
        attribute_key,
        policy_key,
    })
}

/// Whether more than two thirds of a certificate's time are left.
fn still_long(not_after: u64, lifetime: Duration, now: UnixTime) -> bool {
    let left = Duration::from_secs(not_after.saturating_sub(now.as_secs()));
    left > lifetime * 2 / 3
}
