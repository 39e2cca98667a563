//! The subscriptions to each filter: mostly one, so one costs no allocation.

use super::places::Places;
use crate::session::SessionRef;
use crate::subscription::Subscription;

/// The subscriptions to one filter, ordered by session. Belongs to one [`Lists`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List(u32);

impl List {
    pub(super) const EMPTY: List = List(u32::MAX);
    /// Set in the place of a list of several.
    const SEVERAL: u32 = 1 << 31;

    pub(super) fn is_empty(self) -> bool {
        self == List::EMPTY
    }
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    singles: Places<Subscription>,
    several: Places<Vec<Subscription>>,
}

impl Lists {
    pub(super) fn get(&self, list: List) -> &[Subscription] {
        match list {
            List::EMPTY => &[],
            List(place) if place & List::SEVERAL == 0 => std::slice::from_ref(&self.singles[place]),
            List(place) => &self.several[place & !List::SEVERAL],
        }
    }

    /// Adds a subscription or replaces the one of the same session; tells whether it is new.
    pub(super) fn insert(&mut self, list: &mut List, subscription: Subscription) -> bool {
        let at = self
            .get(*list)
            .binary_search_by_key(&subscription.session, |s| s.session);
        let place = list.0;
        match (*list, at) {
            (List::EMPTY, _) => *list = self.single(subscription),
            (_, Ok(_)) if place & List::SEVERAL == 0 => {
                self.singles[place] = subscription;
            }
            (_, Ok(at)) => self.several[place & !List::SEVERAL][at] = subscription,
            (_, Err(at)) if place & List::SEVERAL == 0 => {
                let mut several = vec![self.singles[place]];
                several.insert(at, subscription);
                self.singles.free(place);
                *list = self.put_several(several);
            }
            (_, Err(at)) => {
                self.several[place & !List::SEVERAL].insert(at, subscription);
            }
        }
        at.is_err()
    }

    /// Removes a session's subscription; tells whether there was one.
    pub(super) fn remove(&mut self, list: &mut List, session: SessionRef) -> bool {
        let Ok(at) = self
            .get(*list)
            .binary_search_by_key(&session, |s| s.session)
        else {
            return false;
        };
        if list.0 & List::SEVERAL == 0 {
            self.singles.free(list.0);
            *list = List::EMPTY;
            return true;
        }
        let place = list.0 & !List::SEVERAL;
        let several = &mut self.several[place];
        several.remove(at);
        if let [last] = several[..] {
            *several = Vec::new();
            self.several.free(place);
            *list = self.single(last);
        } else if several.len() * 4 < several.capacity() {
            several.shrink_to(several.len() * 2);
        }
        true
    }

    fn single(&mut self, subscription: Subscription) -> List {
        List(self.singles.put(subscription))
    }

    fn put_several(&mut self, several: Vec<Subscription>) -> List {
        List(self.several.put(several) | List::SEVERAL)
    }

    pub(super) fn shrink(&mut self) {
        self.singles.shrink();
        self.several.shrink();
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.singles.len().max(self.several.len())
    }
}

#[cfg(test)]
mod tests {
    use smqtt_proto::QoS;

    use super::*;

    #[test]
    fn a_list_grows_shrinks_and_gives_its_places_back() {
        let subscription = |slot| Subscription::new(SessionRef::new(0, slot, 0), QoS::AtMostOnce);
        let slots = |lists: &Lists, list| -> Vec<u32> {
            lists.get(list).iter().map(|s| s.session.slot()).collect()
        };
        let mut lists = Lists::default();
        for _ in 0..3 {
            let (mut a, mut b) = (List::EMPTY, List::EMPTY);
            for slot in [5, 3, 4] {
                assert!(lists.insert(&mut a, subscription(slot)));
                assert!(!lists.insert(&mut a, subscription(slot)));
            }
            assert!(lists.insert(&mut b, subscription(7)));
            assert_eq!(
                (slots(&lists, a), slots(&lists, b)),
                (vec![3, 4, 5], vec![7])
            );
            assert!(!lists.remove(&mut a, SessionRef::new(0, 7, 0)));
            for (slot, left) in [(4, vec![3, 5]), (3, vec![5]), (5, vec![])] {
                assert!(lists.remove(&mut a, SessionRef::new(0, slot, 0)));
                assert_eq!(slots(&lists, a), left);
            }
            assert!(lists.remove(&mut b, SessionRef::new(0, 7, 0)));
            assert!(a.is_empty() && b.is_empty());
        }
        assert!(lists.singles.len() <= 2 && lists.several.len() == 1);
    }
}
