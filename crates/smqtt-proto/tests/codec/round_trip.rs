//! What is encoded is decoded to the same, however the stream is cut.

use bytes::{Buf, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use smqtt_proto::{Decoder, MqttString, Packet, ProtocolVersion, TopicName, encode, encoded_len};

use crate::generate;

fn packets() -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    generate::version()
        .prop_flat_map(|version| (Just(version), vec(generate::packet(version), 1..8)))
}

fn stream(version: ProtocolVersion, packets: &[Packet]) -> BytesMut {
    let mut stream = BytesMut::new();
    for packet in packets {
        let before = stream.len();
        encode(packet, version, &mut stream).expect("generated packets can be encoded");
        assert_eq!(encoded_len(packet, version), Ok(stream.len() - before));
    }
    stream
}

proptest! {
    #[test]
    fn packets_survive_a_stream_cut_anywhere((version, sent) in packets(), cuts in vec(1..200_usize, 1..50)) {
        let mut stream = stream(version, &sent);
        let mut decoder = Decoder::new(version, u32::MAX);
        let mut input = BytesMut::new();
        let mut received = Vec::new();
        for cut in cuts.into_iter().cycle() {
            let taken = cut.min(stream.len());
            input.extend_from_slice(&stream[..taken]);
            stream.advance(taken);
            while let Some(packet) = decoder.decode(&mut input).expect("valid packets") {
                received.push(packet);
            }
            if stream.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_batch_gives_the_whole_packets_and_leaves_the_rest((version, sent) in packets(), keep in 0..2000_usize) {
        let whole = stream(version, &sent);
        let mut input = BytesMut::from(&whole[..keep.min(whole.len())]);
        let mut decoder = Decoder::new(version, u32::MAX);
        let mut batch = decoder.take_whole(&mut input).expect("valid packets");
        let mut received = Vec::new();
        while let Some(packet) = decoder.decode_from(&mut batch).expect("valid packets") {
            received.push(packet);
        }
        prop_assert!(batch.is_empty());
        prop_assert_eq!(&received[..], &sent[..received.len()]);
        let mut expected = stream(version, &received);
        expected.extend_from_slice(&input);
        prop_assert_eq!(&expected[..], &whole[..keep.min(whole.len())]);
        if received.len() < sent.len() {
            prop_assert!(input.len() < encoded_len(&sent[received.len()], version).expect("encodes"));
        }
    }
}

#[test]
fn the_longest_strings_survive() {
    let mut publish = smqtt_proto::packet::Publish::new(
        TopicName::new("x".repeat(65_535)).expect("just short enough"),
        vec![1; 100_000],
    );
    publish.properties.content_type =
        Some(MqttString::new("é".repeat(32_767)).expect("just short enough"));
    let sent = [Packet::Publish(publish)];
    let mut stream = stream(ProtocolVersion::V5, &sent);
    let received = Decoder::new(ProtocolVersion::V5, u32::MAX).decode(&mut stream);
    assert_eq!(received, Ok(Some(sent[0].clone())));
}

#[test]
fn decoding_shares_the_bytes_of_the_stream() {
    let topic = TopicName::new("berlin/temperature").expect("a topic name");
    let sent = Packet::Publish(smqtt_proto::packet::Publish::new(topic, vec![7; 64]));
    let mut input = stream(ProtocolVersion::V5, &[sent.clone(), sent]);
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new(ProtocolVersion::V5, u32::MAX);
    let mut batch = decoder.take_whole(&mut input).expect("valid packets");
    let mut count = 0;
    while let Some(Packet::Publish(publish)) =
        decoder.decode_from(&mut batch).expect("valid packets")
    {
        assert!(range.contains(&publish.topic.bytes().as_ptr()));
        assert!(range.contains(&publish.payload.as_ptr()));
        count += 1;
    }
    assert_eq!(count, 2);
}
