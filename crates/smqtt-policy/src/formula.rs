//! The monotone threshold tree that a share matrix is made from.

use std::collections::HashMap;
use std::fmt;

use crate::encoding::Reader;
use crate::limits::{MAX_FORMULA_BYTES, MAX_FORMULA_DEPTH, MAX_OCCURRENCES, MAX_ROWS};
use crate::{Attribute, AttributeSet, Epoch, Error};

/// The tag of a gate; below it are the attributes' own tags.
const TAG_THRESHOLD: u8 = 0x10;

/// A monotone formula over attributes: what a policy means once ranges and topic filters are
/// written out as alternatives of single attributes.
///
/// `and` is a threshold of all children, `or` of one. The order of children is part of the formula:
/// the rows of a share matrix are the leaves from left to right.
///
/// A formula that comes from a [`Policy`](crate::Policy) or from [`decode`](Formula::decode) is within the
/// limits of [`limits`](crate::limits); [`check`](Formula::check) tells for one that was put together by hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Formula {
    /// One attribute: a row of the share matrix.
    Attribute(Attribute),
    /// At least `k` of the children hold; `1 <= k <= of.len()`.
    Threshold {
        /// How many children must hold.
        k: usize,
        /// The children, at least one.
        of: Vec<Formula>,
    },
}

impl Formula {
    /// All of `children`, or the only one of them.
    pub(crate) fn all(children: Vec<Self>) -> Self {
        Self::gate(children.len(), children)
    }

    /// Any of `children`, or the only one of them.
    pub(crate) fn any(children: Vec<Self>) -> Self {
        Self::gate(1, children)
    }

    pub(crate) fn gate(k: usize, mut children: Vec<Self>) -> Self {
        match children.pop() {
            Some(only) if children.is_empty() => only,
            Some(last) => {
                children.push(last);
                Self::Threshold { k, of: children }
            }
            None => Self::Threshold { k, of: children },
        }
    }

    /// This formula *and* the epoch, which comes last: one row more.
    ///
    /// Where the formula is a conjunction the epoch joins it, otherwise a conjunction of two is made.
    #[must_use]
    pub fn at_epoch(&self, epoch: Epoch) -> Self {
        let epoch = Self::Attribute(Attribute::epoch(epoch));
        match self {
            Self::Threshold { k, of } if *k == of.len() => {
                let of: Vec<_> = of.iter().cloned().chain([epoch]).collect();
                Self::Threshold { k: of.len(), of }
            }
            other => Self::Threshold {
                k: 2,
                of: vec![other.clone(), epoch],
            },
        }
    }

    /// The epoch that [`at_epoch`](Formula::at_epoch) has put in; `None` if nothing stands where it would.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Threshold { k, of } if *k == of.len() => match of.last()? {
                Self::Attribute(attribute) => attribute.as_epoch(),
                Self::Threshold { .. } => None,
            },
            _ => None,
        }
    }

    /// Whether the attributes of `set` satisfy the formula.
    #[must_use]
    pub fn evaluate(&self, set: &AttributeSet) -> bool {
        match self {
            Self::Attribute(attribute) => set.contains(attribute),
            Self::Threshold { k, of } => {
                of.iter()
                    .filter(|child| child.evaluate(set))
                    .take(*k)
                    .count()
                    == *k
            }
        }
    }

    /// The number of leaves: rows of the share matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Attribute(_) => 1,
            Self::Threshold { of, .. } => of.iter().map(Self::rows).sum(),
        }
    }

    /// The number of levels: 1 for an attribute, one more for each gate around it.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Attribute(_) => 1,
            Self::Threshold { of, .. } => 1 + of.iter().map(Self::depth).max().unwrap_or(0),
        }
    }

    /// The attributes of the leaves from left to right: π of the share matrix.
    pub fn leaves(&self) -> impl Iterator<Item = &Attribute> {
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Self::Attribute(attribute) => return Some(attribute),
                    Self::Threshold { of, .. } => pending.extend(of.iter().rev()),
                }
            }
        })
    }

    /// The most often that one attribute occurs: τ of FABEO.
    #[must_use]
    pub fn occurrences(&self) -> usize {
        self.most_frequent()
            .map_or(0, |(_, occurrences)| occurrences)
    }

    fn most_frequent(&self) -> Option<(&Attribute, usize)> {
        let mut counts: HashMap<&Attribute, usize> = HashMap::new();
        for attribute in self.leaves() {
            *counts.entry(attribute).or_default() += 1;
        }
        counts
            .into_iter()
            .max_by_key(|(_, occurrences)| *occurrences)
    }

    /// Checks every limit and that each gate's threshold fits its children.
    ///
    /// # Errors
    ///
    /// [`Error::Gate`], [`Error::TooManyRows`], [`Error::TooDeep`], [`Error::TooManyOccurrences`].
    pub fn check(&self) -> Result<(), Error> {
        self.check_shape(1, &mut 0)?;
        match self.most_frequent() {
            Some((attribute, occurrences)) if occurrences > MAX_OCCURRENCES => {
                Err(Error::TooManyOccurrences {
                    attribute: attribute.to_string(),
                    occurrences,
                    limit: MAX_OCCURRENCES,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_shape(&self, level: usize, rows: &mut usize) -> Result<(), Error> {
        if level > MAX_FORMULA_DEPTH {
            return Err(Error::TooDeep {
                limit: MAX_FORMULA_DEPTH,
            });
        }
        match self {
            Self::Attribute(_) => {
                *rows += 1;
                if *rows > MAX_ROWS {
                    return Err(Error::TooManyRows {
                        rows: *rows,
                        limit: MAX_ROWS,
                    });
                }
                Ok(())
            }
            Self::Threshold { k, of } => {
                if *k == 0 || *k > of.len() {
                    return Err(Error::Gate {
                        k: *k,
                        children: of.len(),
                    });
                }
                of.iter()
                    .try_for_each(|child| child.check_shape(level + 1, rows))
            }
        }
    }

    /// The canonical bytes of this formula: a leaf is its attribute's encoding, a gate is a tag, its
    /// threshold, the number of its children, and each child.
    ///
    /// Equal formulas have equal encodings, different ones different encodings, and no encoding is
    /// a prefix of another.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Attribute(attribute) => attribute.encode_into(out),
            Self::Threshold { k, of } => {
                out.push(TAG_THRESHOLD);
                // Four bytes, so that a formula put together by hand encodes injectively as well.
                out.extend_from_slice(&u32::try_from(*k).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(&u32::try_from(of.len()).unwrap_or(u32::MAX).to_be_bytes());
                for child in of {
                    child.encode_into(out);
                }
            }
        }
    }

    /// Reads the canonical bytes of a formula, all of them.
    ///
    /// # Errors
    ///
    /// When the bytes are cut off, extended, of an unknown kind, or beyond the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, MAX_FORMULA_BYTES)?;
        let formula = Self::decode_node(&mut reader, 1, &mut 0)?;
        reader.finish()?;
        formula.check()?;
        Ok(formula)
    }

    fn decode_node(reader: &mut Reader<'_>, level: usize, rows: &mut usize) -> Result<Self, Error> {
        if level > MAX_FORMULA_DEPTH {
            return Err(Error::TooDeep {
                limit: MAX_FORMULA_DEPTH,
            });
        }
        let tag = reader.u8()?;
        if tag != TAG_THRESHOLD {
            *rows += 1;
            if *rows > MAX_ROWS {
                return Err(Error::TooManyRows {
                    rows: *rows,
                    limit: MAX_ROWS,
                });
            }
            return Ok(Self::Attribute(Attribute::decode_tagged(tag, reader)?));
        }
        let k = reader.count()?;
        let children = reader.count()?;
        if children > MAX_ROWS {
            return Err(Error::TooManyRows {
                rows: children,
                limit: MAX_ROWS,
            });
        }
        if k == 0 || k > children {
            return Err(Error::Gate { k, children });
        }
        let mut of = Vec::with_capacity(children.min(MAX_ROWS - *rows));
        for _ in 0..children {
            of.push(Self::decode_node(reader, level + 1, rows)?);
        }
        Ok(Self::Threshold { k, of })
    }
}

/// In the notation of policies, ranges and topic filters written out. For people: it is no policy's
/// canonical text, and derived attributes cannot be read back.
impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Threshold { k, of } = self else {
            return self.fmt_operand(f);
        };
        let separator = match *k {
            1 => " or ",
            all if all == of.len() => " and ",
            _ => {
                write!(f, "{k} of (")?;
                ", "
            }
        };
        for (i, child) in of.iter().enumerate() {
            if i > 0 {
                f.write_str(separator)?;
            }
            child.fmt_operand(f)?;
        }
        if separator == ", " {
            f.write_str(")")
        } else {
            Ok(())
        }
    }
}

impl Formula {
    /// With parentheses where it is a gate.
    fn fmt_operand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => write!(f, "{attribute}"),
            Self::Threshold { .. } => write!(f, "({self})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn formulas_are_shown_as_policies_are_written() {
        let shown = |text: &str| text.parse::<Policy>().unwrap().formula().to_string();
        for text in ["a", "a and b", "(a or b) and c", "2 of (a, b, c and d)"] {
            let formula: Policy = text.parse().unwrap();
            let again: Policy = shown(text).parse().unwrap();
            assert_eq!(again, formula, "{text}");
        }
        let at_epoch = "a".parse::<Policy>().unwrap().at_epoch(Epoch::new(3));
        assert_eq!(at_epoch.to_string(), "a and epoch 3");
        assert_eq!(at_epoch.epoch(), Some(Epoch::new(3)));
    }

    #[test]
    fn only_a_formula_that_asks_for_one_epoch_has_one() {
        for text in ["a", "a or b", "a and b", "2 of (a, b, c)"] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.formula().epoch(), None, "{text}");
            let epoch = Epoch::new(7);
            assert_eq!(policy.at_epoch(epoch).epoch(), Some(epoch), "{text}");
        }
        let either = Formula::any(vec![
            Formula::Attribute(Attribute::flag("a").unwrap()),
            Formula::Attribute(Attribute::epoch(Epoch::new(1))),
        ]);
        assert_eq!(either.epoch(), None);
    }
}
