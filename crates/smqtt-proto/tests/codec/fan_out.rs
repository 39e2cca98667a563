//! A message that is encoded once gives every subscriber the packet that encoding for it alone would.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use smqtt_proto::packet::{MessageProperties, Publish, PublishProperties};
use smqtt_proto::{
    Decoder, Delivery, EncodeError, Framing, Message, Outbox, Packet, PacketId, ProtocolVersion,
    QoS, TopicName, encode,
};

use crate::generate;

fn written(outbox: &mut Outbox) -> Bytes {
    outbox.copy_to_bytes(outbox.remaining())
}

proptest! {
    #[test]
    fn each_subscriber_gets_the_packet_made_for_it(
        version in generate::version(),
        published in generate::publish(true),
        wanted in generate::publish(true),
        packet_id in any::<NonZeroU16>(),
    ) {
        let now = Instant::now();
        let published = Publish { topic: TopicName::new("a/b").expect("a topic name"), ..published };
        let message = Message::new(&published, now).expect("encodes");
        // QoS, retain, identifiers and alias are the subscriber's, everything else is the publisher's.
        let delivery = Delivery {
            qos: wanted.qos,
            retain: wanted.retain,
            subscription_ids: wanted.properties.subscription_ids.clone(),
        };
        let acknowledged = wanted.qos != QoS::AtMostOnce;
        let alias = wanted.properties.topic_alias.filter(|_| version.is_v5());
        let framing = Framing {
            packet_id: acknowledged.then_some(PacketId::from(packet_id)),
            dup: wanted.dup,
            topic_alias: alias,
            omit_topic: wanted.topic.is_aliased() && alias.is_some(),
        };
        let mut outbox = Outbox::default();
        message.write(version, &delivery, &framing, now, &mut outbox).expect("fits");
        prop_assert_eq!(message.encoded_len(version, &delivery, &framing), Ok(outbox.len()));

        let mut properties = PublishProperties::from(MessageProperties {
            subscription_ids: delivery.subscription_ids,
            ..published.properties.into_message()
        });
        properties.topic_alias = alias;
        let expected = Publish {
            dup: wanted.dup,
            qos: wanted.qos,
            retain: wanted.retain,
            topic: if framing.omit_topic { TopicName::ALIASED } else { published.topic },
            packet_id: framing.packet_id,
            properties: if version.is_v5() { properties } else { PublishProperties::default() },
            payload: published.payload,
        };
        let mut alone = bytes::BytesMut::new();
        encode(&Packet::Publish(expected), version, &mut alone).expect("encodes");
        prop_assert_eq!(&written(&mut outbox)[..], &alone[..]);
    }

    #[test]
    fn a_detached_message_is_the_same_and_shares_nothing(published in generate::publish(true)) {
        let now = Instant::now();
        let published = Publish { topic: TopicName::new("a/b").expect("a topic name"), ..published };
        let message = Message::new(&published, now).expect("encodes");
        let detached = message.detach();
        prop_assert_eq!(&detached, &message);
        prop_assert_ne!(detached.topic().bytes().as_ptr(), message.topic().bytes().as_ptr());
    }

    #[test]
    fn a_message_can_be_stored_as_a_publish(published in generate::publish(true)) {
        let now = Instant::now();
        let published = Publish { topic: TopicName::new("a/b").expect("a topic name"), ..published };
        let message = Message::new(&published, now).expect("encodes");
        let restored = Message::new(&message.to_publish(now), now).expect("encodes");
        prop_assert_eq!(restored, message);
    }
}

fn expiring(seconds: u32) -> (Message, Instant) {
    let now = Instant::now();
    let mut publish = Publish::new(TopicName::new("a").expect("a topic name"), "x");
    publish.properties.message_expiry_interval = Some(seconds);
    (Message::new(&publish, now).expect("encodes"), now)
}

fn sent_expiry(message: &Message, now: Instant) -> Option<u32> {
    let mut outbox = Outbox::default();
    let (delivery, framing) = (Delivery::default(), Framing::default());
    message
        .write(ProtocolVersion::V5, &delivery, &framing, now, &mut outbox)
        .expect("fits");
    let mut input = bytes::BytesMut::from(&written(&mut outbox)[..]);
    match Decoder::new(ProtocolVersion::V5, u32::MAX).decode(&mut input) {
        Ok(Some(Packet::Publish(publish))) => publish.properties.message_expiry_interval,
        other => panic!("a PUBLISH was written, not {other:?}"),
    }
}

/// [MQTT-3.3.2-6]
#[test]
fn the_message_expiry_interval_is_what_remains() {
    let (message, now) = expiring(60);
    assert_eq!(sent_expiry(&message, now), Some(60));
    assert_eq!(
        sent_expiry(&message, now + Duration::from_secs(20)),
        Some(40)
    );
    assert_eq!(
        sent_expiry(&message, now + Duration::from_millis(59_500)),
        Some(1)
    );
    assert!(!message.is_expired(now + Duration::from_millis(59_999)));
    assert!(message.is_expired(now + Duration::from_secs(60)));
}

#[test]
fn a_large_payload_is_shared_by_all_subscribers() {
    let payload = Bytes::from(vec![7; Outbox::SHARE_FROM]);
    let publish = Publish::new(TopicName::new("a").expect("a topic name"), payload.clone());
    let now = Instant::now();
    let message = Message::new(&publish, now).expect("encodes");
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut outbox = Outbox::default();
        message
            .write(
                version,
                &Delivery::default(),
                &Framing::default(),
                now,
                &mut outbox,
            )
            .expect("fits");
        let head = outbox.chunk().len();
        outbox.advance(head);
        assert_eq!(outbox.chunk().as_ptr(), payload.as_ptr());
    }
}

#[test]
fn nothing_is_written_that_would_not_be_a_packet() {
    let now = Instant::now();
    let publish = Publish::new(TopicName::new("a").expect("a topic name"), "x");
    let message = Message::new(&publish, now).expect("encodes");
    let mut outbox = Outbox::default();
    let mut write = |delivery: &Delivery| {
        message.write(
            ProtocolVersion::V5,
            delivery,
            &Framing::default(),
            now,
            &mut outbox,
        )
    };
    assert_eq!(
        write(&Delivery::new(QoS::AtLeastOnce)),
        Err(EncodeError::PublishIdentifier)
    );
    for value in [0, 268_435_456] {
        let delivery = Delivery {
            subscription_ids: [value][..].into(),
            ..Delivery::default()
        };
        assert_eq!(
            write(&delivery),
            Err(EncodeError::Value {
                field: "subscription identifier",
                value
            })
        );
    }
    assert!(outbox.is_empty());
    let aliased = Publish::new(TopicName::ALIASED, "x");
    assert_eq!(
        Message::new(&aliased, now).map(|_| ()),
        Err(EncodeError::NoTopic)
    );
}
