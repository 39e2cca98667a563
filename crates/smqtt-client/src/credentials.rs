//! What a client acts under, and how that changes while it is connected.

use std::sync::Arc;

use smqtt_abe::kp;
use smqtt_format::{Sealing, sealing_epoch};
use smqtt_pki::{CrlNumber, Identity, RevocationList, UnixTime, tls};
use smqtt_policy::{Epoch, Schema};

use crate::keys::{ATTRIBUTE_KEY, Keys, damaged, policy_parameters};
use crate::renew::sealing;
use crate::{BrokerAddress, Error, schema};

/// An identity, with what publishers and subscribers take from it. It changes as a whole.
pub(crate) struct Credentials {
    pub(crate) identity: Arc<Identity>,
    /// The epoch of the attribute key.
    pub(crate) epoch: Epoch,
    /// What is needed to seal with tags, if the authority has given it.
    pub(crate) policy_parameters: Option<kp::PublicParameters>,
    /// What policies and tags have to keep to, if the authority has said.
    pub(crate) schema: Option<Schema>,
    /// From when publishers seal for which epoch.
    pub(crate) sealing: Vec<Sealing>,
}

impl Credentials {
    pub(crate) fn of(identity: Arc<Identity>, keys: &Keys) -> Result<Self, Error> {
        let epoch = keys
            .attribute_key
            .epoch()
            .ok_or_else(|| damaged(&identity, ATTRIBUTE_KEY, &"it is of no epoch"))?;
        Ok(Self {
            epoch,
            policy_parameters: policy_parameters(&identity)?,
            schema: schema(&identity)?,
            sealing: sealing(&identity, epoch),
            identity,
        })
    }

    /// The epoch that a publisher who begins at `now` seals for.
    pub(crate) fn epoch_to_seal(&self, now: UnixTime) -> Epoch {
        sealing_epoch(&self.sealing, now.as_secs()).map_or(self.epoch, Epoch::new)
    }

    /// Whether the root has spoken between `before` and these: what was said of epochs before may have been the word of a thief, and
    /// publishers go where the authority says now, even back.
    pub(crate) fn cast_doubt_on(&self, before: &Self) -> bool {
        root_list(&self.identity) != root_list(&before.identity)
    }

    /// Whether another certificate than `other`'s stands in front.
    pub(crate) fn has_other_certificate(&self, other: &Self) -> bool {
        self.identity.chain().first() != other.identity.chain().first()
    }

    /// The same, with what the authority has said of epochs since, if it is not older.
    pub(crate) fn sealing_as(&self, sealing: Vec<Sealing>) -> Self {
        Self {
            identity: Arc::clone(&self.identity),
            epoch: self.epoch,
            policy_parameters: self.policy_parameters.clone(),
            schema: self.schema.clone(),
            sealing: newer(sealing, &self.sealing),
        }
    }
}

/// The number of the newest list of the root's that an identity knows.
pub(crate) fn root_list(identity: &Identity) -> Option<&CrlNumber> {
    identity.trust_anchor().list().map(RevocationList::number)
}

/// Of two plans the one that reaches further: epochs never go back.
pub(crate) fn newer(given: Vec<Sealing>, known: &[Sealing]) -> Vec<Sealing> {
    let last = |plan: &[Sealing]| plan.last().map(|sealing| sealing.epoch);
    if last(&given) >= last(known) {
        given
    } else {
        known.to_vec()
    }
}

/// How to connect to `broker` with this identity's certificate.
pub(crate) fn tls(
    identity: &Identity,
    broker: &BrokerAddress,
) -> Result<Arc<rustls::ClientConfig>, Error> {
    let protocol: &[u8] = if broker.is_websocket() {
        b"http/1.1"
    } else {
        tls::ALPN_MQTT
    };
    tls::client_config(identity, &[protocol])
        .map(Arc::new)
        .map_err(Error::Identity)
}
