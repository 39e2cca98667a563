//! The subscription trie: which sessions want a topic.
//!
//! A filter is a path of levels through one array of nodes. Level texts are interned, and the edges
//! of all nodes stand in one hash table keyed by (node, level), so a lookup costs a few probes per
//! level of the topic however many filters there are, and a filter costs a node and an edge
//! (about 100 bytes), however many share its prefix.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use smqtt_proto::TopicFilter;

use crate::session::{SessionRef, is_roomy};
use crate::share::{Group, Presence};
use crate::subscription::Subscription;

/// All subscriptions of the broker.
///
/// Filters and topics are those of [`smqtt_proto::TopicFilter::filter`] and
/// [`smqtt_proto::TopicName`]: well-formed, so nothing is checked again here.
#[derive(Debug)]
pub struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    edges: HashMap<(NodeId, LevelId), NodeId, RandomState>,
    levels: Levels,
    subscriptions: usize,
    /// The groups of shared subscriptions by where their filter ends; few nodes have any.
    groups: HashMap<End, Vec<Arc<Group>>, RandomState>,
    shared: Shared,
    version: u64,
}

/// Where a filter ends: a node, and whether with a `#` below it.
type End = (NodeId, bool);

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
    /// The level that leads here from the parent; [`LevelId::PLUS`] for a `+`.
    level: LevelId,
    /// The child for `+`, or [`NONE`].
    plus: NodeId,
    /// Children, the one for `+` included, and groups of shared subscriptions.
    uses: u32,
    /// Subscriptions whose filter ends here, ordered by session.
    exact: Vec<Subscription>,
    /// Subscriptions whose filter ends with a `#` below this node, ordered by session.
    multi: Vec<Subscription>,
}

impl Node {
    fn new(parent: NodeId, level: LevelId) -> Node {
        Node {
            parent,
            level,
            plus: NONE,
            uses: 0,
            exact: Vec::new(),
            multi: Vec::new(),
        }
    }

    fn is_unused(&self) -> bool {
        self.uses == 0 && self.exact.is_empty() && self.multi.is_empty()
    }
}

impl Default for Trie {
    fn default() -> Self {
        Trie {
            nodes: vec![Node::new(NONE, LevelId::PLUS)],
            free: Vec::new(),
            edges: HashMap::default(),
            levels: Levels::default(),
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
        let (node, multi) = self.end_or_insert(filter);
        self.version += 1;
        let node = &mut self.nodes[node as usize];
        let list = if multi {
            &mut node.multi
        } else {
            &mut node.exact
        };
        match list.binary_search_by_key(&subscription.session, |s| s.session) {
            Ok(at) => {
                list[at] = subscription;
                false
            }
            Err(at) => {
                if list.is_empty() {
                    list.reserve_exact(1);
                }
                list.insert(at, subscription);
                self.subscriptions += 1;
                true
            }
        }
    }

    /// Removes the subscription of `session` to `filter`; tells whether there was one.
    pub fn unsubscribe(&mut self, filter: &str, session: SessionRef) -> bool {
        let Some((node, multi)) = self.end(filter) else {
            return false;
        };
        let entry = &mut self.nodes[node as usize];
        let list = if multi {
            &mut entry.multi
        } else {
            &mut entry.exact
        };
        let Ok(at) = list.binary_search_by_key(&session, |s| s.session) else {
            return false;
        };
        list.remove(at);
        if list.is_empty() {
            *list = Vec::new();
        } else if list.len() * 4 < list.capacity() {
            list.shrink_to(list.len() * 2);
        }
        self.subscriptions -= 1;
        self.version += 1;
        self.prune(node);
        true
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
                self.nodes[end.0 as usize].uses += 1;
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
        let Some(end) = self.end(filter.filter()) else {
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
            self.nodes[end.0 as usize].uses -= 1;
            self.prune(end.0);
        }
    }

    /// Removes a session's subscription to `filter`, shared or not.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, session: SessionRef) {
        if filter.is_shared() {
            self.leave(filter, session);
        } else {
            self.unsubscribe(filter.filter(), session);
        }
    }

    /// The group that `filter` names.
    pub(crate) fn group(&self, filter: &TopicFilter) -> Option<&Arc<Group>> {
        let groups = self.groups.get(&self.end(filter.filter())?)?;
        groups.iter().find(|group| *group.name == *filter)
    }

    /// Calls `found` with every group of shared subscriptions whose filter matches `topic`.
    pub(crate) fn matching_groups(&self, topic: &str, mut found: impl FnMut(&Arc<Group>)) {
        if self.groups.is_empty() {
            return;
        }
        self.walk(topic, |id, multi| {
            if let Some(groups) = self.groups.get(&(id, multi)) {
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
            let node = &self.nodes[id as usize];
            let list = if multi { &node.multi } else { &node.exact };
            list.iter().for_each(&mut found);
        });
    }

    /// Calls `visit` with every place where a filter that matches `topic` would end.
    fn walk(&self, topic: &str, mut visit: impl FnMut(NodeId, bool)) {
        let levels: SmallVec<[LevelId; 16]> = topic
            .split('/')
            .map(|level| self.levels.find(level).unwrap_or(LevelId::UNKNOWN))
            .collect();
        let hidden = topic.starts_with('$');
        let mut open: SmallVec<[(NodeId, u32); 32]> = SmallVec::new();
        open.push((ROOT, 0));
        while let Some((id, depth)) = open.pop() {
            let node = &self.nodes[id as usize];
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
            if *level != LevelId::UNKNOWN
                && let Some(child) = self.edges.get(&(id, *level))
            {
                open.push((*child, depth + 1));
            }
        }
    }

    /// Whether most of the memory is that of subscriptions which are gone.
    pub(crate) fn is_roomy(&self) -> bool {
        is_roomy(self.nodes.len() - self.free.len(), self.nodes.capacity())
    }

    /// Gives that memory back, as far as it lies behind what is in use. Takes time in proportion to it.
    pub(crate) fn shrink(&mut self) {
        shrink_places(&mut self.nodes, &mut self.free);
        self.edges.shrink_to_fit();
        shrink_places(&mut self.levels.texts, &mut self.levels.free);
        self.levels.ids.shrink_to_fit();
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

    fn end(&self, filter: &str) -> Option<End> {
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            node = self.child(node, level)?;
        }
        Some((node, multi))
    }

    fn end_or_insert(&mut self, filter: &str) -> End {
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            node = self.child_or_insert(node, level);
        }
        (node, multi)
    }

    fn child(&self, node: NodeId, level: &str) -> Option<NodeId> {
        if level == "+" {
            return Some(self.nodes[node as usize].plus).filter(|child| *child != NONE);
        }
        self.edges.get(&(node, self.levels.find(level)?)).copied()
    }

    fn child_or_insert(&mut self, node: NodeId, level: &str) -> NodeId {
        if let Some(child) = self.child(node, level) {
            return child;
        }
        let level = if level == "+" {
            LevelId::PLUS
        } else {
            self.levels.acquire(level)
        };
        let child = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = Node::new(node, level);
                id
            }
            None => {
                self.nodes.push(Node::new(node, level));
                NodeId::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes fit in memory")
            }
        };
        let parent = &mut self.nodes[node as usize];
        parent.uses += 1;
        if level == LevelId::PLUS {
            parent.plus = child;
        } else {
            self.edges.insert((node, level), child);
        }
        child
    }

    /// Removes `node` and its ancestors as far as nothing uses them any more.
    fn prune(&mut self, mut node: NodeId) {
        while node != ROOT && self.nodes[node as usize].is_unused() {
            let Node { parent, level, .. } = self.nodes[node as usize];
            if level == LevelId::PLUS {
                self.nodes[parent as usize].plus = NONE;
            } else {
                self.edges.remove(&(parent, level));
                self.levels.release(level);
            }
            self.nodes[parent as usize].uses -= 1;
            self.free.push(node);
            node = parent;
        }
    }
}

/// Cuts off the free places at the end.
fn shrink_places<T>(places: &mut Vec<T>, free: &mut Vec<u32>) {
    free.sort_unstable();
    while free
        .last()
        .is_some_and(|last| *last as usize + 1 == places.len())
    {
        free.pop();
        places.pop();
    }
    places.shrink_to_fit();
    free.shrink_to_fit();
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

/// An interned level text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LevelId(u32);

impl LevelId {
    const PLUS: LevelId = LevelId(u32::MAX);
    /// A level that no filter has.
    const UNKNOWN: LevelId = LevelId(u32::MAX - 1);
}

/// Level texts, each kept once and counted by the nodes that use it.
#[derive(Debug, Default)]
struct Levels {
    ids: HashMap<Arc<str>, LevelId, RandomState>,
    texts: Vec<(Option<Arc<str>>, u32)>,
    free: Vec<u32>,
}

impl Levels {
    fn find(&self, text: &str) -> Option<LevelId> {
        self.ids.get(text).copied()
    }

    fn acquire(&mut self, text: &str) -> LevelId {
        if let Some(id) = self.find(text) {
            self.texts[id.0 as usize].1 += 1;
            return id;
        }
        let shared: Arc<str> = text.into();
        let entry = (Some(shared.clone()), 1);
        let id = match self.free.pop() {
            Some(id) => {
                self.texts[id as usize] = entry;
                LevelId(id)
            }
            None => {
                self.texts.push(entry);
                LevelId(
                    u32::try_from(self.texts.len() - 1)
                        .expect("fewer than 2^32 levels fit in memory"),
                )
            }
        };
        self.ids.insert(shared, id);
        id
    }

    fn release(&mut self, id: LevelId) {
        let (text, users) = &mut self.texts[id.0 as usize];
        *users -= 1;
        if *users == 0 {
            if let Some(text) = text.take() {
                self.ids.remove(&text);
            }
            self.free.push(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use smqtt_proto::{QoS, TopicFilter, TopicName};

    use super::*;

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
        let filter = |i: u32| format!("crowd/{i}/+");
        trie.subscribe("kept/+", plain(1));
        for i in 0..1_000 {
            trie.subscribe(&filter(i), plain(i));
        }
        for i in 0..1_000 {
            assert!(i == 3 || trie.unsubscribe(&filter(i), session(i)));
        }
        assert!(trie.is_roomy());
        trie.shrink();
        assert!(trie.nodes.capacity() < 100 && trie.edges.capacity() < 100);
        assert!(trie.levels.texts.capacity() < 100 && trie.levels.ids.capacity() < 100);
        assert!(!trie.is_roomy());
        assert_eq!(matched(&trie, "kept/x"), [1]);
        assert_eq!(matched(&trie, "crowd/3/x"), [3]);
        for i in 0..20 {
            trie.subscribe(&filter(i), plain(i));
        }
        for i in 0..20 {
            assert_eq!(matched(&trie, &format!("crowd/{i}/x")), [i]);
        }
    }

    #[test]
    fn lookups_agree_with_the_rules_of_single_filters() {
        let parts = ["a", "b", "", "$x", "+"];
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
        let check = |trie: &Trie, alive: &dyn Fn(usize) -> bool| {
            let names = ["a", "b", "", "$x", "other"];
            for x in names {
                for y in names {
                    for topic in [
                        x.to_owned(),
                        format!("{x}/{y}"),
                        format!("{x}/{y}/a"),
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
        assert_eq!(
            trie.nodes.len() - trie.free.len(),
            1,
            "only the root is left"
        );
        assert!(trie.edges.is_empty() && trie.levels.ids.is_empty());
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
        assert_eq!(trie.nodes.len() - trie.free.len(), 1);
        assert!(trie.edges.is_empty() && trie.levels.ids.is_empty());
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut trie = Trie::default();
        for round in 0..100 {
            let filter = format!("site/{round}/+/value");
            trie.subscribe(&filter, plain(1));
            trie.unsubscribe(&filter, session(1));
        }
        assert!(trie.nodes.len() <= 5, "{}", trie.nodes.len());
        assert!(trie.levels.texts.len() <= 3);
    }
}
