//! What MQTT 3.1.1 demands of clients, shown by the bytes of the project's own (`smqtt_proto::client`).

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use smqtt_proto::packet::{
    DisconnectProperties, Publish, Subscription, SubscriptionOptions, Will, WillProperties,
};
use smqtt_proto::{
    Closed, Credential, Delivery, Message, PacketId, ProtocolVersion, PublishError, QoS,
    ReasonCode, Session, TopicFilter, TopicName, client,
};

use super::harness::text;
use super::v3_wire::*;

struct Client {
    now: Instant,
    connection: client::Connection,
}

fn options() -> client::Options {
    let mut options = client::Options::new(ProtocolVersion::V3_1_1, text("c"));
    options.connect.clean_start = false;
    options
}

impl Client {
    /// A client that has said CONNECT.
    fn new(options: client::Options, session: Session) -> Client {
        let now = Instant::now();
        let connection = client::Connection::new(options, session, now).expect("a CONNECT");
        Client { now, connection }
    }

    /// A client that was let in; nothing of the handshake is left.
    fn open() -> Client {
        let mut client = Client::new(options(), Session::new());
        client.feed(&WELCOME);
        client.written();
        client
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<client::Event> {
        self.connection
            .handle_input(self.now, &mut BytesMut::from(bytes));
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    fn written(&mut self) -> Vec<u8> {
        let mut written = BytesMut::new();
        written.put(self.connection.outbox());
        written.to_vec()
    }

    fn publish(&mut self, qos: QoS, payload: &'static str) -> Result<Option<u16>, PublishError> {
        let publish = Publish::new(TopicName::new("t").expect("a topic"), payload);
        let message = Arc::new(Message::new(&publish, self.now).expect("a message"));
        let sent = self
            .connection
            .publish(self.now, &message, Delivery::new(qos));
        sent.map(|id| id.map(|id| id.get()))
    }

    /// Breaks the connection and connects again; the server has the session.
    fn reconnect(mut self) -> Client {
        self.connection.handle_end_of_stream();
        let mut client = Client::new(options(), self.connection.take_session());
        client.written();
        client.feed(&WELCOME_BACK);
        client
    }
}

#[test]
fn the_client_begins_with_connect_and_waits_for_the_connack() {
    let mut client = Client::new(options(), Session::new());
    assert_eq!(client.written(), connect_with(0, 60, &[&string("c")]));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        assert_eq!(client.publish(qos, "early"), Err(PublishError::NotOpen));
    }
    assert_eq!(client.written(), []);
}

#[test]
fn the_clients_connect_has_the_fields_that_its_flags_announce_in_their_order() {
    let mut options = options();
    let will = Will {
        topic: TopicName::new("will").expect("a topic"),
        qos: QoS::ExactlyOnce,
        retain: true,
        payload: "gone".into(),
        properties: WillProperties::default(),
    };
    let fields = [
        string("c"),
        string("will"),
        string("gone"),
        string("user"),
        string("pass"),
    ];
    let fields: Vec<&[u8]> = fields.iter().map(|field| &field[..]).collect();
    options.connect.username = Some(text("user"));
    options.connect.will = Some(will);
    let mut client = Client::new(options.clone(), Session::new());
    let flags = WILL | 2 << 3 | WILL_RETAIN | USERNAME;
    assert_eq!(client.written(), connect_with(flags, 60, &fields[..4]));
    options.connect.password = Some(Credential::new("pass"));
    let mut client = Client::new(options.clone(), Session::new());
    assert_eq!(
        client.written(),
        connect_with(flags | PASSWORD, 60, &fields)
    );
    // A password without a user name is no CONNECT of 3.1.1.
    options.connect.username = None;
    assert!(client::Connection::new(options, Session::new(), Instant::now()).is_err());
}

#[test]
fn the_client_uses_packet_identifiers_that_are_free() {
    let mut client = Client::open();
    let filter = TopicFilter::new("t").expect("a filter");
    let subscription = Subscription {
        filter: filter.clone(),
        options: SubscriptionOptions::new(QoS::AtMostOnce),
    };
    let one = client.publish(QoS::AtLeastOnce, "one").unwrap().unwrap();
    let two = client.publish(QoS::ExactlyOnce, "two").unwrap().unwrap();
    let subscribed = client
        .connection
        .subscribe(client.now, vec![subscription], Default::default())
        .unwrap()
        .get();
    let unsubscribed = client
        .connection
        .unsubscribe(client.now, vec![filter], Default::default())
        .unwrap()
        .get();
    assert_eq!(client.publish(QoS::AtMostOnce, "zero"), Ok(None));
    let mut ids = vec![one, two, subscribed, unsubscribed];
    assert_eq!(
        client.written(),
        [
            publish(2, "t", Some(one), b"one"),
            publish(4, "t", Some(two), b"two"),
            subscribe(subscribed, &[("t", 0)]),
            unsubscribe(unsubscribed, &["t"]),
            publish(0, "t", None, b"zero"),
        ]
        .concat()
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_ne!(ids[0], 0);
    // While all four are unanswered, none of their identifiers is given away.
    for _ in 0..100 {
        let id = client.publish(QoS::AtLeastOnce, "more").unwrap().unwrap();
        assert!(!ids.contains(&id));
        client.feed(&ack(PUBACK, id));
    }
}

#[test]
fn the_client_sends_again_what_was_not_acknowledged_marked_and_in_order() {
    let mut client = Client::open();
    let sent: Vec<u16> = [
        (QoS::AtLeastOnce, "0"),
        (QoS::ExactlyOnce, "1"),
        (QoS::ExactlyOnce, "2"),
        (QoS::AtLeastOnce, "3"),
    ]
    .map(|(qos, payload)| client.publish(qos, payload).unwrap().unwrap())
    .to_vec();
    client.written();
    client.feed(&ack(PUBREC, sent[1]));
    assert_eq!(client.written(), ack(PUBREL, sent[1]));
    for _ in 0..2 {
        client = client.reconnect();
        let written = client.written();
        // The second was received: its PUBLISH is not sent again, its PUBREL is.
        let release = ack(PUBREL, sent[1]);
        let publishes = [
            publish(8 | 2, "t", Some(sent[0]), b"0"),
            publish(8 | 4, "t", Some(sent[2]), b"2"),
            publish(8 | 2, "t", Some(sent[3]), b"3"),
        ];
        let at = written
            .windows(release.len())
            .position(|window| window == release)
            .expect("the PUBREL is sent again");
        let rest = [&written[..at], &written[at + release.len()..]].concat();
        assert_eq!(hex(&rest), hex(&publishes.concat()));
    }
    let answers = [
        ack(PUBACK, sent[0]),
        ack(PUBREC, sent[2]),
        ack(PUBCOMP, sent[1]),
        ack(PUBACK, sent[3]),
    ];
    client.feed(&answers.concat());
    assert_eq!(client.written(), ack(PUBREL, sent[2]));
    client.feed(&ack(PUBCOMP, sent[2]));
    assert_eq!(client.reconnect().written(), []);
}

#[test]
fn the_client_acknowledges_in_the_order_of_the_messages() {
    let mut client = Client::open();
    let ids = [7, 3, 9];
    for (flags, answer) in [(2, PUBACK), (4, PUBREC)] {
        client.feed(&ids.map(|id| publish(flags, "t", Some(id), b"x")).concat());
        assert_eq!(client.written(), []);
        for id in [9, 3, 7] {
            client
                .connection
                .acknowledge(PacketId::new(id).expect("not zero"), ReasonCode::Success);
        }
        assert_eq!(client.written(), ids.map(|id| ack(answer, id)).concat());
    }
    client.feed(&[ack(PUBREL, 9), ack(PUBREL, 7)].concat());
    assert_eq!(
        client.written(),
        [ack(PUBCOMP, 9), ack(PUBCOMP, 7)].concat()
    );
    // As the sender, it answers PUBRECs in their order.
    let sent = ["a", "b"].map(|payload| client.publish(QoS::ExactlyOnce, payload));
    let [a, b] = sent.map(|id| id.unwrap().unwrap());
    client.written();
    client.feed(&[ack(PUBREC, b), ack(PUBREC, a)].concat());
    assert_eq!(client.written(), [ack(PUBREL, b), ack(PUBREL, a)].concat());
}

#[test]
fn the_client_pings_when_it_has_said_nothing_for_its_keep_alive() {
    let mut client = Client::open();
    let at = client.connection.poll_timeout().expect("a keep-alive");
    assert!(at.duration_since(client.now).as_secs() <= 60);
    client.connection.handle_timeout(at);
    assert_eq!(client.written(), PINGREQ);
}

#[test]
fn the_client_says_nothing_after_disconnect() {
    let mut client = Client::open();
    client
        .connection
        .disconnect(ReasonCode::Success, DisconnectProperties::default());
    assert_eq!(
        client.publish(QoS::AtMostOnce, "late"),
        Err(PublishError::NotOpen)
    );
    let events = client.feed(&publish(2, "t", Some(1), b"x"));
    assert_eq!(
        events,
        [client::Event::Closed(Closed::Local(ReasonCode::Success))]
    );
    assert_eq!(client.written(), DISCONNECT);
    assert!(client.connection.is_closed());
}

#[test]
fn the_client_leaves_a_server_that_breaks_the_protocol() {
    for bytes in [
        // QoS 3, DUP with QoS 0, a wildcard, ill-formed UTF-8, U+0000, an empty topic.
        publish(6, "t", Some(1), b""),
        publish(8, "t", None, b""),
        publish(0, "#", None, b""),
        packet(0x30, &[&string(b"a\xED\xA0\x80")]),
        publish(0, "a\0", None, b""),
        publish(0, "", None, b""),
        // Reserved flags, an answer to nothing, a second CONNACK, what only clients send.
        vec![0xD1, 0],
        suback(5, &[0]),
        WELCOME.to_vec(),
        PINGREQ.to_vec(),
        connect(CLEAN, "c"),
    ] {
        let mut client = Client::open();
        let events = client.feed(&bytes);
        assert!(
            matches!(events[..], [client::Event::Closed(Closed::Violation(_))]),
            "{}: {events:?}",
            hex(&bytes)
        );
        assert_eq!(client.written(), [], "3.1.1 has no word for it");
    }
}
