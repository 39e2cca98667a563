//! A policy: who may read.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::condition::Condition;
use crate::limits::{MAX_DEPTH, MAX_ROWS, MAX_TEXT_BYTES};
use crate::normal::normalise;
use crate::parser;
use crate::tree::Tree;
use crate::{AttributeSet, Epoch, Error, Formula, ParseError};

/// A policy in canonical form.
///
/// ```
/// use smqtt_policy::{AttributeSet, Policy};
///
/// let policy: Policy = "role=doctor AND (dept = icu or dept = er) and clearance > 2".parse()?;
/// assert_eq!(
///     policy.to_string(),
///     "clearance >= 3 and role = doctor and (dept = er or dept = icu)"
/// );
///
/// let doctor: AttributeSet = "role = doctor, dept = er, clearance = 4".parse()?;
/// assert!(policy.evaluate(&doctor));
/// # Ok::<(), smqtt_policy::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Policy {
    text: Arc<str>,
    tree: Arc<Tree>,
    formula: Arc<Formula>,
}

impl Policy {
    /// Reads a policy that is in canonical form already, as it comes from a peer.
    ///
    /// The text is taken as it is and never rewritten, so that its formula is the one from which
    /// the sender made the share matrix, even where a later version normalises further.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] when the text does not parse, [`Error::NotCanonical`] when it parses but has
    /// another spelling than the canonical one, or an error of a limit.
    pub fn from_canonical(text: &str) -> Result<Self, Error> {
        let tree = Tree::from_canonical(&parser::policy(text)?)?;
        if tree.to_string() != text {
            return Err(Error::NotCanonical {
                what: "spacing, quotes or parentheses differ",
            });
        }
        Self::from_tree(tree)
    }

    /// Checks a tree against the limits and writes it out.
    pub(crate) fn from_tree(tree: Tree) -> Result<Self, Error> {
        if tree.depth() > MAX_DEPTH {
            return Err(Error::TooDeep { limit: MAX_DEPTH });
        }
        let rows = tree.conditions().map(Condition::rows).sum();
        if rows >= MAX_ROWS {
            return Err(Error::TooManyRows {
                rows,
                limit: MAX_ROWS - 1,
            });
        }
        let text = tree.to_string();
        if text.len() > MAX_TEXT_BYTES {
            let bytes = text.len();
            return Err(Error::TextTooLong {
                what: "policy",
                bytes,
                limit: MAX_TEXT_BYTES,
            });
        }
        let formula = tree.formula();
        formula.check()?;
        Ok(Self {
            text: text.into(),
            tree: Arc::new(tree),
            formula: Arc::new(formula),
        })
    }

    /// The canonical text: what is stored, sent and hashed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `set` satisfies the policy. The epoch of the set is not looked at.
    #[must_use]
    pub fn evaluate(&self, set: &AttributeSet) -> bool {
        self.tree.evaluate(set)
    }

    /// The policy in single attributes.
    #[must_use]
    pub fn formula(&self) -> &Formula {
        &self.formula
    }

    /// The policy *and* the epoch, in single attributes: what a key frame is encrypted to.
    #[must_use]
    pub fn at_epoch(&self, epoch: Epoch) -> Formula {
        self.formula.at_epoch(epoch)
    }

    /// The conditions from left to right, repeated ones as often as they occur.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.tree.conditions()
    }

    /// Whether the policy asks for the topic of a message, which only a KP key can.
    #[must_use]
    pub fn asks_for_topic(&self) -> bool {
        self.conditions().any(Condition::is_topic)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }
}

impl FromStr for Policy {
    type Err = ParseError;

    /// Parses and normalises a policy. [`Schema::policy`](crate::Schema::policy) does so against a schema,
    /// which `not` and `!=` over texts need.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        normalise(&parser::policy(text)?, None)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Policy {}

impl std::hash::Hash for Policy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").field(&self.text).finish()
    }
}
