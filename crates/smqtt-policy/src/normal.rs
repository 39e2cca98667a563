//! Normalisation: one form for policies that say the same, with few rows.
//!
//! Every rule removes conditions and none adds any, so the rules come to an end; what they leave,
//! they leave alone when it is read again. The rules are:
//!
//! - `not` moves inwards until it meets a comparison or an enumerated value and becomes what
//!   that leaves over; `!=`, `in (…)` and strict comparisons become ranges and alternatives;
//! - gates of the same kind merge, a gate of one child is that child, children are in order;
//! - *absorption*: in an alternative a child that implies another one goes, in a conjunction a
//!   child that another one implies;
//! - ranges of one attribute unite in an alternative and intersect in a conjunction;
//! - `(a and b) or (a and c) or (b and c)` becomes `2 of (a, b, c)`, and likewise for any `k of n`;
//! - *factoring*: `(a and b) or (a and c)` becomes `a and (b or c)`, and the same with `and` and `or`
//!   exchanged, the child first that saves most rows.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::condition::{Condition, Kind, Test};
use crate::expr::{Expr, ExprKind, Literal, Name};
use crate::interval::Interval;
use crate::lexer::Operator;
use crate::limits::MAX_CONDITIONS;
use crate::parser::{fault, value_or_name};
use crate::range::{complement, intersection, range, union};
use crate::tree::Tree;
use crate::{ParseError, Policy, Scale, Schema};

/// Checks a policy against a schema, if there is one, and brings it to its normal form.
pub(crate) fn normalise(expr: &Expr, schema: Option<&Schema>) -> Result<Policy, ParseError> {
    let mut builder = Builder {
        arena: Arena::new(schema),
        schema,
        conditions: 0,
    };
    let root = builder.expr(expr, false)?;
    let tree = builder.arena.tree(root);
    Policy::from_tree(tree).map_err(|error| fault(expr.span.clone(), &error))
}

/// Which node of the arena. Equal ids are equal nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Id(u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Condition(Condition),
    Gate { k: usize, of: Vec<Id> },
}

/// `None` is the policy that nothing satisfies.
type Built = Option<Id>;

/// Syntax tree to nodes.
struct Builder<'s> {
    arena: Arena<'s>,
    schema: Option<&'s Schema>,
    conditions: usize,
}

impl Builder<'_> {
    /// The node of an expression, or of its opposite.
    fn expr(&mut self, expr: &Expr, negated: bool) -> Result<Id, ParseError> {
        let built = match &expr.kind {
            ExprKind::And(of) => {
                let of = self.children(of, negated)?;
                if negated {
                    self.arena.any(of)
                } else {
                    self.arena.all(of)
                }
            }
            ExprKind::Or(of) => {
                let of = self.children(of, negated)?;
                if negated {
                    self.arena.all(of)
                } else {
                    self.arena.any(of)
                }
            }
            ExprKind::AtLeast { k, of } => {
                let children = self.children(of, negated)?;
                let k = if negated { of.len() - k + 1 } else { *k };
                self.arena.at_least(k, children)
            }
            ExprKind::Not(inner) => Some(self.expr(inner, !negated)?),
            ExprKind::TopicMatches(filter) if !negated => {
                self.condition(&expr.span, Condition(Kind::Topic(filter.clone())))?
            }
            ExprKind::TopicMatches(_) => {
                return Err(
                    ParseError::new(expr.span.clone(), "`not` cannot exclude a topic")
                        .with_hint("list the filters that are allowed"),
                );
            }
            ExprKind::Flag(name) => self.flag(name, negated, &expr.span)?,
            ExprKind::Compare {
                name,
                operator,
                value,
            } => {
                let numeric = self.literal(name, value)?.number;
                match numeric {
                    Some((scale, number)) => {
                        let (lo, hi) = match operator {
                            Operator::Equal | Operator::NotEqual => (Some(number), Some(number)),
                            Operator::Less => (Some(i64::MIN), number.checked_sub(1)),
                            Operator::LessOrEqual => (Some(i64::MIN), Some(number)),
                            Operator::Greater => (number.checked_add(1), Some(i64::MAX)),
                            Operator::GreaterOrEqual => (Some(number), Some(i64::MAX)),
                        };
                        let ends = lo.zip(hi).and_then(|(lo, hi)| range(scale, lo, hi));
                        let negated = negated != (*operator == Operator::NotEqual);
                        self.range(name, scale, ends, negated, &expr.span)?
                    }
                    None => match operator {
                        Operator::Equal | Operator::NotEqual => {
                            let negated = negated != (*operator == Operator::NotEqual);
                            let values = std::slice::from_ref(value);
                            self.one_of(name, values, negated, &expr.span)?
                        }
                        _ => return Err(not_a_number(value, operator.symbol())),
                    },
                }
            }
            ExprKind::Range { name, lo, hi } => {
                let lo_number = self.literal(name, lo)?.number;
                let hi_number = self.literal(name, hi)?.number;
                let (scale, from) = lo_number.ok_or_else(|| not_a_number(lo, "in"))?;
                let (other, to) = hi_number.ok_or_else(|| not_a_number(hi, ".."))?;
                if scale != other {
                    let message = format!(
                        "a range from {} {scale} to {} {other}",
                        article(scale),
                        article(other)
                    );
                    return Err(ParseError::new(lo.span.start..hi.span.end, message)
                        .with_hint("both ends must be of one kind"));
                }
                if from > to {
                    return Err(ParseError::new(
                        lo.span.start..hi.span.end,
                        "the range is empty: its lower end is above its upper end",
                    )
                    .with_hint("write the smaller number first"));
                }
                self.range(name, scale, range(scale, from, to), negated, &expr.span)?
            }
            ExprKind::OneOf { name, values } => self.one_of(name, values, negated, &expr.span)?,
        };
        built.ok_or_else(|| {
            ParseError::new(expr.span.clone(), "nothing can satisfy this")
                .with_hint("correct it, or remove it")
        })
    }

    fn children(&mut self, of: &[Expr], negated: bool) -> Result<Vec<Built>, ParseError> {
        of.iter()
            .map(|child| self.expr(child, negated).map(Some))
            .collect()
    }

    fn condition(
        &mut self,
        span: &Range<usize>,
        condition: Condition,
    ) -> Result<Built, ParseError> {
        // `in` and `not` multiply conditions after the parser has counted them.
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            let message = format!("more than {MAX_CONDITIONS} conditions in one policy");
            return Err(ParseError::new(span.clone(), message).with_hint("simplify the policy"));
        }
        Ok(Some(self.arena.intern(Node::Condition(condition))))
    }

    /// A literal as the schema reads it.
    fn literal(&self, name: &Name, literal: &Literal) -> Result<Literal, ParseError> {
        let Some(schema) = self.schema else {
            return Ok(literal.clone());
        };
        schema
            .literal(&name.text, literal)
            .map_err(|error| fault(value_or_name(name, literal, &error), &error))
    }

    fn flag(
        &mut self,
        name: &Name,
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        if let Some(schema) = self.schema {
            schema
                .flag(&name.text)
                .map_err(|error| fault(name.span.clone(), &error))?;
        }
        if negated {
            return Err(ParseError::new(
                span.clone(),
                format!("`not` cannot exclude the flag `{}`", name.text),
            )
            .with_hint(
                "a key cannot prove that it lacks an attribute; give everyone a value instead",
            ));
        }
        self.condition(span, Condition::named(&name.text, Test::Flag))
    }

    fn range(
        &mut self,
        name: &Name,
        scale: Scale,
        ends: Option<Interval>,
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let parts = match (ends, negated) {
            (ends, false) => [ends, None],
            (Some(ends), true) => complement(scale, ends),
            (None, true) => [range(scale, i64::MIN, i64::MAX), None],
        };
        self.numbers(name, scale, parts.into_iter().flatten().collect(), span)
    }

    /// Any of some ranges of one attribute.
    fn numbers(
        &mut self,
        name: &Name,
        scale: Scale,
        parts: Vec<Interval>,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        if let Some(schema) = self.schema {
            schema
                .range(&name.text, scale, &parts)
                .map_err(|error| fault(span.clone(), &error))?;
        }
        let mut built = Vec::with_capacity(parts.len());
        for part in parts {
            let condition = Condition::named(&name.text, Test::In(scale, part));
            built.push(self.condition(span, condition)?);
        }
        Ok(self.arena.any(built))
    }

    fn one_of(
        &mut self,
        name: &Name,
        values: &[Literal],
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let mut tests = Vec::with_capacity(values.len());
        for value in values {
            let value = self.literal(name, value)?;
            tests.push(match value.number {
                Some((scale, number)) => Test::In(scale, Interval::point(number)),
                None => Test::Equal(value.text),
            });
        }
        if !negated {
            let mut built = Vec::with_capacity(tests.len());
            for test in tests {
                built.push(self.condition(span, Condition::named(&name.text, test))?);
            }
            return Ok(self.arena.any(built));
        }
        self.none_of(name, &tests, span)
    }

    /// The values that `tests` leave over.
    fn none_of(
        &mut self,
        name: &Name,
        tests: &[Test],
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let mut built = Vec::new();
        let mut texts = Vec::new();
        let mut excluded: BTreeMap<Scale, Vec<Interval>> = BTreeMap::new();
        for test in tests {
            match test {
                Test::Equal(text) => texts.push(text),
                Test::In(scale, ends) => excluded.entry(*scale).or_default().push(*ends),
                Test::Flag => {}
            }
        }
        for (scale, excluded) in excluded {
            let mut left = Vec::from_iter(range(scale, i64::MIN, i64::MAX));
            for cut in excluded {
                let outside = complement(scale, cut);
                left = left
                    .into_iter()
                    .flat_map(|part| outside.map(|side| intersection(scale, part, side?)))
                    .flatten()
                    .collect();
            }
            built.push(self.numbers(name, scale, left, span)?);
        }
        if !texts.is_empty() {
            let Some(schema) = self.schema else {
                return Err(ParseError::new(
                    span.clone(),
                    format!("`not` needs to know which values `{}` can have", name.text),
                )
                .with_hint("check the policy against the authority's schema, or list the values that may read"));
            };
            let others = schema
                .other_values(&name.text, &texts)
                .map_err(|error| fault(span.clone(), &error))?;
            let mut alternatives = Vec::with_capacity(others.len());
            for value in others {
                let condition = Condition::named(&name.text, Test::Equal(value));
                alternatives.push(self.condition(span, condition)?);
            }
            built.push(self.arena.any(alternatives));
        }
        Ok(self.arena.all(built))
    }
}

fn article(scale: Scale) -> &'static str {
    if matches!(scale, Scale::Integer | Scale::Instant) {
        "an"
    } else {
        "a"
    }
}

fn not_a_number(value: &Literal, after: &str) -> ParseError {
    let message = format!(
        "`{after}` compares numbers, dates and times, not the text `{}`",
        value.text
    );
    ParseError::new(value.span.clone(), message)
        .with_hint("a number stands without quotes; texts compare with `=` and `in (…)`")
}

/// Nodes, each held once, and what is known of them.
struct Arena<'s> {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
    rows: Vec<usize>,
    implications: HashMap<(Id, Id), bool>,
    schema: Option<&'s Schema>,
}

impl<'s> Arena<'s> {
    fn new(schema: Option<&'s Schema>) -> Self {
        Self {
            nodes: Vec::new(),
            ids: HashMap::new(),
            rows: Vec::new(),
            implications: HashMap::new(),
            schema,
        }
    }

    fn intern(&mut self, node: Node) -> Id {
        if let Some(&id) = self.ids.get(&node) {
            return id;
        }
        let rows = match &node {
            Node::Condition(condition) => condition.rows(),
            Node::Gate { of, .. } => of.iter().map(|&child| self.rows(child)).sum(),
        };
        // A policy has at most MAX_CONDITIONS conditions, so ids never come near 2^32.
        let id = Id(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        self.nodes.push(node.clone());
        self.rows.push(rows);
        self.ids.insert(node, id);
        id
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn rows(&self, id: Id) -> usize {
        self.rows[id.0 as usize]
    }

    fn tree(&self, id: Id) -> Tree {
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

    fn any(&mut self, of: Vec<Built>) -> Built {
        self.gate(Joint::Any, of.into_iter().flatten().collect())
    }

    fn all(&mut self, of: Vec<Built>) -> Built {
        let of: Option<Vec<Id>> = of.into_iter().collect();
        self.gate(Joint::All, of?)
    }

    fn at_least(&mut self, k: usize, of: Vec<Built>) -> Built {
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
        if let Node::Gate { k, of } = self.node(child) {
            if *k == joint.threshold(of.len()) {
                let parts = of.clone();
                return parts
                    .into_iter()
                    .all(|part| self.join(joint, children, part));
            }
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
