//! The subscription trie: which sessions want a topic.
//!
//! A filter is a path of levels through one array of nodes of 40 bytes. The edges of all nodes stand in one
//! hash table: an entry is the number of the child, whose parent and level are looked at in the child itself.
//! So each level of a topic costs two places in memory however many filters there are, and a filter costs
//! about 100 bytes, however many share its prefix.

mod levels;
mod lists;
mod places;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use smqtt_proto::TopicFilter;

use crate::session::{SessionRef, is_roomy};
use crate::share::{Group, Presence};
use crate::subscription::Subscription;
use levels::{Level, Levels};
use lists::{List, Lists};
use places::Places;

/// All subscriptions of the broker.
///
/// Filters and topics are those of [`smqtt_proto::TopicFilter::filter`] and
/// [`smqtt_proto::TopicName`]: well-formed, so nothing is checked again here.
#[derive(Debug)]
pub struct Trie {
    nodes: Places<Node>,
    /// All nodes but the root, those of a `+`, and free ones, by parent and level.
    edges: HashTable<NodeId>,
    hasher: RandomState,
    levels: Levels,
    lists: Lists,
    subscriptions: usize,
    /// The groups of shared subscriptions by where their filter ends; few nodes have any.
    groups: HashMap<FilterId, Vec<Arc<Group>>, RandomState>,
    shared: Shared,
    version: u64,
}

/// Names a filter that somebody subscribes to: the node where it ends, and whether with a `#` below it. Holds as long as
/// the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FilterId(u32);

impl FilterId {
    fn new(node: NodeId, multi: bool) -> FilterId {
        FilterId(node << 1 | u32::from(multi))
    }

    fn node(self) -> NodeId {
        self.0 >> 1
    }

    fn multi(self) -> bool {
        self.0 & 1 != 0
    }
}

/// How much is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shared {
    /// Groups with a member.
    pub groups: usize,
    /// Their members, which are among the subscriptions, too.
    pub subscriptions: usize,
}

type NodeId = u32;
const ROOT: NodeId = 0;
const NONE: NodeId = NodeId::MAX;

#[derive(Debug)]
struct Node {
    parent: NodeId,
    /// The level that leads here from the parent; [`Level::PLUS`] for a `+`.
    level: Level,
    /// The child for `+`, or [`NONE`].
    plus: NodeId,
    /// Children, the one for `+` included, and groups of shared subscriptions.
    uses: u32,
    /// Subscriptions whose filter ends here.
    exact: List,
    /// Subscriptions whose filter ends with a `#` below this node.
    multi: List,
}

impl Node {
    fn new(parent: NodeId, level: Level) -> Node {
        Node {
            parent,
            level,
            plus: NONE,
            uses: 0,
            exact: List::EMPTY,
            multi: List::EMPTY,
        }
    }

    fn list(&mut self, multi: bool) -> &mut List {
        if multi {
            &mut self.multi
        } else {
            &mut self.exact
        }
    }

    fn is_unused(&self) -> bool {
        self.uses == 0 && self.exact.is_empty() && self.multi.is_empty()
    }
}

impl Default for Trie {
    fn default() -> Self {
        let mut nodes = Places::default();
        nodes.put(Node::new(NONE, Level::PLUS));
        Trie {
            nodes,
            edges: HashTable::new(),
            hasher: RandomState::default(),
            levels: Levels::default(),
            lists: Lists::default(),
            subscriptions: 0,
            groups: HashMap::default(),
            shared: Shared::default(),
            version: 0,
        }
    }
}

impl Trie {
    /// Adds a subscription to `filter`, or replaces the one of the same session; tells whether the
    /// session had none to this filter before.
    pub fn subscribe(&mut self, filter: &str, subscription: Subscription) -> bool {
        self.subscribe_to(filter, subscription).1
    }

    /// As [`Trie::subscribe`]; returns the filter's name here, too.
    pub(crate) fn subscribe_to(
        &mut self,
        filter: &str,
        subscription: Subscription,
    ) -> (FilterId, bool) {
        let id = self.end_or_insert(filter);
        self.version += 1;
        let list = self.nodes[id.node()].list(id.multi());
        let new = self.lists.insert(list, subscription);
        self.subscriptions += usize::from(new);
        (id, new)
    }

    /// Removes the subscription of `session` to `filter`; tells whether there was one.
    pub fn unsubscribe(&mut self, filter: &str, session: SessionRef) -> bool {
        self.find(filter)
            .is_some_and(|id| self.unsubscribe_from(id, session))
    }

    /// As [`Trie::unsubscribe`], by the filter's name here.
    pub(crate) fn unsubscribe_from(&mut self, id: FilterId, session: SessionRef) -> bool {
        let list = self.nodes[id.node()].list(id.multi());
        if !self.lists.remove(list, session) {
            return false;
        }
        self.subscriptions -= 1;
        self.version += 1;
        self.prune(id.node());
        true
    }

    /// The text of a filter that somebody subscribes to.
    pub(crate) fn text_of(&self, id: FilterId) -> String {
        let mut levels: SmallVec<[&str; 16]> = SmallVec::new();
        if id.multi() {
            levels.push("#");
        }
        let mut node = id.node();
        while node != ROOT {
            let Node { parent, level, .. } = &self.nodes[node];
            levels.push(self.levels.text(level));
            node = *parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// Makes a session a member of the group that `filter` names, which is shared.
    pub(crate) fn join(
        &mut self,
        filter: &TopicFilter,
        subscription: Subscription,
        presence: Arc<Presence>,
    ) {
        let end = self.end_or_insert(filter.filter());
        self.version += 1;
        let groups = self.groups.entry(end).or_default();
        let group = match groups.iter_mut().position(|group| *group.name == *filter) {
            Some(at) => &mut groups[at],
            None => {
                self.nodes[end.node()].uses += 1;
                self.shared.groups += 1;
                groups.push(Arc::new(Group::new(filter)));
                groups.last_mut().expect("it was just pushed")
            }
        };
        if Arc::make_mut(group).join(subscription, presence) {
            self.subscriptions += 1;
            self.shared.subscriptions += 1;
        }
    }

    /// Ends a session's membership in the group that `filter` names.
    pub(crate) fn leave(&mut self, filter: &TopicFilter, session: SessionRef) {
        let Some(end) = self.find(filter.filter()) else {
            return;
        };
        let Some(groups) = self.groups.get_mut(&end) else {
            return;
        };
        let Some(at) = groups.iter().position(|group| *group.name == *filter) else {
            return;
        };
        let group = Arc::make_mut(&mut groups[at]);
        if !group.leave(session) {
            return;
        }
        self.subscriptions -= 1;
        self.shared.subscriptions -= 1;
        self.version += 1;
        if group.len() == 0 {
            groups.swap_remove(at);
            if groups.is_empty() {
                self.groups.remove(&end);
            }
            self.shared.groups -= 1;
            self.nodes[end.node()].uses -= 1;
            self.prune(end.node());
        }
    }

    /// The group that `filter` names.
    pub(crate) fn group(&self, filter: &TopicFilter) -> Option<&Arc<Group>> {
        let groups = self.groups.get(&self.find(filter.filter())?)?;
        groups.iter().find(|group| *group.name == *filter)
    }

    /// Calls `found` with every group of shared subscriptions whose filter matches `topic`.
    pub(crate) fn matching_groups(&self, topic: &str, mut found: impl FnMut(&Arc<Group>)) {
        if self.groups.is_empty() {
            return;
        }
        self.walk(topic, |id, multi| {
            if let Some(groups) = self.groups.get(&FilterId::new(id, multi)) {
                groups.iter().for_each(&mut found);
            }
        });
    }

    /// How much is shared.
    pub fn shared(&self) -> Shared {
        self.shared
    }

    /// Calls `found` with every subscription whose filter matches `topic`, once per filter; not
    /// with shared ones.
    ///
    /// A topic that begins with `$` is not matched by a filter that begins with a wildcard
    /// `[MQTT-4.7.2-1]`.
    pub fn matches(&self, topic: &str, mut found: impl FnMut(&Subscription)) {
        self.walk(topic, |id, multi| {
            let node = &self.nodes[id];
            let list = if multi { node.multi } else { node.exact };
            self.lists.get(list).iter().for_each(&mut found);
        });
    }

    /// Calls `visit` with every place where a filter that matches `topic` would end.
    fn walk(&self, topic: &str, mut visit: impl FnMut(NodeId, bool)) {
        // None for one that no filter has.
        let levels: SmallVec<[Option<Step>; 16]> = topic
            .split('/')
            .map(|level| Some(Step::new(&self.hasher, self.levels.find(level)?)))
            .collect();
        let hidden = topic.starts_with('$');
        let mut open: SmallVec<[(NodeId, u32); 32]> = SmallVec::new();
        open.push((ROOT, 0));
        while let Some((id, depth)) = open.pop() {
            let node = &self.nodes[id];
            let wildcards = !(hidden && depth == 0);
            if wildcards {
                visit(id, true);
            }
            let Some(level) = levels.get(depth as usize) else {
                visit(id, false);
                continue;
            };
            if node.plus != NONE && wildcards {
                open.push((node.plus, depth + 1));
            }
            if let Some(child) = level.and_then(|step| self.edge(id, step)) {
                open.push((child, depth + 1));
            }
        }
    }

    /// Whether most of the memory is that of subscriptions which are gone.
    pub(crate) fn is_roomy(&self) -> bool {
        is_roomy(self.nodes.used(), self.nodes.len())
    }

    /// Gives that memory back, as far as it lies behind what is in use. Takes time in proportion to it.
    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink();
        let (hasher, nodes) = (&self.hasher, &self.nodes);
        self.edges
            .shrink_to_fit(|child| edge_hash(hasher, &nodes[*child]));
        self.lists.shrink();
        self.levels.shrink();
        self.groups.shrink_to_fit();
    }

    /// Subscriptions in the trie.
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// Grows with every change: what was matched at the same version still holds.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A filter's name here, if somebody subscribes to it or to one below it.
    pub(crate) fn find(&self, filter: &str) -> Option<FilterId> {
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            node = self.child(node, level)?;
        }
        Some(FilterId::new(node, multi))
    }

    fn end_or_insert(&mut self, filter: &str) -> FilterId {
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            node = self.child_or_insert(node, level);
        }
        FilterId::new(node, multi)
    }

    fn edge(&self, parent: NodeId, step: Step) -> Option<NodeId> {
        let leads_there = |child: &NodeId| {
            let child = &self.nodes[*child];
            child.parent == parent && child.level == step.level
        };
        self.edges
            .find(step.hash_from(parent), leads_there)
            .copied()
    }

    fn child(&self, node: NodeId, level: &str) -> Option<NodeId> {
        if level == "+" {
            return Some(self.nodes[node].plus).filter(|child| *child != NONE);
        }
        self.edge(node, Step::new(&self.hasher, self.levels.find(level)?))
    }

    fn child_or_insert(&mut self, node: NodeId, level: &str) -> NodeId {
        if let Some(child) = self.child(node, level) {
            return child;
        }
        let level = if level == "+" {
            Level::PLUS
        } else {
            self.levels.acquire(level)
        };
        let child = self.nodes.put(Node::new(node, level));
        let parent = &mut self.nodes[node];
        parent.uses += 1;
        if level == Level::PLUS {
            parent.plus = child;
        } else {
            let (hasher, nodes) = (&self.hasher, &self.nodes);
            let hash = |child: &NodeId| edge_hash(hasher, &nodes[*child]);
            self.edges.insert_unique(hash(&child), child, hash);
        }
        child
    }

    /// Removes `node` and its ancestors as far as nothing uses them any more.
    fn prune(&mut self, mut node: NodeId) {
        while node != ROOT && self.nodes[node].is_unused() {
            let Node { parent, level, .. } = self.nodes[node];
            if level == Level::PLUS {
                self.nodes[parent].plus = NONE;
            } else {
                let hash = edge_hash(&self.hasher, &self.nodes[node]);
                if let Ok(edge) = self.edges.find_entry(hash, |child| *child == node) {
                    edge.remove();
                }
                self.levels.release(level);
            }
            self.nodes[parent].uses -= 1;
            self.nodes.free(node);
            node = parent;
        }
    }
}

/// A level on the way through the trie, hashed once for all nodes that it may lead from.
#[derive(Debug, Clone, Copy)]
struct Step {
    level: Level,
    hash: u64,
}

impl Step {
    fn new(hasher: &RandomState, level: Level) -> Step {
        let hash = hasher.hash_one(level);
        Step { level, hash }
    }

    /// The hash under which the node that it leads to from `parent` stands among the edges.
    fn hash_from(self, parent: NodeId) -> u64 {
        // Odd and with as many ones as zeros: successive parents lie far apart. The hash below is keyed.
        self.hash ^ u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The hash under which a node stands among the edges.
fn edge_hash(hasher: &RandomState, child: &Node) -> u64 {
    Step::new(hasher, child.level).hash_from(child.parent)
}

/// The levels before a final `#`, and whether there is one. `None` is no level at all (the filter
/// `#`), which is not the same as one empty level.
fn split_filter(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(path) => (Some(path.strip_suffix('/').unwrap_or(path)), true),
        None => (Some(filter), false),
    }
}

#[cfg(test)]
mod tests {
    use smqtt_proto::{QoS, TopicFilter, TopicName};

    use super::*;

    /// A level that does not fit in its node.
    const LONG: &str = "a level of more than 19 bytes";

    fn session(slot: u32) -> SessionRef {
        SessionRef::new(0, slot, 0)
    }

    fn plain(slot: u32) -> Subscription {
        Subscription::new(session(slot), QoS::AtMostOnce)
    }

    fn matched(trie: &Trie, topic: &str) -> Vec<u32> {
        let mut slots = Vec::new();
        trie.matches(topic, |s| slots.push(s.session.slot()));
        slots.sort_unstable();
        slots
    }

    #[test]
    fn the_memory_of_a_crowd_comes_back() {
        let mut trie = Trie::default();
        // Short levels and long ones.
        let crowd = |i: u32| match i % 2 {
            0 => format!("crowd/{i}"),
            _ => format!("crowd/{i:030}"),
        };
        let filter = |i: u32| format!("{}/+", crowd(i));
        trie.subscribe("kept/+", plain(1));
        for i in 0..1_000 {
            trie.subscribe(&filter(i), plain(i));
        }
        for i in 0..1_000 {
            assert!(i == 3 || trie.unsubscribe(&filter(i), session(i)));
        }
        assert!(trie.is_roomy());
        trie.shrink();
        assert!(trie.nodes.len() < 100 && trie.edges.capacity() < 100);
        assert!(trie.levels.room() < 100 && trie.lists.room() < 100);
        assert!(!trie.is_roomy());
        assert_eq!(matched(&trie, "kept/x"), [1]);
        assert_eq!(matched(&trie, &format!("{}/x", crowd(3))), [3]);
        for i in 0..20 {
            trie.subscribe(&filter(i), plain(i));
        }
        for i in 0..20 {
            assert_eq!(matched(&trie, &format!("{}/x", crowd(i))), [i]);
        }
    }

    #[test]
    fn lookups_agree_with_the_rules_of_single_filters() {
        let parts = ["a", "b", "", "$x", "+", LONG];
        let mut filters: Vec<String> = vec!["#".into()];
        for x in parts {
            filters.extend([x.to_owned(), format!("{x}/#")]);
            for y in parts {
                filters.extend([format!("{x}/{y}"), format!("{x}/{y}/#")]);
                for z in parts {
                    filters.push(format!("{x}/{y}/{z}"));
                }
            }
        }
        filters.retain(|f| !f.is_empty());
        let mut trie = Trie::default();
        for (slot, filter) in filters.iter().enumerate() {
            assert!(trie.subscribe(filter, plain(slot as u32)), "{filter}");
        }
        assert_eq!(trie.len(), filters.len());
        for filter in &filters {
            let id = trie.find(filter).expect("it was just subscribed to");
            assert_eq!(trie.text_of(id), *filter);
        }
        let check = |trie: &Trie, alive: &dyn Fn(usize) -> bool| {
            let names = ["a", "b", "", "$x", "other", LONG];
            for x in names {
                for y in names {
                    for topic in [
                        x.to_owned(),
                        format!("{x}/{y}"),
                        format!("{x}/{y}/a"),
                        format!("{x}/{y}/{LONG}"),
                        format!("{x}/{y}/other"),
                        format!("{x}/{y}/a/b"),
                    ] {
                        let Ok(name) = TopicName::new(topic.clone()) else {
                            continue;
                        };
                        let expected: Vec<u32> = (0..filters.len())
                            .filter(|i| {
                                alive(*i)
                                    && TopicFilter::new(filters[*i].clone())
                                        .expect("filter")
                                        .matches(&name)
                            })
                            .map(|i| i as u32)
                            .collect();
                        assert_eq!(matched(trie, &topic), expected, "{topic}");
                    }
                }
            }
        };
        check(&trie, &|_| true);
        for (slot, filter) in filters.iter().enumerate().filter(|(slot, _)| slot % 3 != 0) {
            assert!(trie.unsubscribe(filter, session(slot as u32)), "{filter}");
            assert!(!trie.unsubscribe(filter, session(slot as u32)), "{filter}");
        }
        check(&trie, &|i| i % 3 == 0);
        for (slot, filter) in filters.iter().enumerate().filter(|(slot, _)| slot % 3 == 0) {
            assert!(trie.unsubscribe(filter, session(slot as u32)), "{filter}");
        }
        check(&trie, &|_| false);
        assert!(trie.is_empty());
        assert_eq!(trie.nodes.used(), 1, "only the root is left");
        assert!(trie.edges.is_empty() && trie.levels.len() == 0);
    }

    #[test]
    fn a_second_subscription_to_the_same_filter_replaces_the_first() {
        let mut trie = Trie::default();
        assert!(trie.subscribe("a/b", plain(1)));
        let version = trie.version();
        assert!(!trie.subscribe("a/b", Subscription::new(session(1), QoS::AtLeastOnce)));
        assert!(trie.version() > version);
        assert_eq!(trie.len(), 1);
        let mut granted = Vec::new();
        trie.matches("a/b", |s| granted.push(s.qos()));
        assert_eq!(granted, [QoS::AtLeastOnce]);
    }

    #[test]
    fn groups_are_found_by_topic_and_by_name_and_leave_nothing_behind() {
        let mut trie = Trie::default();
        let filter = |text| TopicFilter::new(text).expect("filter");
        let groups = |trie: &Trie, topic| {
            let mut names = Vec::new();
            trie.matching_groups(topic, |group| names.push(group.name.to_string()));
            names.sort();
            names
        };
        let all = ["$share/g/a/#", "$share/g/a/+", "$share/h/a/+", "$share/g/#"].map(filter);
        for name in &all {
            for slot in [1, 2] {
                trie.join(name, plain(slot), Arc::default());
            }
        }
        trie.subscribe("a/+", plain(7));
        let (count, subscriptions) = (4, 8);
        assert_eq!(
            trie.shared(),
            Shared {
                groups: count,
                subscriptions
            }
        );
        assert_eq!(trie.len(), 9);
        assert_eq!(matched(&trie, "a/b"), [7]);
        assert_eq!(
            groups(&trie, "a/b"),
            ["$share/g/#", "$share/g/a/#", "$share/g/a/+", "$share/h/a/+"]
        );
        assert_eq!(groups(&trie, "a"), ["$share/g/#", "$share/g/a/#"]);
        assert!(groups(&trie, "$SYS/b").is_empty());
        assert!(trie.group(&all[2]).is_some_and(|group| group.len() == 2));
        assert!(trie.group(&filter("$share/h/a/#")).is_none());
        trie.unsubscribe("a/+", session(7));
        for name in &all {
            for slot in [1, 1, 2] {
                trie.leave(name, session(slot));
            }
        }
        assert!(trie.is_empty() && trie.groups.is_empty());
        assert_eq!(trie.shared(), Shared::default());
        assert_eq!(trie.nodes.used(), 1);
        assert!(trie.edges.is_empty() && trie.levels.len() == 0);
    }

    #[test]
    fn a_filter_takes_little() {
        assert_eq!(size_of::<Node>(), 40);
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut trie = Trie::default();
        for round in 0..100 {
            let filter = format!("site/{round}/{LONG} {round}/+/value");
            trie.subscribe(&filter, plain(1));
            trie.unsubscribe(&filter, session(1));
        }
        assert!(trie.nodes.len() <= 6, "{}", trie.nodes.len());
        assert_eq!(trie.levels.room_for_texts(), 1);
    }
}
