//! The client's end of a connection.

mod event;
mod options;
mod requests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

pub use event::Event;
pub use options::Options;
pub use requests::RequestError;

use crate::flow::{Flow, FlowEvent, Terms};
use crate::intake::Intake;
use crate::packet::{Auth, AuthProperties, ConnAck, Disconnect, DisconnectProperties};
use crate::session::Session;
use crate::{
    Closed, Decoder, Delivery, EncodeError, Message, Outbox, Packet, PacketId, PacketType,
    ProtocolVersion, PublishError, QoS, ReasonCode, Violation, encode,
};

/// A connection to a server, seen from the client: see [the crate](crate) for how it is driven.
///
/// PINGREQ, PUBREL and PUBCOMP are sent by the connection itself; PUBACK and PUBREC for the server's messages are sent
/// when [`acknowledge`](Connection::acknowledge) is called.
#[derive(Debug)]
pub struct Connection {
    options: Options,
    intake: Intake,
    flow: Flow,
    state: State,
    /// When a packet was last sent that surely counts for the server's keep-alive.
    last_sent: Instant,
    /// When the last whole packet came.
    last_packet: Instant,
    /// When the PINGREQ was sent that is not answered.
    pinged: Option<Instant>,
    keep_alive: Option<Duration>,
    /// The end that is not reported yet.
    closed: Option<Closed>,
    maximum_qos: QoS,
    retain_available: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// CONNECT is sent; ends at this time.
    Handshake(Instant),
    Open,
    Closed,
}

impl Connection {
    /// Begins a connection at `now`, with what an earlier one left or a new session: the CONNECT is in the outbox.
    ///
    /// # Errors
    /// The CONNECT can't be encoded.
    pub fn new(
        options: Options,
        session: Session,
        now: Instant,
    ) -> Result<Connection, EncodeError> {
        let mut options = options;
        options.receive_maximum = options.receive_maximum.max(1);
        let version = options.connect.version;
        if version.is_v5() {
            let p = &mut options.connect.properties;
            options.receive_maximum = *p.receive_maximum.get_or_insert(options.receive_maximum);
            options.max_packet_size = *p.maximum_packet_size.get_or_insert(options.max_packet_size);
            if options.topic_alias_maximum > 0 {
                p.topic_alias_maximum
                    .get_or_insert(options.topic_alias_maximum);
            }
            options.topic_alias_maximum = p.topic_alias_maximum.unwrap_or(0);
        }
        let mut flow = Flow::new(session);
        flow.terms.version = version;
        let connect = Packet::Connect(Box::new(options.connect.clone()));
        encode(&connect, version, flow.outbox.encoder())?;
        Ok(Connection {
            intake: Intake::new(Decoder::new(version, options.max_packet_size)),
            flow,
            state: State::Handshake(now + options.handshake_timeout),
            last_sent: now,
            last_packet: now,
            pinged: None,
            keep_alive: None,
            closed: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            options,
        })
    }

    /// The version that this connection speaks.
    pub fn version(&self) -> ProtocolVersion {
        self.flow.terms.version
    }

    /// Whether messages flow: accepted by the server and not closed.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether more bytes should be read from the server. If not, with MQTT 3.1.1, too many messages wait for
    /// [`acknowledge`](Connection::acknowledge): read on after that.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Handshake(_) => true,
            State::Open => !self.flow.is_saturated(),
            State::Closed => false,
        }
    }

    /// What waits to be written to the server.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.flow.outbox
    }

    /// How many more QoS 1 and 2 messages [`publish`](Connection::publish) takes before an acknowledgement comes.
    pub fn room(&self) -> usize {
        if self.is_open() { self.flow.room() } else { 0 }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.flow.session
    }

    /// Takes the session out of a connection that is over, for the next one. On a connection that is not over, it ends
    /// it without a word to the server: call [`disconnect`](Connection::disconnect) before.
    pub fn take_session(&mut self) -> Session {
        self.close(Closed::Local(ReasonCode::UnspecifiedError));
        self.flow.session.outgoing.end_requests();
        std::mem::take(&mut self.flow.session)
    }

    /// Takes all bytes out of `input`, which were read from the server.
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

    /// Acts on the time: sends a PINGREQ when nothing was sent for a keep-alive (`[MQTT-3.1.2-20]`), closes the
    /// connection if the server does not answer one or the handshake takes too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match (self.state, self.pinged) {
            (State::Open, Some(_)) => {
                // "Keep alive timeout" is for servers to say.
                let properties = DisconnectProperties::default();
                self.write_disconnect(ReasonCode::UnspecifiedError, properties);
                self.close(Closed::KeepAlive);
            }
            (State::Open, None) => {
                self.flow.outbox.encoder().extend_from_slice(&[0xC0, 0x00]);
                self.last_sent = now;
                self.pinged = Some(now);
            }
            _ => self.close(Closed::HandshakeTimeout),
        }
    }

    /// When [`handle_timeout`](Connection::handle_timeout) should be called. It changes with every packet: a timer need
    /// not be moved each time, only asked again when it fires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.state, self.pinged) {
            (State::Handshake(at), _) => Some(at),
            (State::Open, Some(at)) => Some(at.max(self.last_packet) + self.options.ping_timeout),
            (State::Open, None) => self
                .keep_alive
                .map(|keep_alive| self.last_sent + keep_alive),
            (State::Closed, _) => None,
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
            if self.state == State::Open && self.flow.is_saturated() {
                return None;
            }
            let packet = match self.intake.next() {
                Ok(None) => return None,
                Ok(Some(packet)) => Ok(packet),
                Err(error) => Err(Violation::from(error)),
            };
            match packet.and_then(|packet| self.handle_packet(packet)) {
                Ok(None) => {}
                Ok(event) => return event,
                Err(violation) => {
                    let reason = violation.reason_code();
                    if self.state == State::Open {
                        self.write_disconnect(reason, DisconnectProperties::default());
                    }
                    self.close(Closed::Violation(violation));
                }
            }
        }
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
        let now = self.last_packet;
        let packet_type = packet.packet_type();
        if self.state != State::Open {
            return match packet {
                Packet::ConnAck(connack) => self.handle_connack(connack, now),
                Packet::Auth(auth) => {
                    self.check_auth(&auth)?;
                    Ok(Some(Event::Auth(*auth)))
                }
                _ => Err(Violation::UnexpectedPacket {
                    packet: packet_type,
                }), // [MQTT-3.2.0-1]
            };
        }
        let event = match packet {
            Packet::Publish(publish) => self.flow.receive(publish)?.map(Event::Publish),
            Packet::PubAck(ack) => self.flow.puback(&ack, now)?.map(Event::from),
            Packet::PubRec(ack) => self.flow.pubrec(&ack, now)?.map(Event::from),
            Packet::PubRel(ack) => self.flow.pubrel(&ack)?.map(Event::from),
            Packet::PubComp(ack) => self.flow.pubcomp(&ack, now)?.map(Event::from),
            Packet::SubAck(suback) => {
                self.answer(packet_type, suback.packet_id, suback.reasons.len())?;
                Some(Event::SubAck(suback))
            }
            Packet::UnsubAck(unsuback) => {
                self.answer(packet_type, unsuback.packet_id, unsuback.reasons.len())?;
                Some(Event::UnsubAck(unsuback))
            }
            Packet::PingResp => {
                self.pinged = None;
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
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => {
                return Err(Violation::UnexpectedPacket {
                    packet: packet_type,
                });
            }
        };
        Ok(event)
    }

    fn handle_connack(
        &mut self,
        connack: Box<ConnAck>,
        now: Instant,
    ) -> Result<Option<Event>, Violation> {
        if connack.reason != ReasonCode::Success {
            self.close(Closed::Refused(connack));
            return Ok(None);
        }
        if connack.session_present && self.options.connect.clean_start {
            return Err(Violation::UnexpectedSession); // [MQTT-3.2.2-2]
        }
        let p = &connack.properties;
        let options = &self.options;
        let keep_alive = p.server_keep_alive.unwrap_or(options.connect.keep_alive); // [MQTT-3.2.2-21]
        self.keep_alive = (keep_alive > 0).then(|| Duration::from_secs(keep_alive.into()));
        self.maximum_qos = p.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        self.retain_available = p.retain_available.unwrap_or(true);
        let terms = Terms {
            version: options.connect.version,
            window: options
                .max_in_flight
                .min(p.receive_maximum.unwrap_or(u16::MAX))
                .max(1),
            receive_maximum: options
                .receive_maximum
                .saturating_add(options.receive_tolerance),
            max_packet_size: p.maximum_packet_size.unwrap_or(u32::MAX),
            incoming_aliases: options.topic_alias_maximum,
            outgoing_aliases: options
                .outgoing_topic_aliases
                .min(p.topic_alias_maximum.unwrap_or(0)),
        };
        let mut session = std::mem::take(&mut self.flow.session);
        let mut lost = Vec::new();
        if !connack.session_present {
            lost = session.outgoing();
            session = Session::new(); // [MQTT-3.2.2-5]
        }
        self.state = State::Open;
        self.last_sent = now;
        self.flow.open(terms, session, now);
        Ok(Some(Event::Connected { connack, lost }))
    }

    fn check_disconnect(&self, disconnect: &Disconnect) -> Result<(), Violation> {
        if !self.version().is_v5() {
            return Err(Violation::UnexpectedPacket {
                packet: PacketType::Disconnect,
            });
        }
        if disconnect.properties.session_expiry_interval.is_some() {
            return Err(Violation::SessionExpiryFromServer); // [MQTT-3.14.2-2]
        }
        if disconnect.reason == ReasonCode::DisconnectWithWill {
            return Err(Violation::ForeignDisconnectReason {
                reason: disconnect.reason,
            });
        }
        Ok(())
    }

    /// [MQTT-4.12.0-5]: the method never changes, and without one there is no AUTH.
    fn check_auth(&self, auth: &Auth) -> Result<(), Violation> {
        let method = &self.options.connect.properties.authentication_method;
        if method.is_none()
            || auth.properties.authentication_method != *method
            || auth.reason == ReasonCode::ReAuthenticate
        {
            return Err(Violation::AuthenticationMethod);
        }
        Ok(())
    }

    /// Sends a message. With QoS 1 and 2 it returns the packet identifier that a later [`Event::Acknowledged`] has;
    /// the message is part of the session until then.
    ///
    /// # Errors
    /// The message was not sent and is not part of the session; [`PublishError::WindowFull`] invites another try after
    /// an [`Event::Acknowledged`].
    pub fn publish(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        delivery: Delivery,
    ) -> Result<Option<PacketId>, PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotOpen);
        }
        if delivery.qos > self.maximum_qos {
            return Err(PublishError::QoSNotSupported {
                maximum: self.maximum_qos,
            });
        }
        if delivery.retain && !self.retain_available {
            return Err(PublishError::RetainNotSupported);
        }
        let delivery = Delivery {
            subscription_ids: Default::default(),
            ..delivery
        }; // [MQTT-3.3.4-6]
        let packet_id = self.flow.publish(message, delivery, now)?;
        self.last_sent = now;
        Ok(packet_id)
    }

    /// Answers an [`Event::Publish`] of QoS 1 or 2. Answers leave in the order of the messages, in whichever order
    /// they are given (`[MQTT-4.6.0-2]`). MQTT 3.1.1 can't tell the server of failure.
    ///
    /// An answer to a QoS 1 message must not be given to a later connection; one to a QoS 2 message must be, or to the
    /// [`Session`].
    pub fn acknowledge(&mut self, packet_id: PacketId, reason: ReasonCode) {
        if self.state == State::Open {
            self.flow.acknowledge(packet_id, reason);
        } else if !reason.is_error() {
            self.flow.session.acknowledge(packet_id);
        }
    }

    /// Sends an AUTH: the answer to an [`Event::Auth`], or with [`ReasonCode::ReAuthenticate`] the beginning of a
    /// re-authentication (MQTT 5.0 §4.12). Ignored where there is no authentication method.
    pub fn authenticate(&mut self, reason: ReasonCode, mut properties: AuthProperties) {
        let method = &self.options.connect.properties.authentication_method;
        if method.is_some() && self.state != State::Closed {
            properties.authentication_method.clone_from(method);
            self.flow
                .put(&Packet::Auth(Box::new(Auth { reason, properties })));
        }
    }

    /// Ends the connection with a DISCONNECT. With [`ReasonCode::Success`] the server forgets the will; MQTT 3.1.1 has no
    /// other reason.
    pub fn disconnect(&mut self, reason: ReasonCode, properties: DisconnectProperties) {
        if self.state == State::Open {
            self.write_disconnect(reason, properties);
        }
        self.close(Closed::Local(reason));
    }

    fn write_disconnect(&mut self, reason: ReasonCode, mut properties: DisconnectProperties) {
        if !self.version().is_v5() {
            // Without DISCONNECT the server publishes the will, as any other reason asks for.
            if reason == ReasonCode::Success {
                self.flow.outbox.encoder().extend_from_slice(&[0xE0, 0x00]);
            }
            return;
        }
        // A session that was to end with its connection stays so (MQTT 5.0 §3.14.2.2.2).
        if self
            .options
            .connect
            .properties
            .session_expiry_interval
            .unwrap_or(0)
            == 0
        {
            properties.session_expiry_interval = None;
        }
        if !self
            .flow
            .put(&Packet::Disconnect(Disconnect { reason, properties }))
        {
            self.flow.put(&Packet::Disconnect(Disconnect::new(reason)));
        }
    }

    fn close(&mut self, closed: Closed) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.closed = Some(closed);
        }
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
