//! The authority's state, as it comes through a broker.

use std::sync::Arc;

use bytes::Bytes;
use smqtt_format::{AuthorityState, STATE_TOPIC};
use smqtt_pki::{Identity, verify_state};
use tokio::sync::watch;

use crate::credentials::Credentials;
use crate::{Listener, Loss, clock};

/// Follows the authority's state. Only what the authority has signed, for this device's parameters, and newer than what came
/// before is handed out. What the root has taken back by then, as far as this client's identity knows, signs nothing.
pub struct AuthorityStates {
    listener: Listener,
    /// Whose root, and which list of it, to judge by.
    credentials: watch::Receiver<Arc<Credentials>>,
    /// As of the last look.
    identity: Arc<Identity>,
    parameters: [u8; 32],
    /// Of the newest state seen: its number and its epoch. Neither ever goes back.
    seen: (u64, u64),
    /// That state as it came.
    newest: Bytes,
    refused: u64,
}

impl AuthorityStates {
    pub(crate) fn new(
        listener: Listener,
        mut credentials: watch::Receiver<Arc<Credentials>>,
        parameters: [u8; 32],
    ) -> Self {
        let identity = Arc::clone(&credentials.borrow_and_update().identity);
        Self {
            listener,
            credentials,
            identity,
            parameters,
            seen: (0, 0),
            newest: Bytes::new(),
            refused: 0,
        }
    }

    /// The next newer state. Nothing is lost if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// Why nothing will follow.
    pub async fn next(&mut self) -> Result<AuthorityState, Loss> {
        loop {
            let message = self.listener.next().await?;
            if message.topic != STATE_TOPIC {
                continue;
            }
            self.follow();
            let anchor = self.identity.trust_anchor();
            let state = match verify_state(&message.payload, anchor, clock::now()) {
                Ok(state) if state.parameters == self.parameters => state,
                Ok(_) => {
                    self.refuse(&"it is of other parameters than this device's");
                    continue;
                }
                Err(error) => {
                    self.refuse(&error);
                    continue;
                }
            };
            if state.sequence > self.seen.0 && state.epoch >= self.seen.1 {
                self.seen = (state.sequence, state.epoch);
                self.newest = message.payload;
                return Ok(state);
            }
        }
    }

    /// Takes over a renewed identity. What was seen on the word of somebody whom the root has taken back since was not the
    /// authority's, and keeps nothing out.
    fn follow(&mut self) {
        let identity = Arc::clone(&self.credentials.borrow_and_update().identity);
        if Arc::ptr_eq(&identity, &self.identity) {
            return;
        }
        self.identity = identity;
        let anchor = self.identity.trust_anchor();
        let seen = verify_state(&self.newest, anchor, clock::now());
        if matches!(seen, Err(smqtt_pki::Error::Revoked)) {
            self.seen = (0, 0);
            self.newest.clear();
        }
    }

    /// States that were refused: not the authority's, or not readable.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn refuse(&mut self, reason: &dyn std::fmt::Display) {
        self.refused += 1;
        // Anybody whom the broker lets may publish there.
        if self.refused.is_power_of_two() {
            tracing::warn!(%reason, refused = self.refused, "a state that is not the authority's was refused");
        }
    }
}
