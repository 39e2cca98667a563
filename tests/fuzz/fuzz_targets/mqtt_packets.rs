//! A stream of MQTT packets, cut where the first byte says: no panic, and what decodes, encodes and decodes to the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use smqtt_proto::{Decoder, ProtocolVersion, encode};

const MAX_PACKET: u32 = 64 * 1024;

fn stream(mut decoder: Decoder, data: &[u8], cut: usize) {
    let (first, second) = data.split_at(cut.min(data.len()));
    let mut input = BytesMut::new();
    for part in [first, second] {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(packet)) => {
                    let version = decoder.version().expect("a packet was decoded");
                    let mut again = BytesMut::new();
                    encode(&packet, version, &mut again).expect("what was decoded can be encoded");
                    let mut same = Decoder::new(version, MAX_PACKET * 2);
                    if !matches!(packet, smqtt_proto::Packet::Connect(_)) {
                        assert_eq!(same.decode(&mut again).expect("what was encoded can be decoded"), Some(packet));
                    }
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
