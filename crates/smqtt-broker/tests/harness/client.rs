//! A client that sends exactly what it is told and hides nothing that it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use smqtt_proto::packet::{
    Ack, ConnAck, Connect, ConnectProperties, Publish, SubAck, Subscribe, SubscribeProperties,
    Subscription, SubscriptionOptions, Unsubscribe, Will,
};
use smqtt_proto::{
    Decoder, MqttString, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter,
    TopicName, encode,
};

use super::{PATIENCE, QUIET};

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    socket: Arc<TcpStream>,
    decoder: Decoder,
    version: ProtocolVersion,
    input: BytesMut,
    next_id: u16,
}

/// What a CONNECT says.
pub struct Options(pub Connect);

impl Options {
    pub fn new(version: ProtocolVersion, client_id: &str) -> Options {
        Options(Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id: text(client_id),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        })
    }

    pub fn v3(client_id: &str) -> Options {
        Options::new(ProtocolVersion::V3_1_1, client_id)
    }

    pub fn v5(client_id: &str) -> Options {
        Options::new(ProtocolVersion::V5, client_id)
    }

    /// Resume the session, and have it kept for a minute.
    pub fn persistent(mut self) -> Options {
        self.0.clean_start = false;
        if self.0.version == ProtocolVersion::V5 {
            self.0.properties.session_expiry_interval = Some(60);
        }
        self
    }

    /// With a user name and a password.
    pub fn user(mut self, name: &str, password: &str) -> Options {
        self.0.username = Some(text(name));
        self.0.password = Some(smqtt_proto::Credential::new(password.as_bytes().to_vec()));
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Options {
        self.0.keep_alive = seconds;
        self
    }

    pub fn will(mut self, will: Will) -> Options {
        self.0.will = Some(will);
        self
    }

    pub fn properties(mut self, set: impl FnOnce(&mut ConnectProperties)) -> Options {
        set(&mut self.0.properties);
        self
    }
}

/// A socket that the client keeps, too: one file descriptor for both.
pub struct Shared(pub Arc<TcpStream>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Client {
    /// An open connection on which nothing was said.
    pub fn raw(port: u16, version: ProtocolVersion) -> Client {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        socket.set_nodelay(true).expect("nodelay");
        let socket = Arc::new(socket);
        Client::over(Shared(socket.clone()), socket, version)
    }

    /// The same over a stream that stands on `socket`.
    pub fn over(
        stream: impl Read + Write + Send + 'static,
        socket: impl Into<Arc<TcpStream>>,
        version: ProtocolVersion,
    ) -> Client {
        let socket = socket.into();
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Client {
            stream: Box::new(stream),
            socket,
            decoder: Decoder::new(version, u32::MAX),
            version,
            input: BytesMut::new(),
            next_id: 0,
        }
    }

    /// A client that the broker let in.
    pub fn connect(port: u16, options: Options) -> Client {
        Client::connect_with_ack(port, options).0
    }

    /// The same, with the CONNACK.
    pub fn connect_with_ack(port: u16, options: Options) -> (Client, ConnAck) {
        let mut client = Client::raw(port, options.0.version);
        let connack = client.handshake(options);
        assert_eq!(connack.reason, ReasonCode::Success);
        (client, connack)
    }

    /// Sends the CONNECT and returns the CONNACK, whatever it says.
    pub fn handshake(&mut self, options: Options) -> ConnAck {
        self.send(Packet::Connect(Box::new(options.0)));
        match self.receive() {
            Packet::ConnAck(connack) => *connack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// Sends the CONNECT and returns the CONNACK; `None` where the connection ends instead, by a TLS alert too.
    pub fn try_handshake(&mut self, options: Options) -> Option<ConnAck> {
        if !self.try_send(Packet::Connect(Box::new(options.0))) {
            return None;
        }
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            }
            let packet = self.decoder.decode(&mut self.input);
            match packet.expect("well-formed packets") {
                Some(Packet::ConnAck(connack)) => return Some(*connack),
                Some(other) => panic!("expected CONNACK, got {other:?}"),
                None => {}
            }
        }
    }

    /// Sends the CONNECT, with which the TLS handshake is to fail; returns the error.
    pub fn handshake_error(&mut self, options: Options) -> String {
        let mut bytes = BytesMut::new();
        encode(
            &Packet::Connect(Box::new(options.0)),
            self.version,
            &mut bytes,
        )
        .expect("encodable");
        let written = self
            .stream
            .write_all(&bytes)
            .and_then(|()| self.stream.flush());
        match written.and_then(|()| self.stream.read(&mut [0; 1])) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the handshake did not fail"),
        }
    }

    pub fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        encode(&packet, self.version, &mut bytes).expect("an encodable packet");
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
        self.stream.flush().expect("the broker reads");
    }

    /// Sends a packet unless the broker has closed the connection.
    pub fn try_send(&mut self, packet: Packet) -> bool {
        let mut bytes = BytesMut::new();
        encode(&packet, self.version, &mut bytes).expect("an encodable packet");
        self.stream.write_all(&bytes).is_ok()
    }

    /// Everything that comes until the broker closes the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream
            .read_to_end(&mut bytes)
            .expect("the end of the connection");
        bytes
    }

    /// The next packet.
    pub fn receive(&mut self) -> Packet {
        self.try_receive()
            .expect("a packet, but the broker closed the connection")
    }

    /// The next packet, or `None` when the broker has closed the connection.
    pub fn try_receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self
                .decoder
                .decode(&mut self.input)
                .expect("well-formed packets")
            {
                return Some(packet);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                    ) =>
                {
                    return None;
                }
                Err(e) => panic!("nothing came: {e}"),
            }
        }
    }

    /// The next packet, if one comes within this time.
    pub fn receive_within(&mut self, time: Duration) -> Option<Packet> {
        self.socket.set_read_timeout(Some(time)).expect("timeout");
        let mut byte = [0];
        let comes = !self.input.is_empty() || self.socket.peek(&mut byte).is_ok();
        self.socket
            .set_read_timeout(Some(PATIENCE))
            .expect("timeout");
        comes.then(|| self.receive())
    }

    /// The next packet, which must be a PUBLISH.
    pub fn receive_publish(&mut self) -> Publish {
        match self.receive() {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// The next PUBLISH's payload as text, after acknowledging it.
    pub fn receive_text(&mut self) -> String {
        let publish = self.receive_publish();
        self.acknowledge(&publish);
        String::from_utf8(publish.payload.to_vec()).expect("text")
    }

    /// Acknowledges a PUBLISH to the end.
    pub fn acknowledge(&mut self, publish: &Publish) {
        let Some(id) = publish.packet_id else { return };
        let ack = Ack::new(id, ReasonCode::Success);
        if publish.qos == QoS::AtLeastOnce {
            self.send(Packet::PubAck(ack));
            return;
        }
        self.send(Packet::PubRec(ack.clone()));
        assert_eq!(self.receive(), Packet::PubRel(ack.clone()));
        self.send(Packet::PubComp(ack));
    }

    /// Makes sure that the broker has handled everything sent so far and has nothing more to say:
    /// the next packet is the answer to a PINGREQ.
    pub fn settle(&mut self) {
        self.send(Packet::PingReq);
        assert_eq!(self.receive(), Packet::PingResp);
    }

    /// Makes sure that nothing comes for a while.
    pub fn expect_nothing(&mut self) {
        self.expect_nothing_for(QUIET);
    }

    pub fn expect_nothing_for(&mut self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).expect("timeout");
        let mut buffer = [0; 1024];
        assert!(self.input.is_empty(), "something has come already");
        match self.stream.read(&mut buffer) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(n) => panic!("nothing was to come, but {:?} did", &buffer[..n]),
            Err(e) => panic!("{e}"),
        }
        self.socket
            .set_read_timeout(Some(PATIENCE))
            .expect("timeout");
    }

    /// Makes sure that the broker ends the connection, with a DISCONNECT of this reason on MQTT 5
    /// and without a word on MQTT 3.1.1.
    pub fn expect_disconnect(&mut self, reason: ReasonCode) {
        match (self.version, self.try_receive()) {
            (ProtocolVersion::V5, Some(Packet::Disconnect(disconnect))) => {
                assert_eq!(disconnect.reason, reason);
                assert_eq!(self.try_receive(), None);
            }
            (ProtocolVersion::V3_1_1, None) => {}
            (version, other) => {
                panic!("expected the end of the connection, got {other:?} ({version})")
            }
        }
    }

    /// Makes sure that the broker ends the connection without a packet.
    pub fn expect_closed(&mut self) {
        assert_eq!(self.try_receive(), None);
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_with(filter, SubscriptionOptions::new(qos), None)
    }

    pub fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) -> ReasonCode {
        let id = self.packet_id();
        let mut packet = subscribe(id, &[(filter, options)]);
        packet.properties = SubscribeProperties {
            subscription_id,
            ..SubscribeProperties::default()
        };
        self.send(Packet::Subscribe(packet));
        let SubAck {
            packet_id, reasons, ..
        } = match self.receive() {
            Packet::SubAck(suback) => suback,
            other => panic!("expected SUBACK, got {other:?}"),
        };
        assert_eq!((packet_id, reasons.len()), (id, 1));
        reasons[0]
    }

    /// Unsubscribes and drops what still comes until that is answered.
    pub fn unsubscribe_quietly(&mut self, filter: &str) {
        let packet_id = self.packet_id();
        let filters = vec![TopicFilter::new(filter).expect("filter")];
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Default::default(),
            filters,
        }));
        while !matches!(self.receive(), Packet::UnsubAck(_)) {}
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Vec<ReasonCode> {
        let packet_id = self.packet_id();
        let filters = vec![TopicFilter::new(filter).expect("filter")];
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Default::default(),
            filters,
        }));
        match self.receive() {
            Packet::UnsubAck(ack) => {
                assert_eq!(ack.packet_id, packet_id);
                ack.reasons
            }
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    /// Publishes and waits for the last acknowledgement; returns its reason.
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: &str) -> ReasonCode {
        self.publish_packet(publish(topic, qos, payload))
    }

    /// Publishes a retained message and waits for the last acknowledgement.
    pub fn retain(&mut self, topic: &str, qos: QoS, payload: &str) -> ReasonCode {
        self.publish_packet(Publish {
            retain: true,
            ..publish(topic, qos, payload)
        })
    }

    pub fn publish_packet(&mut self, mut packet: Publish) -> ReasonCode {
        let qos = packet.qos;
        if qos == QoS::AtMostOnce {
            self.send(Packet::Publish(packet));
            return ReasonCode::Success;
        }
        let id = self.packet_id();
        packet.packet_id = Some(id);
        self.send(Packet::Publish(packet));
        let first = self.receive();
        match (qos, first) {
            (QoS::AtLeastOnce, Packet::PubAck(ack)) if ack.packet_id == id => ack.reason,
            (QoS::ExactlyOnce, Packet::PubRec(ack)) if ack.packet_id == id => {
                if ack.reason.is_error() {
                    return ack.reason;
                }
                self.send(Packet::PubRel(Ack::new(id, ReasonCode::Success)));
                assert_eq!(
                    self.receive(),
                    Packet::PubComp(Ack::new(id, ReasonCode::Success))
                );
                ack.reason
            }
            (qos, other) => {
                panic!("expected the acknowledgement of a {qos} PUBLISH, got {other:?}")
            }
        }
    }

    /// Leaves with DISCONNECT and waits until the broker has let go.
    pub fn disconnect(mut self) {
        self.send(Packet::Disconnect(smqtt_proto::packet::Disconnect::new(
            ReasonCode::Success,
        )));
        assert_eq!(self.try_receive(), None);
    }

    /// Leaves without a word and waits until the broker has let go.
    pub fn vanish(mut self) {
        self.socket
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
        while self.try_receive().is_some() {}
    }

    pub fn packet_id(&mut self) -> PacketId {
        self.next_id += 1;
        PacketId::new(self.next_id).expect("fewer than 65,536 packets a test")
    }
}

pub fn text(text: &str) -> MqttString {
    MqttString::new(text).expect("an MQTT string")
}

pub fn publish(topic: &str, qos: QoS, payload: &str) -> Publish {
    Publish {
        qos,
        ..Publish::new(TopicName::new(topic).expect("topic"), payload.to_owned())
    }
}

pub fn subscribe(packet_id: PacketId, filters: &[(&str, SubscriptionOptions)]) -> Subscribe {
    let subscriptions = filters
        .iter()
        .map(|(filter, options)| Subscription {
            filter: TopicFilter::new(*filter).expect("filter"),
            options: *options,
        })
        .collect();
    Subscribe {
        packet_id,
        properties: SubscribeProperties::default(),
        subscriptions,
    }
}
