//! What devices are issued, at enrolment and at renewal: computed before a transaction begins.

use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    KeyPolicyGrant, PolicyKeyGrant, ProblemCode, SealingEpoch, SecretBytes,
};
use smqtt_pki::{CertificateRequest, DeviceId, IssuedCertificate, UnixTime, Validity};
use smqtt_policy::{Attribute, AttributeSet, Epoch, Policy};
use zeroize::Zeroizing;

use crate::clock::system_rng;
use crate::issuer::Keys;
use crate::register::Terms;
use crate::{Error, Issuer, Refusal};

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

/// The refusal of a request in which this is wrong.
pub(crate) fn refused(error: smqtt_pki::Error) -> Refusal {
    match ProblemCode::from(&error) {
        ProblemCode::Internal => Refusal::Failed(error.into()),
        code => Refusal::new(code, error.to_string()),
    }
}

/// From when publishers seal for which epoch, as devices are told.
pub(crate) fn sealing(terms: &Terms) -> Vec<SealingEpoch> {
    let sealing = terms.sealing.iter().cloned();
    sealing.map(SealingEpoch::from).collect()
}

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
