//! The authority's state, as it comes through a broker.

use smqtt_format::{AuthorityState, STATE_TOPIC};
use smqtt_pki::{TrustAnchor, verify_state};

use crate::{Listener, Loss, clock};

/// Follows the authority's state. Only what the authority has signed, for this device's parameters, and newer than what came
/// before is handed out.
pub struct AuthorityStates {
    listener: Listener,
    anchor: TrustAnchor,
    parameters: [u8; 32],
    /// Of the newest state seen: its number and its epoch. Neither ever goes back.
    seen: (u64, u64),
    refused: u64,
}

impl AuthorityStates {
    pub(crate) fn new(listener: Listener, anchor: TrustAnchor, parameters: [u8; 32]) -> Self {
        Self {
            listener,
            anchor,
            parameters,
            seen: (0, 0),
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
            let state = match verify_state(&message.payload, &self.anchor, clock::now()) {
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
                return Ok(state);
            }
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
