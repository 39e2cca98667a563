//! What an MQTT payload holds.

use crate::{Error, KeyFrame, MEDIA_TYPE, MEDIA_TYPE_INLINE, SealedMessage};

/// How a sealed message starts: tag 16, array of 3.
const SEALED: [u8; 2] = [0xd0, 0x83];
/// How a key frame starts: tag 18, array of 4.
const FRAME: [u8; 2] = [0xd2, 0x84];

/// One MQTT payload, taken apart.
// Frames are large beside messages, but live on the stack for a moment only.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// A key frame alone: an announcement.
    KeyFrame(KeyFrame<'a>),
    /// A sealed message alone; its frame was announced.
    Sealed(SealedMessage<'a>),
    /// A key frame and a sealed message behind it.
    ///
    /// Whether the message names this frame is not checked here: that costs a hash.
    Inline {
        /// The key frame.
        frame: KeyFrame<'a>,
        /// The message.
        sealed: SealedMessage<'a>,
    },
}

impl<'a> Envelope<'a> {
    /// Takes `payload` apart.
    ///
    /// # Errors
    ///
    /// [`Error::NotAnEnvelope`] if already the first two bytes are not those of an envelope; else [`Error`] with the
    /// first field that is not as `docs/envelope.md` has it.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        match payload.first_chunk() {
            Some(&SEALED) => SealedMessage::parse(payload).map(Self::Sealed),
            Some(&FRAME) => match KeyFrame::split(payload)? {
                (frame, []) => Ok(Self::KeyFrame(frame)),
                (frame, rest) => Ok(Self::Inline {
                    frame,
                    sealed: SealedMessage::parse(rest)?,
                }),
            },
            _ => Err(Error::NotAnEnvelope),
        }
    }

    /// The MQTT 5 content type for it.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::KeyFrame(_) | Self::Sealed(_) => MEDIA_TYPE,
            Self::Inline { .. } => MEDIA_TYPE_INLINE,
        }
    }
}
