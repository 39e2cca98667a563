//! What one session subscribes to. The trie has the subscriptions themselves; a session remembers where.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smqtt_proto::TopicFilter;

use crate::session::SessionRef;
use crate::share::Presence;
use crate::subscription::Subscription;
use crate::trie::{FilterId, Trie};

/// The filters of one session. What changes them changes the trie in the same step.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    plain: HashSet<FilterId, RandomState>,
    shared: HashSet<TopicFilter, RandomState>,
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.plain.len() + self.shared.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn contains(&self, filter: &TopicFilter, trie: &Trie) -> bool {
        if filter.is_shared() {
            return self.shared.contains(filter);
        }
        let id = trie.find(filter.filter());
        id.is_some_and(|id| self.plain.contains(&id))
    }

    /// Subscribes, or replaces the subscription to the same filter; tells whether there was none. `presence` is what a group
    /// is to know of the session: asked for if the filter is shared.
    pub(crate) fn insert(
        &mut self,
        filter: &TopicFilter,
        subscription: Subscription,
        presence: impl FnOnce() -> Arc<Presence>,
        trie: &mut Trie,
    ) -> bool {
        if filter.is_shared() {
            trie.join(filter, subscription, presence());
            return !self.shared.contains(filter) && self.shared.insert(filter.detach());
        }
        let (id, _) = trie.subscribe_to(filter.filter(), subscription);
        self.plain.insert(id)
    }

    /// Ends the subscription to a filter; tells whether there was one.
    pub(crate) fn remove(
        &mut self,
        filter: &TopicFilter,
        session: SessionRef,
        trie: &mut Trie,
    ) -> bool {
        if filter.is_shared() {
            let known = self.shared.remove(filter);
            if known {
                trie.leave(filter, session);
            }
            return known;
        }
        let id = trie.find(filter.filter());
        id.is_some_and(|id| self.plain.remove(&id) && trie.unsubscribe_from(id, session))
    }

    /// Ends all of them.
    pub(crate) fn clear(&mut self, session: SessionRef, trie: &mut Trie) {
        for id in self.plain.drain() {
            trie.unsubscribe_from(id, session);
        }
        for filter in self.shared.drain() {
            trie.leave(&filter, session);
        }
    }

    /// The filters, in no order.
    pub(crate) fn filters(&self, trie: &Trie) -> impl Iterator<Item = TopicFilter> {
        let plain = self
            .plain
            .iter()
            // A text that was a filter is one still.
            .filter_map(|id| TopicFilter::new(trie.text_of(*id)).ok());
        plain.chain(self.shared.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use smqtt_proto::QoS;

    use super::*;

    #[test]
    fn what_a_session_subscribes_to_is_in_the_trie_and_ends_with_it() {
        let (mut trie, mut mine) = (Trie::default(), Subscriptions::default());
        let session = SessionRef::new(0, 1, 0);
        let other = Subscription::new(SessionRef::new(0, 2, 0), QoS::AtMostOnce);
        let subscription = Subscription::new(session, QoS::AtLeastOnce);
        let texts = ["#", "/", "/#", "a/+/b", "a", "a/#", "$share/g/a/#"];
        let filters = texts.map(|text| TopicFilter::new(text).expect("filter"));
        trie.subscribe("a/+/b", other);
        for filter in &filters {
            assert!(!mine.contains(filter, &trie));
            assert!(mine.insert(filter, subscription, Arc::default, &mut trie));
            assert!(!mine.insert(filter, subscription, Arc::default, &mut trie));
            assert!(mine.contains(filter, &trie));
        }
        assert_eq!((mine.len(), trie.len()), (7, 8));
        let mut known: Vec<_> = mine.filters(&trie).map(|f| f.to_string()).collect();
        known.sort_unstable();
        let mut expected = texts.to_vec();
        expected.sort_unstable();
        assert_eq!(known, expected);
        for filter in [&filters[3], &filters[6]] {
            assert!(mine.remove(filter, session, &mut trie));
            assert!(!mine.remove(filter, session, &mut trie));
        }
        mine.clear(session, &mut trie);
        assert!(mine.is_empty());
        assert_eq!(trie.len(), 1);
    }
}
