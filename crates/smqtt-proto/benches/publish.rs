//! What a PUBLISH costs: decoding a batch, and encoding. Fan-out is measured with the router, in smqtt-broker.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use smqtt_proto::packet::{Ack, Publish};
use smqtt_proto::{
    Decoder, Delivery, Framing, Message, Outbox, Packet, PacketId, ProtocolVersion, QoS,
    ReasonCode, TopicName, encode,
};

const BATCH: u64 = 100;

fn publish(qos: QoS) -> Publish {
    let topic = TopicName::new("bench/0/topic").expect("a topic name");
    let packet_id = (qos != QoS::AtMostOnce).then(|| PacketId::new(7).expect("not zero"));
    Publish {
        qos,
        packet_id,
        ..Publish::new(topic, vec![b'x'; 64])
    }
}

fn batch(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut bytes = BytesMut::new();
    for _ in 0..BATCH {
        encode(packet, version, &mut bytes).expect("encodes");
    }
    bytes
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(BATCH));
    let ack = Packet::PubAck(Ack::new(
        PacketId::new(7).expect("not zero"),
        ReasonCode::Success,
    ));
    for (name, version, packet) in [
        (
            "publish qos 0, 3.1.1",
            ProtocolVersion::V3_1_1,
            Packet::Publish(publish(QoS::AtMostOnce)),
        ),
        (
            "publish qos 0, 5.0",
            ProtocolVersion::V5,
            Packet::Publish(publish(QoS::AtMostOnce)),
        ),
        (
            "publish qos 1, 5.0",
            ProtocolVersion::V5,
            Packet::Publish(publish(QoS::AtLeastOnce)),
        ),
        ("puback, 5.0", ProtocolVersion::V5, ack),
    ] {
        let bytes = batch(&packet, version).freeze();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut decoder = Decoder::new(version, 1024 * 1024);
                let mut batch = bytes.clone();
                while let Some(packet) = decoder.decode_from(&mut batch).expect("valid") {
                    black_box(&packet);
                }
            });
        });
    }
    group.finish();
}

fn encode_publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH));
    let now = Instant::now();
    for (name, version, qos) in [
        (
            "publish qos 0, 3.1.1",
            ProtocolVersion::V3_1_1,
            QoS::AtMostOnce,
        ),
        ("publish qos 0, 5.0", ProtocolVersion::V5, QoS::AtMostOnce),
        ("publish qos 1, 5.0", ProtocolVersion::V5, QoS::AtLeastOnce),
    ] {
        let message = Arc::new(Message::new(&publish(qos), now).expect("encodes"));
        let delivery = Delivery::new(qos);
        let framing = Framing {
            packet_id: PacketId::new(7),
            ..Framing::default()
        };
        let mut outbox = Outbox::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    message
                        .write(version, &delivery, &framing, now, &mut outbox)
                        .expect("fits");
                }
                let written = outbox.remaining();
                outbox.advance(black_box(written));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode_publish);
criterion_main!(benches);
