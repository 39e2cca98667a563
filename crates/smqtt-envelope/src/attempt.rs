//! Opening one message under a known key.

use std::sync::Arc;

use smqtt_format::SealedMessage;

use crate::content_key::ContentKey;
use crate::keyring::{Entry, State};
use crate::window::Verdict;

/// What came of it.
pub(crate) enum Attempt {
    /// It opened at a topic where messages were opened before; the window has noted it.
    Opened {
        topic: Arc<str>,
        payload: Vec<u8>,
        verdict: Verdict,
    },
    /// It opened, as the first one at this topic, with this content key.
    First {
        key: Box<ContentKey>,
        payload: Vec<u8>,
    },
    /// It did not open.
    Failed,
}

impl Entry {
    /// Tries to open `sealed` as a message for `topic`. Nothing is remembered of a failure: whoever sends rubbish fills no memory.
    pub(crate) fn attempt(
        &mut self,
        topic: &str,
        sealed: &SealedMessage<'_>,
        derivations: &mut u64,
    ) -> Attempt {
        if let Some((topic, state)) = self.topic_mut(topic) {
            return match state.key.open(sealed.sequence(), sealed.ciphertext()) {
                Some(payload) => Attempt::Opened {
                    topic,
                    payload,
                    verdict: state.window.note(sealed.sequence()),
                },
                None => Attempt::Failed,
            };
        }
        let Some(key) = self.content_key(topic, derivations) else {
            return Attempt::Failed;
        };
        match key.open(sealed.sequence(), sealed.ciphertext()) {
            Some(payload) => Attempt::First { key, payload },
            None => Attempt::Failed,
        }
    }

    /// The topic for which a message was sealed that does not open at `topic`, if it is among at most `trials` others of this
    /// key. That it opens there proves that it was moved.
    pub(crate) fn sealed_for(
        &self,
        topic: &str,
        sealed: &SealedMessage<'_>,
        trials: usize,
        derivations: &mut u64,
    ) -> Option<Arc<str>> {
        let opens = |key: &ContentKey| key.open(sealed.sequence(), sealed.ciphertext()).is_some();
        self.other_topics(topic)
            .take(trials)
            .find(|other| match self.topic(other) {
                Some(state) => opens(&state.key),
                None => self
                    .content_key(other, derivations)
                    .is_some_and(|key| opens(&key)),
            })
            .cloned()
    }

    fn content_key(&self, topic: &str, derivations: &mut u64) -> Option<Box<ContentKey>> {
        let State::Open(shared) = &self.state else {
            return None;
        };
        *derivations += 1;
        let key = ContentKey::derive(shared.as_bytes(), &self.digest, topic);
        Some(Box::new(key))
    }
}
