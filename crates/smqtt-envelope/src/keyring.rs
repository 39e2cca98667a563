//! The keys that a reader knows, and what has been opened under them, within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use smqtt_abe::SharedKey;
use smqtt_format::KeyId;
use smqtt_pki::{DeviceId, Serial, VerifiedDevice};
use smqtt_policy::Epoch;

use crate::content_key::ContentKey;
use crate::window::Window;
use crate::{Access, Refusal};

/// What an entry costs besides its texts and topics, in bytes; a generous estimate of the maps' overhead included.
const ENTRY_COST: usize = size_of::<Entry>() + 128;
/// What a topic costs besides its name, in bytes; the name is held twice, as the map's key and in the additional data.
const TOPIC_COST: usize = size_of::<TopicState>() + size_of::<ContentKey>() + 192;
/// What the key of a device costs that signs each message, in bytes; its shown attributes are bounded by its certificate.
const SIGNER_COST: usize = size_of::<VerifiedDevice>() + 1_024;
/// How many announced topics of one key are remembered.
const ANNOUNCED_PER_KEY: usize = 32;

/// A key frame whose signature was verified.
pub(crate) struct Entry {
    pub(crate) digest: [u8; 32],
    pub(crate) publisher: Arc<DeviceId>,
    /// Of its publisher's certificate, and of the intermediates above that.
    pub(crate) serials: Arc<[Serial]>,
    pub(crate) access: Access,
    /// The only topic whose messages it may open, where its tags state one.
    pub(crate) bound_to: Option<Arc<str>>,
    pub(crate) epoch: Epoch,
    pub(crate) created: u64,
    pub(crate) ends: u64,
    /// The topic that the frame itself names.
    pub(crate) home: Arc<str>,
    pub(crate) state: State,
    /// Who signs each message, where each is signed.
    pub(crate) signer: Option<Box<VerifiedDevice>>,
    /// Whether payloads are padded.
    pub(crate) padded: bool,
    /// Topics at which the frame was announced. Anybody may announce: they serve as hints only.
    announced: Vec<Announced>,
    topics: HashMap<Arc<str>, TopicState>,
    cost: usize,
}

/// What a verified frame is good for.
pub(crate) enum State {
    /// Its key.
    Open(SharedKey),
    /// Nothing, for this reason.
    Refused(Refusal),
    /// Nothing until the reader renews its attribute key; the frame is kept until then.
    Ahead(Box<[u8]>),
}

struct Announced {
    topic: Arc<str>,
    /// Whether it came as it was published, not from the broker's store.
    live: bool,
}

/// One topic under one key.
pub(crate) struct TopicState {
    pub(crate) key: Box<ContentKey>,
    pub(crate) window: Window,
}

impl Entry {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        digest: [u8; 32],
        publisher: Arc<DeviceId>,
        serials: Arc<[Serial]>,
        access: Access,
        epoch: Epoch,
        (created, ends): (u64, u64),
        home: Arc<str>,
        state: State,
    ) -> Self {
        let kept = match &state {
            State::Ahead(frame) => frame.len(),
            State::Open(_) | State::Refused(_) => 0,
        };
        Self {
            cost: ENTRY_COST + access.len() + home.len() + kept,
            digest,
            publisher,
            serials,
            access,
            bound_to: None,
            epoch,
            created,
            ends,
            home,
            state,
            signer: None,
            padded: false,
            announced: Vec::new(),
            topics: HashMap::new(),
        }
    }

    /// It opens messages at this topic only.
    pub(crate) fn bind_to(&mut self, topic: Arc<str>) {
        self.cost += topic.len();
        self.bound_to = Some(topic);
    }

    /// Each message is signed by this device.
    pub(crate) fn sign_by(&mut self, device: Box<VerifiedDevice>) {
        self.cost += SIGNER_COST;
        self.signer = Some(device);
    }

    /// The state of a topic at which a message was opened before.
    pub(crate) fn topic_mut(&mut self, topic: &str) -> Option<(Arc<str>, &mut TopicState)> {
        // A map gives either the key or the mutable value.
        let name = Arc::clone(self.topics.get_key_value(topic)?.0);
        Some((name, self.topics.get_mut(topic)?))
    }

    /// The same, to be looked at.
    pub(crate) fn topic(&self, topic: &str) -> Option<&TopicState> {
        self.topics.get(topic)
    }

    /// Whether the frame's announcement for `topic` came as it was published, so that the reader was there from its first
    /// message on.
    pub(crate) fn announced_live(&self, topic: &str) -> bool {
        self.announced.iter().any(|a| a.live && *a.topic == *topic)
    }

    /// The topics at which the frame was announced, and whether it came as it was published.
    pub(crate) fn announcements(&self) -> impl Iterator<Item = (&str, bool)> {
        self.announced.iter().map(|a| (&*a.topic, a.live))
    }

    /// The topics, each once, at which a message that does not open at `topic` could have been sealed: the frame's own, those
    /// where it was announced, those where a message was opened.
    pub(crate) fn other_topics<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let announced = self.announced.iter().map(|a| &a.topic);
        let mut seen: Vec<&str> = vec![topic];
        std::iter::once(&self.home)
            .chain(announced)
            .chain(self.topics.keys())
            .filter(move |candidate| {
                let new = !seen.contains(&&***candidate);
                if new {
                    seen.push(candidate);
                }
                new
            })
    }

    /// Whether forgetting it loses nothing but work: no message was opened under it.
    fn is_unused(&self) -> bool {
        self.topics.is_empty()
    }
}

/// One publisher's share.
#[derive(Default)]
struct Account {
    kids: Vec<KeyId>,
    bytes: usize,
    /// A used key was forgotten that was created then: unknown ones that are not younger may be the forgotten one.
    floor: Option<Floor>,
    /// The minute in which `admitted` keys were decapsulated.
    minute: u64,
    admitted: u32,
}

#[derive(Clone, Copy)]
struct Floor {
    /// Creation of the youngest key that was forgotten.
    created: u64,
    /// After this second all forgotten keys have expired.
    until: u64,
}

/// All verified frames.
///
/// # Invariant
///
/// The sum of all costs stays within the bounds. A key under which a message was opened is forgotten only together with every
/// key of its publisher that is not younger, so that a reader never opens a message twice.
pub(crate) struct Keyring {
    entries: HashMap<KeyId, Entry>,
    accounts: HashMap<Arc<DeviceId>, Account>,
    bytes: usize,
    max_bytes: usize,
    max_bytes_per_publisher: usize,
    /// Bytes of remembered announcements.
    hints: usize,
    forgotten: u64,
}

impl Keyring {
    pub(crate) fn new(max_bytes: usize, max_bytes_per_publisher: usize) -> Self {
        Self {
            entries: HashMap::new(),
            accounts: HashMap::new(),
            bytes: 0,
            max_bytes,
            max_bytes_per_publisher: max_bytes_per_publisher.min(max_bytes),
            hints: 0,
            forgotten: 0,
        }
    }

    pub(crate) fn get(&self, kid: &KeyId) -> Option<&Entry> {
        self.entries.get(kid)
    }

    pub(crate) fn get_mut(&mut self, kid: &KeyId) -> Option<&mut Entry> {
        self.entries.get_mut(kid)
    }

    /// A publisher's name, shared with what is known of it.
    pub(crate) fn publisher(&self, id: &DeviceId) -> Arc<DeviceId> {
        match self.accounts.get_key_value(id) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(id.clone()),
        }
    }

    /// How many used keys were forgotten before their time.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether a key of `publisher` that is not known here, created at `created`, may be one that was forgotten.
    pub(crate) fn may_be_forgotten(&self, publisher: &DeviceId, created: u64) -> bool {
        self.accounts
            .get(publisher)
            .and_then(|account| account.floor)
            .is_some_and(|floor| created <= floor.created)
    }

    /// Counts one decapsulation of a key of `publisher`; false if this minute's `limit` is used up.
    pub(crate) fn may_decapsulate(
        &mut self,
        publisher: &Arc<DeviceId>,
        now: u64,
        limit: u32,
    ) -> bool {
        let account = self.accounts.entry(Arc::clone(publisher)).or_default();
        let minute = now / 60;
        if account.minute != minute {
            account.minute = minute;
            account.admitted = 0;
        }
        let allowed = account.admitted < limit;
        account.admitted += u32::from(allowed);
        allowed
    }

    /// Adds or replaces an entry; makes room for it first. False if it does not fit whatever is forgotten.
    pub(crate) fn insert(&mut self, kid: KeyId, entry: Entry) -> bool {
        self.remove(&kid);
        let publisher = Arc::clone(&entry.publisher);
        if !self.make_room(&publisher, entry.cost, &kid) {
            return false;
        }
        let account = self.accounts.entry(publisher).or_default();
        account.kids.push(kid);
        account.bytes += entry.cost;
        self.bytes += entry.cost;
        self.entries.insert(kid, entry);
        true
    }

    /// Adds a topic to a known key, at which a message was just opened. False if it does not fit.
    pub(crate) fn insert_topic(&mut self, kid: &KeyId, topic: Arc<str>, state: TopicState) -> bool {
        let cost = TOPIC_COST + 2 * topic.len();
        let Some(publisher) = self.entries.get(kid).map(|e| Arc::clone(&e.publisher)) else {
            return false;
        };
        if !self.make_room(&publisher, cost, kid) {
            return false;
        }
        let (Some(entry), Some(account)) =
            (self.entries.get_mut(kid), self.accounts.get_mut(&publisher))
        else {
            return false;
        };
        entry.cost += cost;
        account.bytes += cost;
        self.bytes += cost;
        entry.topics.insert(topic, state);
        true
    }

    /// Remembers that a known key was announced for `topic`. Not remembered beyond a sixteenth of the memory for keys:
    /// anybody may announce, so it must not displace anything.
    pub(crate) fn note_announced(&mut self, kid: &KeyId, topic: &str, live: bool) {
        let Some(entry) = self.entries.get_mut(kid) else {
            return;
        };
        // The first time decides whether the reader was there from the start: a publisher may announce again at any time.
        if entry.announced.iter().any(|a| *a.topic == *topic) {
            return;
        }
        let cost = size_of::<Announced>() + topic.len();
        if entry.announced.len() < ANNOUNCED_PER_KEY && self.hints + cost <= self.max_bytes / 16 {
            self.hints += cost;
            entry.announced.push(Announced {
                topic: topic.into(),
                live,
            });
        }
    }

    /// Removes an entry without a trace.
    pub(crate) fn remove(&mut self, kid: &KeyId) -> Option<Entry> {
        let entry = self.entries.remove(kid)?;
        self.bytes -= entry.cost;
        self.hints -= entry
            .announced
            .iter()
            .map(|a| size_of::<Announced>() + a.topic.len())
            .sum::<usize>();
        if let Some(account) = self.accounts.get_mut(&entry.publisher) {
            account.bytes -= entry.cost;
            account.kids.retain(|other| other != kid);
        }
        Some(entry)
    }

    /// The names of all entries for which `pick` holds.
    pub(crate) fn find(&self, mut pick: impl FnMut(&Entry) -> bool) -> Vec<KeyId> {
        self.entries
            .iter()
            .filter(|(_, entry)| pick(entry))
            .map(|(kid, _)| *kid)
            .collect()
    }

    /// Removes what ended before the second `limit`: such a frame is refused as expired from now on, so its windows are not
    /// needed.
    pub(crate) fn remove_ended(&mut self, limit: u64, now: u64) {
        for kid in self.find(|entry| entry.ends < limit) {
            self.remove(&kid);
        }
        self.accounts.retain(|_, account| {
            account.floor = account.floor.filter(|floor| floor.until >= limit);
            !account.kids.is_empty() || account.floor.is_some() || account.minute == now / 60
        });
    }

    /// Forgets as much as `cost` further bytes of `publisher` need, but not `keep`.
    fn make_room(&mut self, publisher: &Arc<DeviceId>, cost: usize, keep: &KeyId) -> bool {
        loop {
            let own = self.accounts.get(publisher).map_or(0, |a| a.bytes);
            if own + cost > self.max_bytes_per_publisher {
                if !self.forget_one(publisher, keep) {
                    return false;
                }
            } else if self.bytes + cost > self.max_bytes {
                let heaviest = self
                    .accounts
                    .iter()
                    .filter(|(_, account)| account.kids.iter().any(|kid| kid != keep))
                    .max_by_key(|(_, account)| account.bytes)
                    .map(|(id, _)| Arc::clone(id));
                if !heaviest.is_some_and(|id| self.forget_one(&id, keep)) {
                    return false;
                }
            } else {
                return true;
            }
        }
    }

    /// Forgets one key of `publisher`, other than `keep`: an unused one if there is one, else the oldest, after which no key of
    /// this publisher that is not younger is taken.
    fn forget_one(&mut self, publisher: &Arc<DeviceId>, keep: &KeyId) -> bool {
        let Some(account) = self.accounts.get(publisher) else {
            return false;
        };
        let victim = account
            .kids
            .iter()
            .filter(|kid| *kid != keep)
            .filter_map(|kid| Some((*kid, self.entries.get(kid)?)))
            .min_by_key(|(_, entry)| (!entry.is_unused(), entry.created))
            .map(|(kid, _)| kid);
        let Some(entry) = victim.and_then(|kid| self.remove(&kid)) else {
            return false;
        };
        if !entry.is_unused() {
            self.forgotten += 1;
            if let Some(account) = self.accounts.get_mut(publisher) {
                let before = account.floor.unwrap_or(Floor {
                    created: 0,
                    until: 0,
                });
                account.floor = Some(Floor {
                    created: before.created.max(entry.created),
                    until: before.until.max(entry.ends),
                });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(publisher: &str, created: u64) -> Entry {
        Entry::new(
            [0; 32],
            Arc::new(publisher.parse().expect("a device name")),
            Arc::new([Serial::from_der_integer(&[1]).expect("positive")]),
            Access::Policy("a = b".into()),
            Epoch::new(1),
            (created, created + 100),
            "t".into(),
            State::Refused(Refusal::NotItsSigner),
        )
    }

    fn topic_state() -> TopicState {
        TopicState {
            key: Box::new(ContentKey::derive(&[0; 32], &[0; 32], "t")),
            window: Window::new(false),
        }
    }

    fn cost(ring: &Keyring) -> usize {
        ring.entries.values().map(|entry| entry.cost).sum()
    }

    #[test]
    fn the_accounts_agree_with_the_entries() {
        let mut ring = Keyring::new(1 << 20, 1 << 16);
        for n in 0..200u8 {
            let kid = KeyId([n % 50; 8]);
            let name = ["a", "b", "c"][usize::from(n % 3)];
            assert!(ring.insert(kid, entry(name, u64::from(n))));
            if n % 2 == 0 {
                assert!(ring.insert_topic(&kid, "t".into(), topic_state()));
            }
            ring.note_announced(&kid, "elsewhere", false);
            if n % 7 == 0 {
                ring.remove(&kid);
            }
        }
        assert_eq!(cost(&ring), ring.bytes);
        let accounts: usize = ring.accounts.values().map(|a| a.bytes).sum();
        assert_eq!(accounts, ring.bytes);
        for kid in ring.find(|_| true) {
            ring.remove(&kid);
        }
        assert_eq!((ring.bytes, ring.hints), (0, 0));
        assert!(ring.accounts.values().all(|a| a.kids.is_empty()));
    }

    #[test]
    fn the_bounds_hold_and_unused_keys_go_first() {
        let one = entry("a", 0).cost;
        let used = one + TOPIC_COST + 2;
        let mut ring = Keyring::new(10 * used, used + 2 * one);
        assert!(ring.insert(KeyId([1; 8]), entry("a", 1)));
        assert!(ring.insert_topic(&KeyId([1; 8]), "t".into(), topic_state()));
        for n in 2..30 {
            assert!(ring.insert(KeyId([n; 8]), entry("a", u64::from(n))));
            assert!(ring.bytes <= used + 2 * one);
        }
        assert!(ring.get(&KeyId([1; 8])).is_some(), "the used one stays");
        assert_eq!(ring.forgotten(), 0);
    }

    #[test]
    fn hints_stay_within_a_sixteenth_and_displace_nothing() {
        let mut ring = Keyring::new(1 << 16, 1 << 16);
        for n in 0..4 {
            ring.insert(KeyId([n; 8]), entry("a", 1));
            for topic in 0..1000 {
                let topic = format!("{topic}/{}", "x".repeat(300));
                ring.note_announced(&KeyId([n; 8]), &topic, false);
            }
        }
        assert!(ring.hints <= 1 << 12);
        assert_eq!(ring.entries.len(), 4);
    }

    #[test]
    fn what_was_forgotten_is_remembered_until_it_has_ended() {
        let one = entry("a", 0).cost;
        let used = one + TOPIC_COST + 2;
        let mut ring = Keyring::new(10 * used, used);
        for n in 1..=2u8 {
            assert!(ring.insert(KeyId([n; 8]), entry("a", u64::from(n) * 10)));
            assert!(ring.insert_topic(&KeyId([n; 8]), "t".into(), topic_state()));
        }
        let a = "a".parse().expect("a device name");
        assert_eq!(ring.forgotten(), 1);
        assert!(ring.may_be_forgotten(&a, 10));
        assert!(!ring.may_be_forgotten(&a, 11));
        assert!(!ring.may_be_forgotten(&"b".parse().expect("a device name"), 10));
        ring.remove_ended(111, 6000);
        assert!(!ring.may_be_forgotten(&a, 10));
    }
}
