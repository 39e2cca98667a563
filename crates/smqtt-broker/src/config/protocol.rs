//! What MQTT leaves to the server: optional features, and where clients are sent.

use serde::{Deserialize, Serialize};
use smqtt_proto::MqttString;

/// Optional features of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Protocol {
    /// Another server, as `HOST:PORT`, that clients are sent to (MQTT 5.0 §4.11): by a broker that
    /// is drained, and by one that has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_reference: Option<String>,
    /// Refuse every client: the service is at `server_reference` from now on.
    pub server_moved: bool,
}

impl Protocol {
    /// Checks what can be checked without starting.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(reference) = &self.server_reference
            && (reference.is_empty() || MqttString::new(reference.clone()).is_err())
        {
            return Err(
                "protocol.server_reference is not a text that MQTT can carry: write HOST:PORT"
                    .into(),
            );
        }
        if self.server_moved && self.server_reference.is_none() {
            return Err(
                "protocol.server_moved turns every client away: say where to in protocol.server_reference"
                    .into(),
            );
        }
        Ok(())
    }
}
