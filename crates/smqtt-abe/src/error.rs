//! Everything that can go wrong, a variant per cause that a caller could treat differently.

use thiserror::Error;

use crate::limits;

/// Why an operation of this crate failed.
///
/// No variant carries a secret, and none depends on one: a ciphertext that was damaged or made with
/// other coins does not fail, it opens to a key that nobody knows (implicit rejection).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The attributes do not satisfy the policy.
    #[error("not authorised: the attributes do not satisfy the policy")]
    NotAuthorised,
    /// The two objects come from different set-ups.
    #[error("the {object} belongs to other parameters: use the parameters it was issued under")]
    WrongParameters {
        /// What was given, such as "attribute key".
        object: &'static str,
    },
    /// The object states a suite other than the one it is read as.
    #[error("the {object} states suite {found}, expected {expected}")]
    WrongSuite {
        /// What was read.
        object: &'static str,
        /// The suite number in it.
        found: u8,
        /// The suite number that the reader knows how to read.
        expected: u8,
    },
    /// The object states an encoding version that this program does not know.
    #[error("the {object} has encoding version {found}, this program reads version {expected}")]
    WrongVersion {
        /// What was read.
        object: &'static str,
        /// The version in it.
        found: u8,
        /// The version that the reader knows how to read.
        expected: u8,
    },
    /// The object has the wrong length.
    #[error("the {object} is {found} bytes long, expected {expected}")]
    WrongLength {
        /// What was read.
        object: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// The object is not a canonical encoding.
    #[error("malformed {object}: {reason}")]
    Malformed {
        /// What was read.
        object: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A group element in the object is none.
    #[error("malformed {object}: {element} {reason}")]
    BadPoint {
        /// What was read.
        object: &'static str,
        /// Which element of it.
        element: &'static str,
        /// What is wrong with it.
        reason: PointDefect,
    },
    /// The policy or the attribute set is not one that can be used.
    #[error(transparent)]
    Policy(#[from] smqtt_policy::Error),
    /// The share matrix would be too large.
    #[error("the policy's thresholds make a share matrix of more than {max} entries: split it", max = limits::MAX_ENTRIES)]
    TooManyEntries,
    /// There are no attributes, or too many.
    #[error("{found} attributes: give at least 1 and at most {max}", max = limits::MAX_ATTRIBUTES)]
    AttributeCount {
        /// How many were given.
        found: usize,
    },
}

/// What is wrong with a group element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PointDefect {
    /// Flags or coordinates are not the one canonical encoding.
    #[error("is not a canonical encoding")]
    Encoding,
    /// The coordinates do not satisfy the curve equation.
    #[error("is not on the curve")]
    NotOnCurve,
    /// On the curve but outside the subgroup of prime order.
    #[error("is not in the subgroup of prime order")]
    NotInSubgroup,
    /// The neutral element, which no honest party sends.
    #[error("is the neutral element")]
    Neutral,
}
