//! What a reader learns.

use std::sync::Arc;

use smqtt_format::{KeyId, Sequence};
use smqtt_pki::DeviceId;
use smqtt_policy::Epoch;

use crate::{Refusal, RefusalCounts};

/// What a caller knows of a publish beside topic and payload. Nothing of it is authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// MQTT's flag: the broker had kept it.
    pub retained: bool,
    /// The caller's own mark. It comes back with the message, opened or refused, exactly once.
    pub tag: u64,
    /// Bytes that the caller keeps under that tag. They count against the bound of the messages that wait.
    pub kept: usize,
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message was opened.
    Opened(Message),
    /// A message was refused.
    Refused {
        /// The topic at which it arrived.
        topic: Arc<str>,
        /// The key frame that it names, if it names one.
        kid: Option<KeyId>,
        /// Its publisher, if a verified key frame names one. Whether it came from there depends on the reason.
        publisher: Option<Arc<DeviceId>>,
        /// Whether the broker marked it as retained.
        retained: bool,
        /// The [tag](Arrival::tag) with which it was handed in.
        tag: u64,
        /// Why.
        reason: Refusal,
    },
    /// A key frame was refused; messages under it will be, for the same reason. Told once per frame, not for each message.
    KeyRefused {
        /// The topic at which it arrived.
        topic: Arc<str>,
        /// The frame's own name, if it could be read.
        kid: Option<KeyId>,
        /// Its publisher, if the signature verified.
        publisher: Option<Arc<DeviceId>>,
        /// Why.
        reason: Refusal,
    },
    /// Messages are missing in front of the one that is opened next.
    Missing {
        /// The topic.
        topic: Arc<str>,
        /// The publisher.
        publisher: Arc<DeviceId>,
        /// The key frame under which they are numbered.
        kid: KeyId,
        /// The number of the first of them.
        first: Sequence,
        /// How many. One that comes later is opened and marked as [late](Message::late).
        count: u32,
    },
    /// Messages are sealed for a later epoch than this reader's: it should renew its attribute key and hand it to
    /// [`Opener::add_key`](crate::Opener::add_key). Told once per key frame.
    EpochAhead {
        /// The epoch of the key frame.
        epoch: Epoch,
        /// The reader's newest epoch.
        held: Epoch,
    },
}

/// Who may open what is sealed under a key frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Devices whose attributes satisfy this policy, in canonical form.
    Policy(Arc<str>),
    /// Devices whose key policy these tags satisfy, together with the topic and the epoch; canonical text.
    Tags(Arc<str>),
}

impl Access {
    /// The policy, if it is one.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Policy(policy) => Some(policy),
            Self::Tags(_) => None,
        }
    }

    /// The tags, if these decide.
    #[must_use]
    pub fn tags(&self) -> Option<&str> {
        match self {
            Self::Policy(_) => None,
            Self::Tags(tags) => Some(tags),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Policy(text) | Self::Tags(text) => text.len(),
        }
    }
}

/// An opened message.
///
/// Publisher, topic, payload, key id and sequence number are authentic in this sense: a registered device, `publisher`, made
/// and signed the key frame, and whoever sealed the message for this topic under it held the frame's key. That is the
/// publisher, or another device that may open the same, unless the message is [signed](Message::signed).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The topic, as the publisher sealed it.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The device that signed the key frame.
    pub publisher: Arc<DeviceId>,
    /// Who may open it.
    pub access: Access,
    /// The key frame.
    pub kid: KeyId,
    /// The message's number under that frame and topic.
    pub sequence: Sequence,
    /// When the key period began, by the publisher's clock, in seconds since 1970-01-01T00:00:00Z. The message is not older.
    pub key_created: u64,
    /// Whether the publisher's device has signed this very message. If not, another device that satisfies the same policy could have
    /// made it.
    pub signed: bool,
    /// Whether the broker marked it as retained: an earlier state, kept by the broker. Not authenticated.
    pub retained: bool,
    /// The [tag](Arrival::tag) with which it was handed in. Not authenticated.
    pub tag: u64,
    /// Whether this very message was opened before, or may have been because it is more than 128 messages behind. Only retained
    /// messages may repeat; others are refused as replays.
    pub repeated: bool,
    /// Whether a message with a higher number was opened before it.
    pub late: bool,
}

/// What a reader has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages opened, repeated ones included.
    pub opened: u64,
    /// Of these, retained messages that were opened before.
    pub repeated: u64,
    /// Of these, messages that came behind a higher number; each had been counted as missing before, except those from
    /// before this reader began.
    pub late: u64,
    /// Messages reported as missing.
    pub missing: u64,
    /// Messages that had to wait for their key frame.
    pub waited: u64,
    /// Announcements that were cleared. Nothing else follows from it: anybody may clear, and a reader keeps its keys.
    pub cleared: u64,
    /// Publishes below `smqtt/` that are not for an opener.
    pub ignored: u64,
    /// Keys forgotten before their time, to stay within the bounds.
    pub forgotten: u64,
    /// Certificate chains and signatures verified.
    pub verifications: u64,
    /// Signatures of messages verified: none but where the publisher signs each.
    pub message_verifications: u64,
    /// Keys decapsulated (pairings).
    pub decapsulations: u64,
    /// Content keys derived, one per key frame and topic, and one per topic tried for a message that does not open.
    pub derivations: u64,
    /// Messages refused, by reason.
    pub refused: RefusalCounts,
    /// Key frames refused, by reason.
    pub keys_refused: RefusalCounts,
}
