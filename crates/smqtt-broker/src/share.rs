//! Shared subscriptions (MQTT 5.0 §4.8.2): the groups, their members, and whose turn it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use smqtt_proto::{PacketId, QoS, TopicFilter};

use crate::session::SessionRef;
use crate::subscription::Subscription;

/// A group as it was at one version of the trie: who shares the messages of one filter.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// `$share/NAME/FILTER`, which names the group: what one of its messages has to remember.
    pub(crate) name: Arc<TopicFilter>,
    /// Ordered by session.
    members: Vec<Member>,
    /// Counts the messages, over all versions of the group.
    turn: Arc<AtomicU64>,
}

/// Which of the messages that a session has in flight came by a shared subscription, and by which.
pub(crate) type Shares = HashMap<PacketId, Arc<TopicFilter>, RandomState>;

/// A session in a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) subscription: Subscription,
    presence: Arc<Presence>,
}

/// Whether a session can take a message. Its worker writes it, others read it when they choose;
/// what they chose by an old value is put right by the session's worker.
#[derive(Debug, Default)]
pub(crate) struct Presence(AtomicU8);

const AWAY: u8 = 1;
const FULL: u8 = 2;

impl Presence {
    /// Notes whether the session has a connection, and whether its queue is full.
    pub(crate) fn set(&self, connected: bool, full: bool) {
        let value = if connected { 0 } else { AWAY } | if full { FULL } else { 0 };
        self.0.store(value, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// How bad a choice the session is for a message of this QoS: who is away gets no QoS 0, and a
    /// full queue drops.
    fn reluctance(&self, qos: QoS) -> u8 {
        let state = self.0.load(Ordering::Relaxed);
        match qos {
            QoS::AtMostOnce if state & AWAY != 0 => 4 + state,
            _ => state,
        }
    }
}

impl Group {
    pub(crate) fn new(name: &TopicFilter) -> Group {
        Group {
            name: Arc::new(name.detach()),
            members: Vec::new(),
            turn: Arc::default(),
        }
    }

    /// Adds a member or replaces its subscription; tells whether it is new.
    pub(crate) fn join(&mut self, subscription: Subscription, presence: Arc<Presence>) -> bool {
        let member = Member {
            subscription,
            presence,
        };
        match self.find(subscription.session) {
            Ok(at) => {
                self.members[at] = member;
                false
            }
            Err(at) => {
                self.members.insert(at, member);
                true
            }
        }
    }

    /// Removes a member; tells whether it was one.
    pub(crate) fn leave(&mut self, session: SessionRef) -> bool {
        let found = self.find(session);
        if let Ok(at) = found {
            self.members.remove(at);
        }
        found.is_ok()
    }

    /// Members.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whose turn it is for a message of `qos`: members take turns as long as they are connected
    /// and have room. Where none is, the message goes to who can keep it. `skip` has just not taken
    /// it.
    pub(crate) fn choose(&self, qos: QoS, skip: Option<SessionRef>) -> Option<&Member> {
        let count = self.members.len() as u64;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let place = turn.checked_rem(count)? as usize;
        let wanted = |member: &&Member| Some(member.subscription.session) != skip;
        let next = &self.members[place];
        if next.presence.is_ready() && wanted(&next) {
            return Some(next);
        }
        // Another place, so that the turns of a missing member do not all go to its neighbour.
        let scattered = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let (before, after) = self.members.split_at((scattered % count) as usize);
        after
            .iter()
            .chain(before)
            .filter(wanted)
            .min_by_key(|member| {
                let qos = qos.min(member.subscription.qos());
                member.presence.reluctance(qos)
            })
    }

    /// Whether another member than `session` is connected and has room.
    pub(crate) fn has_ready_beside(&self, session: SessionRef) -> bool {
        self.members
            .iter()
            .any(|member| member.subscription.session != session && member.presence.is_ready())
    }

    fn find(&self, session: SessionRef) -> Result<usize, usize> {
        self.members
            .binary_search_by_key(&session, |member| member.subscription.session)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn session(slot: u32) -> SessionRef {
        SessionRef::new((slot % 3) as u16, slot, 0)
    }

    fn group(size: u32) -> (Group, Vec<Arc<Presence>>) {
        let mut group = Group::new(&TopicFilter::new("$share/g/t").expect("filter"));
        let presences: Vec<Arc<Presence>> = (0..size).map(|_| Arc::default()).collect();
        for (slot, presence) in presences.iter().enumerate() {
            let subscription = Subscription::new(session(slot as u32), QoS::AtLeastOnce);
            assert!(group.join(subscription, presence.clone()));
        }
        (group, presences)
    }

    fn turns(group: &Group, messages: usize) -> HashMap<u32, usize> {
        let mut turns = HashMap::new();
        for _ in 0..messages {
            let member = group.choose(QoS::AtLeastOnce, None).expect("a member");
            *turns.entry(member.subscription.session.slot()).or_default() += 1;
        }
        turns
    }

    #[test]
    fn ready_members_take_turns() {
        let (group, _) = group(5);
        let turns = turns(&group, 100);
        assert!(turns.len() == 5 && turns.values().all(|count| *count == 20));
    }

    #[test]
    fn the_turns_of_missing_members_are_spread_over_the_others() {
        let (group, presences) = group(5);
        presences[1].set(false, false);
        presences[2].set(true, true);
        let turns = turns(&group, 3_000);
        assert_eq!(turns.len(), 3);
        for (slot, count) in turns {
            assert!(slot != 1 && slot != 2, "{slot}");
            assert!((700..1_300).contains(&count), "{slot}: {count}");
        }
    }

    #[test]
    fn without_a_ready_member_the_message_goes_to_who_can_keep_it() {
        let (group, presences) = group(3);
        let chosen = |qos, skip| {
            group
                .choose(qos, skip)
                .map(|member| member.subscription.session.slot())
        };
        presences[0].set(true, true);
        presences[1].set(false, false);
        presences[2].set(false, true);
        for _ in 0..10 {
            assert_eq!(chosen(QoS::AtLeastOnce, None), Some(1));
            assert_eq!(chosen(QoS::AtMostOnce, None), Some(0));
            assert_eq!(chosen(QoS::AtLeastOnce, Some(session(1))), Some(0));
        }
    }

    #[test]
    fn an_empty_group_has_nobody() {
        let (mut group, _) = group(1);
        assert!(group.choose(QoS::AtLeastOnce, Some(session(0))).is_none());
        assert!(!group.has_ready_beside(session(0)));
        assert!(group.leave(session(0)) && !group.leave(session(0)));
        assert!(group.choose(QoS::AtLeastOnce, None).is_none());
    }
}
