//! What a thousand messages cost in instructions, which repeat where times do not: scripts/bench/instructions.

#[path = "../../../scripts/bench/counted.rs"]
mod counted;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use counted::count;
use smqtt_proto::packet::Publish;
use smqtt_proto::{
    Decoder, Delivery, Framing, Message, Outbox, Packet, PacketId, ProtocolVersion, QoS, TopicName,
    encode,
};

const MESSAGES: usize = 1000;

const OPERATIONS: [&str; 6] = [
    "decode-3.1.1-qos0-x1000",
    "decode-5.0-qos0-x1000",
    "decode-5.0-qos1-x1000",
    "encode-3.1.1-qos0-x1000",
    "encode-5.0-qos0-x1000",
    "encode-5.0-qos1-x1000",
];

fn publish(qos: QoS) -> Publish {
    let topic = TopicName::new("bench/0/topic").expect("a topic name");
    Publish {
        qos,
        packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::new(7).expect("not zero")),
        ..Publish::new(topic, vec![b'x'; 64])
    }
}

fn decode(version: ProtocolVersion, qos: QoS) {
    let mut bytes = BytesMut::new();
    for _ in 0..MESSAGES {
        encode(&Packet::Publish(publish(qos)), version, &mut bytes).expect("encodes");
    }
    let batch: Bytes = bytes.freeze();
    count(|| {
        let mut decoder = Decoder::new(version, 1024 * 1024);
        let mut batch = batch.clone();
        let mut decoded = 0;
        while let Some(packet) = decoder.decode_from(&mut batch).expect("valid") {
            black_box(&packet);
            decoded += 1;
        }
        assert_eq!(decoded, MESSAGES);
    });
}

fn write(version: ProtocolVersion, qos: QoS) {
    let now = Instant::now();
    let publish = publish(qos);
    let delivery = Delivery::new(qos);
    let framing = Framing {
        packet_id: publish.packet_id,
        ..Framing::default()
    };
    let mut outbox = Outbox::default();
    count(|| {
        for _ in 0..MESSAGES {
            let message = Arc::new(Message::new(&publish, now).expect("encodes"));
            message
                .write(version, &delivery, &framing, now, &mut outbox)
                .expect("fits");
            let written = outbox.remaining();
            outbox.advance(black_box(written));
        }
    });
}

fn run(name: &str) {
    let version = if name.contains("3.1.1") {
        ProtocolVersion::V3_1_1
    } else {
        ProtocolVersion::V5
    };
    let qos = if name.contains("qos1") {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    match name.split('-').next() {
        Some("decode") => decode(version, qos),
        _ => write(version, qos),
    }
}

fn main() {
    counted::main(&OPERATIONS, run);
}
