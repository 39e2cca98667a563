//! The authority's revocation counter.

use std::fmt;

/// The authority's epoch: a counter that revocation moves forward.
///
/// Key frames are encrypted to *policy and epoch*, attribute keys carry the epoch for which they
/// were issued, so a key of an earlier epoch opens nothing of a later one. Counts from 0; an
/// [`Attribute`](crate::Attribute) of its own kind carries it, which no policy text can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The epoch's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one, or `None` after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl From<u64> for Epoch {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
