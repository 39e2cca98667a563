//! What a subscriber is told.

use crate::{Loss, Received};

/// One thing that happened to a [`Subscriber`](crate::Subscriber).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message was verified and opened.
    Message(Received),
    /// A message was refused, a key frame was refused, messages are missing.
    Envelope(smqtt_envelope::Event),
    /// The connection was lost; it is being made again.
    Disconnected(Loss),
    /// The connection is back and the subscription stands. Messages that were published in between
    /// may be missing, and are then reported as such.
    Reconnected,
    /// Nothing will follow.
    Ended(Loss),
}

impl Event {
    /// The opened message, if this is one.
    #[must_use]
    pub fn into_message(self) -> Option<Received> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }
}
