//! What can go wrong before a message is sealed, and when a reader is set up.

use smqtt_policy::Epoch;

/// Why a message could not be sealed, or a reader not be set up.
///
/// What arrives never leads here: it is [refused](crate::Refusal).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is out of its range.
    #[error("{field} is out of range: {allowed}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// No message can be sealed for this topic.
    #[error("can not seal for the topic {topic:?}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The payload is longer than AES-GCM can seal (64 GiB).
    #[error("the payload of {length} bytes is too long to be sealed")]
    PayloadTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The policy asks for the topic of a message. A policy that stands with the ciphertext can ask for a reader's attributes only.
    #[error(
        "the policy {policy} asks for the topic, which no reader's attributes have: name the readers' attributes"
    )]
    TopicInPolicy {
        /// The policy.
        policy: String,
    },
    /// There are no tags: no key policy could be satisfied by them.
    #[error("there are no tags: give at least one, such as kind = temperature")]
    NoTags,
    /// Tags and topic can not be put together.
    #[error("the tags can not be put on messages for the topic {topic:?}: {reason}")]
    Tags {
        /// The topic.
        topic: String,
        /// Why not.
        reason: smqtt_policy::Error,
    },
    /// An epoch before the current one was given.
    #[error("epoch {given} lies before epoch {current}: epochs only go forward")]
    EpochBackwards {
        /// The current epoch.
        current: Epoch,
        /// The epoch that was given.
        given: Epoch,
    },
    /// The attribute key states no epoch.
    #[error("the attribute key was issued without an epoch: enrol or renew at the authority")]
    NoEpoch,
    /// The attribute key belongs to other parameters than those given.
    #[error("the attribute key belongs to other parameters: use those that came with it")]
    WrongParameters,
    /// Encapsulating a key under the policy failed.
    #[error("can not encapsulate a key under the policy: {0}")]
    Encapsulate(#[from] smqtt_abe::Error),
    /// The key frame can not be built, such as from a chain of too many certificates.
    #[error("can not build the key frame: {0}")]
    Frame(#[from] smqtt_format::Error),
}
