//! A client and a server connection, the two streams between them, and a clock that is told to move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use smqtt_proto::packet::{ConnAckProperties, Connect, Publish};
use smqtt_proto::{
    Decoder, Delivery, Message, MqttString, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
    Session, TopicName, client, encode, server,
};

pub(crate) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Both ends of one connection at a time; sessions outlive connections here.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: client::Connection,
    pub(crate) server: server::Connection,
    /// What the server answers to CONNECT.
    pub(crate) session: Option<Session>,
    pub(crate) connack: ConnAckProperties,
    /// Whether the two ends acknowledge messages at once.
    pub(crate) client_acknowledges: bool,
    pub(crate) server_acknowledges: bool,
    /// What the two ends learned and nobody looked at yet.
    pub(crate) client_events: Vec<client::Event>,
    pub(crate) server_events: Vec<server::Event>,
    /// Packets on the way, as somebody who listens sees them.
    pub(crate) to_server: Vec<Packet>,
    pub(crate) to_client: Vec<Packet>,
}

pub(crate) fn options(version: ProtocolVersion) -> client::Options {
    let mut options = client::Options::new(version, MqttString::new("client").expect("a string"));
    options.connect.clean_start = false;
    options.connect.keep_alive = 0;
    options
}

impl Pair {
    pub(crate) fn new(options: client::Options, config: server::Config) -> Pair {
        let now = Instant::now();
        Pair {
            now,
            client: client::Connection::new(options, Session::new(), now)
                .expect("the CONNECT encodes"),
            server: server::Connection::new(Arc::new(config), now),
            session: None,
            connack: ConnAckProperties::default(),
            client_acknowledges: true,
            server_acknowledges: true,
            client_events: Vec::new(),
            server_events: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// A pair whose handshake is done, with nothing noted of it.
    pub(crate) fn connected(version: ProtocolVersion) -> Pair {
        Pair::connected_with(options(version), server::Config::default())
    }

    pub(crate) fn connected_with(options: client::Options, config: server::Config) -> Pair {
        let mut pair = Pair::new(options, config);
        pair.run();
        assert!(
            pair.client.is_open() && pair.server.is_open(),
            "{:?}",
            pair.client_events
        );
        pair.forget();
        pair
    }

    pub(crate) fn forget(&mut self) {
        self.client_events.clear();
        self.server_events.clear();
        self.to_client.clear();
        self.to_server.clear();
    }

    /// Lets bytes and events flow until both ends are quiet.
    pub(crate) fn run(&mut self) {
        while self.client_to_server() | self.server_to_client() {}
    }

    /// Moves what the client has to say; whether there was anything.
    pub(crate) fn client_to_server(&mut self) -> bool {
        let mut wire = BytesMut::new();
        wire.put(self.client.outbox());
        let moved = !wire.is_empty();
        note(&wire, self.client.version(), &mut self.to_server);
        self.server.handle_input(self.now, &mut wire);
        self.drain_server();
        moved
    }

    /// Moves what the server has to say; whether there was anything.
    pub(crate) fn server_to_client(&mut self) -> bool {
        let mut wire = BytesMut::new();
        wire.put(self.server.outbox());
        let moved = !wire.is_empty();
        note(&wire, self.client.version(), &mut self.to_client);
        self.client.handle_input(self.now, &mut wire);
        self.drain_client();
        moved
    }

    pub(crate) fn drain_server(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match &event {
                server::Event::Connect(_) => {
                    let present = self.session.is_some();
                    let session = self.session.take().unwrap_or_default();
                    self.server
                        .accept(self.now, session, present, self.connack.clone());
                }
                server::Event::Publish(publish) if self.server_acknowledges => {
                    if let Some(id) = publish.packet_id {
                        self.server.acknowledge(id, ReasonCode::Success);
                    }
                }
                _ => {}
            }
            self.server_events.push(event);
        }
    }

    pub(crate) fn drain_client(&mut self) {
        while let Some(event) = self.client.poll_event() {
            if let client::Event::Publish(Publish {
                packet_id: Some(id),
                ..
            }) = &event
                && self.client_acknowledges
            {
                self.client.acknowledge(*id, ReasonCode::Success);
            }
            self.client_events.push(event);
        }
    }

    /// Moves the clock, tells both ends, and runs.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        self.drain_client();
        self.drain_server();
        self.run();
    }

    /// Breaks the stream, loses what is on it, and connects anew; the server has the session or has lost it.
    pub(crate) fn reconnect(
        &mut self,
        options: client::Options,
        config: server::Config,
        server_remembers: bool,
    ) {
        self.client.handle_end_of_stream();
        self.server.handle_end_of_stream();
        self.drain_client();
        self.drain_server();
        let session = self.client.take_session();
        let kept = self.server.take_session();
        self.session = server_remembers.then_some(kept);
        self.client =
            client::Connection::new(options, session, self.now).expect("the CONNECT encodes");
        self.server = server::Connection::new(Arc::new(config), self.now);
        self.forget();
    }

    pub(crate) fn client_publish(&mut self, text: &str, qos: QoS) -> Option<PacketId> {
        let message = message(text, self.now);
        self.client
            .publish(self.now, &message, Delivery::new(qos))
            .expect("it can be sent")
    }

    pub(crate) fn server_publish(&mut self, text: &str, qos: QoS) -> Option<PacketId> {
        let message = message(text, self.now);
        self.server
            .publish(self.now, &message, Delivery::new(qos))
            .expect("it can be sent")
    }

    /// The payloads that the server was given, in order.
    pub(crate) fn server_got(&self) -> Vec<String> {
        let publishes = self.server_events.iter().filter_map(|event| match event {
            server::Event::Publish(publish) => Some(payload(publish)),
            _ => None,
        });
        publishes.collect()
    }

    /// The payloads that the client was given, in order.
    pub(crate) fn client_got(&self) -> Vec<String> {
        let publishes = self.client_events.iter().filter_map(|event| match event {
            client::Event::Publish(publish) => Some(payload(publish)),
            _ => None,
        });
        publishes.collect()
    }

    /// The names of the packets on the way to the server.
    pub(crate) fn names_to_server(&self) -> Vec<&'static str> {
        self.to_server
            .iter()
            .map(|packet| packet.packet_type().name())
            .collect()
    }

    /// The names of the packets on the way to the client.
    pub(crate) fn names_to_client(&self) -> Vec<&'static str> {
        self.to_client
            .iter()
            .map(|packet| packet.packet_type().name())
            .collect()
    }
}

fn payload(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).expect("tests send text")
}

pub(crate) fn message(text: &str, now: Instant) -> Arc<Message> {
    let topic = TopicName::new("a/b").expect("a topic name");
    Arc::new(Message::new(&Publish::new(topic, text.to_owned()), now).expect("it encodes"))
}

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

fn note(wire: &[u8], version: ProtocolVersion, packets: &mut Vec<Packet>) {
    let mut decoder = Decoder::new(version, u32::MAX);
    let mut wire = BytesMut::from(wire);
    while let Some(packet) = decoder
        .decode(&mut wire)
        .expect("both ends write valid packets")
    {
        packets.push(packet);
    }
    assert!(wire.is_empty(), "both ends write whole packets");
}

/// A server connection alone, to be fed with bytes.
pub(crate) struct Alone {
    pub(crate) now: Instant,
    pub(crate) server: server::Connection,
}

impl Alone {
    pub(crate) fn new(config: server::Config) -> Alone {
        let now = Instant::now();
        Alone {
            now,
            server: server::Connection::new(Arc::new(config), now),
        }
    }

    /// After a CONNECT that was accepted; the CONNACK is gone.
    pub(crate) fn open(version: ProtocolVersion, config: server::Config) -> Alone {
        Alone::open_as(options(version).connect, config)
    }

    pub(crate) fn open_as(connect: Connect, config: server::Config) -> Alone {
        let mut alone = Alone::new(config);
        alone.feed(&bytes(
            &Packet::Connect(Box::new(connect.clone())),
            connect.version,
        ));
        assert!(matches!(
            alone.server.poll_event(),
            Some(server::Event::Connect(_))
        ));
        let now = alone.now;
        alone
            .server
            .accept(now, Session::new(), false, ConnAckProperties::default());
        alone.written();
        alone
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.server
            .handle_input(self.now, &mut BytesMut::from(bytes));
    }

    pub(crate) fn events(&mut self) -> Vec<server::Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    pub(crate) fn written(&mut self) -> Vec<u8> {
        let mut written = BytesMut::new();
        written.put(self.server.outbox());
        written.to_vec()
    }
}

pub(crate) fn bytes(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("it encodes");
    out.to_vec()
}
