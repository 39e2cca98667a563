//! Gates in normal form: one form for policies that say the same, with few rows.
//!
//! Every rule removes conditions and none adds any, so the rules come to an end; what they leave,
//! they leave alone when it is read again. The rules are:
//!
//! - gates of the same kind merge, a gate of one child is that child, children are in order;
//! - *absorption*: in an alternative a child that implies another one goes, in a conjunction a
//!   child that another one implies;
//! - ranges of one attribute unite in an alternative and intersect in a conjunction;
//! - `(a and b) or (a and c) or (b and c)` becomes `2 of (a, b, c)`, and likewise for any `k of n`;
//! - *factoring*: `(a and b) or (a and c)` becomes `a and (b or c)`, and the same with `and` and `or`
//!   exchanged, the child first that saves most rows.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use crate::Schema;
use crate::condition::{Condition, Kind, Test};
use crate::limits::MAX_CONDITIONS;
use crate::range::{intersection, union};
use crate::tree::Tree;

/// Which node of the arena. Equal ids are equal nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Condition(Condition),
    Gate { k: usize, of: Vec<Id> },
}

/// `None` is the policy that nothing satisfies.
pub(crate) type Built = Option<Id>;

/// Nodes, each held once, and what is known of them.
pub(crate) struct Arena<'s> {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
    rows: Vec<usize>,
    /// For each node a filter of the attributes that it is about: nodes that share no bit share none.
    about: Vec<u128>,
    implications: HashMap<(Id, Id), bool>,
    schema: Option<&'s Schema>,
}

impl<'s> Arena<'s> {
    pub(crate) fn new(schema: Option<&'s Schema>) -> Self {
        Self {
            nodes: Vec::new(),
            ids: HashMap::new(),
            rows: Vec::new(),
            about: Vec::new(),
            implications: HashMap::new(),
            schema,
        }
    }

    pub(crate) fn intern(&mut self, node: Node) -> Id {
        if let Some(&id) = self.ids.get(&node) {
            return id;
        }
        let rows = match &node {
            Node::Condition(condition) => condition.rows(),
            Node::Gate { of, .. } => of.iter().map(|&child| self.rows(child)).sum(),
        };
        let about = match &node {
            Node::Condition(condition) => filter_bit(condition.name().unwrap_or_default()),
            Node::Gate { of, .. } => of.iter().fold(0, |bits, &child| bits | self.about(child)),
        };
        // A policy has at most MAX_CONDITIONS conditions, so ids never come near 2^32.
        let id = Id(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        self.nodes.push(node.clone());
        self.rows.push(rows);
        self.about.push(about);
        self.ids.insert(node, id);
        id
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn rows(&self, id: Id) -> usize {
        self.rows[id.0 as usize]
    }

    fn about(&self, id: Id) -> u128 {
        self.about[id.0 as usize]
    }

    pub(crate) fn tree(&self, id: Id) -> Tree {
        match self.node(id) {
            Node::Condition(condition) => Tree::Condition(condition.clone()),
            Node::Gate { k, of } => Tree::Gate {
                k: *k,
                of: of.iter().map(|&child| self.tree(child)).collect(),
            },
        }
    }

    /// Conditions first, by name; then gates, by threshold, size and children.
    fn compare(&self, a: Id, b: Id) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        match (self.node(a), self.node(b)) {
            (Node::Condition(a), Node::Condition(b)) => a.cmp(b),
            (Node::Condition(_), Node::Gate { .. }) => Ordering::Less,
            (Node::Gate { .. }, Node::Condition(_)) => Ordering::Greater,
            (
                Node::Gate { k, of },
                Node::Gate {
                    k: other_k,
                    of: other,
                },
            ) => (of.len(), k).cmp(&(other.len(), other_k)).then_with(|| {
                let pairs = of.iter().zip(other);
                pairs
                    .map(|(&a, &b)| self.compare(a, b))
                    .find(|o| o.is_ne())
                    .unwrap_or(Ordering::Equal)
            }),
        }
    }

    fn sort(&self, ids: &mut [Id]) {
        ids.sort_by(|&a, &b| self.compare(a, b));
    }

    fn joined(&mut self, joint: Joint, of: Vec<Built>) -> Built {
        match joint {
            Joint::All => self.all(of),
            Joint::Any => self.any(of),
        }
    }

    pub(crate) fn any(&mut self, of: Vec<Built>) -> Built {
        self.gate(Joint::Any, of.into_iter().flatten().collect())
    }

    pub(crate) fn all(&mut self, of: Vec<Built>) -> Built {
        let of: Option<Vec<Id>> = of.into_iter().collect();
        self.gate(Joint::All, of?)
    }

    pub(crate) fn at_least(&mut self, k: usize, of: Vec<Built>) -> Built {
        let mut of: Vec<Id> = of.into_iter().flatten().collect();
        if k > of.len() {
            return None;
        }
        if k == of.len() {
            return self.gate(Joint::All, of);
        }
        if k == 1 {
            return self.gate(Joint::Any, of);
        }
        self.sort(&mut of);
        Some(self.intern(Node::Gate { k, of }))
    }

    /// A conjunction or an alternative of `of`, by all the rules.
    fn gate(&mut self, joint: Joint, mut of: Vec<Id>) -> Built {
        self.sort(&mut of);
        let mut children = Vec::with_capacity(of.len());
        for child in of {
            if !self.join(joint, &mut children, child) {
                return None;
            }
        }
        loop {
            self.sort(&mut children);
            if children.len() <= 1 {
                return children.pop();
            }
            if let Some(threshold) = self.symmetric(joint, &children) {
                return Some(threshold);
            }
            let Some(factor) = self.best_factor(joint, &children) else {
                let k = joint.threshold(children.len());
                return Some(self.intern(Node::Gate { k, of: children }));
            };
            let (with, mut rest): (Vec<Id>, Vec<Id>) = children
                .iter()
                .partition(|&&child| self.has_factor(joint, child, factor));
            // All that these children have in common comes out at once.
            let mut common: Vec<Id> = Vec::new();
            if let Some((&first, others)) = with.split_first() {
                common = self.parts(joint.other(), first).collect();
                for &other in others {
                    let parts: Vec<Id> = self.parts(joint.other(), other).collect();
                    common.retain(|part| parts.contains(part));
                }
            }
            let mut remainders = Vec::with_capacity(with.len());
            for child in with {
                let parts = self.parts(joint.other(), child);
                let parts = parts.filter(|part| !common.contains(part)).collect();
                remainders.push(self.gate(joint.other(), parts));
            }
            // `(a and b) or (a and c)`: the remainders keep the joint, the factors take the other.
            let remainder = self.joined(joint, remainders);
            let factors = common.into_iter().map(Some).chain([remainder]).collect();
            let product = self.joined(joint.other(), factors);
            match (joint, product) {
                (Joint::Any, None) => {}
                (Joint::All, None) => return None,
                (_, Some(product)) => {
                    if !self.join(joint, &mut rest, product) {
                        return None;
                    }
                }
            }
            children = rest;
            if children.is_empty() {
                return None;
            }
        }
    }

    /// Adds a child to a conjunction or alternative: splices, absorbs, merges ranges. The children stay
    /// free of any that another one makes superfluous. False if nothing can satisfy the gate.
    fn join(&mut self, joint: Joint, children: &mut Vec<Id>, child: Id) -> bool {
        if let Node::Gate { k, of } = self.node(child)
            && *k == joint.threshold(of.len())
        {
            let parts = of.clone();
            return parts
                .into_iter()
                .all(|part| self.join(joint, children, part));
        }
        for index in 0..children.len() {
            match self.merge(joint, children[index], child) {
                Merged::Apart => {}
                Merged::Into(merged) => {
                    children.remove(index);
                    return self.join(joint, children, merged);
                }
                Merged::Nothing => return false,
            }
        }
        // Which of two children is superfluous: in an alternative the stronger, in a conjunction
        // the weaker one. Of two that imply each other the one with more rows goes, or the later.
        let superfluous = |arena: &mut Self, a: Id, b: Id| match joint {
            Joint::Any => arena.implies(a, b),
            Joint::All => arena.implies(b, a),
        };
        let mut kept = Vec::with_capacity(children.len() + 1);
        let mut add = true;
        for &other in children.iter() {
            let new_goes = superfluous(self, child, other);
            let old_goes = superfluous(self, other, child);
            let old_goes = match (new_goes, old_goes) {
                (true, true) => {
                    let cheaper = self.rows(child).cmp(&self.rows(other));
                    let new_stays = cheaper.then_with(|| self.compare(child, other)).is_lt();
                    add &= new_stays;
                    new_stays
                }
                (new_goes, old_goes) => {
                    add &= !new_goes;
                    old_goes
                }
            };
            if !old_goes {
                kept.push(other);
            }
        }
        if add {
            kept.push(child);
        }
        *children = kept;
        true
    }

    /// What becomes of two conditions on one attribute in one gate.
    fn merge(&mut self, joint: Joint, a: Id, b: Id) -> Merged {
        let (Node::Condition(Condition(a)), Node::Condition(Condition(b))) =
            (self.node(a), self.node(b))
        else {
            return Merged::Apart;
        };
        let (
            Kind::Named { name, test },
            Kind::Named {
                name: other_name,
                test: other,
            },
        ) = (a, b)
        else {
            return Merged::Apart;
        };
        if name != other_name {
            return Merged::Apart;
        }
        match (test, other) {
            (Test::In(scale, a), Test::In(other_scale, b)) if scale == other_scale => {
                let merged = match joint {
                    Joint::Any => match union(*scale, *a, *b) {
                        Some(merged) => merged,
                        None => return Merged::Apart,
                    },
                    Joint::All => match intersection(*scale, *a, *b) {
                        Some(merged) => merged,
                        None => return Merged::Nothing,
                    },
                };
                let condition = Condition::named(name, Test::In(*scale, merged));
                Merged::Into(self.intern(Node::Condition(condition)))
            }
            (Test::Equal(a), Test::Equal(b)) if joint == Joint::All && a != b => {
                // Under a schema an attribute may have one value at a time.
                match self.schema.is_some_and(|schema| schema.has_one_value(name)) {
                    true => Merged::Nothing,
                    false => Merged::Apart,
                }
            }
            _ => Merged::Apart,
        }
    }

    /// Whether whatever satisfies `a` satisfies `b`, as far as their shape tells: never wrong when true.
    fn implies(&mut self, a: Id, b: Id) -> bool {
        if a == b {
            return true;
        }
        // Monotone nodes about different attributes are independent.
        if self.about(a) & self.about(b) == 0 {
            return false;
        }
        if let (Node::Condition(a), Node::Condition(b)) = (self.node(a), self.node(b)) {
            return a.implies(b);
        }
        if let Some(&known) = self.implications.get(&(a, b)) {
            return known;
        }
        let implies = self.implies_by_parts(a, b);
        self.implications.insert((a, b), implies);
        implies
    }

    fn implies_by_parts(&mut self, a: Id, b: Id) -> bool {
        let gate = |node: &Node| match node {
            Node::Gate { k, of } => Some((*k, of.clone())),
            Node::Condition(_) => None,
        };
        let (from, to) = (gate(self.node(a)), gate(self.node(b)));
        if let (Some((k, of)), Some((needed, others))) = (&from, &to) {
            // Of the children that are common at least k less those that are not hold.
            let mut unmatched = others.clone();
            let common = of.iter().filter(|child| {
                let found = unmatched.iter().position(|other| other == *child);
                found.map(|index| unmatched.swap_remove(index)).is_some()
            });
            if (k + common.count()).saturating_sub(of.len()) >= *needed {
                return true;
            }
        }
        if let Some((needed, others)) = to {
            let mut implied = 0;
            for other in others {
                implied += usize::from(self.implies(a, other));
                if implied == needed {
                    return true;
                }
            }
        }
        if let Some((k, of)) = from {
            // At most n - k children fail, so one of any n - k + 1 holds.
            let enough = of.len() - k + 1;
            let mut implying = 0;
            for child in of {
                implying += usize::from(self.implies(child, b));
                if implying == enough {
                    return true;
                }
            }
        }
        false
    }

    /// The children of a gate of this joint; any other node by itself.
    fn parts(&self, joint: Joint, id: Id) -> impl Iterator<Item = Id> + use<> {
        match self.node(id) {
            Node::Gate { k, of } if *k == joint.threshold(of.len()) => of.clone(),
            _ => vec![id],
        }
        .into_iter()
    }

    fn has_factor(&self, joint: Joint, child: Id, factor: Id) -> bool {
        child != factor && self.parts(joint.other(), child).any(|part| part == factor)
    }

    /// The node that, taken out of the children that have it, saves most rows.
    fn best_factor(&self, joint: Joint, children: &[Id]) -> Option<Id> {
        let mut uses: HashMap<Id, usize> = HashMap::new();
        for &child in children {
            for part in self
                .parts(joint.other(), child)
                .filter(|&part| part != child)
            {
                *uses.entry(part).or_default() += 1;
            }
        }
        uses.into_iter()
            .filter(|&(_, uses)| uses > 1)
            .map(|(part, uses)| (part, (uses - 1) * self.rows(part)))
            .min_by(|&(a, saved), &(b, other)| {
                Reverse(saved)
                    .cmp(&Reverse(other))
                    .then_with(|| self.compare(a, b))
            })
            .map(|(part, _)| part)
    }

    /// All combinations of a size out of some nodes are a threshold of these nodes.
    fn symmetric(&mut self, joint: Joint, children: &[Id]) -> Option<Id> {
        let mut size = None;
        let mut universe = Vec::new();
        for &child in children {
            let parts: Vec<Id> = self.parts(joint.other(), child).collect();
            if parts.len() < 2 || size.is_some_and(|size| size != parts.len()) {
                return None;
            }
            size = Some(parts.len());
            universe.extend(parts);
        }
        self.sort(&mut universe);
        universe.dedup();
        let (size, n) = (size?, universe.len());
        // Children are distinct, so if there are as many as combinations they are all of them.
        if combinations(n, size) != Some(children.len()) {
            return None;
        }
        let k = match joint {
            Joint::Any => size,
            Joint::All => n - size + 1,
        };
        self.at_least(k, universe.into_iter().map(Some).collect())
    }
}

/// One of 128 bits, by the FNV-1a hash of a name. A topic goes by the empty name.
fn filter_bit(name: &str) -> u128 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    1 << (hash >> 57)
}

/// n over k, unless it is more than a policy can have.
fn combinations(n: usize, k: usize) -> Option<usize> {
    let mut result = 1usize;
    for i in 0..k.min(n.checked_sub(k)?) {
        result = result.checked_mul(n - i)? / (i + 1);
        if result > MAX_CONDITIONS {
            return None;
        }
    }
    Some(result)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    All,
    Any,
}

impl Joint {
    const fn other(self) -> Self {
        match self {
            Self::All => Self::Any,
            Self::Any => Self::All,
        }
    }

    const fn threshold(self, children: usize) -> usize {
        match self {
            Self::All => children,
            Self::Any => 1,
        }
    }
}

enum Merged {
    Apart,
    Into(Id),
    Nothing,
}
