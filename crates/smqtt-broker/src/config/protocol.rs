//! What MQTT leaves to the server: optional features, and where clients are sent.

use serde::{Deserialize, Serialize};
use smqtt_proto::{MqttString, ReasonCode, TopicName};

/// Optional features of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocol {
    /// Accept shared subscriptions, `$share/GROUP/FILTER`.
    pub shared_subscriptions: bool,
    /// Tell MQTT 5 clients "not authorized" (0x87) where they may not publish or subscribe; else
    /// "unspecified error" (0x80), which does not reveal the reason.
    pub tell_not_authorized: bool,
    /// What the response topics of a client begin with: this, followed by its client id, is the
    /// Response Information of an MQTT 5 client that asks for it. Without one there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_information: Option<String>,
    /// Another server, as `HOST:PORT`, that clients are sent to (MQTT 5.0 §4.11): by a broker that
    /// is drained, and by one that has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_reference: Option<String>,
    /// Refuse every client: the service is at `server_reference` from now on.
    pub server_moved: bool,
}

impl Default for Protocol {
    fn default() -> Self {
        Protocol {
            shared_subscriptions: true,
            tell_not_authorized: true,
            response_information: None,
            server_reference: None,
            server_moved: false,
        }
    }
}

impl Protocol {
    /// The reason that a client is told in PUBACK, PUBREC or SUBACK.
    pub(crate) fn told(&self, reason: ReasonCode) -> ReasonCode {
        match reason {
            ReasonCode::NotAuthorized if !self.tell_not_authorized => ReasonCode::UnspecifiedError,
            reason => reason,
        }
    }

    /// The Response Information of a client. None where its client id makes no topic name.
    pub(crate) fn response_information_for(&self, client_id: &str) -> Option<MqttString> {
        let topic = format!("{}{client_id}", self.response_information.as_ref()?);
        Some(TopicName::new(topic).ok()?.text().clone())
    }

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
        if let Some(prefix) = &self.response_information
            && TopicName::new(prefix.clone()).is_err()
        {
            return Err(
                "protocol.response_information begins no topic name: write for example \"response/\""
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
