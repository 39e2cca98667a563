//! Why a set satisfies a policy, or what it lacks.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::condition::{Condition, Kind, Test};
use crate::interval::Interval;
use crate::limits::MAX_ROWS;
use crate::tree::Tree;
use crate::{Attribute, AttributeSet, Policy, Scale};

/// Ways to satisfy a gate that are looked at. Exact as long as no condition occurs twice.
const WAYS: usize = 16;

/// Alternatives that an explanation names.
const ALTERNATIVES: usize = 8;

/// Why an attribute set satisfies a [`Policy`], or what it lacks.
///
/// ```
/// use smqtt_policy::{AttributeSet, Policy};
///
/// let policy: Policy = "role = doctor and (dept = icu or clearance >= 3)".parse()?;
/// let set: AttributeSet = "role = doctor, dept = er".parse()?;
///
/// let explanation = policy.explain(&set);
/// assert!(!explanation.is_satisfied());
/// assert_eq!(explanation.met()[0].to_string(), "role = doctor");
/// assert_eq!(explanation.to_string(), "\
/// not satisfied
///   holds    role = doctor
///   lacks    clearance >= 3
///   or       dept = icu (holds dept = er)");
/// # Ok::<(), smqtt_policy::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    satisfied: bool,
    met: Vec<Met>,
    sufficient: Vec<Condition>,
    missing: Vec<Vec<Missing>>,
}

/// A condition that holds, and what makes it hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    condition: Condition,
    by: String,
}

impl Met {
    /// The condition.
    #[must_use]
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The attribute that meets it, as the set states it; `topic …` for a topic.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.condition)?;
        if self.condition.to_string() == self.by {
            Ok(())
        } else {
            write!(f, " (by {})", self.by)
        }
    }
}

/// A condition that has to hold yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    condition: Condition,
    held: Vec<Attribute>,
}

impl Missing {
    /// The condition.
    #[must_use]
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What the set holds instead: its attributes of the same name.
    #[must_use]
    pub fn held(&self) -> &[Attribute] {
        &self.held
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.condition)?;
        for (index, attribute) in self.held.iter().enumerate() {
            write!(
                f,
                "{}{attribute}",
                if index == 0 { " (holds " } else { ", " }
            )?;
        }
        f.write_str(if self.held.is_empty() { "" } else { ")" })
    }
}

impl Explanation {
    /// Whether the set satisfies the policy.
    #[must_use]
    pub const fn is_satisfied(&self) -> bool {
        self.satisfied
    }

    /// All conditions that hold, each once, in the policy's order.
    #[must_use]
    pub fn met(&self) -> &[Met] {
        &self.met
    }

    /// A smallest set of conditions that hold and suffice; empty if the policy is not satisfied.
    #[must_use]
    pub fn sufficient(&self) -> &[Condition] {
        &self.sufficient
    }

    /// The smallest sets of conditions that would have to hold as well: alternatives of equal size, at
    /// most 8. Empty if the policy is satisfied, or if no further attribute can satisfy it.
    ///
    /// Where no condition occurs twice in the policy none is smaller; otherwise they are the smallest that
    /// were found, and nothing in them is superfluous.
    #[must_use]
    pub fn missing(&self) -> &[Vec<Missing>] {
        &self.missing
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.satisfied {
            "satisfied"
        } else {
            "not satisfied"
        })?;
        for met in &self.met {
            write!(f, "\n  holds    {met}")?;
        }
        for (index, alternative) in self.missing.iter().enumerate() {
            f.write_str(if index == 0 {
                "\n  lacks    "
            } else {
                "\n  or       "
            })?;
            for (index, missing) in alternative.iter().enumerate() {
                write!(f, "{}{missing}", if index == 0 { "" } else { " and " })?;
            }
        }
        if !self.satisfied && self.missing.is_empty() {
            f.write_str("\n  nothing that could be added satisfies it")?;
        }
        Ok(())
    }
}

impl Policy {
    /// Why `set` satisfies the policy, or what it lacks. The epoch is not looked at.
    #[must_use]
    pub fn explain(&self, set: &AttributeSet) -> Explanation {
        let search = Search::new(self.tree(), set);
        let satisfied = self.evaluate(set);
        let met = search
            .conditions
            .iter()
            .zip(&search.met)
            .filter(|(_, met)| **met)
            .map(|(&condition, _)| Met {
                condition: condition.clone(),
                by: holder(condition, set),
            })
            .collect();
        let sufficient = if satisfied {
            search.sufficient()
        } else {
            Vec::new()
        };
        let missing = if satisfied {
            Vec::new()
        } else {
            search.missing()
        };
        Explanation {
            satisfied,
            met,
            sufficient,
            missing,
        }
    }
}

/// What in `set` meets a condition.
fn holder(condition: &Condition, set: &AttributeSet) -> String {
    match &condition.0 {
        Kind::Topic(_) => format!("topic {}", set.topic().unwrap_or_default()),
        Kind::Named {
            name,
            test: Test::In(scale, _),
        } => {
            let number = set.number(name, *scale).unwrap_or_default();
            Attribute::interval(Arc::clone(name), *scale, Interval::point(number)).to_string()
        }
        Kind::Named { .. } => condition.to_string(),
    }
}

/// A set of conditions, by their index. A policy has fewer than MAX_ROWS of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Bits([u64; MAX_ROWS / 64]);

impl Bits {
    fn only(index: usize) -> Self {
        let mut bits = Self::default();
        bits.0[index / 64] |= 1 << (index % 64);
        bits
    }

    fn without(mut self, index: usize) -> Self {
        self.0[index / 64] &= !(1 << (index % 64));
        self
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn union(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
        self
    }

    fn size(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MAX_ROWS).filter(|&index| self.has(index))
    }

    /// Smaller first, then those with earlier conditions.
    fn order(&self, other: &Self) -> Ordering {
        self.size().cmp(&other.size()).then_with(|| {
            let words = self.0.iter().zip(other.0);
            let differing = words
                .map(|(word, other)| (word, word ^ other))
                .find(|(_, diff)| *diff != 0);
            match differing {
                None => Ordering::Equal,
                Some((word, diff)) if word >> diff.trailing_zeros() & 1 == 1 => Ordering::Less,
                Some(_) => Ordering::Greater,
            }
        })
    }
}

/// The gates of a policy over the indices of its conditions.
enum Shape {
    Condition(usize),
    Gate { k: usize, of: Vec<Shape> },
}

impl Shape {
    fn of<'a>(
        tree: &'a Tree,
        conditions: &mut Vec<&'a Condition>,
        index: &mut HashMap<&'a Condition, usize>,
    ) -> Self {
        match tree {
            Tree::Condition(condition) => {
                Self::Condition(*index.entry(condition).or_insert_with(|| {
                    conditions.push(condition);
                    conditions.len() - 1
                }))
            }
            Tree::Gate { k, of } => Self::Gate {
                k: *k,
                of: of
                    .iter()
                    .map(|child| Self::of(child, conditions, index))
                    .collect(),
            },
        }
    }

    fn holds(&self, met: &[bool]) -> bool {
        match self {
            Self::Condition(index) => met[*index],
            Self::Gate { k, of } => {
                of.iter().filter(|child| child.holds(met)).take(*k).count() == *k
            }
        }
    }
}

struct Search<'a> {
    /// The conditions, each once, in the policy's order.
    conditions: Vec<&'a Condition>,
    /// Which of them the set meets.
    met: Vec<bool>,
    shape: Shape,
    set: &'a AttributeSet,
}

impl<'a> Search<'a> {
    fn new(tree: &'a Tree, set: &'a AttributeSet) -> Self {
        let mut conditions = Vec::new();
        let shape = Shape::of(tree, &mut conditions, &mut HashMap::new());
        let met = conditions
            .iter()
            .map(|condition| condition.is_met_by(set))
            .collect();
        Self {
            conditions,
            met,
            shape,
            set,
        }
    }

    fn sufficient(&self) -> Vec<Condition> {
        let ways = self.ways(&self.shape, &|index| {
            self.met[index].then(|| Bits::only(index))
        });
        let smallest = ways.first().copied().unwrap_or_default();
        smallest
            .iter()
            .map(|index| self.conditions[index].clone())
            .collect()
    }

    fn missing(&self) -> Vec<Vec<Missing>> {
        let ways = self.ways(&self.shape, &|index| {
            Some(if self.met[index] {
                Bits::default()
            } else {
                Bits::only(index)
            })
        });
        let mut found: Vec<Bits> = ways
            .into_iter()
            .filter(|way| self.would_satisfy(way))
            .map(|way| {
                way.iter().fold(way, |way, index| {
                    let less = way.without(index);
                    if self.would_satisfy(&less) { less } else { way }
                })
            })
            .collect();
        // `n >= 9` is no alternative to `n >= 5`: whoever has it has both.
        let all = found.clone();
        found.retain(|way| {
            !all.iter()
                .any(|other| other != way && self.implies(way, other))
        });
        found.sort_by(Bits::order);
        found.dedup();
        let smallest = found.first().map_or(0, Bits::size);
        found
            .iter()
            .take_while(|way| way.size() == smallest)
            .take(ALTERNATIVES)
            .map(|way| {
                way.iter()
                    .map(|index| self.lacking(self.conditions[index]))
                    .collect()
            })
            .collect()
    }

    /// Whether whoever meets all conditions of `way` meets those of `other`.
    fn implies(&self, way: &Bits, other: &Bits) -> bool {
        other.iter().all(|needed| {
            way.iter()
                .any(|held| self.conditions[held].implies(self.conditions[needed]))
        })
    }

    fn lacking(&self, condition: &Condition) -> Missing {
        let same = |attribute: &&Attribute| {
            condition.name().is_some() && attribute.name() == condition.name()
        };
        let held = self.set.stated().filter(same).cloned().collect();
        Missing {
            condition: condition.clone(),
            held,
        }
    }

    /// Whether the set satisfies the policy once the conditions of `way` hold: each number takes a
    /// value in all of the way's ranges at once, if there is one.
    fn would_satisfy(&self, way: &Bits) -> bool {
        let mut numbers: BTreeMap<(&str, Scale), Interval> = BTreeMap::new();
        for index in way.iter() {
            if let Kind::Named {
                name,
                test: Test::In(scale, range),
            } = &self.conditions[index].0
            {
                let all = numbers.entry((name, *scale)).or_insert(*range);
                *all = Interval::new(all.lo.max(range.lo), all.hi.min(range.hi));
                if all.lo > all.hi {
                    return false;
                }
            }
        }
        let met: Vec<bool> = (0..self.conditions.len())
            .map(|index| {
                let number = match &self.conditions[index].0 {
                    Kind::Named {
                        name,
                        test: Test::In(scale, range),
                    } => numbers
                        .get(&(&**name, *scale))
                        .map(|number| range.contains(*number)),
                    _ => None,
                };
                // A number that changes meets what it meets wherever in its ranges it comes to lie.
                way.has(index) || number.unwrap_or(self.met[index])
            })
            .collect();
        self.shape.holds(&met)
    }

    /// The smallest sets of conditions with which a node holds, given what each condition costs.
    fn ways(&self, shape: &Shape, cost: &dyn Fn(usize) -> Option<Bits>) -> Vec<Bits> {
        let (k, of) = match shape {
            Shape::Condition(index) => return cost(*index).into_iter().collect(),
            Shape::Gate { k, of } => (*k, of),
        };
        // ways[j]: the smallest sets with which j of the children seen so far hold.
        let mut ways: Vec<Vec<Bits>> = vec![Vec::new(); k + 1];
        ways[0].push(Bits::default());
        for (seen, child) in of.iter().enumerate() {
            let child = self.ways(child, cost);
            // With fewer than this the children that are left cannot make up k.
            let least = (k + seen).saturating_sub(of.len());
            for j in (least..k.min(seen + 1)).rev() {
                let (from, to) = ways.split_at_mut(j + 1);
                let (Some(from), Some(to)) = (from.last(), to.first_mut()) else {
                    continue;
                };
                to.extend(
                    from.iter()
                        .flat_map(|way| child.iter().map(|other| way.union(other))),
                );
                to.sort_unstable_by(Bits::order);
                to.dedup();
                to.truncate(WAYS);
            }
        }
        ways.pop().unwrap_or_default()
    }
}
