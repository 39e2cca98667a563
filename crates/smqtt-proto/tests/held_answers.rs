//! A server that answers to a disk: PUBREL, PUBCOMP and QoS 2 PUBLISH packets leave at its word.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use smqtt_proto::packet::{Ack, ConnAckProperties, Publish};
use smqtt_proto::server::{Connection, Event};
use smqtt_proto::{
    Decoder, Delivery, Message, MqttString, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
    Session, TopicName, client, encode, server,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A connection that is open, with held answers, and what it sent behind the CONNACK.
fn open(session: Session, now: Instant) -> (Connection, Vec<Packet>) {
    let options = client::Options::new(V5, MqttString::new("c").expect("text"));
    let mut client = client::Connection::new(options, Session::new(), now).expect("options");
    let mut server = Connection::new(Arc::new(server::Config::default()), now);
    let mut wire = BytesMut::new();
    wire.put(client.outbox());
    server.handle_input(now, &mut wire);
    assert!(matches!(server.poll_event(), Some(Event::Connect(_))));
    server.hold_answers();
    server.accept(now, session, true, ConnAckProperties::default());
    let mut packets = sent(&mut server);
    assert!(matches!(packets.remove(0), Packet::ConnAck(_)));
    (server, packets)
}

fn sent(server: &mut Connection) -> Vec<Packet> {
    let mut bytes = BytesMut::new();
    bytes.put(server.outbox());
    let mut decoder = Decoder::new(V5, u32::MAX);
    std::iter::from_fn(|| decoder.decode(&mut bytes).expect("packets")).collect()
}

fn receive(server: &mut Connection, packet: Packet, now: Instant) -> Option<Event> {
    let mut bytes = BytesMut::new();
    encode(&packet, V5, &mut bytes).expect("encodable");
    server.handle_input(now, &mut bytes);
    server.poll_event()
}

fn message(now: Instant) -> Arc<Message> {
    let mut publish = Publish::new(TopicName::new("t").expect("topic"), "x");
    publish.qos = QoS::ExactlyOnce;
    Arc::new(Message::new(&publish, now).expect("message"))
}

#[test]
fn nothing_of_a_delivery_leaves_before_the_word() {
    let now = Instant::now();
    let (mut server, _) = open(Session::new(), now);
    let delivery = Delivery::new(QoS::ExactlyOnce);
    let id = server.prepare(now, &message(now), delivery).expect("room");
    assert!(sent(&mut server).is_empty());
    server.send_prepared(now, id);
    match &sent(&mut server)[..] {
        [Packet::Publish(publish)] => {
            assert_eq!((publish.packet_id, publish.dup), (Some(id), false))
        }
        other => panic!("{other:?}"),
    }
    let ack = Ack::new(id, ReasonCode::Success);
    for _ in 0..2 {
        // It may be told twice; each is committed.
        let event = receive(&mut server, Packet::PubRec(ack.clone()), now);
        assert_eq!(event, Some(Event::Received { packet_id: id }));
        assert!(sent(&mut server).is_empty());
    }
    server.release(id);
    assert!(matches!(&sent(&mut server)[..], [Packet::PubRel(rel)] if rel.packet_id == id));
    let event = receive(&mut server, Packet::PubComp(ack), now);
    assert!(matches!(event, Some(Event::Acknowledged { packet_id, .. }) if packet_id == id));
    server.release(id);
    assert!(sent(&mut server).is_empty(), "it is over");
    assert!(server.take_session().is_empty());
}

#[test]
fn what_was_prepared_is_part_of_the_session() {
    let now = Instant::now();
    let (mut server, _) = open(Session::new(), now);
    let delivery = Delivery::new(QoS::ExactlyOnce);
    let id = server.prepare(now, &message(now), delivery).expect("room");
    let session = server.take_session();
    let (_server, packets) = open(session, now);
    match &packets[..] {
        [Packet::Publish(publish)] => assert_eq!(publish.packet_id, Some(id)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_identifier_is_free_at_the_word_and_not_before() {
    let now = Instant::now();
    let (mut server, _) = open(Session::new(), now);
    let id = PacketId::new(7).expect("not 0");
    let mut publish = Publish::new(TopicName::new("t").expect("topic"), "x");
    publish.qos = QoS::ExactlyOnce;
    publish.packet_id = Some(id);
    let event = receive(&mut server, Packet::Publish(publish.clone()), now);
    assert!(matches!(event, Some(Event::Publish(_))));
    server.acknowledge(id, ReasonCode::Success);
    assert!(matches!(&sent(&mut server)[..], [Packet::PubRec(_)]));
    let released = Packet::PubRel(Ack::new(id, ReasonCode::Success));
    let event = receive(&mut server, released, now);
    assert_eq!(event, Some(Event::Released { packet_id: id }));
    assert!(sent(&mut server).is_empty());
    // Until then it is the same message.
    publish.dup = true;
    assert_eq!(
        receive(&mut server, Packet::Publish(publish.clone()), now),
        None
    );
    assert!(matches!(&sent(&mut server)[..], [Packet::PubRec(_)]));
    server.complete(id);
    match &sent(&mut server)[..] {
        [Packet::PubComp(ack)] => assert_eq!(ack.reason, ReasonCode::Success),
        other => panic!("{other:?}"),
    }
    publish.dup = false;
    let event = receive(&mut server, Packet::Publish(publish), now);
    assert!(matches!(event, Some(Event::Publish(_))));
}
