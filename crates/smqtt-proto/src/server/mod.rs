//! The server's end of a connection.

mod checks;
mod config;
mod event;
mod handshake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

pub use config::Config;
pub use event::Event;

use handshake::ClientTerms;

use crate::codec::reason_belongs;
use crate::flow::{Flow, FlowEvent};
use crate::intake::Intake;
use crate::packet::{
    AckProperties, ConnAckProperties, Disconnect, DisconnectProperties, SubAck, UnsubAck,
};
use crate::session::Session;
use crate::{
    Closed, Decoder, Delivery, Message, Outbox, Packet, PacketId, PacketType, ProtocolVersion,
    PublishError, QoS, ReasonCode, Traffic, Violation,
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

    /// What it has carried so far.
    pub fn traffic(&self) -> Traffic {
        self.flow.traffic
    }

    /// Bytes of a client's packets that were taken and not decoded yet.
    pub fn undecoded(&self) -> usize {
        self.intake.len()
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
        self.flow.traffic.packets_received += 1;
        if self.state != State::Open {
            return self.handshake_packet(packet);
        }
        let now = self.last_packet;
        let packet_type = packet.packet_type();
        let event = match packet {
            Packet::Publish(publish) => {
                self.flow.traffic.publishes_received += 1;
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
                self.flow.traffic.packets_sent += 1;
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

    /// Answers an [`Event::Publish`] of QoS 1 or 2 with nothing, before the connection is ended: to an MQTT 3.1.1
    /// client that is a message which was not taken. When the client sends it again on a later connection, it is an
    /// [`Event::Publish`] again.
    pub fn withdraw(&mut self, packet_id: PacketId) {
        self.flow.withdraw(packet_id);
    }

    /// Has PUBREL and PUBCOMP wait for [`release`](Connection::release) and [`complete`](Connection::complete): for an
    /// owner that answers to a disk. For the rest of the connection, from before [`accept`](Connection::accept).
    ///
    /// [`Event::Received`] and [`Event::Released`] may come more than once for the same identifier then.
    pub fn hold_answers(&mut self) {
        self.flow.held = true;
    }

    /// Gives a QoS 1 or 2 delivery its packet identifier and makes it part of the session; sends nothing before
    /// [`send_prepared`](Connection::send_prepared). On a later connection of the session it is sent in any case.
    ///
    /// # Errors
    /// As [`publish`](Connection::publish).
    pub fn prepare(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        delivery: Delivery,
    ) -> Result<PacketId, PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotOpen);
        }
        self.flow.prepare(message, delivery, now)
    }

    /// Sends what was prepared on this connection.
    pub fn send_prepared(&mut self, now: Instant, packet_id: PacketId) {
        if self.state == State::Open {
            self.flow.send_prepared(packet_id, now);
        }
    }

    /// Answers an [`Event::Received`] with PUBREL, where answers are [held](Connection::hold_answers).
    pub fn release(&mut self, packet_id: PacketId) {
        if self.state == State::Open {
            self.flow.release(packet_id);
        }
    }

    /// Answers an [`Event::Released`] with PUBCOMP, where answers are [held](Connection::hold_answers): from here on
    /// the identifier is free for the client's next message.
    pub fn complete(&mut self, packet_id: PacketId) {
        if self.state == State::Open {
            self.flow.complete_release(packet_id);
        } else {
            self.flow.session.incoming.end(packet_id);
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
                let properties = ConnAckProperties {
                    reason_string: properties.reason_string,
                    user_properties: properties.user_properties,
                    server_reference: properties.server_reference,
                    ..ConnAckProperties::default()
                };
                self.write_refusal(reason, properties);
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
