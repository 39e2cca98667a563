//! Opening one message under a known key.

use std::sync::Arc;

use smqtt_format::{SealedMessage, countersign_structure};

use crate::content_key::ContentKey;
use crate::keyring::{Entry, State};
use crate::padding::unpad;
use crate::window::Verdict;
use crate::{Counters, Refusal};

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
    /// It opened, and is not what its key frame says that it is. The window has not noted it.
    Refused(Refusal),
}

impl Entry {
    /// Tries to open `sealed` as a message for `topic`. Nothing is remembered of a failure: whoever sends rubbish fills no memory.
    pub(crate) fn attempt(
        &mut self,
        topic: &str,
        sealed: &SealedMessage<'_>,
        counters: &mut Counters,
    ) -> Attempt {
        let sequence = sealed.sequence();
        let Some(state) = self.topic(topic) else {
            let Some(key) = self.content_key(topic, &mut counters.derivations) else {
                return Attempt::Failed;
            };
            let Some(mut payload) = key.open(sequence, sealed.ciphertext()) else {
                return Attempt::Failed;
            };
            return match self.fits(topic, sealed, &mut payload, counters) {
                Ok(()) => Attempt::First { key, payload },
                Err(refusal) => Attempt::Refused(refusal),
            };
        };
        let Some(mut payload) = state.key.open(sequence, sealed.ciphertext()) else {
            return Attempt::Failed;
        };
        if let Err(refusal) = self.fits(topic, sealed, &mut payload, counters) {
            return Attempt::Refused(refusal);
        }
        match self.topic_mut(topic) {
            Some((topic, state)) => Attempt::Opened {
                topic,
                payload,
                verdict: state.window.note(sequence),
            },
            None => Attempt::Failed,
        }
    }

    /// Whether an opened message is signed and padded as its key frame says; takes the padding off.
    fn fits(
        &self,
        topic: &str,
        sealed: &SealedMessage<'_>,
        payload: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<(), Refusal> {
        match (&self.signer, sealed.signature()) {
            (None, None) => {}
            // Nothing says whose it should be.
            (None, Some(_)) => return Err(Refusal::Altered),
            (Some(_), None) => return Err(Refusal::Unsigned),
            (Some(device), Some(signature)) => {
                counters.message_verifications += 1;
                let signed = countersign_structure(
                    topic,
                    &self.digest,
                    sealed.sequence(),
                    sealed.ciphertext(),
                );
                device
                    .verify_signature(&signed, signature)
                    .map_err(|_| Refusal::Forged)?;
            }
        }
        if self.padded && !unpad(payload) {
            return Err(Refusal::BadPadding);
        }
        Ok(())
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
