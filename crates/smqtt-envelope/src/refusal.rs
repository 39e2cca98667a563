//! Why a message was not opened.

use std::sync::Arc;

use smqtt_format::Sequence;
use smqtt_policy::Epoch;

/// Why a message, or a key frame, was refused.
///
/// Each reason has a stable [`code`](Self::code) for programs and a one-line text for people. The order is the order in which a
/// reader checks: a reason says that everything before it was in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The payload is not an envelope at all.
    #[error("it is not encrypted: the payload is no envelope")]
    Plaintext,
    /// The payload starts as an envelope and breaks its rules.
    #[error("malformed: {0}")]
    Malformed(smqtt_format::Error),
    /// A key frame stands where messages belong, or a message where key frames belong.
    #[error("a key frame arrived in place of a message, or a message in place of a key frame")]
    Misplaced,
    /// The key frame is longer than this reader looks at.
    #[error("the key frame is {length} bytes long; this reader takes at most {limit}")]
    FrameTooLong {
        /// Its length in bytes.
        length: usize,
        /// The reader's limit in bytes.
        limit: usize,
    },
    /// The key frame is not the one that the message or the announcement names.
    #[error("the key frame is not the one that is named: it was exchanged or altered")]
    KidMismatch,
    /// The key frame's suite is not one that this program can open.
    #[error("the key frame uses suite {0}, which this program can not open: update it")]
    UnsupportedSuite(u8),
    /// The signer's certificate does not lead to the trust anchor, or is out of its validity.
    #[error("its publisher is not trusted: {0}")]
    UntrustedPublisher(String),
    /// The key frame's signature does not verify.
    #[error(
        "the key frame's signature is wrong: it was altered, or not signed by the publisher that it names"
    )]
    BadSignature,
    /// The signer's certificate was revoked.
    #[error("its publisher was revoked")]
    RevokedPublisher,
    /// The key frame was made in the future.
    #[error("its key is valid only in {seconds} s: check the publisher's clock and this one's")]
    NotYetValid {
        /// Seconds from now until the frame's creation.
        seconds: u64,
    },
    /// The key frame's lifetime, and the delay that the reader grants, are over.
    #[error(
        "its key expired {seconds} s ago: the message is old, was held back, or a clock is wrong"
    )]
    Expired {
        /// Seconds since the end of the frame's lifetime.
        seconds: u64,
    },
    /// The key frame is of an epoch for which this reader holds no attribute key any more.
    #[error("it was sealed for epoch {epoch}, before this reader's epoch {held}")]
    ExpiredEpoch {
        /// The frame's epoch.
        epoch: Epoch,
        /// The reader's newest epoch.
        held: Epoch,
    },
    /// The key frame is of an epoch for which this reader holds no attribute key yet.
    #[error(
        "it was sealed for epoch {epoch}; this reader is at epoch {held}: renew its attribute key"
    )]
    EpochAhead {
        /// The frame's epoch.
        epoch: Epoch,
        /// The reader's newest epoch.
        held: Epoch,
    },
    /// The key frame's policy or tags can not be read, or are not in their canonical form.
    #[error("the key frame's policy or tags can not be read by this program")]
    UnreadablePolicy,
    /// The reader's attributes do not satisfy the policy.
    #[error("not authorised: this device does not satisfy {policy}")]
    NotAuthorised {
        /// The policy's text.
        policy: Arc<str>,
    },
    /// Its tags decide who may open it, by key policies, and the reader has none.
    #[error("not authorised: it is tagged {tags}, and this device has no key policy")]
    NoKeyPolicy {
        /// The tags' text.
        tags: Arc<str>,
    },
    /// Its tags, with the topic, do not satisfy the reader's key policy.
    #[error("not authorised: its tags, {tags}, do not satisfy this device's key policy")]
    OutsideKeyPolicy {
        /// The tags' text.
        tags: Arc<str>,
    },
    /// The key frame is older than keys which this reader had to forget, so it can not tell a new message from a replay.
    #[error("its key was forgotten to bound memory: raise the reader's key_bytes limits")]
    ForgottenKey,
    /// The publisher makes more keys, or serves more topics, than this reader's limits allow.
    #[error(
        "its publisher uses too many keys or topics at once: slow it down, or raise the reader's limits"
    )]
    TooManyKeys,
    /// The ABE ciphertext in the key frame is none.
    #[error("the key frame's encapsulated key is malformed")]
    BadEncapsulation,
    /// The key frame's key was not encapsulated by the device that signed it.
    #[error(
        "the key frame was not made by the device that signed it: a copy signed anew, or damaged before signing"
    )]
    NotItsSigner,
    /// No key frame came within the time that a message waits.
    #[error("unknown key: the publisher's key frame did not arrive")]
    UnknownKey,
    /// Too many messages wait for their key frames.
    #[error("unknown key, and too many messages wait for theirs")]
    WaitingFull,
    /// The message was sealed for another topic.
    #[error("it was sealed for the topic {sealed_for:?} and moved here")]
    WrongTopic {
        /// The topic for which it was sealed.
        sealed_for: Arc<str>,
    },
    /// The message does not open: some bit of it was altered, or it was moved from a topic that this reader knows nothing of.
    #[error("altered, or moved from another topic")]
    Altered,
    /// Its publisher is not among those from whom the reader wants messages.
    #[error("its publisher is not among those from whom messages are wanted")]
    UnwantedPublisher,
    /// Its key is older than the reader allows a message to be.
    #[error("its key is {seconds} s old: the message may be older than is allowed here")]
    TooOld {
        /// How old its key is.
        seconds: u64,
    },
    /// The message has no signature of its own, though its key frame says that each has one, or the reader demands one.
    #[error(
        "it is not signed itself: its signature was taken away, or its publisher signs key frames only"
    )]
    Unsigned,
    /// The message's own signature is wrong.
    #[error(
        "its own signature is wrong: it was altered, or made by another reader of the same policy"
    )]
    Forged,
    /// The payload is not padded as its key frame says.
    #[error("its payload is not padded as its key frame says")]
    BadPadding,
    /// The message was opened before, or comes more than 128 messages late.
    #[error("a repetition of message {sequence}, or more than 128 messages late")]
    Replay {
        /// Its sequence number.
        sequence: Sequence,
    },
}

macro_rules! codes {
    ($($pattern:pat => $code:literal,)*) => {
        impl Refusal {
            /// The codes of all reasons, in the order of the checks.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// The reason's stable name: lower case, words joined by hyphens.
            #[must_use]
            pub fn code(&self) -> &'static str {
                match self {
                    $($pattern => $code,)*
                }
            }
        }
    };
}

codes! {
    Self::Plaintext => "plaintext",
    Self::Malformed(_) => "malformed",
    Self::Misplaced => "misplaced",
    Self::FrameTooLong { .. } => "frame-too-long",
    Self::KidMismatch => "kid-mismatch",
    Self::UnsupportedSuite(_) => "unsupported-suite",
    Self::UntrustedPublisher(_) => "untrusted-publisher",
    Self::BadSignature => "bad-signature",
    Self::RevokedPublisher => "revoked-publisher",
    Self::NotYetValid { .. } => "not-yet-valid",
    Self::Expired { .. } => "expired",
    Self::ExpiredEpoch { .. } => "expired-epoch",
    Self::EpochAhead { .. } => "epoch-ahead",
    Self::UnreadablePolicy => "unreadable-policy",
    Self::NotAuthorised { .. } => "not-authorised",
    Self::NoKeyPolicy { .. } => "no-key-policy",
    Self::OutsideKeyPolicy { .. } => "outside-key-policy",
    Self::ForgottenKey => "forgotten-key",
    Self::TooManyKeys => "too-many-keys",
    Self::BadEncapsulation => "bad-encapsulation",
    Self::NotItsSigner => "not-its-signer",
    Self::UnknownKey => "unknown-key",
    Self::WaitingFull => "waiting-full",
    Self::UnwantedPublisher => "unwanted-publisher",
    Self::TooOld { .. } => "too-old",
    Self::Unsigned => "unsigned",
    Self::WrongTopic { .. } => "wrong-topic",
    Self::Altered => "altered",
    Self::Forged => "forged",
    Self::BadPadding => "bad-padding",
    Self::Replay { .. } => "replay",
}

impl Refusal {
    /// The reason's place in [`CODES`](Self::CODES).
    pub(crate) fn index(&self) -> usize {
        let code = self.code();
        Self::CODES
            .iter()
            .position(|other| *other == code)
            .expect("the same list makes both")
    }

    /// Whether the reader's keys decided, so that others may decide otherwise.
    pub(crate) fn depends_on_the_keys(&self) -> bool {
        matches!(
            self,
            Self::NotAuthorised { .. }
                | Self::NoKeyPolicy { .. }
                | Self::OutsideKeyPolicy { .. }
                | Self::ExpiredEpoch { .. }
        )
    }

    /// Whether the same frame may be judged otherwise at another time, without anything else having changed.
    pub(crate) fn depends_on_the_clock(&self) -> bool {
        matches!(
            self,
            Self::UntrustedPublisher(_)
                | Self::NotYetValid { .. }
                | Self::Expired { .. }
                | Self::ForgottenKey
                | Self::TooManyKeys
        )
    }
}

/// How often each reason occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalCounts([u64; Refusal::CODES.len()]);

impl Default for RefusalCounts {
    fn default() -> Self {
        Self([0; Refusal::CODES.len()])
    }
}

impl RefusalCounts {
    pub(crate) fn add(&mut self, reason: &Refusal) {
        let count = &mut self.0[reason.index()];
        *count = count.saturating_add(1);
    }

    /// The count of one code; 0 for a code that does not exist.
    #[must_use]
    pub fn get(&self, code: &str) -> u64 {
        self.iter()
            .find_map(|(other, count)| (other == code).then_some(count))
            .unwrap_or(0)
    }

    /// Every code with its count, in the order of [`Refusal::CODES`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::CODES.iter().copied().zip(self.0)
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}
