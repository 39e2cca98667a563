//! A publisher's side: key periods, their frames, and messages under them.

use std::collections::HashMap;
use std::sync::Arc;

use rand::CryptoRng;
use smqtt_abe::{cp, kp};
use smqtt_format::{
    KeyFrame, KeyFrameContent, KeyId, MessageRules, Sequence, SignatureAlgorithm, UnsignedKeyFrame,
    announce, countersign_structure, frame_digest,
};
use smqtt_pki::{CertificateDer, Identity, IdentityKey, UnixTime};
use smqtt_policy::{AttributeSet, Epoch, Policy};

use crate::content_key::{ContentKey, Shape, confirmation};
use crate::periods::{Period, Periods, TopicKey};
use crate::recipients::Recipients;
use crate::{Delivery, Error, SealerConfig, Signing};

/// Whoever signs key frames: a device, by its certificate and private key.
pub trait Signer: Send + Sync {
    /// The device's certificates in DER, its own first, the root left out.
    fn chain(&self) -> &[CertificateDer<'static>];

    /// An ES256 signature, r ‖ s, over `message`.
    fn sign(&self, message: &[u8]) -> [u8; KeyFrame::SIGNATURE_LEN];
}

impl Signer for Identity {
    fn chain(&self) -> &[CertificateDer<'static>] {
        self.chain()
    }

    fn sign(&self, message: &[u8]) -> [u8; KeyFrame::SIGNATURE_LEN] {
        self.key().sign(message)
    }
}

/// A private key and its certificates.
impl Signer for (IdentityKey, Vec<CertificateDer<'static>>) {
    fn chain(&self) -> &[CertificateDer<'static>] {
        &self.1
    }

    fn sign(&self, message: &[u8]) -> [u8; KeyFrame::SIGNATURE_LEN] {
        self.0.sign(message)
    }
}

/// A key frame that has to be published before the message that needs it: retained, QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where to publish it.
    pub topic: String,
    /// The frame's name.
    pub kid: KeyId,
    /// The payload.
    pub frame: Arc<[u8]>,
    /// Seconds until the end of its lifetime: the message expiry interval, where the protocol has one.
    pub expires_in: u32,
}

/// A sealed message, and what has to be done around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// To be published, and acknowledged, before the message. Present once per key frame and topic; never with inline delivery.
    pub announce: Option<Announcement>,
    /// The payload of the message.
    pub message: Vec<u8>,
    /// Topics of announcements whose key period is over: to be cleared by publishing nothing there, retained. Seldom any.
    pub clear: Vec<String>,
    /// The key frame under which it is sealed.
    pub kid: KeyId,
    /// Its number under that frame and topic.
    pub sequence: Sequence,
}

/// Seals messages of one publisher under one policy, or with one set of tags.
///
/// # Invariant
///
/// No (key, nonce) pair is used twice. Key frames are made here, from fresh randomness, and live in memory only; the numbers
/// under a frame and topic strictly increase, also when sealing fails; a frame whose numbers or topics are used up is replaced,
/// numbers never wrap. For the same reason a sealer can not be cloned or stored.
pub struct Sealer {
    signer: Arc<dyn Signer>,
    recipients: Recipients,
    epoch: Epoch,
    config: SealerConfig,
    lifetime: u32,
    periods: Periods,
    /// Announcements of ended periods that the caller has not been told yet.
    clear: Vec<String>,
    frames: u64,
    /// Messages signed.
    signed: u64,
}

impl Sealer {
    /// A sealer under `policy` at `epoch`. The first key frame is made for the first message.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a value out of its range; [`Error::TopicInPolicy`].
    pub fn new(
        signer: Arc<dyn Signer>,
        parameters: cp::PublicParameters,
        policy: Policy,
        epoch: Epoch,
        config: SealerConfig,
    ) -> Result<Self, Error> {
        if policy.asks_for_topic() {
            return Err(Error::TopicInPolicy {
                policy: policy.to_string(),
            });
        }
        let recipients = Recipients::Policy { parameters, policy };
        Self::sealing_for(recipients, signer, epoch, config)
    }

    /// A sealer with `tags` at `epoch`, for the devices whose key policy the tags satisfy, together with the topic. Each topic
    /// has a key frame of its own, because the frame says the topic: `max_topics` of them are kept, and beyond that the oldest
    /// period ends.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a value out of its range; [`Error::NoTags`].
    pub fn with_tags(
        signer: Arc<dyn Signer>,
        parameters: kp::PublicParameters,
        tags: &AttributeSet,
        epoch: Epoch,
        config: SealerConfig,
    ) -> Result<Self, Error> {
        // Topic and epoch are put in anew for each frame.
        let tags = tags.without_topic().without_epoch();
        if tags.is_empty() {
            return Err(Error::NoTags);
        }
        let recipients = Recipients::Tags { parameters, tags };
        Self::sealing_for(recipients, signer, epoch, config)
    }

    fn sealing_for(
        recipients: Recipients,
        signer: Arc<dyn Signer>,
        epoch: Epoch,
        config: SealerConfig,
    ) -> Result<Self, Error> {
        let lifetime = u32::try_from(config.lifetime.as_secs())
            .ok()
            .filter(|seconds| *seconds > 0)
            .ok_or(Error::Config {
                field: "lifetime",
                allowed: "1 s to 4294967295 s",
            })?;
        if config.max_topics == 0 {
            return Err(Error::Config {
                field: "max_topics",
                allowed: "at least 1",
            });
        }
        Ok(Self {
            signer,
            epoch,
            config,
            lifetime,
            periods: match &recipients {
                Recipients::Policy { .. } => Periods::for_all_topics(),
                Recipients::Tags { .. } => Periods::for_each_topic(),
            },
            recipients,
            clear: Vec::new(),
            frames: 0,
            signed: 0,
        })
    }

    /// Seals `payload` for `topic`, with the delivery of the configuration.
    ///
    /// A new key frame is made (an encapsulation, which costs milliseconds, and a signature) for the first message and when the
    /// last period has ended; every other message costs AES-GCM, and a signature where each is signed.
    ///
    /// # Errors
    ///
    /// [`Error::Topic`] for a topic that MQTT or SMQTT does not allow, [`Error::PayloadTooLong`], and
    /// [`Error::Encapsulate`] and [`Error::Frame`] where a new key frame can not be made.
    pub fn seal<R: CryptoRng + ?Sized>(
        &mut self,
        topic: &str,
        payload: &[u8],
        now: UnixTime,
        rng: &mut R,
    ) -> Result<Sealed, Error> {
        self.seal_as(self.config.delivery, topic, payload, now, rng)
    }

    /// Seals `payload` for `topic` with the key frame in front, whatever the configuration says: for what has to be readable by
    /// itself, such as a retained message, which outlives the announcement of its key.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub fn seal_inline<R: CryptoRng + ?Sized>(
        &mut self,
        topic: &str,
        payload: &[u8],
        now: UnixTime,
        rng: &mut R,
    ) -> Result<Sealed, Error> {
        self.seal_as(Delivery::Inline, topic, payload, now, rng)
    }

    fn seal_as<R: CryptoRng + ?Sized>(
        &mut self,
        delivery: Delivery,
        topic: &str,
        payload: &[u8],
        now: UnixTime,
        rng: &mut R,
    ) -> Result<Sealed, Error> {
        check_topic(topic)?;
        let now = now.as_secs();
        // Almost always: nothing is looked up twice.
        if let Some(sealed) = self.seal_now(delivery, topic, payload, now, false)? {
            return Ok(sealed);
        }
        self.make_ready(topic, now, rng)?;
        let sealed = self.seal_now(delivery, topic, payload, now, true)?;
        Ok(sealed.expect("it was made ready"))
    }

    /// Seals under the key for `topic` that there is; `None` if there is none that can seal one more message, which there is
    /// where it was `made_ready`.
    fn seal_now(
        &mut self,
        delivery: Delivery,
        topic: &str,
        payload: &[u8],
        now: u64,
        made_ready: bool,
    ) -> Result<Option<Sealed>, Error> {
        let period = self.periods.get_mut(topic);
        let Some(period) = period.filter(|p| made_ready || p.holds(now)) else {
            return Ok(None);
        };
        let Some(state) = period.topics.get_mut(topic) else {
            return Ok(None);
        };
        let Some(sequence) = state.next else {
            return Ok(None);
        };
        // Before anything can fail: a number is never used again.
        let max = self.config.max_messages;
        state.next = sequence.next().filter(|next| *next <= max);

        let padding = &self.config.padding;
        let shape = Shape {
            padded: padding.is_on().then(|| padding.padded_len(payload.len())),
            signed: self.config.signing == Signing::Each,
        };
        let mut message = Vec::new();
        if delivery == Delivery::Inline {
            let length = shape.padded.unwrap_or(payload.len());
            message.reserve_exact(period.frame.len() + length + shape.overhead(sequence, length));
            message.extend_from_slice(&period.frame);
        }
        let placed = state
            .key
            .seal(&period.kid, sequence, payload, &shape, &mut message)
            .ok_or(Error::PayloadTooLong {
                length: payload.len(),
            })?;
        if shape.signed {
            let ciphertext = &message[placed.ciphertext];
            let signed = countersign_structure(topic, &period.digest, sequence, ciphertext);
            message[placed.signature].copy_from_slice(&self.signer.sign(&signed));
            self.signed += 1;
        }
        let announce = delivery == Delivery::Announced && !state.announced;
        state.announced |= announce;
        let announce = announce.then(|| period.announcement(topic, now));
        Ok(Some(Sealed {
            announce,
            message,
            clear: std::mem::take(&mut self.clear),
            kid: period.kid,
            sequence,
        }))
    }

    /// Makes a key for `topic`, which has none that can seal one more message: of the current period if that takes another topic,
    /// else of a new one.
    fn make_ready<R: CryptoRng + ?Sized>(
        &mut self,
        topic: &str,
        now: u64,
        rng: &mut R,
    ) -> Result<(), Error> {
        let max_topics = self.config.max_topics;
        let goes_on = self.periods.get_mut(topic).is_some_and(|period| {
            let has_room = period.topics.len() < max_topics;
            // One whose numbers are used up is there.
            period.holds(now) && has_room && !period.topics.contains_key(topic)
        });
        if !goes_on {
            let ended = self.periods.remove(topic);
            self.note_ended(ended);
            while self.periods.len() >= max_topics {
                let ended = self.periods.remove_oldest();
                self.note_ended(ended);
            }
            let begun = self.begin_period(topic, now, rng)?;
            self.periods.insert(topic, begun);
            self.frames += 1;
        }
        let period = self.periods.get_mut(topic).expect("begun above");
        let key = ContentKey::derive(period.key.as_bytes(), &period.digest, topic);
        let state = TopicKey {
            key,
            next: Some(Sequence::FIRST),
            announced: false,
        };
        period.topics.insert(topic.into(), state);
        Ok(())
    }

    /// The announcements of the current periods, to be repeated where the broker may have lost them.
    pub fn announcements(&self, now: UnixTime) -> Vec<Announcement> {
        self.periods
            .iter()
            .flat_map(|period| {
                period
                    .announced()
                    .map(|topic| period.announcement(topic, now.as_secs()))
            })
            .collect()
    }

    /// Goes on to a later epoch: the period ends, and the next message has a frame that only keys of `epoch` open. Returns the
    /// topics of announcements to be cleared.
    ///
    /// # Errors
    ///
    /// [`Error::EpochBackwards`] for an earlier epoch. The current one changes nothing.
    pub fn set_epoch(&mut self, epoch: Epoch) -> Result<Vec<String>, Error> {
        if epoch < self.epoch {
            return Err(Error::EpochBackwards {
                current: self.epoch,
                given: epoch,
            });
        }
        if epoch == self.epoch {
            return Ok(Vec::new());
        }
        self.epoch = epoch;
        Ok(self.end())
    }

    /// Goes back to an earlier epoch, as [`set_epoch`](Self::set_epoch) goes on to a later one. Only where the later one turned
    /// out not to be the authority's: messages for it open for nobody, but one who goes back at anybody's word seals for devices
    /// that are revoked. A later epoch changes nothing.
    pub fn go_back_to(&mut self, epoch: Epoch) -> Vec<String> {
        if epoch >= self.epoch {
            return Vec::new();
        }
        self.epoch = epoch;
        self.end()
    }

    /// Signs the frames from the next period on as `signer`, such as with a renewed certificate, and ends the period. Returns the
    /// topics of announcements to be cleared.
    pub fn set_signer(&mut self, signer: Arc<dyn Signer>) -> Vec<String> {
        self.signer = signer;
        self.end()
    }

    /// Ends the period; the next message begins another. Returns the topics of announcements to be cleared, which makes messages
    /// under them unreadable to whoever has not seen the frame by then.
    pub fn end(&mut self) -> Vec<String> {
        for period in self.periods.take() {
            self.note_ended(Some(period));
        }
        std::mem::take(&mut self.clear)
    }

    /// The policy, if it seals under one.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        match &self.recipients {
            Recipients::Policy { policy, .. } => Some(policy),
            Recipients::Tags { .. } => None,
        }
    }

    /// The tags, if it seals with some.
    #[must_use]
    pub fn tags(&self) -> Option<&AttributeSet> {
        match &self.recipients {
            Recipients::Policy { .. } => None,
            Recipients::Tags { tags, .. } => Some(tags),
        }
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many key frames were made: encapsulations and signatures.
    #[must_use]
    pub fn frames_made(&self) -> u64 {
        self.frames
    }

    /// How many messages were signed: none but where [each is](Signing::Each).
    #[must_use]
    pub fn messages_signed(&self) -> u64 {
        self.signed
    }

    /// Notes that the announcements of a period are over.
    fn note_ended(&mut self, ended: Option<Period>) {
        self.clear.extend(ended.iter().flat_map(Period::cleared));
    }

    fn begin_period<R: CryptoRng + ?Sized>(
        &self,
        topic: &str,
        now: u64,
        rng: &mut R,
    ) -> Result<Period, Error> {
        let chain: Vec<&[u8]> = self.signer.chain().iter().map(AsRef::as_ref).collect();
        let own = chain.first().ok_or(smqtt_format::Error::Empty {
            part: "certificate chain",
        })?;
        let made = self.recipients.encapsulate(self.epoch, topic, rng)?;
        let confirmation = confirmation(made.key.as_bytes(), own);
        let content = KeyFrameContent {
            suite: made.suite.id(),
            access: made.access(),
            epoch: self.epoch.get(),
            ciphertext: &made.ciphertext,
            created: now,
            lifetime: self.lifetime,
            confirmation: &confirmation,
            topic,
            rules: MessageRules {
                signed: self.config.signing == Signing::Each,
                padded: self.config.padding.is_on(),
            },
        };
        let ends = content.ends();
        let unsigned = UnsignedKeyFrame::new(SignatureAlgorithm::Es256, &chain, &content)?;
        let signature = self.signer.sign(&unsigned.to_be_signed());
        let frame: Arc<[u8]> = unsigned.finish(&signature)?.into();
        let digest = frame_digest(&frame);
        Ok(Period {
            kid: KeyId::of_digest(&digest),
            frame,
            digest,
            key: made.key,
            created: now,
            ends,
            topics: HashMap::new(),
        })
    }
}

/// A topic name by MQTT's rules ([MQTT-3.3.2-2], [MQTT-4.7.3-1], [MQTT-4.7.3-2]) that leaves room for its announcement.
fn check_topic(topic: &str) -> Result<(), Error> {
    let refuse = |reason| {
        Err(Error::Topic {
            topic: topic.chars().take(80).collect(),
            reason,
        })
    };
    if topic.is_empty() {
        return refuse("it is empty");
    }
    if topic.len() > announce::MAX_TOPIC_LEN {
        return refuse("it is longer than 65507 bytes");
    }
    if topic.contains(['+', '#', '\0']) {
        return refuse("a topic name has no wildcards and no zero character");
    }
    if announce::is_reserved(topic) {
        return refuse("topics below smqtt/ are SMQTT's own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn sealer(rng: &mut ChaCha20Rng) -> Sealer {
        let (_, parameters) = smqtt_abe::cp::setup(rng);
        // What is not read here need not be a certificate.
        let chain = vec![CertificateDer::from(vec![0; 300])];
        let signer = Arc::new((IdentityKey::generate(rng), chain));
        let policy = "a = b".parse().expect("a policy");
        let config = SealerConfig {
            max_messages: Sequence::MAX,
            ..SealerConfig::default()
        };
        Sealer::new(signer, parameters, policy, Epoch::new(1), config).expect("valid")
    }

    #[test]
    fn after_the_largest_number_there_is_a_new_key() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut sealer = sealer(&mut rng);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let mut seal = |sealer: &mut Sealer| sealer.seal("t", b"x", now, &mut rng).expect("sealed");
        let first = seal(&mut sealer);
        let period = sealer.periods.get_mut("t").expect("begun");
        period.topics.get_mut("t").expect("used").next = Some(Sequence::MAX);
        let last = seal(&mut sealer);
        assert_eq!((last.kid, last.sequence), (first.kid, Sequence::MAX));
        let next = seal(&mut sealer);
        assert_ne!(next.kid, first.kid);
        assert_eq!(next.sequence, Sequence::FIRST);
    }
}
