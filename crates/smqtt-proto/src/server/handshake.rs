//! CONNECT, CONNACK and AUTH: how a client is let in or not.

use std::time::{Duration, Instant};

use super::{Connection, Event, State, told};
use crate::flow::Terms;
use crate::packet::{Auth, AuthProperties, ConnAck, ConnAckProperties, Connect};
use crate::session::Session;
use crate::{Closed, MqttString, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, Violation};

/// What the CONNECT said that matters later.
#[derive(Debug, Default)]
pub(super) struct ClientTerms {
    pub(super) keep_alive: u16,
    pub(super) receive_maximum: u16,
    pub(super) max_packet_size: Option<u32>,
    pub(super) topic_alias_maximum: u16,
    pub(super) session_expiry: u32,
    pub(super) no_problem_information: bool,
    pub(super) response_information: bool,
    pub(super) authentication_method: Option<MqttString>,
    /// The client gave no identifier.
    pub(super) anonymous: bool,
}

impl Connection {
    pub(super) fn handshake_packet(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
        match (self.state, packet) {
            (State::Handshake(deadline), Packet::Connect(connect)) => {
                self.state = State::Deciding(deadline);
                self.note_terms(&connect);
                Ok(Some(Event::Connect(connect)))
            }
            // [MQTT-3.1.2-30]: with an authentication method, nothing but AUTH and DISCONNECT before the CONNACK.
            (State::Deciding(_), Packet::Auth(auth)) => {
                self.check_auth(&auth)?;
                if auth.reason != ReasonCode::ContinueAuthentication {
                    return Err(Violation::AuthenticationMethod);
                }
                Ok(Some(Event::Auth(*auth)))
            }
            (State::Deciding(_), Packet::Disconnect(disconnect)) => {
                self.check_disconnect(&disconnect)?;
                self.close(Closed::Disconnected(disconnect));
                Ok(None)
            }
            (_, Packet::Connect(_)) => Err(Violation::SecondConnect),
            (_, packet) => Err(Violation::UnexpectedPacket {
                packet: packet.packet_type(),
            }),
        }
    }

    fn note_terms(&mut self, connect: &Connect) {
        let p = &connect.properties;
        self.flow.terms.version = connect.version;
        if let Some(limit) = p.maximum_packet_size {
            self.flow.terms.max_packet_size = limit;
        }
        self.terms = ClientTerms {
            keep_alive: connect.keep_alive,
            receive_maximum: p.receive_maximum.unwrap_or(u16::MAX),
            max_packet_size: p.maximum_packet_size,
            topic_alias_maximum: p.topic_alias_maximum.unwrap_or(0),
            session_expiry: p.session_expiry_interval.unwrap_or(0),
            no_problem_information: p.request_problem_information == Some(false),
            response_information: p.request_response_information == Some(true),
            authentication_method: p.authentication_method.as_ref().map(MqttString::detach),
            anonymous: connect.client_id.is_empty(),
        };
    }

    /// [MQTT-4.12.0-5]: the method never changes, and without one there is no AUTH.
    pub(super) fn check_auth(&self, auth: &Auth) -> Result<(), Violation> {
        let method = &self.terms.authentication_method;
        if method.is_none() || auth.properties.authentication_method != *method {
            return Err(Violation::AuthenticationMethod);
        }
        Ok(())
    }

    /// Lets the client in, with the session that it resumes or a new one, and writes the CONNACK. What the session
    /// has unacknowledged is sent again. Only after [`Event::Connect`]; ignored otherwise.
    ///
    /// Properties that follow from the [`Config`](super::Config) or the CONNECT are set from there, whatever `properties`
    /// says of them. A session expiry interval in
    /// `properties` takes the place of the client's, a server keep-alive replaces the client's keep-alive on MQTT 5.0.
    pub fn accept(
        &mut self,
        now: Instant,
        session: Session,
        session_present: bool,
        properties: ConnAckProperties,
    ) {
        if !matches!(self.state, State::Deciding(_)) {
            return;
        }
        let version = self.flow.terms.version;
        let config = self.config.clone();
        let keep_alive = match properties.server_keep_alive {
            Some(seconds) if version.is_v5() => seconds,
            _ => self.terms.keep_alive,
        };
        if let Some(seconds) = properties.session_expiry_interval {
            self.terms.session_expiry = seconds;
        }
        let properties = self.complete_properties(properties);
        let reason = ReasonCode::Success;
        let mut connack = ConnAck {
            session_present,
            reason,
            properties,
        };
        // Smaller than any CONNACK, or than the acknowledgements that follow: nothing could be said.
        if !self.put_connack(&mut connack) {
            self.close(Closed::Local(ReasonCode::PacketTooLarge));
            return;
        }
        self.patience =
            (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500));
        self.state = State::Open;
        self.last_packet = now;
        let terms = Terms {
            version,
            window: config.max_in_flight.min(self.terms.receive_maximum).max(1),
            receive_maximum: config.receive_maximum.max(1),
            max_packet_size: self.terms.max_packet_size.unwrap_or(u32::MAX),
            incoming_aliases: if version.is_v5() {
                config.topic_alias_maximum
            } else {
                0
            },
            outgoing_aliases: config
                .outgoing_topic_aliases
                .min(self.terms.topic_alias_maximum),
        };
        self.flow.open(terms, session, now);
    }

    /// Sets what follows from the configuration and from the CONNECT.
    fn complete_properties(&self, mut p: ConnAckProperties) -> ConnAckProperties {
        let config = &self.config;
        // Absent where the default says the same.
        let unavailable = |available: bool| if available { None } else { Some(false) };
        p.receive_maximum = Some(config.receive_maximum.max(1));
        p.maximum_packet_size = Some(config.max_packet_size.max(1));
        p.topic_alias_maximum = Some(config.topic_alias_maximum).filter(|maximum| *maximum > 0);
        p.maximum_qos = Some(config.maximum_qos).filter(|qos| *qos != QoS::ExactlyOnce);
        p.retain_available = unavailable(config.retain_available);
        p.wildcard_subscription_available = unavailable(config.wildcard_subscriptions);
        p.subscription_identifiers_available = unavailable(config.subscription_identifiers);
        p.shared_subscription_available = unavailable(config.shared_subscriptions);
        if !self.terms.response_information {
            p.response_information = None; // [MQTT-3.1.2-28]
        }
        if !self.terms.anonymous {
            p.assigned_client_identifier = None;
        }
        p.authentication_method
            .clone_from(&self.terms.authentication_method); // [MQTT-4.12.0-5]
        p
    }

    /// Refuses the client with a reason of 0x80 or above and closes the connection. Only after [`Event::Connect`];
    /// ignored otherwise. MQTT 3.1.1 gets the nearest return code.
    pub fn reject(&mut self, reason: ReasonCode, properties: ConnAckProperties) {
        if !matches!(self.state, State::Deciding(_)) {
            return;
        }
        self.write_refusal(reason, properties);
        self.close(Closed::Local(reason));
    }

    pub(super) fn write_refusal(&mut self, reason: ReasonCode, properties: ConnAckProperties) {
        let reason = told(reason, PacketType::ConnAck);
        let mut connack = ConnAck {
            session_present: false,
            reason,
            properties,
        }; // [MQTT-3.2.2-6]
        self.put_connack(&mut connack);
    }

    /// Writes the CONNACK, without text for people if it is too large with it (`[MQTT-3.2.2-19]`, `[MQTT-3.2.2-20]`).
    fn put_connack(&mut self, connack: &mut ConnAck) -> bool {
        let packet = Packet::ConnAck(Box::new(connack.clone()));
        if self.flow.put(&packet) {
            return true;
        }
        connack.properties.reason_string = None;
        connack.properties.user_properties.clear();
        self.flow.put(&Packet::ConnAck(Box::new(connack.clone())))
    }

    /// Sends an AUTH: a step of the handshake, or of a re-authentication that the client began (MQTT 5.0 §4.12).
    /// Ignored where there is no authentication method.
    pub fn authenticate(&mut self, reason: ReasonCode, mut properties: AuthProperties) {
        let Some(method) = &self.terms.authentication_method else {
            return;
        };
        if !matches!(self.state, State::Deciding(_) | State::Open) {
            return;
        }
        properties.authentication_method = Some(method.clone());
        self.flow
            .put(&Packet::Auth(Box::new(Auth { reason, properties })));
    }

    /// The CONNECT was malformed. MQTT 3.1.1 wants an answer to an unknown level only (`[MQTT-3.1.2-2]`,
    /// `[MQTT-3.1.4-1]` of 3.1.1); MQTT 5.0 may have one to everything (`[MQTT-3.1.4-2]`).
    pub(super) fn refuse_connect(&mut self, violation: &Violation) {
        use crate::DecodeError as E;
        if let Violation::Malformed(E::UnsupportedProtocolLevel { level }) = violation {
            // Who asks for a later version is likelier to read a CONNACK of version 5.
            let bytes: &[u8] = if *level > 5 {
                &[0x20, 0x03, 0x00, 0x84, 0x00]
            } else {
                &[0x20, 0x02, 0x00, 0x01]
            };
            self.flow.outbox.encoder().extend_from_slice(bytes);
        } else if self.intake.version() == Some(ProtocolVersion::V5) {
            self.flow.terms.version = ProtocolVersion::V5;
            self.write_refusal(violation.reason_code(), ConnAckProperties::default());
        }
    }
}
