//! Judging key frames: each once, the cheap questions before the dear ones.

use std::sync::Arc;

use smqtt_abe::Suite;
use smqtt_format::{Access, KeyFrame, KeyFrameContent, KeyId, SignatureAlgorithm};
use smqtt_pki::{CertificateDer, DeviceId, KeyType, Serial, UnixTime, VerifiedDevice};
use smqtt_policy::{Epoch, Policy};

use crate::content_key::confirms;
use crate::keyring::{Entry, State};
use crate::opener::expired;
use crate::{Event, Opener, Refusal};

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
        if Suite::from_id(content.suite) != Some(Suite::FabeoCpBls12381)
            || !matches!(content.access, Access::Policy(_))
        {
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
        let Access::Policy(policy) = content.access else {
            return Err(Refusal::UnsupportedSuite(content.suite));
        };
        let policy: Arc<str> = policy.into();
        let epoch = Epoch::new(content.epoch);
        let (state, verdict) = if epoch > self.newest_epoch() {
            let held = self.newest_epoch();
            self.events.push_back(Event::EpochAhead { epoch, held });
            (State::Ahead(frame.as_bytes().into()), Ok(()))
        } else {
            let own = frame.certificates().first().copied().unwrap_or(&[]);
            match self.unlock(content, &policy, own, &publisher, now) {
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
            policy,
            epoch,
            (content.created, content.ends()),
            content.topic.into(),
            state,
        );
        entry.padded = content.rules.padded;
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
        policy: &Arc<str>,
        own_certificate: &[u8],
        publisher: &Arc<DeviceId>,
        now: u64,
    ) -> Result<smqtt_abe::SharedKey, Refusal> {
        let epoch = Epoch::new(content.epoch);
        let held = self.newest_epoch();
        let Some(key) = self.keys.iter().find(|key| key.epoch() == Some(epoch)) else {
            return Err(Refusal::ExpiredEpoch { epoch, held });
        };
        let parsed = Policy::from_canonical(policy).map_err(|_| Refusal::UnreadablePolicy)?;
        let not_authorised = || Refusal::NotAuthorised {
            policy: Arc::clone(policy),
        };
        if !parsed.evaluate(key.attributes()) {
            return Err(not_authorised());
        }
        let limit = self.config.new_keys_per_minute;
        if !self.ring.may_decapsulate(publisher, now, limit) {
            return Err(Refusal::TooManyKeys);
        }
        self.counters.decapsulations += 1;
        let shared = key
            .decapsulate(
                &self.parameters,
                &parsed.at_epoch(epoch),
                content.ciphertext,
            )
            .map_err(|error| match error {
                smqtt_abe::Error::NotAuthorised => not_authorised(),
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
