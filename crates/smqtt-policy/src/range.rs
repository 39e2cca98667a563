//! Ranges of a scale, and what may be done to them.

use crate::Scale;
use crate::interval::Interval;

/// The numbers from `lo` to `hi` that a value of `scale` can have, or `None` if there are none.
///
/// An end that is the scale's own end is open: it extends to the end of the family of intervals,
/// where covers are shortest. Hence one range has one form.
pub(crate) fn range(scale: Scale, lo: i64, hi: i64) -> Option<Interval> {
    let (least, greatest) = (scale.least(), scale.greatest());
    let (lo, hi) = (lo.max(least), hi.min(greatest));
    if lo > hi {
        return None;
    }
    if lo == hi {
        return Some(Interval::point(lo));
    }
    Some(Interval::new(
        if lo == least { i64::MIN } else { lo },
        if hi == greatest { i64::MAX } else { hi },
    ))
}

/// What both ranges have in common.
pub(crate) fn intersection(scale: Scale, a: Interval, b: Interval) -> Option<Interval> {
    range(scale, a.lo.max(b.lo), a.hi.min(b.hi))
}

/// The one range that has the numbers of both, unless there is a gap between them.
pub(crate) fn union(scale: Scale, a: Interval, b: Interval) -> Option<Interval> {
    let (first, second) = if a.lo <= b.lo { (a, b) } else { (b, a) };
    let touches = second.lo <= first.hi.saturating_add(1);
    touches
        .then(|| range(scale, first.lo, first.hi.max(second.hi)))
        .flatten()
}

/// The numbers of the scale that are not in `range`: below and above it.
pub(crate) fn complement(scale: Scale, of: Interval) -> [Option<Interval>; 2] {
    let below = of
        .lo
        .checked_sub(1)
        .and_then(|hi| range(scale, i64::MIN, hi));
    let above = of
        .hi
        .checked_add(1)
        .and_then(|lo| range(scale, lo, i64::MAX));
    [below, above]
}
