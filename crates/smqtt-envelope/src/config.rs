//! What a publisher and a reader may choose.

use std::collections::BTreeSet;
use std::time::Duration;

use smqtt_format::Sequence;
use smqtt_pki::DeviceId;

use crate::Padding;

/// How readers come by the key frame of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The frame is published once, retained, at `smqtt/keys/<topic>/<key id>`; messages name it.
    #[default]
    Announced,
    /// Every message carries its frame in front.
    Inline,
}

/// What a publisher's device signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// Each key frame. Readers of one policy could then make messages in the publisher's name among themselves.
    #[default]
    Session,
    /// Each message, too: 67 bytes and a signature more for each, and a verification for each reader.
    Each,
}

/// When a publisher's key periods end, and how their frames travel.
#[derive(Clone, Debug)]
pub struct SealerConfig {
    /// Messages per topic that one key frame seals, at least 1. Default 65,535: the most whose number still fits two bytes, so that a
    /// message costs at most 40 bytes.
    pub max_messages: Sequence,
    /// Topics that one key frame serves, at least 1. Default 256. A further topic starts a new period.
    pub max_topics: usize,
    /// How long one key frame is used, in whole seconds from 1 s to 2^32 − 1 s. Default 24 hours.
    pub lifetime: Duration,
    /// How frames travel. Default announced.
    pub delivery: Delivery,
    /// What is signed. Default each key frame.
    pub signing: Signing,
    /// To which lengths payloads are padded. Default not at all.
    pub padding: Padding,
}

impl Default for SealerConfig {
    fn default() -> Self {
        Self {
            max_messages: Sequence::new(65_535).expect("not 0"),
            max_topics: 256,
            lifetime: Duration::from_secs(86_400),
            delivery: Delivery::default(),
            signing: Signing::default(),
            padding: Padding::default(),
        }
    }
}

/// A reader's tolerance and the bounds of everything that it remembers.
///
/// The bounds say what a hostile broker, which may send anything at any rate, and a hostile registered device, which may sign
/// anything, can make a reader hold. What happens at each bound stands beside it.
#[derive(Clone, Debug)]
pub struct OpenerConfig {
    /// How far publishers' clocks may differ from this reader's. Default 5 minutes. A frame from further in the future is refused
    /// as not yet valid.
    pub clock_skew: Duration,
    /// How long after the end of a key's lifetime its messages are still accepted: a broker may keep messages for a reader that
    /// was away. Default 7 days; later ones are refused as expired. It is also how long what a broker recorded can be replayed
    /// to a reader that has just started and remembers nothing.
    pub max_delay: Duration,
    /// How long a message whose key frame has not come waits for it. Default 10 s; then it is refused as of unknown key.
    pub wait: Duration,
    /// How long a message waits for this reader's own renewal, when its key frame is of a later epoch. Default 60 s.
    pub renewal_wait: Duration,
    /// How many messages wait at once. Default 4,096. At the bound the one that waited longest is refused.
    pub waiting_messages: usize,
    /// How many bytes of them, topics included. Default 4 MiB. At the bound the ones that waited longest are refused; a message
    /// larger than the bound never waits.
    pub waiting_bytes: usize,
    /// Bytes of all keys, with their policies, topics and replay windows. Default 64 MiB. At the bound the publisher that
    /// holds the most loses its oldest keys; their messages are then refused as of a forgotten key, never accepted twice.
    pub key_bytes: usize,
    /// Bytes of one publisher's keys. Default 2 MiB. At the bound that publisher loses its oldest keys.
    pub key_bytes_per_publisher: usize,
    /// How many new key frames of one publisher are decapsulated in a minute. Default 240. Further ones are refused until the
    /// minute is over: it bounds what a registered device can make a reader compute.
    pub new_keys_per_minute: u32,
    /// How many refused key frames are remembered, so that none is verified twice. Default 1,024, the oldest forgotten first.
    /// They have a memory of their own: no number of them displaces a key.
    pub refused_frames: usize,
    /// The longest key frame that is looked at, in bytes. Default 64 KiB.
    pub frame_len: usize,
    /// At how many other topics a message that does not open is tried, to tell a moved message from an altered one. Default 8.
    pub topic_trials: usize,
    /// Whether gaps in sequence numbers are reported. Default true; false for a shared subscription, where each member gets only
    /// its share.
    pub report_missing: bool,
    /// From whom messages are wanted; others are refused as of an unwanted publisher. Default: from everybody whom the authority
    /// vouches for.
    pub publishers: Option<BTreeSet<DeviceId>>,
    /// How old a message may be, at most: older ones are refused. A message says no time; it is taken to be as old as its key, which
    /// its publisher signed. So publishers have to change keys at least that often (their lifetime), or their later messages are
    /// refused, too. The clock skew is allowed for. Default: no limit but that of the key's lifetime and the delay.
    pub max_age: Option<Duration>,
    /// Whether to take only messages that their publisher's device has signed itself. Default: no.
    pub require_signature: bool,
}

impl Default for OpenerConfig {
    fn default() -> Self {
        Self {
            clock_skew: Duration::from_secs(300),
            max_delay: Duration::from_secs(7 * 86_400),
            wait: Duration::from_secs(10),
            renewal_wait: Duration::from_secs(60),
            waiting_messages: 4096,
            waiting_bytes: 4 << 20,
            key_bytes: 64 << 20,
            key_bytes_per_publisher: 2 << 20,
            new_keys_per_minute: 240,
            refused_frames: 1024,
            frame_len: 64 << 10,
            topic_trials: 8,
            report_missing: true,
            publishers: None,
            max_age: None,
            require_signature: false,
        }
    }
}
