//! The family of intervals by which numbers are compared.
//!
//! A number is compared through *dyadic prefixes*: a set that states `n = 5` carries one attribute
//! for every interval of a fixed family that contains 5, and a range in a policy is an alternative
//! over the fewest intervals of the family that cover it. One of them contains the value, so a
//! range opens with a single leaf.
//!
//! The family is a binary tree over all of `i64`, ordered by magnitude, so that small numbers have
//! short paths and neither side needs to know how large a number may become:
//!
//! - the root is everything; its halves are the negative and the other numbers, mirror images of
//!   each other under `v -> -1 - v`;
//! - the 64 *classes* of the numbers from 0 up are `{0}`, `{1}`, `2..3`, `4..7`, … by bit length, and
//!   aligned runs of 2, 4, 8, 16, 32 and 64 classes are intervals too;
//! - inside a class, an interval is a run of 2^j numbers that starts at a multiple of 2^j.
//!
//! A number whose magnitude has `b` bits lies in at most `max(b, 1) + 7` intervals. Since the family is laminar
//! (two intervals are nested or disjoint), taking the longest one at each step covers a range
//! with the fewest.

/// A closed interval of `i64`, `lo <= hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Interval {
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

impl Interval {
    pub(crate) const ALL: Self = Self {
        lo: i64::MIN,
        hi: i64::MAX,
    };

    pub(crate) const fn new(lo: i64, hi: i64) -> Self {
        Self { lo, hi }
    }

    pub(crate) const fn point(value: i64) -> Self {
        Self {
            lo: value,
            hi: value,
        }
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }

    pub(crate) const fn is_point(self) -> bool {
        self.lo == self.hi
    }

    /// Whether this interval is one of the family.
    pub(crate) fn is_of_family(self) -> bool {
        self.lo <= self.hi && containing(self.lo).contains(&self)
    }

    const fn mirrored(self) -> Self {
        Self {
            lo: -1 - self.hi,
            hi: -1 - self.lo,
        }
    }
}

/// The intervals of the family that contain `value`, from the value itself to the root.
pub(crate) fn containing(value: i64) -> Vec<Interval> {
    if value < 0 {
        let mut path = magnitude_path(-1 - value);
        for interval in &mut path {
            *interval = interval.mirrored();
        }
        path.push(Interval::ALL);
        return path;
    }
    let mut path = magnitude_path(value);
    path.push(Interval::ALL);
    path
}

/// The path of a number from 0 up, without the root.
fn magnitude_path(value: i64) -> Vec<Interval> {
    let class = 64 - value.leading_zeros();
    let mut path = Vec::with_capacity(class as usize + 8);
    path.push(Interval::point(value));
    for bits in 1..class {
        let lo = value & !((1i64 << bits) - 1);
        path.push(Interval::new(lo, lo + ((1i64 << bits) - 1)));
    }
    // The last of these was the class itself: class c >= 1 is a run of 2^(c-1) numbers.
    for group in 1..=6 {
        let first = class & !((1u32 << group) - 1);
        let last = first + ((1u32 << group) - 1);
        path.push(Interval::new(class_start(first), class_end(last)));
    }
    path
}

const fn class_start(class: u32) -> i64 {
    if class == 0 { 0 } else { 1i64 << (class - 1) }
}

const fn class_end(class: u32) -> i64 {
    // Class 63 ends at i64::MAX.
    ((1u64 << class) - 1) as i64
}

/// The fewest intervals of the family that cover `range` exactly, in ascending order.
pub(crate) fn cover(range: Interval) -> Vec<Interval> {
    let mut cover = Vec::new();
    let mut from = range.lo;
    while from <= range.hi {
        let longest = containing(from)
            .into_iter()
            .rfind(|interval| interval.lo == from && interval.hi <= range.hi)
            .unwrap_or(Interval::point(from));
        cover.push(longest);
        match longest.hi.checked_add(1) {
            Some(next) => from = next,
            None => break,
        }
    }
    cover
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn family_around(values: impl Iterator<Item = i64>) -> BTreeSet<Interval> {
        values.flat_map(containing).collect()
    }

    #[test]
    fn a_value_lies_in_each_of_its_intervals_and_they_are_nested() {
        let edges = (0..63).flat_map(|bits| {
            let power = 1i64 << bits;
            [power - 1, power, -power, -power - 1]
        });
        for value in edges.chain(-1000..1000).chain([i64::MIN, i64::MAX]) {
            let path = containing(value);
            assert_eq!(path.first(), Some(&Interval::point(value)));
            assert_eq!(path.last(), Some(&Interval::ALL));
            for (inner, outer) in path.iter().zip(path.iter().skip(1)) {
                assert!(
                    outer.contains(*inner) && inner != outer || inner.is_point(),
                    "{path:?}"
                );
                assert!(inner.is_of_family());
            }
        }
    }

    #[test]
    fn two_intervals_are_nested_or_disjoint() {
        let family = family_around(-70..70);
        for a in &family {
            for b in &family {
                let disjoint = a.hi < b.lo || b.hi < a.lo;
                assert!(disjoint || a.contains(*b) || b.contains(*a), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_cover_is_exact_and_no_two_of_its_parts_make_one() {
        let family = family_around(-40..40);
        for lo in -20..20 {
            for hi in lo..20 {
                let cover = cover(Interval::new(lo, hi));
                assert_eq!(cover.first().map(|part| part.lo), Some(lo));
                assert_eq!(cover.last().map(|part| part.hi), Some(hi));
                for (part, next) in cover.iter().zip(cover.iter().skip(1)) {
                    assert_eq!(part.hi + 1, next.lo);
                }
                // Of a laminar family, the parts that no other interval within the range contains.
                let within = family.iter().filter(|i| lo <= i.lo && i.hi <= hi);
                let largest = within.clone().filter(|i| {
                    !within
                        .clone()
                        .any(|other| other != *i && other.contains(**i))
                });
                assert!(largest.eq(&cover), "{lo}..{hi}");
            }
        }
    }

    #[test]
    fn only_the_family_is_the_family() {
        assert!(Interval::new(4, 7).is_of_family());
        assert!(Interval::new(-8, -5).is_of_family());
        assert!(Interval::new(0, i64::MAX).is_of_family());
        for (lo, hi) in [
            (3, 4),
            (7, 4),
            (0, 4),
            (1, 3),
            (-1, 0),
            (4, i64::MAX),
            (i64::MIN, 0),
        ] {
            assert!(!Interval::new(lo, hi).is_of_family(), "{lo}..{hi}");
        }
    }
}
