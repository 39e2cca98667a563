//! Sending clients to another server (MQTT 5.0 §4.11).

use smqtt_proto::packet::{ConnAckProperties, DisconnectProperties};
use smqtt_proto::{MqttString, ReasonCode};

use super::{Pass, Worker};

impl Worker {
    /// Why every client that connects is turned away, if so.
    pub(super) fn turns_everyone_away(&self) -> Option<(ReasonCode, String)> {
        if self.draining {
            let elsewhere = self.current.config.protocol.server_reference.is_some();
            let reason = match elsewhere {
                true => ReasonCode::UseAnotherServer,
                false => ReasonCode::ServerUnavailable,
            };
            return Some((reason, "this server is being drained".to_owned()));
        }
        self.current.config.protocol.server_moved.then(|| {
            (
                ReasonCode::ServerMoved,
                "this server has moved: see protocol.server_moved".to_owned(),
            )
        })
    }

    /// What a CONNACK that refuses a client for `reason` says beside the reason: where to go instead
    /// `[MQTT-4.11.0-1]`.
    pub(super) fn refusal_properties(&self, reason: ReasonCode) -> ConnAckProperties {
        ConnAckProperties {
            server_reference: self.reference_for(reason),
            ..ConnAckProperties::default()
        }
    }

    /// Sends a client away: to the configured server, or, if there is none, to one that it knows.
    /// An MQTT 3.1.1 client sees its connection close.
    pub(super) fn redirect(&mut self, slot: usize, pass: &mut Pass<'_>) {
        let reason = ReasonCode::UseAnotherServer;
        let properties = DisconnectProperties {
            server_reference: self.reference_for(reason),
            ..DisconnectProperties::default()
        };
        self.disconnect_with(slot, reason, properties, pass);
    }

    fn reference_for(&self, reason: ReasonCode) -> Option<MqttString> {
        if !matches!(
            reason,
            ReasonCode::UseAnotherServer | ReasonCode::ServerMoved
        ) {
            return None;
        }
        let reference = self.current.config.protocol.server_reference.as_deref()?;
        MqttString::new(reference).ok()
    }
}
