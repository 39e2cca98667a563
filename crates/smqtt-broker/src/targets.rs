//! From subscriptions to sessions: who gets a message, once per session, by worker.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
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
    pub(crate) local: Box<[Target]>,
    /// Those of other workers, by worker.
    pub(crate) remote: Vec<(usize, Arc<[Target]>)>,
    /// Groups that share the messages: one member of each gets one.
    pub(crate) groups: Box<[Arc<Group>]>,
    /// Whether any matching subscription excludes its own session's messages, so that this list
    /// holds for no publisher that is in it.
    has_no_local: bool,
    /// Which of `metrics.topic_prefixes` counts the topic.
    pub(crate) prefix: Option<usize>,
}

impl Targets {
    /// Whether nobody gets it.
    pub(crate) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty() && self.groups.is_empty()
    }

    /// How many sessions get it.
    pub(crate) fn sessions(&self) -> usize {
        self.local.len()
            + self
                .remote
                .iter()
                .map(|(_, list)| list.len())
                .sum::<usize>()
    }

    /// Matches `topic` for messages that `publisher` published, as worker number `worker`.
    ///
    /// A session with several matching subscriptions gets one copy, with the highest of their QoS
    /// and all of their identifiers `[MQTT-3.3.4-2]`, `[MQTT-3.3.4-4]`.
    pub(crate) fn find(
        trie: &Trie,
        topic: &str,
        publisher: Option<SessionRef>,
        worker: usize,
    ) -> Targets {
        let mut matched: Vec<Subscription> = Vec::new();
        let mut has_no_local = false;
        trie.matches(topic, |subscription| {
            has_no_local |= subscription.no_local();
            if !(subscription.no_local() && Some(subscription.session) == publisher) {
                matched.push(*subscription);
            }
        });
        matched.sort_unstable_by_key(|subscription| subscription.session);
        let mut local = Vec::new();
        let mut remote: Vec<(usize, Arc<[Target]>)> = Vec::new();
        for of_worker in matched.chunk_by(|a, b| a.session.worker() == b.session.worker()) {
            let targets = of_worker
                .chunk_by(|a, b| a.session == b.session)
                .map(combine);
            match of_worker[0].session.worker() {
                here if here == worker => local = targets.collect(),
                there => remote.push((there, targets.collect())),
            }
        }
        let mut groups = Vec::new();
        trie.matching_groups(topic, |group| groups.push(group.clone()));
        Targets {
            local: local.into_boxed_slice(),
            remote,
            groups: groups.into_boxed_slice(),
            has_no_local,
            prefix: None,
        }
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
#[derive(Debug, Default)]
pub(crate) struct TargetCache {
    version: u64,
    by_topic: HashMap<Bytes, Rc<Targets>, RandomState>,
    /// Targets in all entries.
    weight: usize,
}

/// Topics remembered at most.
const MAX_TOPICS: usize = 16_384;
/// Targets in all entries remembered at most (40 bytes each).
const MAX_WEIGHT: usize = 131_072;

impl TargetCache {
    /// The targets of `topic` for `publisher`, if they are remembered from this `version` of the
    /// trie.
    pub(crate) fn get(
        &mut self,
        version: u64,
        topic: &[u8],
        publisher: Option<SessionRef>,
    ) -> Option<Rc<Targets>> {
        if version != self.version {
            self.by_topic.clear();
            self.weight = 0;
            self.version = version;
            return None;
        }
        let targets = self.by_topic.get(topic)?;
        if targets.has_no_local && publisher.is_some() {
            return None;
        }
        Some(targets.clone())
    }

    /// Remembers what was found at `version`.
    pub(crate) fn put(&mut self, version: u64, topic: &[u8], targets: &Rc<Targets>) {
        if targets.has_no_local || version != self.version {
            return;
        }
        let weight = targets.local.len()
            + targets.groups.len()
            + targets
                .remote
                .iter()
                .map(|(_, list)| list.len())
                .sum::<usize>();
        if self.by_topic.len() >= MAX_TOPICS || self.weight + weight > MAX_WEIGHT {
            self.by_topic.clear();
            self.weight = 0;
            if weight > MAX_WEIGHT {
                return;
            }
        }
        self.weight += weight;
        self.by_topic
            .insert(Bytes::copy_from_slice(topic), targets.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(worker: u16, slot: u32) -> SessionRef {
        SessionRef::new(worker, slot, 0)
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
        let targets = Targets::find(&trie, "a/b", None, 0);
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
        let targets = Targets::find(&trie, "t", None, 1);
        let slots = |list: &[Target]| list.iter().map(|t| t.session.slot()).collect::<Vec<_>>();
        assert_eq!(slots(&targets.local), [3]);
        let remote: Vec<_> = targets
            .remote
            .iter()
            .map(|(worker, list)| (*worker, slots(list)))
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
        let targets = Targets::find(&trie, "t", Some(a), 0);
        assert_eq!(
            targets.local.iter().map(|t| t.session).collect::<Vec<_>>(),
            [b]
        );
        let mut cache = TargetCache::default();
        cache.get(trie.version(), b"t", Some(a));
        cache.put(trie.version(), b"t", &Rc::new(targets));
        assert!(cache.get(trie.version(), b"t", Some(b)).is_none());
    }

    #[test]
    fn what_was_remembered_ends_with_the_trie_version() {
        let mut trie = Trie::default();
        trie.subscribe("t", Subscription::new(session(0, 1), QoS::AtMostOnce));
        let version = trie.version();
        let mut cache = TargetCache::default();
        assert!(cache.get(version, b"t", None).is_none());
        cache.put(version, b"t", &Rc::new(Targets::find(&trie, "t", None, 0)));
        assert_eq!(
            cache.get(version, b"t", None).map(|t| t.local.len()),
            Some(1)
        );
        assert!(cache.get(version + 1, b"t", None).is_none());
        cache.put(version, b"t", &Rc::new(Targets::default()));
        assert!(cache.get(version + 1, b"t", None).is_none());
    }
}
