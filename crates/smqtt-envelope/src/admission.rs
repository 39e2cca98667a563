//! Judging key frames: each once, the cheap questions before the dear ones.

use std::sync::Arc;

use smqtt_abe::{SharedKey, Suite};
use smqtt_format::{KeyFrame, KeyFrameContent, KeyId, SignatureAlgorithm};
use smqtt_pki::{CertificateDer, DeviceId, KeyType, Serial, UnixTime, VerifiedDevice};
use smqtt_policy::{AttributeSet, Epoch, Policy};

use crate::content_key::confirms;
use crate::keyring::{Entry, State};
use crate::opener::expired;
use crate::{Access, Event, Opener, Refusal};

/// Who is responsible, as far as it is known, and for what.
type Refused = (Option<Arc<DeviceId>>, Refusal);

impl Opener {
    /// Makes sure that a frame is known, arrived at `topic`; judges it if it is not. `digest` is the frame's.
    ///
    /// A refusal that is new is also told as an event.
    pub(crate) fn admit(
        &mut self,
        topic: &str,
        frame: &KeyFrame<'_>,
        digest: &[u8; 32],
        now: u64,
    ) -> Result<(), Refused> {
        let kid = KeyId::of_digest(digest);
        if let Some(entry) = self.ring.get(&kid) {
            return match &entry.state {
                // Two frames of one name take 2^32 attempts to make. The second is not taken.
                _ if entry.digest != *digest => Err((None, Refusal::KidMismatch)),
                State::Refused(reason) => Err((Some(Arc::clone(&entry.publisher)), reason.clone())),
                State::Open(_) | State::Ahead(_) => Ok(()),
            };
        }
        if let Some(reason) = self.rejected.reason_of_frame(digest, now) {
            return Err((None, reason.clone()));
        }
        let (publisher, reason) = match self.vouched(frame, now) {
            Ok((publisher, device)) => {
                let serials = serials_of(&device);
                let signer = frame.content().rules.signed.then(|| Box::new(device));
                match self.judge(
                    frame,
                    digest,
                    Arc::clone(&publisher),
                    (serials, signer),
                    now,
                ) {
                    Ok(()) => return Ok(()),
                    Err(reason) => (Some(publisher), reason),
                }
            }
            Err((publisher, reason)) => {
                self.rejected.insert(*digest, reason.clone(), now);
                (publisher, reason)
            }
        };
        self.refuse_key(topic, Some(kid), publisher.clone(), reason.clone());
        Err((publisher, reason))
    }

    /// Whether a trusted device signed this frame, is in good standing, and signed it in our time.
    fn vouched(
        &mut self,
        frame: &KeyFrame<'_>,
        now: u64,
    ) -> Result<(Arc<DeviceId>, VerifiedDevice), Refused> {
        let content = frame.content();
        if !is_supported(content) {
            return Err((None, Refusal::UnsupportedSuite(content.suite)));
        }
        self.counters.verifications += 1;
        let chain: Vec<CertificateDer<'_>> = frame
            .certificates()
            .iter()
            .map(|certificate| CertificateDer::from(*certificate))
            .collect();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let device = self.anchor.verify_device(&chain, time).map_err(|error| {
            // Part of the text may come from the certificate.
            let text = error.to_string().chars().take(200).collect();
            (None, Refusal::UntrustedPublisher(text))
        })?;
        let right_kind = match frame.algorithm() {
            SignatureAlgorithm::Es256 => device.key_type() == KeyType::EcdsaP256,
            _ => false,
        };
        if !right_kind
            || device
                .verify_signature(&frame.to_be_signed(), frame.signature())
                .is_err()
        {
            return Err((None, Refusal::BadSignature));
        }
        let publisher = self.ring.publisher(device.id());
        let refused = |reason| Err((Some(Arc::clone(&publisher)), reason));
        if serials_of(&device)
            .iter()
            .any(|serial| self.revoked.contains(serial))
        {
            return refused(Refusal::RevokedPublisher);
        }
        let latest = now.saturating_add(self.config.clock_skew.as_secs());
        if content.created > latest {
            let seconds = content.created - now;
            return refused(Refusal::NotYetValid { seconds });
        }
        if let Some(reason) = expired(&self.config, content.ends(), now) {
            return refused(reason);
        }
        if self.ring.may_be_forgotten(&publisher, content.created) {
            return refused(Refusal::ForgottenKey);
        }
        Ok((publisher, device))
    }

    /// Judges a frame whose signature is verified, and enters the verdict into the keyring.
    fn judge(
        &mut self,
        frame: &KeyFrame<'_>,
        digest: &[u8; 32],
        publisher: Arc<DeviceId>,
        (serials, signer): (Arc<[Serial]>, Option<Box<VerifiedDevice>>),
        now: u64,
    ) -> Result<(), Refusal> {
        let content = frame.content();
        let epoch = Epoch::new(content.epoch);
        let demand = Demand::of(content);
        let (access, bound_to) = match &demand {
            Ok(demand) => demand.shown(),
            // Never shown: the frame is refused, now or when its epoch comes.
            Err(_) => (Access::Policy("".into()), None),
        };
        let (state, verdict) = if epoch > self.newest_epoch() {
            let held = self.newest_epoch();
            self.events.push_back(Event::EpochAhead { epoch, held });
            (State::Ahead(frame.as_bytes().into()), Ok(()))
        } else {
            let own = frame.certificates().first().copied().unwrap_or(&[]);
            match demand.and_then(|demand| self.unlock(content, &demand, own, &publisher, now)) {
                Ok(shared) => (State::Open(shared), Ok(())),
                // This minute's allowance is no property of the frame.
                Err(Refusal::TooManyKeys) => return Err(self.reject_for_now(digest, now)),
                Err(reason) => (State::Refused(reason.clone()), Err(reason)),
            }
        };
        let mut entry = Entry::new(
            *digest,
            publisher,
            serials,
            access,
            epoch,
            (content.created, content.ends()),
            content.topic.into(),
            state,
        );
        entry.padded = content.rules.padded;
        if let Some(topic) = bound_to {
            entry.bind_to(topic);
        }
        if let Some(device) = signer {
            entry.sign_by(device);
        }
        let entered = self.ring.insert(KeyId::of_digest(digest), entry);
        self.counters.forgotten = self.ring.forgotten();
        if entered {
            verdict
        } else {
            Err(self.reject_for_now(digest, now))
        }
    }

    fn reject_for_now(&mut self, digest: &[u8; 32], now: u64) -> Refusal {
        self.rejected.insert(*digest, Refusal::TooManyKeys, now);
        Refusal::TooManyKeys
    }

    /// The key in the frame, if this reader may have it and the signer is who made it.
    fn unlock(
        &mut self,
        content: &KeyFrameContent<'_>,
        demand: &Demand,
        own_certificate: &[u8],
        publisher: &Arc<DeviceId>,
        now: u64,
    ) -> Result<SharedKey, Refusal> {
        let epoch = Epoch::new(content.epoch);
        let held = self.newest_epoch();
        let Some(key) = self.keys.iter().find(|key| key.epoch() == Some(epoch)) else {
            return Err(Refusal::ExpiredEpoch { epoch, held });
        };
        let policy_key = self
            .policy_keys
            .iter()
            .find(|key| key.policy().epoch() == Some(epoch))
            .zip(self.policy_parameters.as_ref());
        let refusal = demand.refusal(policy_key.is_some());
        let may_open = match (demand, policy_key) {
            (Demand::Policy(policy), _) => policy.evaluate(key.attributes()),
            (Demand::Tags(label), Some((key, _))) => key.policy().evaluate(label),
            (Demand::Tags(_), None) => false,
        };
        if !may_open {
            return Err(refusal);
        }
        let limit = self.config.new_keys_per_minute;
        if !self.ring.may_decapsulate(publisher, now, limit) {
            return Err(Refusal::TooManyKeys);
        }
        self.counters.decapsulations += 1;
        let shared = match (demand, policy_key) {
            (Demand::Policy(policy), _) => {
                let formula = policy.at_epoch(epoch);
                key.decapsulate(&self.parameters, &formula, content.ciphertext)
            }
            (Demand::Tags(label), Some((key, parameters))) => {
                key.decapsulate(parameters, label, content.ciphertext)
            }
            (Demand::Tags(_), None) => Err(smqtt_abe::Error::NotAuthorised),
        }
        .map_err(|error| match error {
            smqtt_abe::Error::NotAuthorised => refusal,
            _ => Refusal::BadEncapsulation,
        })?;
        if confirms(content.confirmation, shared.as_bytes(), own_certificate) {
            Ok(shared)
        } else {
            Err(Refusal::NotItsSigner)
        }
    }

    /// Judges a frame again that waited for this reader's renewal, if the epoch has come. Its signature is not verified again.
    pub(crate) fn admit_held_back(&mut self, kid: &KeyId, now: u64) {
        let newest = self.newest_epoch();
        if self.ring.get(kid).is_none_or(|entry| entry.epoch > newest) {
            return;
        }
        let Some(mut entry) = self.ring.remove(kid) else {
            return;
        };
        let signer = entry.signer.take();
        let State::Ahead(bytes) = &entry.state else {
            return;
        };
        let Ok(frame) = KeyFrame::parse(bytes) else {
            return;
        };
        let publisher = Arc::clone(&entry.publisher);
        if let Err(reason) = self.judge(
            &frame,
            &entry.digest,
            publisher,
            (Arc::clone(&entry.serials), signer),
            now,
        ) {
            let publisher = Some(Arc::clone(&entry.publisher));
            self.refuse_key(&entry.home, Some(*kid), publisher, reason);
        }
        for (topic, live) in entry.announcements() {
            self.ring.note_announced(kid, topic, live);
        }
        self.release(kid, now);
    }

    /// The epoch of the newest attribute key.
    pub(crate) fn newest_epoch(&self) -> Epoch {
        self.keys
            .first()
            .and_then(smqtt_abe::cp::AttributeKey::epoch)
            .unwrap_or_default()
    }
}

/// The serial numbers of a device's certificate and of the intermediates above it.
fn serials_of(device: &VerifiedDevice) -> Arc<[Serial]> {
    let own = std::iter::once(device.serial());
    own.chain(device.issuers().iter().copied()).collect()
}

/// What a reader's keys have to satisfy, or to be satisfied by.
enum Demand {
    Policy(Policy),
    /// Tags with topic and epoch.
    Tags(AttributeSet),
}

impl Demand {
    fn of(content: &KeyFrameContent<'_>) -> Result<Self, Refusal> {
        match content.access {
            smqtt_format::Access::Policy(policy) => Policy::from_canonical(policy)
                .map(Self::Policy)
                .map_err(|_| Refusal::UnreadablePolicy),
            smqtt_format::Access::Attributes(encoded) => AttributeSet::decode(encoded)
                .ok()
                .filter(|label| label.epoch() == Some(Epoch::new(content.epoch)))
                .map(Self::Tags)
                .ok_or(Refusal::UnreadablePolicy),
        }
    }

    /// What the reader is told of it, and the topic that it is for.
    fn shown(&self) -> (Access, Option<Arc<str>>) {
        match self {
            Self::Policy(policy) => (Access::Policy(policy.as_str().into()), None),
            Self::Tags(label) => (
                Access::Tags(tags_of(label)),
                label.topic().map(Arc::<str>::from),
            ),
        }
    }

    /// Why it is not for a reader who has a policy key of its epoch, or none.
    fn refusal(&self, has_policy_key: bool) -> Refusal {
        match self {
            Self::Policy(policy) => Refusal::NotAuthorised {
                policy: policy.as_str().into(),
            },
            Self::Tags(label) if has_policy_key => Refusal::OutsideKeyPolicy {
                tags: tags_of(label),
            },
            Self::Tags(label) => Refusal::NoKeyPolicy {
                tags: tags_of(label),
            },
        }
    }
}

/// The tags alone: topic and epoch stand beside them.
fn tags_of(label: &AttributeSet) -> Arc<str> {
    label.without_topic().without_epoch().to_string().into()
}

/// Whether this program has the suite, and the frame says who may open it in the suite's way.
fn is_supported(content: &KeyFrameContent<'_>) -> bool {
    matches!(
        (Suite::from_id(content.suite), content.access),
        (
            Some(Suite::FabeoCpBls12381),
            smqtt_format::Access::Policy(_)
        ) | (
            Some(Suite::FabeoKpBls12381),
            smqtt_format::Access::Attributes(_)
        )
    )
}
