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

use crate::session::SessionRef;
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
    version: u64,
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
    /// Children, the one for `+` included.
    children: u32,
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
            children: 0,
            exact: Vec::new(),
            multi: Vec::new(),
        }
    }

    fn is_unused(&self) -> bool {
        self.children == 0 && self.exact.is_empty() && self.multi.is_empty()
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
            version: 0,
        }
    }
}

impl Trie {
    /// Adds a subscription to `filter`, or replaces the one of the same session; tells whether the
    /// session had none to this filter before.
    pub fn subscribe(&mut self, filter: &str, subscription: Subscription) -> bool {
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            node = self.child_or_insert(node, level);
        }
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
        let (path, multi) = split_filter(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|p| p.split('/')) {
            match self.child(node, level) {
                Some(child) => node = child,
                None => return false,
            }
        }
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

    /// Calls `found` with every subscription whose filter matches `topic`, once per filter.
    ///
    /// A topic that begins with `$` is not matched by a filter that begins with a wildcard
    /// `[MQTT-4.7.2-1]`.
    pub fn matches(&self, topic: &str, mut found: impl FnMut(&Subscription)) {
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
                node.multi.iter().for_each(&mut found);
            }
            let Some(level) = levels.get(depth as usize) else {
                node.exact.iter().for_each(&mut found);
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
        parent.children += 1;
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
            self.nodes[parent as usize].children -= 1;
            self.free.push(node);
            node = parent;
        }
    }
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
