//! From subscriptions to sessions: who gets a message, once per session, by worker.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use smqtt_proto::{Delivery, QoS};

use crate::session::SessionRef;
use crate::share::Group;
use crate::shared::Target;
use crate::subscription::Subscription;
use crate::trie::Trie;

/// The sessions that a topic's messages go to.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// Those of this worker.
    pub(crate) local: Vec<Target>,
    /// Those of other workers, by worker.
    pub(crate) remote: Vec<(usize, Recipients)>,
    /// Groups that share the messages: one member of each gets one.
    pub(crate) groups: Vec<Arc<Group>>,
    /// Whether any matching subscription excludes its own session's messages, so that this list
    /// holds for no publisher that is in it.
    has_no_local: bool,
    /// Which of `metrics.topic_prefixes` counts the topic.
    pub(crate) prefix: Option<usize>,
}

/// Sessions of another worker: mostly one, which then costs no allocation.
#[derive(Debug, Clone)]
pub(crate) enum Recipients {
    One(Target),
    Several(Arc<[Target]>),
}

impl Recipients {
    pub(crate) fn as_slice(&self) -> &[Target] {
        match self {
            Recipients::One(target) => std::slice::from_ref(target),
            Recipients::Several(targets) => targets,
        }
    }
}

impl Targets {
    /// Whether nobody gets it.
    pub(crate) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty() && self.groups.is_empty()
    }

    /// How many sessions get it.
    pub(crate) fn sessions(&self) -> usize {
        let remote = self.remote.iter().map(|(_, list)| list.as_slice().len());
        self.local.len() + remote.sum::<usize>()
    }

    /// Matches `topic` for messages that `publisher` published, as worker number `worker`, in place of
    /// what is here.
    ///
    /// A session with several matching subscriptions gets one copy, with the highest of their QoS
    /// and all of their identifiers `[MQTT-3.3.4-2]`, `[MQTT-3.3.4-4]`.
    fn fill(&mut self, trie: &Trie, topic: &str, publisher: Option<SessionRef>, worker: usize) {
        let mut matched: SmallVec<[Subscription; 8]> = SmallVec::new();
        self.has_no_local = false;
        trie.matches(topic, |subscription| {
            self.has_no_local |= subscription.no_local();
            if !(subscription.no_local() && Some(subscription.session) == publisher) {
                matched.push(*subscription);
            }
        });
        matched.sort_unstable_by_key(|subscription| subscription.session);
        self.local.clear();
        self.remote.clear();
        for of_worker in matched.chunk_by(|a, b| a.session.worker() == b.session.worker()) {
            let mut targets = of_worker
                .chunk_by(|a, b| a.session == b.session)
                .map(combine);
            match of_worker[0].session.worker() {
                here if here == worker => self.local.extend(targets),
                there => {
                    let recipients = match of_worker {
                        [_] => targets.next().map(Recipients::One),
                        _ => None,
                    };
                    let recipients =
                        recipients.unwrap_or_else(|| Recipients::Several(targets.collect()));
                    self.remote.push((there, recipients));
                }
            }
        }
        self.groups.clear();
        trie.matching_groups(topic, |group| self.groups.push(group.clone()));
        self.prefix = None;
    }

    fn weight(&self) -> usize {
        self.sessions() + self.groups.len()
    }
}

/// One target of all matching subscriptions of one session.
pub(crate) fn combine(subscriptions: &[Subscription]) -> Target {
    let qos = subscriptions
        .iter()
        .map(Subscription::qos)
        .max()
        .unwrap_or(QoS::AtMostOnce);
    let retain = subscriptions.iter().any(Subscription::retain_as_published);
    let subscription_ids = subscriptions
        .iter()
        .filter_map(Subscription::identifier)
        .collect();
    Target {
        session: subscriptions[0].session,
        delivery: Delivery {
            qos,
            retain,
            subscription_ids,
        },
    }
}

/// Remembers the targets of topics while the trie does not change.
///
/// Each topic has one place that it can be in. One that is there is displaced by another only when
/// that is asked for twice in a row: where there are more topics than places, those that are here
/// stay useful, and the others cost no allocation.
#[derive(Debug, Default)]
pub(crate) struct TargetCache {
    places: Vec<Place>,
    hasher: RandomState,
    /// Targets in all places.
    weight: usize,
    /// What was found last and not put in a place: its memory is used again.
    spare: Arc<Targets>,
}

#[derive(Debug, Default)]
struct Place {
    /// Of the topic that was last looked for here in vain.
    missed: u32,
    /// Of the topic that is here: another is told from it without a look at its text, which lies elsewhere.
    tag: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    topic: Box<[u8]>,
    /// The trie's version that the targets are from.
    version: u64,
    targets: Arc<Targets>,
}

/// Places for topics; a power of two.
const PLACES: usize = 4_096;
/// Targets in all places remembered at most (40 bytes each).
const MAX_WEIGHT: usize = 131_072;

impl TargetCache {
    /// The targets of `topic` for `publisher`, if they are remembered from this `version` of the
    /// trie.
    pub(crate) fn get(
        &self,
        version: u64,
        topic: &[u8],
        publisher: Option<SessionRef>,
    ) -> Option<Arc<Targets>> {
        let (at, tag) = self.place_of(topic);
        let place = self.places.get(at)?;
        let entry = place.entry.as_ref()?;
        if place.tag != tag || entry.version != version || *entry.topic != *topic {
            return None;
        }
        if entry.targets.has_no_local && publisher.is_some() {
            return None;
        }
        Some(entry.targets.clone())
    }

    /// Finds the targets of `topic` in the trie and may remember them.
    pub(crate) fn find(
        &mut self,
        trie: &Trie,
        topic: &str,
        publisher: Option<SessionRef>,
        worker: usize,
        prefix: Option<usize>,
    ) -> Arc<Targets> {
        let mut found = std::mem::take(&mut self.spare);
        if Arc::get_mut(&mut found).is_none() {
            found = Arc::default();
        }
        if let Some(targets) = Arc::get_mut(&mut found) {
            targets.fill(trie, topic, publisher, worker);
            targets.prefix = prefix;
        }
        if !self.remember(trie.version(), topic.as_bytes(), &found) {
            self.spare = found.clone();
        }
        found
    }

    /// Remembers what was found at `version`, unless its place is another's; tells whether it does.
    fn remember(&mut self, version: u64, topic: &[u8], targets: &Arc<Targets>) -> bool {
        if targets.has_no_local {
            return false;
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, Place::default);
        }
        let (at, tag) = self.place_of(topic);
        let place = &mut self.places[at];
        let taken = place
            .entry
            .as_ref()
            .is_some_and(|entry| entry.version == version);
        if taken && place.missed != tag {
            place.missed = tag;
            return false;
        }
        if let Some(old) = place.entry.take() {
            self.weight -= old.targets.weight();
        }
        let weight = targets.weight();
        if self.weight + weight > MAX_WEIGHT {
            self.places.clear();
            self.weight = 0;
            return false;
        }
        self.weight += weight;
        place.tag = tag;
        place.entry = Some(Entry {
            topic: topic.into(),
            version,
            targets: targets.clone(),
        });
        true
    }

    /// Where a topic would be, and what tells it from most others that would be there.
    fn place_of(&self, topic: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(topic);
        (hash as usize % PLACES, (hash >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(worker: u16, slot: u32) -> SessionRef {
        SessionRef::new(worker, slot, 0)
    }

    fn find(trie: &Trie, topic: &str, publisher: Option<SessionRef>, worker: usize) -> Targets {
        let mut targets = Targets::default();
        targets.fill(trie, topic, publisher, worker);
        targets
    }

    #[test]
    fn overlapping_subscriptions_make_one_delivery_with_the_highest_qos_and_all_identifiers() {
        let mut trie = Trie::default();
        let subscription =
            |qos, identifier| Subscription::new(session(0, 1), qos).with_identifier(identifier);
        trie.subscribe("a/#", subscription(QoS::AtMostOnce, Some(7)));
        trie.subscribe(
            "a/+",
            subscription(QoS::ExactlyOnce, None).with_options(false, true),
        );
        trie.subscribe("a/b", subscription(QoS::AtLeastOnce, Some(9)));
        let targets = find(&trie, "a/b", None, 0);
        assert!(targets.remote.is_empty() && targets.local.len() == 1);
        let delivery = &targets.local[0].delivery;
        assert_eq!((delivery.qos, delivery.retain), (QoS::ExactlyOnce, true));
        let mut identifiers = delivery.subscription_ids.to_vec();
        identifiers.sort_unstable();
        assert_eq!(identifiers, [7, 9]);
    }

    #[test]
    fn targets_are_grouped_by_worker() {
        let mut trie = Trie::default();
        for (worker, slot) in [(2, 5), (0, 1), (1, 3), (2, 4), (0, 2)] {
            trie.subscribe(
                "t",
                Subscription::new(session(worker, slot), QoS::AtMostOnce),
            );
        }
        let targets = find(&trie, "t", None, 1);
        let slots = |list: &[Target]| list.iter().map(|t| t.session.slot()).collect::<Vec<_>>();
        assert_eq!(slots(&targets.local), [3]);
        let remote: Vec<_> = targets
            .remote
            .iter()
            .map(|(worker, list)| (*worker, slots(list.as_slice())))
            .collect();
        assert_eq!(remote, [(0, vec![1, 2]), (2, vec![4, 5])]);
    }

    #[test]
    fn no_local_leaves_out_the_publisher_and_is_not_remembered() {
        let mut trie = Trie::default();
        let (a, b) = (session(0, 1), session(0, 2));
        for s in [a, b] {
            trie.subscribe(
                "t",
                Subscription::new(s, QoS::AtMostOnce).with_options(true, false),
            );
        }
        let targets = find(&trie, "t", Some(a), 0);
        assert_eq!(
            targets.local.iter().map(|t| t.session).collect::<Vec<_>>(),
            [b]
        );
        let mut cache = TargetCache::default();
        let found = cache.find(&trie, "t", Some(b), 0, None);
        assert_eq!(found.local[0].session, a);
        assert!(cache.get(trie.version(), b"t", Some(b)).is_none());
    }

    #[test]
    fn what_was_remembered_ends_with_the_trie_version() {
        let mut trie = Trie::default();
        trie.subscribe("t", Subscription::new(session(0, 1), QoS::AtMostOnce));
        let version = trie.version();
        let mut cache = TargetCache::default();
        assert!(cache.get(version, b"t", None).is_none());
        assert_eq!(cache.find(&trie, "t", None, 0, Some(3)).prefix, Some(3));
        let known =
            |cache: &TargetCache, version| cache.get(version, b"t", None).map(|t| t.local.len());
        assert_eq!(known(&cache, version), Some(1));
        trie.subscribe("+", Subscription::new(session(0, 2), QoS::AtMostOnce));
        assert_eq!(known(&cache, trie.version()), None);
        cache.find(&trie, "t", None, 0, None);
        assert_eq!(known(&cache, trie.version()), Some(2));
        assert_eq!(known(&cache, version), None);
    }

    #[test]
    fn a_topic_is_displaced_by_one_that_is_asked_for_twice_in_a_row() {
        let mut trie = Trie::default();
        trie.subscribe("#", Subscription::new(session(0, 1), QoS::AtMostOnce));
        let mut cache = TargetCache::default();
        cache.find(&trie, "first", None, 0, None);
        let place = cache.place_of(b"first").0;
        let other = (0..)
            .map(|i| format!("other/{i}"))
            .find(|topic| cache.place_of(topic.as_bytes()).0 == place)
            .expect("there are topics enough");
        let known = |cache: &TargetCache, topic: &str| {
            cache.get(trie.version(), topic.as_bytes(), None).is_some()
        };
        cache.find(&trie, &other, None, 0, None);
        assert!(known(&cache, "first") && !known(&cache, &other));
        cache.find(&trie, &other, None, 0, None);
        assert!(!known(&cache, "first") && known(&cache, &other));
        assert_eq!(cache.weight, 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut trie = Trie::default();
        for slot in 0..1_000 {
            trie.subscribe("#", Subscription::new(session(0, slot), QoS::AtMostOnce));
        }
        let mut cache = TargetCache::default();
        for topic in 0..1_000 {
            let found = cache.find(&trie, &format!("t/{topic}"), None, 0, None);
            assert_eq!(found.sessions(), 1_000);
            assert!(cache.weight <= MAX_WEIGHT);
        }
        assert!(cache.weight > 0);
    }
}
