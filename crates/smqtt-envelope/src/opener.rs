//! A reader's side: everything that arrives goes in, what it means comes out.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smqtt_abe::cp::{AttributeKey, PublicParameters};
use smqtt_abe::kp::{self, PolicyKey};
use smqtt_format::{Envelope, KeyFrame, KeyId, SealedMessage, Sequence, announce, frame_digest};
use smqtt_pki::{DeviceId, Serial, TrustAnchor, UnixTime};

use crate::attempt::Attempt;
use crate::keyring::{Entry, Keyring, State, TopicState};
use crate::memory::Recalled;
use crate::rejected::Rejected;
use crate::waiting::{Waiting, WaitingRoom};
use crate::window::{Verdict, Window};
use crate::{Arrival, Counters, Error, Event, Message, OpenerConfig, Refusal};

/// How many attribute keys, of as many epochs, a reader holds at most.
const MAX_KEYS: usize = 4;

/// Opens messages for one reader, whatever their publisher.
///
/// It does no I/O. Hand it every publish that arrives ([`handle_publish`](Self::handle_publish)), those below `smqtt/keys/` included; then
/// drain [`poll_event`](Self::poll_event) until it is empty, and call [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) says so. Nothing that arrives is an error here: what can not be opened is an event with its reason,
/// and the next message is looked at as if nothing had happened.
///
/// # Invariants
///
/// - No message is opened twice, except a retained one, which is then marked.
/// - No key frame costs a signature's verification twice, or a decapsulation twice; a verified one that is not for this
///   reader costs no decapsulation. (What the clock decided is decided again after five minutes.)
/// - Memory stays within the bounds of [`OpenerConfig`], whatever arrives.
///
/// They hold for the life of one opener: one that has just been made remembers nothing but what it is made to
/// [recall](Self::recall). The clock that is passed in may differ from
/// the publishers' by [`clock_skew`](OpenerConfig::clock_skew); it should not go back by more.
pub struct Opener {
    pub(crate) anchor: TrustAnchor,
    pub(crate) parameters: PublicParameters,
    /// The newest epoch first; never empty, each with an epoch of its own.
    pub(crate) keys: Vec<AttributeKey>,
    /// What belongs to a key policy, if the reader has one; as `keys`.
    pub(crate) policy_parameters: Option<kp::PublicParameters>,
    pub(crate) policy_keys: Vec<PolicyKey>,
    pub(crate) revoked: HashSet<Serial>,
    pub(crate) config: OpenerConfig,
    pub(crate) ring: Keyring,
    pub(crate) rejected: Rejected,
    pub(crate) counters: Counters,
    pub(crate) events: VecDeque<Event>,
    pub(crate) waiting: WaitingRoom,
    pub(crate) recalled: Recalled,
    /// The minute in which ended keys were last removed.
    swept: u64,
}

impl Opener {
    /// A reader that trusts the devices of `anchor` and holds `key`, issued under `parameters`.
    ///
    /// # Errors
    ///
    /// [`Error::NoEpoch`] and [`Error::WrongParameters`] for a key that does not fit.
    pub fn new(
        anchor: TrustAnchor,
        parameters: PublicParameters,
        key: AttributeKey,
        config: OpenerConfig,
    ) -> Result<Self, Error> {
        let mut opener = Self {
            anchor,
            parameters,
            keys: Vec::new(),
            policy_parameters: None,
            policy_keys: Vec::new(),
            revoked: HashSet::new(),
            ring: Keyring::new(config.key_bytes, config.key_bytes_per_publisher),
            rejected: Rejected::new(config.refused_frames),
            counters: Counters::default(),
            events: VecDeque::new(),
            waiting: WaitingRoom::new(config.waiting_messages, config.waiting_bytes),
            recalled: Recalled::default(),
            swept: 0,
            config,
        };
        opener.hold(key)?;
        Ok(opener)
    }

    /// Takes one publish, as it arrived: a message, an announced key frame, or anything else. `retained` is MQTT's flag on it.
    pub fn handle_publish(&mut self, topic: &str, payload: &[u8], retained: bool, now: UnixTime) {
        self.handle_arrival(
            topic,
            payload,
            Arrival {
                retained,
                ..Arrival::default()
            },
            now,
        );
    }

    /// As [`handle_publish`](Self::handle_publish), with what else the caller knows of it: its tag comes back with the
    /// message's event, however long it waits.
    pub fn handle_arrival(&mut self, topic: &str, payload: &[u8], arrival: Arrival, now: UnixTime) {
        let now = now.as_secs();
        self.sweep(now);
        if announce::is_reserved(topic) {
            match announce::parse(topic) {
                Some(_) if payload.is_empty() => self.counters.cleared += 1,
                Some((of, kid)) => {
                    self.handle_announcement(topic, of, kid, payload, arrival.retained, now);
                }
                None => self.counters.ignored += 1,
            }
            return;
        }
        match Envelope::parse(payload) {
            Ok(Envelope::Sealed(sealed)) => self.open(topic, &sealed, arrival, now),
            Ok(Envelope::Inline { frame, sealed }) => {
                self.handle_inline(topic, &frame, &sealed, arrival, now);
            }
            Ok(Envelope::KeyFrame(_)) => {
                self.refuse(topic.into(), None, None, arrival, Refusal::Misplaced);
            }
            Err(error) => self.refuse(topic.into(), None, None, arrival, malformed(error)),
        }
    }

    /// The next thing that happened, in the order in which it happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` while no message waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixTime> {
        self.waiting
            .deadline()
            .map(|deadline| UnixTime::since_unix_epoch(Duration::from_secs(deadline)))
    }

    /// Gives up the messages that have waited for their key frames long enough.
    pub fn handle_timeout(&mut self, now: UnixTime) {
        let now = now.as_secs();
        self.sweep(now);
        for message in self.waiting.take(|message| message.deadline <= now) {
            let reason = match self.ring.get(&message.kid).map(|e| (&e.state, e.epoch)) {
                Some((State::Refused(reason), _)) => reason.clone(),
                Some((_, epoch)) => Refusal::EpochAhead {
                    epoch,
                    held: self.newest_epoch(),
                },
                None => Refusal::UnknownKey,
            };
            self.refuse_waiting(message, reason);
        }
    }

    /// Holds a further attribute key: the renewed one of a new epoch, or one of the same epoch with other attributes, which replaces it.
    /// Messages that waited for the renewal are opened. Of the four newest epochs the keys are kept, so that what was sealed
    /// shortly before an epoch's end can still be read.
    ///
    /// Where the attributes changed, key frames that were refused for the old ones have to come again: subscribe again to
    /// their announcements.
    ///
    /// # Errors
    ///
    /// [`Error::NoEpoch`] and [`Error::WrongParameters`] for a key that does not fit.
    pub fn add_key(&mut self, key: AttributeKey, now: UnixTime) -> Result<(), Error> {
        let now = now.as_secs();
        self.hold(key)?;
        self.forget_refused_for_keys();
        for kid in self.ring.find(|e| matches!(e.state, State::Ahead(_))) {
            self.admit_held_back(&kid, now);
        }
        Ok(())
    }

    /// Holds a policy key, issued under `parameters`: for messages whose tags decide who may open them. As with
    /// [`add_key`](Self::add_key) one of the same epoch replaces the one before it, the four newest are kept, and key frames
    /// that were refused for want of it have to come again. Which epoch the reader is at, its attribute keys say: where both are
    /// renewed, the policy key comes first.
    ///
    /// # Errors
    ///
    /// [`Error::NoEpoch`] and [`Error::WrongParameters`] for a key that does not fit.
    pub fn add_policy_key(
        &mut self,
        parameters: &kp::PublicParameters,
        key: PolicyKey,
    ) -> Result<(), Error> {
        let epoch = key.policy().epoch().ok_or(Error::NoEpoch)?;
        let expected = self.policy_parameters.as_ref().unwrap_or(parameters).hash();
        if key.parameters_hash() != parameters.hash() || parameters.hash() != expected {
            return Err(Error::WrongParameters);
        }
        self.policy_parameters = Some(parameters.clone());
        let held = &mut self.policy_keys;
        held.retain(|held| held.policy().epoch() != Some(epoch));
        held.push(key);
        held.sort_by_key(|held| std::cmp::Reverse(held.policy().epoch()));
        held.truncate(MAX_KEYS);
        self.forget_refused_for_keys();
        Ok(())
    }

    /// Forgets the verdicts on key frames that other keys may overturn.
    fn forget_refused_for_keys(&mut self) {
        let stale = self.ring.find(
            |entry| matches!(&entry.state, State::Refused(reason) if reason.depends_on_the_keys()),
        );
        for kid in stale {
            self.ring.remove(&kid);
        }
    }

    /// Refuses, from now on, everything from publishers with these certificates, or with what these intermediates have issued.
    pub fn revoke(&mut self, serials: impl IntoIterator<Item = Serial>) {
        self.revoked.extend(serials);
        let revoked = &self.revoked;
        let taken_back =
            |entry: &Entry| entry.serials.iter().any(|serial| revoked.contains(serial));
        for kid in self.ring.find(taken_back) {
            if let Some(entry) = self.ring.get_mut(&kid) {
                entry.state = State::Refused(Refusal::RevokedPublisher);
            }
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many messages wait for their key frames.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn hold(&mut self, key: AttributeKey) -> Result<(), Error> {
        let epoch = key.epoch().ok_or(Error::NoEpoch)?;
        if key.parameters_hash() != self.parameters.hash() {
            return Err(Error::WrongParameters);
        }
        self.keys.retain(|held| held.epoch() != Some(epoch));
        self.keys.push(key);
        self.keys
            .sort_by_key(|held| std::cmp::Reverse(held.epoch()));
        self.keys.truncate(MAX_KEYS);
        Ok(())
    }

    fn handle_announcement(
        &mut self,
        at: &str,
        of: &str,
        named: KeyId,
        payload: &[u8],
        retained: bool,
        now: u64,
    ) {
        let (kid, reason) = match self.checked_frame(payload) {
            Ok(frame) => {
                let digest = frame_digest(frame.as_bytes());
                let kid = KeyId::of_digest(&digest);
                if kid == named {
                    if self.admit(at, &frame, &digest, now).is_ok() {
                        self.ring.note_announced(&kid, of, !retained);
                    }
                    self.release(&kid, now);
                    return;
                }
                (Some(kid), Refusal::KidMismatch)
            }
            Err(reason) => (None, reason),
        };
        self.refuse_key(at, kid, None, reason);
    }

    /// What an announcement has to be before anything is spent on it.
    fn checked_frame<'a>(&self, payload: &'a [u8]) -> Result<KeyFrame<'a>, Refusal> {
        self.check_frame_len(payload.len())?;
        match Envelope::parse(payload) {
            Ok(Envelope::KeyFrame(frame)) => Ok(frame),
            Ok(Envelope::Sealed(_) | Envelope::Inline { .. }) => Err(Refusal::Misplaced),
            Err(error) => Err(malformed(error)),
        }
    }

    fn check_frame_len(&self, length: usize) -> Result<(), Refusal> {
        let limit = self.config.frame_len;
        if length > limit {
            return Err(Refusal::FrameTooLong { length, limit });
        }
        Ok(())
    }

    fn handle_inline(
        &mut self,
        topic: &str,
        frame: &KeyFrame<'_>,
        sealed: &SealedMessage<'_>,
        arrival: Arrival,
        now: u64,
    ) {
        let kid = sealed.kid();
        if let Err(reason) = self.check_frame_len(frame.as_bytes().len()) {
            return self.refuse(topic.into(), Some(kid), None, arrival, reason);
        }
        // Also when the name is known already: a reader that knows the frame must not take what another refuses.
        let digest = frame_digest(frame.as_bytes());
        if KeyId::of_digest(&digest) != kid {
            return self.refuse(topic.into(), Some(kid), None, arrival, Refusal::KidMismatch);
        }
        match self.admit(topic, frame, &digest, now) {
            Ok(()) => {
                self.release(&kid, now);
                self.open(topic, sealed, arrival, now);
            }
            Err((publisher, reason)) => {
                self.release(&kid, now);
                self.refuse(topic.into(), Some(kid), publisher, arrival, reason);
            }
        }
    }

    /// Opens the messages that waited for this frame, or refuses them for the reason for which it was refused.
    pub(crate) fn release(&mut self, kid: &KeyId, now: u64) {
        if self.waiting.len() == 0 {
            return;
        }
        if let Some(State::Ahead(_)) = self.ring.get(kid).map(|entry| &entry.state) {
            let deadline = now.saturating_add(self.config.renewal_wait.as_secs());
            return self.waiting.extend(kid, deadline);
        }
        if self.ring.get(kid).is_none() && self.rejected.reason(kid, now).is_none() {
            return;
        }
        for message in self.waiting.take(|message| message.kid == *kid) {
            match SealedMessage::parse(&message.sealed) {
                Ok(sealed) => self.open(&message.topic, &sealed, message.arrival, now),
                Err(error) => self.refuse_waiting(message, malformed(error)),
            }
        }
    }

    /// Opens a message, lets it wait, or refuses it. On the way of a message that opens under a known key and topic there is
    /// one allocation, for its payload.
    fn open(&mut self, topic: &str, sealed: &SealedMessage<'_>, arrival: Arrival, now: u64) {
        let kid = sealed.kid();
        let Some(entry) = self.ring.get_mut(&kid) else {
            return match self.rejected.reason(&kid, now).cloned() {
                Some(reason) => self.refuse(topic.into(), Some(kid), None, arrival, reason),
                None => self.wait(topic, sealed, arrival, now, self.config.wait),
            };
        };
        let publisher = Arc::clone(&entry.publisher);
        match &entry.state {
            State::Open(_) => {}
            State::Refused(reason) => {
                let reason = reason.clone();
                return self.refuse(topic.into(), Some(kid), Some(publisher), arrival, reason);
            }
            State::Ahead(_) => {
                return self.wait(topic, sealed, arrival, now, self.config.renewal_wait);
            }
        }
        let unfit = expired(&self.config, entry.ends, now)
            .or_else(|| unwanted(&self.config, &publisher, entry.created, now))
            .or_else(|| {
                let bound_to = entry.bound_to.as_ref().filter(|to| ***to != *topic)?;
                Some(Refusal::WrongTopic {
                    sealed_for: Arc::clone(bound_to),
                })
            })
            .or_else(|| {
                let unsigned = self.config.require_signature && entry.signer.is_none();
                unsigned.then_some(Refusal::Unsigned)
            });
        if let Some(reason) = unfit {
            return self.refuse(topic.into(), Some(kid), Some(publisher), arrival, reason);
        }
        let access = entry.access.clone();
        let key_created = entry.created;
        let signed = entry.signer.is_some();
        let sequence = sealed.sequence();
        let (topic, payload, verdict) = match entry.attempt(topic, sealed, &mut self.counters) {
            Attempt::Opened {
                topic,
                payload,
                verdict,
            } => (topic, payload, verdict),
            Attempt::First { key, payload } => {
                let recalled = self.recalled.take(&kid, topic);
                let mut window =
                    recalled.unwrap_or_else(|| Window::new(entry.announced_live(topic)));
                let verdict = window.note(sequence);
                let topic: Arc<str> = topic.into();
                let state = TopicState { key, window };
                if !self.ring.insert_topic(&kid, Arc::clone(&topic), state) {
                    if let Some(window) = recalled {
                        self.recalled.insert(kid, &topic, window);
                    }
                    let reason = Refusal::TooManyKeys;
                    return self.refuse(topic, Some(kid), Some(publisher), arrival, reason);
                }
                self.counters.forgotten = self.ring.forgotten();
                (topic, payload, verdict)
            }
            Attempt::Refused(reason) => {
                return self.refuse(topic.into(), Some(kid), Some(publisher), arrival, reason);
            }
            Attempt::Failed => {
                let derivations = &mut self.counters.derivations;
                let trials = self.config.topic_trials;
                let reason = match entry.sealed_for(topic, sealed, trials, derivations) {
                    Some(sealed_for) => Refusal::WrongTopic { sealed_for },
                    None => Refusal::Altered,
                };
                return self.refuse(topic.into(), Some(kid), Some(publisher), arrival, reason);
            }
        };
        let (repeated, late) = match verdict {
            Verdict::Next { missing } => {
                self.report_missing(&topic, &publisher, kid, sequence, missing);
                (false, false)
            }
            Verdict::Late => (false, true),
            Verdict::Repeated | Verdict::TooLate if arrival.retained => (true, false),
            Verdict::Repeated | Verdict::TooLate => {
                let reason = Refusal::Replay { sequence };
                return self.refuse(topic, Some(kid), Some(publisher), arrival, reason);
            }
        };
        self.counters.opened += 1;
        self.counters.repeated += u64::from(repeated);
        self.counters.late += u64::from(late);
        self.events.push_back(Event::Opened(Message {
            topic,
            payload,
            publisher,
            access,
            kid,
            sequence,
            key_created,
            signed,
            retained: arrival.retained,
            tag: arrival.tag,
            repeated,
            late,
        }));
    }

    fn report_missing(
        &mut self,
        topic: &Arc<str>,
        publisher: &Arc<DeviceId>,
        kid: KeyId,
        sequence: Sequence,
        count: u32,
    ) {
        let Some(first) = Sequence::new(sequence.get() - count).filter(|_| count > 0) else {
            return;
        };
        if !self.config.report_missing {
            return;
        }
        self.counters.missing += u64::from(count);
        self.events.push_back(Event::Missing {
            topic: Arc::clone(topic),
            publisher: Arc::clone(publisher),
            kid,
            first,
            count,
        });
    }

    fn wait(
        &mut self,
        topic: &str,
        sealed: &SealedMessage<'_>,
        arrival: Arrival,
        now: u64,
        patience: Duration,
    ) {
        self.counters.waited += 1;
        let message = Waiting {
            kid: sealed.kid(),
            topic: topic.into(),
            sealed: sealed.as_bytes().into(),
            arrival,
            deadline: now.saturating_add(patience.as_secs()),
        };
        let mut given_up = Vec::new();
        self.waiting.push(message, |message| given_up.push(message));
        for message in given_up {
            self.refuse_waiting(message, Refusal::WaitingFull);
        }
    }

    fn refuse_waiting(&mut self, message: Waiting, reason: Refusal) {
        let publisher = self
            .ring
            .get(&message.kid)
            .map(|entry| Arc::clone(&entry.publisher));
        self.refuse(
            message.topic,
            Some(message.kid),
            publisher,
            message.arrival,
            reason,
        );
    }

    fn refuse(
        &mut self,
        topic: Arc<str>,
        kid: Option<KeyId>,
        publisher: Option<Arc<DeviceId>>,
        arrival: Arrival,
        reason: Refusal,
    ) {
        self.counters.refused.add(&reason);
        self.events.push_back(Event::Refused {
            topic,
            kid,
            publisher,
            retained: arrival.retained,
            tag: arrival.tag,
            reason,
        });
    }

    pub(crate) fn refuse_key(
        &mut self,
        topic: &str,
        kid: Option<KeyId>,
        publisher: Option<Arc<DeviceId>>,
        reason: Refusal,
    ) {
        self.counters.keys_refused.add(&reason);
        self.events.push_back(Event::KeyRefused {
            topic: topic.into(),
            kid,
            publisher,
            reason,
        });
    }

    /// Once a minute, removes the keys that have ended for good. Twice the skew, so that a clock that is set back a little
    /// finds them still.
    fn sweep(&mut self, now: u64) {
        if self.swept != now / 60 {
            self.swept = now / 60;
            let kept = self
                .config
                .max_delay
                .saturating_add(self.config.clock_skew.saturating_mul(2));
            self.ring
                .remove_ended(now.saturating_sub(kept.as_secs()), now);
        }
    }
}

fn malformed(error: smqtt_format::Error) -> Refusal {
    match error {
        smqtt_format::Error::NotAnEnvelope => Refusal::Plaintext,
        error => Refusal::Malformed(error),
    }
}

/// What the reader demands beside what the format does.
fn unwanted(
    config: &OpenerConfig,
    publisher: &DeviceId,
    created: u64,
    now: u64,
) -> Option<Refusal> {
    if config
        .publishers
        .as_ref()
        .is_some_and(|wanted| !wanted.contains(publisher))
    {
        return Some(Refusal::UnwantedPublisher);
    }
    let limit = config.max_age?.saturating_add(config.clock_skew).as_secs();
    let seconds = now.saturating_sub(created);
    (seconds > limit).then_some(Refusal::TooOld { seconds })
}

/// Whether the lifetime that ended at second `ends`, and all tolerance, are over.
pub(crate) fn expired(config: &OpenerConfig, ends: u64, now: u64) -> Option<Refusal> {
    let tolerance = config.max_delay.saturating_add(config.clock_skew).as_secs();
    (now > ends.saturating_add(tolerance)).then(|| Refusal::Expired {
        seconds: now - ends,
    })
}
