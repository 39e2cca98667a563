//! What can be wrong with an attribute, a set, a formula or an encoding.

use crate::{ParseError, Scale};

/// Why an attribute, an attribute set, a policy, a schema or an encoding was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text of the policy language does not parse. [`ParseError::render`] shows the place.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// A name, value or topic is empty.
    #[error("{what} is empty: give it at least one character")]
    EmptyText {
        /// What the text is: `attribute name`, `attribute value`, `topic`.
        what: &'static str,
    },

    /// A name, value or topic is longer than its limit.
    #[error("{what} has {bytes} bytes, the limit is {limit}: shorten it")]
    TextTooLong {
        /// What the text is.
        what: &'static str,
        /// Its length in bytes of UTF-8.
        bytes: usize,
        /// The longest that is accepted, in bytes.
        limit: usize,
    },

    /// A name or value has a character that cannot be seen or that rearranges its neighbours.
    #[error("{what} contains U+{:04X}, which is not visible as itself: remove it", u32::from(*.character))]
    ForbiddenCharacter {
        /// What the text is.
        what: &'static str,
        /// The character.
        character: char,
    },

    /// A name or value begins or ends with a space.
    #[error("{what} begins or ends with a space: remove it")]
    EdgeSpace {
        /// What the text is.
        what: &'static str,
    },

    /// A word has the form of a number, date or time, but is none.
    #[error("not a valid {scale}: correct it, or put it in quotes if it is a text")]
    NumberOutOfRange {
        /// The scale whose form the word has.
        scale: Scale,
    },

    /// The attribute follows from a stated value and cannot be stated itself.
    #[error("`{attribute}` follows from a number or a topic: state that instead")]
    Derived {
        /// The attribute, as it displays.
        attribute: String,
    },

    /// A set already has another number, date or time by this name.
    #[error("`{name}` already has another {scale}: an attribute has one number at a time")]
    SecondNumber {
        /// The attribute's name.
        name: String,
        /// The scale of both numbers.
        scale: Scale,
    },

    /// A set has too many attributes.
    #[error("too many attributes in one set, the limit is {limit}: state fewer")]
    TooManyAttributes {
        /// The most that are accepted.
        limit: usize,
    },

    /// A topic name has a wildcard, or a filter has one in the wrong place.
    #[error("not a valid topic {kind}: {reason}")]
    Topic {
        /// `name` or `filter`.
        kind: &'static str,
        /// What is wrong, with the rule of MQTT behind it.
        reason: &'static str,
    },

    /// A gate's threshold does not fit its children.
    #[error("a gate of {children} children cannot require {k}: use 1 to the number of children")]
    Gate {
        /// The threshold.
        k: usize,
        /// The number of children.
        children: usize,
    },

    /// A formula has too many rows.
    #[error("the policy needs {rows} rows, the limit is {limit}: simplify it or narrow its ranges")]
    TooManyRows {
        /// The rows that it has, or the first number at which counting stopped.
        rows: usize,
        /// The most that are accepted.
        limit: usize,
    },

    /// A formula is nested too deeply.
    #[error("nested deeper than {limit} levels: flatten the policy")]
    TooDeep {
        /// The deepest that is accepted.
        limit: usize,
    },

    /// One attribute occurs too often in a formula.
    #[error("`{attribute}` occurs {occurrences} times, the limit is {limit}: factor it out")]
    TooManyOccurrences {
        /// The attribute, as it displays.
        attribute: String,
        /// How often it occurs.
        occurrences: usize,
        /// The most that are accepted.
        limit: usize,
    },

    /// The schema has no attribute of this name.
    #[error("the schema has no attribute `{name}`: {nearest}")]
    UnknownAttribute {
        /// The name that was used.
        name: String,
        /// The names that come nearest, in a sentence.
        nearest: String,
    },

    /// The schema does not allow this value.
    #[error("`{value}` is not a value of `{name}`: {nearest}")]
    UnknownValue {
        /// The attribute's name.
        name: String,
        /// The value that was used.
        value: String,
        /// The values that come nearest, in a sentence.
        nearest: String,
    },

    /// The schema gives the attribute another type.
    #[error("`{name}` is {expected}: {example}")]
    WrongType {
        /// The attribute's name.
        name: String,
        /// What the schema says it is, with its article.
        expected: String,
        /// How to write it.
        example: String,
    },

    /// The schema's range of the attribute has none of these numbers.
    #[error("outside the range of `{name}`: it goes {range}")]
    OutOfRange {
        /// The attribute's name.
        name: String,
        /// The range that the schema gives it, in words.
        range: String,
    },

    /// The schema allows one value at a time.
    #[error("`{name}` already has another value: the schema allows one at a time")]
    SecondValue {
        /// The attribute's name.
        name: String,
    },

    /// A schema is not TOML of the expected form.
    #[error("the schema cannot be read: {message}")]
    SchemaSyntax {
        /// What the TOML reader says, of several lines, with the place.
        message: String,
    },

    /// The definition of an attribute in a schema contradicts itself.
    #[error("the schema's definition of `{name}` is not possible: {reason}")]
    SchemaDefinition {
        /// The attribute's name.
        name: String,
        /// Why.
        reason: String,
    },

    /// An encoding is longer than any that can be valid.
    #[error("encoding of {bytes} bytes, the limit is {limit}: it is not one of ours")]
    EncodingTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest that is accepted, in bytes.
        limit: usize,
    },

    /// An encoding ends in the middle.
    #[error("encoding ends in the middle: it was cut off")]
    Truncated,

    /// An encoding goes on after its end.
    #[error("{bytes} bytes follow the end of the encoding: it was extended or is something else")]
    TrailingBytes {
        /// How many bytes are left over.
        bytes: usize,
    },

    /// An encoding has a kind tag that this version does not know.
    #[error("unknown kind 0x{tag:02x} in an encoding: it was damaged or made by a later version")]
    UnknownKind {
        /// The tag.
        tag: u8,
    },

    /// An encoding or a canonical text is not in its one canonical form.
    #[error("not in canonical form: {what}")]
    NotCanonical {
        /// What differs.
        what: &'static str,
    },
}
