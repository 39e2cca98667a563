//! Attributes and the policy language of SMQTT: parse, check, normalise, evaluate, explain.
//!
//! A [`Policy`] says who may read, in terms of [`Attribute`]s; an [`AttributeSet`] says what a device
//! holds. This crate knows no cryptography: it gives `smqtt-abe` the [`Formula`] from which a share matrix
//! is made, and the canonical bytes that are hashed to the curve.
//!
//! The invariant: *what evaluates to true is what opens*. [`Policy::evaluate`] compares numbers and
//! matches topics; the [`Formula`] has only single attributes and thresholds; both agree on every
//! set. And one thing has one form: equal attributes, sets and formulas have equal encodings, different
//! ones have different encodings, none of which is a prefix of another.
//!
//! ```
//! use smqtt_policy::{AttributeSet, Epoch, Policy};
//!
//! let policy: Policy = "role = doctor and (dept = icu or dept = er)".parse()?;
//! let set: AttributeSet = "role = doctor, dept = icu".parse()?;
//! assert!(policy.evaluate(&set));
//!
//! // A key frame is encrypted to the policy and the epoch of the moment.
//! let formula = policy.at_epoch(Epoch::new(7));
//! assert!(formula.evaluate(&set.with_epoch(Epoch::new(7))));
//! assert!(!formula.evaluate(&set.with_epoch(Epoch::new(6))));
//! # Ok::<(), smqtt_policy::ParseError>(())
//! ```
//!
//! The language and every encoding are described in `docs/policy.md`.

#![forbid(unsafe_code)]

mod arena;
mod attribute;
mod attribute_set;
mod condition;
mod encoding;
mod epoch;
mod error;
mod explain;
mod expr;
mod formula;
mod interval;
mod lexer;
pub mod limits;
mod nearest;
mod normal;
mod parse_error;
mod parser;
mod policy;
mod range;
mod scale;
mod schema;
mod schema_file;
mod stated;
mod text;
mod topic;
mod tree;

pub use attribute::Attribute;
pub use attribute_set::AttributeSet;
pub use condition::Condition;
pub use epoch::Epoch;
pub use error::Error;
pub use explain::{Explanation, Met, Missing};
pub use formula::Formula;
pub use nearest::nearest;
pub use parse_error::ParseError;
pub use policy::Policy;
pub use scale::Scale;
pub use schema::{AttributeType, Definition, Schema};
