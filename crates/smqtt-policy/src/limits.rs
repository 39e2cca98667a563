//! Bounds on everything that is read, checked before any work is done or memory is taken.

/// Longest policy or attribute-set text that is parsed, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Longest attribute name, in bytes of UTF-8 after normalisation to NFC.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest attribute value, in bytes of UTF-8 after normalisation to NFC.
pub const MAX_VALUE_BYTES: usize = 256;

/// Longest topic name or topic filter, in bytes of UTF-8 (the limit of MQTT, `[MQTT-4.7.3-3]`).
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Most levels of a topic that an attribute set or a topic filter may have.
///
/// MQTT itself sets no limit. This one bounds the rows of a filter such as `a/+/#`, which is an
/// alternative over the depths that a topic may have.
pub const MAX_TOPIC_LEVELS: usize = 32;

/// Deepest nesting of a policy text: parentheses, `not` and `k of (...)` each count one.
pub const MAX_NESTING: usize = 64;

/// Most conditions (`name = value` and the like) in a policy text, before duplicates are removed.
pub const MAX_CONDITIONS: usize = 1_024;

/// Most levels of gates and conditions in a policy after normalisation.
pub const MAX_DEPTH: usize = 32;

/// Deepest [`Formula`](crate::Formula): a policy's nesting, a range inside it, the epoch around it.
pub const MAX_FORMULA_DEPTH: usize = MAX_DEPTH + 4;

/// Most rows (leaves, hence rows of the share matrix) of a [`Formula`](crate::Formula).
///
/// A policy may have one fewer, so that there is always room for the epoch.
pub const MAX_ROWS: usize = 512;

/// Most occurrences of one attribute in a [`Formula`](crate::Formula): τ in FABEO.
pub const MAX_OCCURRENCES: usize = 64;

/// Most attributes that a set may state, epoch and topic not counted.
pub const MAX_STATED: usize = 256;

/// Most attributes that a set may have after numbers and the topic are expanded.
pub const MAX_ATTRIBUTES: usize = 4_096;

/// Longest encoding of an attribute set, in bytes.
pub const MAX_SET_BYTES: usize = 256 * 1024;

/// Longest encoding of a formula, in bytes.
pub const MAX_FORMULA_BYTES: usize = 256 * 1024;

/// Longest schema in its TOML form, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1024 * 1024;
