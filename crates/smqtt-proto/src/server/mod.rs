//! The server's end of a connection.

mod config;
mod event;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

pub use config::Config;
pub use event::Event;

use crate::codec::reason_belongs;
use crate::flow::{Flow, FlowEvent, Terms};
use crate::intake::Intake;
use crate::packet::{
    AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, Disconnect,
    DisconnectProperties, Publish, SubAck, Subscribe, UnsubAck,
};
use crate::session::Session;
use crate::{
    Closed, Decoder, Delivery, Message, MqttString, Outbox, Packet, PacketId, PacketType,
    ProtocolVersion, PublishError, QoS, ReasonCode, Violation,
};

/// One client's connection, seen from the server: see [the crate](crate) for how it is driven.
///
/// PINGREQ, PUBREC and PUBREL are answered by the connection itself; PUBACK and PUBREC for the client's messages
/// are sent when [`acknowledge`](Connection::acknowledge) is called, SUBACK and UNSUBACK by their methods.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    intake: Intake,
    flow: Flow,
    state: State,
    /// When the last whole packet came.
    last_packet: Instant,
    /// One and a half times the keep-alive, if there is one.
    patience: Option<Duration>,
    /// The end that is not reported yet.
    closed: Option<Closed>,
    terms: ClientTerms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No CONNECT yet; ends at this time.
    Handshake(Instant),
    /// The owner has the CONNECT and has not decided; ends at this time.
    Deciding(Instant),
    Open,
    Closed,
}

/// What the CONNECT said that matters later.
#[derive(Debug, Default)]
struct ClientTerms {
    keep_alive: u16,
    receive_maximum: u16,
    max_packet_size: Option<u32>,
    topic_alias_maximum: u16,
    session_expiry: u32,
    no_problem_information: bool,
    response_information: bool,
    authentication_method: Option<MqttString>,
    /// The client gave no identifier.
    anonymous: bool,
}

impl Connection {
    /// A connection that was accepted at `now` and has said nothing yet.
    pub fn new(config: Arc<Config>, now: Instant) -> Connection {
        let decoder = Decoder::for_server(config.max_packet_size);
        let state = State::Handshake(now + config.handshake_timeout);
        Connection {
            config,
            intake: Intake::new(decoder),
            flow: Flow::new(Session::new()),
            state,
            last_packet: now,
            patience: None,
            closed: None,
            terms: ClientTerms::default(),
        }
    }

    /// The version that the client speaks, `None` before its CONNECT.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.intake.version()
    }

    /// Whether messages flow: accepted and not closed.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether more bytes should be read from the client. If not, [`Event::Connect`] waits for an answer or, with
    /// MQTT 3.1.1, too many messages wait for [`acknowledge`](Connection::acknowledge): read on after that.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Handshake(_) => true,
            State::Deciding(_) => self.intake.len() == 0,
            State::Open => !self.flow.is_saturated(),
            State::Closed => false,
        }
    }

    /// What waits to be written to the client.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.flow.outbox
    }

    /// How many more QoS 1 and 2 messages [`publish`](Connection::publish) takes before an acknowledgement comes.
    pub fn room(&self) -> usize {
        if self.is_open() { self.flow.room() } else { 0 }
    }

    /// The session, empty before [`accept`](Connection::accept).
    pub fn session(&self) -> &Session {
        &self.flow.session
    }

    /// Takes the session out of a connection that is over, to be kept or moved. On a connection that is not over, it
    /// ends it without a word to the client: call [`disconnect`](Connection::disconnect) before.
    pub fn take_session(&mut self) -> Session {
        if self.state != State::Closed {
            self.close(Closed::Local(ReasonCode::UnspecifiedError));
        }
        std::mem::take(&mut self.flow.session)
    }

    /// Takes all bytes out of `input`, which were read from the client.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        if self.state == State::Closed {
            input.clear();
        } else if self.intake.push(input) {
            self.last_packet = now;
        }
    }

    /// Notes that the stream ended or failed.
    pub fn handle_end_of_stream(&mut self) {
        self.close(Closed::EndOfStream);
    }

    /// Acts on the time: closes the connection if the client was silent for one and a half keep-alives
    /// (`[MQTT-3.1.2-22]`, `[MQTT-3.1.2-24]` of 3.1.1) or its handshake takes too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        if self.state == State::Open {
            self.write_disconnect(
                ReasonCode::KeepAliveTimeout,
                DisconnectProperties::default(),
            );
            self.close(Closed::KeepAlive);
        } else {
            self.close(Closed::HandshakeTimeout);
        }
    }

    /// When [`handle_timeout`](Connection::handle_timeout) should be called. It changes with every packet that comes:
    /// a timer need not be moved each time, only asked again when it fires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Handshake(at) | State::Deciding(at) => Some(at),
            State::Open => self.patience.map(|patience| self.last_packet + patience),
            State::Closed => None,
        }
    }

    /// What happened next. Packets are decoded one by one as this is called, so that nothing queues up here.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(closed) = self.closed.take() {
                return Some(Event::Closed(closed));
            }
            if self.state == State::Closed {
                return None;
            }
            if let Some(event) = self.flow.next_undeliverable() {
                return Some(event.into());
            }
            match self.state {
                State::Open if self.flow.is_saturated() => return None,
                // What follows an extended authentication must be read before it can be decided.
                State::Deciding(_) if self.terms.authentication_method.is_none() => return None,
                _ => {}
            }
            let packet = match self.intake.next() {
                Ok(None) => return None,
                Ok(Some(packet)) => Ok(packet),
                Err(error) => Err(Violation::from(error)),
            };
            match packet.and_then(|packet| self.handle_packet(packet)) {
                Ok(None) => {}
                Ok(event) => return event,
                Err(violation) => self.refuse(violation),
            }
        }
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
        if self.state != State::Open {
            return self.handshake_packet(packet);
        }
        let now = self.last_packet;
        let packet_type = packet.packet_type();
        let event = match packet {
            Packet::Publish(publish) => {
                self.check_publish(&publish)?;
                self.flow.receive(publish)?.map(Event::Publish)
            }
            Packet::PubAck(ack) => self.flow.puback(&ack, now)?.map(Event::from),
            Packet::PubRec(ack) => self.flow.pubrec(&ack, now)?.map(Event::from),
            Packet::PubRel(ack) => self.flow.pubrel(&ack)?.map(Event::from),
            Packet::PubComp(ack) => self.flow.pubcomp(&ack, now)?.map(Event::from),
            Packet::Subscribe(subscribe) => {
                self.check_subscribe(&subscribe)?;
                Some(Event::Subscribe(subscribe))
            }
            Packet::Unsubscribe(unsubscribe) => Some(Event::Unsubscribe(unsubscribe)),
            Packet::PingReq => {
                self.flow.outbox.encoder().extend_from_slice(&[0xD0, 0x00]); // [MQTT-3.12.4-1]
                None
            }
            Packet::Disconnect(disconnect) => {
                self.check_disconnect(&disconnect)?;
                self.close(Closed::Disconnected(disconnect));
                None
            }
            Packet::Auth(auth) => {
                self.check_auth(&auth)?;
                Some(Event::Auth(*auth))
            }
            Packet::Connect(_) => return Err(Violation::SecondConnect),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(Violation::UnexpectedPacket {
                    packet: packet_type,
                });
            }
        };
        Ok(event)
    }

    fn handshake_packet(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
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

    fn check_publish(&self, publish: &Publish) -> Result<(), Violation> {
        if publish.qos > self.config.maximum_qos {
            return Err(Violation::QoSNotSupported { qos: publish.qos });
        }
        if publish.retain && !self.config.retain_available {
            return Err(Violation::RetainNotSupported);
        }
        if !publish.properties.subscription_ids.is_empty() {
            return Err(Violation::SubscriptionIdInPublish);
        }
        Ok(())
    }

    /// MQTT 3.1.1 has no way to say what is not supported beforehand: there the SUBACK refuses it.
    fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), Violation> {
        if !self.flow.terms.version.is_v5() {
            return Ok(());
        }
        let config = &self.config;
        if subscribe.properties.subscription_id.is_some() && !config.subscription_identifiers {
            return Err(Violation::SubscriptionIdsNotSupported);
        }
        for subscription in &subscribe.subscriptions {
            if subscription.filter.is_shared() && !config.shared_subscriptions {
                return Err(Violation::SharedSubscriptionsNotSupported);
            }
            if subscription.filter.has_wildcards() && !config.wildcard_subscriptions {
                return Err(Violation::WildcardSubscriptionsNotSupported);
            }
        }
        Ok(())
    }

    fn check_disconnect(&self, disconnect: &Disconnect) -> Result<(), Violation> {
        use ReasonCode as R;
        let reason = disconnect.reason;
        if !matches!(
            reason,
            R::Success
                | R::DisconnectWithWill
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::TopicNameInvalid
                | R::ReceiveMaximumExceeded
                | R::TopicAliasInvalid
                | R::PacketTooLarge
                | R::MessageRateTooHigh
                | R::QuotaExceeded
                | R::AdministrativeAction
                | R::PayloadFormatInvalid
        ) {
            return Err(Violation::ForeignDisconnectReason { reason });
        }
        let expiry = disconnect.properties.session_expiry_interval.unwrap_or(0);
        if expiry > 0 && self.terms.session_expiry == 0 {
            return Err(Violation::SessionExpiryAfterZero);
        }
        Ok(())
    }

    /// [MQTT-4.12.0-5]: the method never changes, and without one there is no AUTH.
    fn check_auth(&self, auth: &Auth) -> Result<(), Violation> {
        let method = &self.terms.authentication_method;
        if method.is_none() || auth.properties.authentication_method != *method {
            return Err(Violation::AuthenticationMethod);
        }
        Ok(())
    }

    /// Lets the client in, with the session that it resumes or a new one, and writes the CONNACK. What the session
    /// has unacknowledged is sent again. Only after [`Event::Connect`]; ignored otherwise.
    ///
    /// Properties that are `None` and follow from the [`Config`] are filled in. A session expiry interval in
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
        let properties = self.complete(properties);
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

    /// Fills in what follows from the configuration.
    fn complete(&self, mut p: ConnAckProperties) -> ConnAckProperties {
        let config = &self.config;
        let unavailable = |available: bool| if available { None } else { Some(false) };
        p.receive_maximum = p.receive_maximum.or(Some(config.receive_maximum.max(1)));
        p.maximum_packet_size = p
            .maximum_packet_size
            .or(Some(config.max_packet_size.max(1)));
        if config.topic_alias_maximum > 0 {
            p.topic_alias_maximum = p.topic_alias_maximum.or(Some(config.topic_alias_maximum));
        }
        if config.maximum_qos != QoS::ExactlyOnce {
            p.maximum_qos = Some(config.maximum_qos);
        }
        p.retain_available = p.retain_available.or(unavailable(config.retain_available));
        p.wildcard_subscription_available = p
            .wildcard_subscription_available
            .or(unavailable(config.wildcard_subscriptions));
        p.subscription_identifiers_available = p
            .subscription_identifiers_available
            .or(unavailable(config.subscription_identifiers));
        p.shared_subscription_available = p
            .shared_subscription_available
            .or(unavailable(config.shared_subscriptions));
        if !self.terms.response_information {
            p.response_information = None; // [MQTT-3.1.2-28]
        }
        if !self.terms.anonymous {
            p.assigned_client_identifier = None;
        }
        p.authentication_method = p
            .authentication_method
            .or_else(|| self.terms.authentication_method.clone()); // [MQTT-4.12.0-5]
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

    fn write_refusal(&mut self, reason: ReasonCode, properties: ConnAckProperties) {
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

    /// Sends a message. With QoS 1 and 2 it returns the packet identifier that a later [`Event::Acknowledged`] has;
    /// the message is part of the session until then.
    ///
    /// # Errors
    /// The message was not sent and is not part of the session; [`PublishError::WindowFull`] invites another try after
    /// an [`Event::Acknowledged`].
    #[inline]
    pub fn publish(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        delivery: Delivery,
    ) -> Result<Option<PacketId>, PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotOpen);
        }
        self.flow.publish(message, delivery, now)
    }

    /// Sends a message with QoS 0, whatever `delivery` says: the message need not be in an [`Arc`].
    ///
    /// # Errors
    /// The message was not sent.
    #[inline]
    pub fn publish_once(
        &mut self,
        now: Instant,
        message: &Message,
        delivery: &Delivery,
    ) -> Result<(), PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotOpen);
        }
        if delivery.qos == QoS::AtMostOnce {
            return self.flow.publish_once(message, delivery, now);
        }
        let delivery = Delivery {
            qos: QoS::AtMostOnce,
            ..delivery.clone()
        };
        self.flow.publish_once(message, &delivery, now)
    }

    /// Answers an [`Event::Publish`] of QoS 1 or 2. Answers leave in the order of the messages, in whichever order
    /// they are given (`[MQTT-4.6.0-2]`). MQTT 3.1.1 can't tell the client of failure: end the connection instead
    /// (`[MQTT-3.3.5-2]` of 3.1.1).
    ///
    /// An answer to a QoS 1 message must not be given to a later connection of the same client; one to a QoS 2 message
    /// must be, or to the [`Session`].
    #[inline]
    pub fn acknowledge(&mut self, packet_id: PacketId, reason: ReasonCode) {
        if self.state == State::Open {
            self.flow.acknowledge(packet_id, reason);
        } else if !reason.is_error() {
            self.flow.session.acknowledge(packet_id);
        }
    }

    /// Answers an [`Event::Subscribe`]. Text for people is left out if the client does not want it
    /// (`[MQTT-3.1.2-29]`) or the packet would be too large (`[MQTT-3.9.2-1]`, `[MQTT-3.9.2-2]`).
    pub fn suback(&mut self, mut suback: SubAck) {
        if self.state == State::Open {
            self.strip(&mut suback.properties);
            let mut packet = Packet::SubAck(suback);
            if !self.flow.put(&packet) {
                if let Packet::SubAck(suback) = &mut packet {
                    suback.properties = AckProperties::default();
                }
                self.flow.put(&packet);
            }
        }
    }

    /// Answers an [`Event::Unsubscribe`], as [`suback`](Connection::suback).
    pub fn unsuback(&mut self, mut unsuback: UnsubAck) {
        if self.state == State::Open {
            self.strip(&mut unsuback.properties);
            let mut packet = Packet::UnsubAck(unsuback);
            if !self.flow.put(&packet) {
                if let Packet::UnsubAck(unsuback) = &mut packet {
                    unsuback.properties = AckProperties::default();
                }
                self.flow.put(&packet);
            }
        }
    }

    fn strip(&self, properties: &mut AckProperties) {
        if self.terms.no_problem_information {
            *properties = AckProperties::default();
        }
    }

    /// Ends the connection. MQTT 5.0 clients are told why, before the CONNACK by the CONNACK (`[MQTT-3.14.0-1]`).
    pub fn disconnect(&mut self, reason: ReasonCode, properties: DisconnectProperties) {
        match self.state {
            State::Open => self.write_disconnect(reason, properties),
            State::Deciding(_) if reason.is_error() => {
                self.write_refusal(reason, ConnAckProperties::default());
            }
            _ => {}
        }
        self.close(Closed::Local(reason));
    }

    fn refuse(&mut self, violation: Violation) {
        let reason = violation.reason_code();
        match self.state {
            State::Open => self.write_disconnect(reason, DisconnectProperties::default()),
            State::Deciding(_) if self.flow.terms.version.is_v5() => {
                self.write_refusal(reason, ConnAckProperties::default());
            }
            State::Handshake(_) => self.refuse_connect(&violation),
            _ => {}
        }
        self.close(Closed::Violation(violation));
    }

    /// The CONNECT was malformed. MQTT 3.1.1 wants an answer to an unknown level only (`[MQTT-3.1.2-2]`,
    /// `[MQTT-3.1.4-1]` of 3.1.1); MQTT 5.0 may have one to everything (`[MQTT-3.1.4-2]`).
    fn refuse_connect(&mut self, violation: &Violation) {
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

    fn write_disconnect(&mut self, reason: ReasonCode, mut properties: DisconnectProperties) {
        // MQTT 3.1.1 servers have no DISCONNECT.
        if !self.flow.terms.version.is_v5() {
            return;
        }
        properties.session_expiry_interval = None; // [MQTT-3.14.2-2]
        let reason = told(reason, PacketType::Disconnect);
        if !self
            .flow
            .put(&Packet::Disconnect(Disconnect { reason, properties }))
        {
            self.flow.put(&Packet::Disconnect(Disconnect::new(reason))); // [MQTT-3.14.2-3]
        }
    }

    fn close(&mut self, closed: Closed) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.closed = Some(closed);
        }
    }
}

/// The reason, or an unspecified error if the packet can't have it.
fn told(reason: ReasonCode, packet: PacketType) -> ReasonCode {
    if reason_belongs(reason, packet) {
        reason
    } else {
        ReasonCode::UnspecifiedError
    }
}

impl From<FlowEvent> for Event {
    fn from(event: FlowEvent) -> Event {
        match event {
            FlowEvent::Acknowledged { packet_id, reason } => {
                Event::Acknowledged { packet_id, reason }
            }
            FlowEvent::Received { packet_id } => Event::Received { packet_id },
            FlowEvent::Released { packet_id } => Event::Released { packet_id },
        }
    }
}
