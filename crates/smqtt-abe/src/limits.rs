//! Bounds that are checked before any work is done for an input.
//!
//! Those of the policy language hold here, too, and are checked again, because a
//! [`Formula`](smqtt_policy::Formula) can be built by hand.

pub use smqtt_policy::limits::{
    MAX_ATTRIBUTES, MAX_FORMULA_DEPTH as MAX_DEPTH, MAX_OCCURRENCES, MAX_ROWS,
};

/// Most non-zero entries of a share matrix; only wide nested thresholds come near.
pub const MAX_ENTRIES: usize = 1 << 17;
