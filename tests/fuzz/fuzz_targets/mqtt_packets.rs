//! A stream of MQTT packets, cut where the first byte says: no panic, and what decodes, encodes and decodes to the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use smqtt_proto::{Decoder, Packet, ProtocolVersion, encode};

const MAX_PACKET: u32 = 64 * 1024;

fn again(packet: Packet, version: ProtocolVersion, mut decoder: Decoder) {
    let mut bytes = BytesMut::new();
    encode(&packet, version, &mut bytes).expect("what was decoded can be encoded");
    let same = decoder.decode(&mut bytes).expect("what was encoded can be decoded");
    assert_eq!(same, Some(packet));
}

fn stream(mut decoder: Decoder, data: &[u8], cut: usize) {
    let (first, second) = data.split_at(cut.min(data.len()));
    let mut input = BytesMut::new();
    for part in [first, second] {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                // It says its own version, which a stream of a known version need not share.
                Ok(Some(Packet::Connect(connect))) => {
                    let version = connect.version;
                    again(Packet::Connect(connect), version, Decoder::for_server(MAX_PACKET * 2));
                }
                Ok(Some(packet)) => {
                    let version = decoder.version().expect("a packet was decoded");
                    again(packet, version, Decoder::new(version, MAX_PACKET * 2));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else { return };
    let cut = usize::from(*cut);
    stream(Decoder::for_server(MAX_PACKET), data, cut);
    stream(Decoder::new(ProtocolVersion::V3_1_1, MAX_PACKET), data, cut);
    stream(Decoder::new(ProtocolVersion::V5, MAX_PACKET), data, cut);
});
