//! The byte strings that are signed and authenticated but not sent (RFC 9052 §4.4 and §5.3).

use crate::Sequence;
use crate::cbor::write;
use crate::sealed::PROTECTED;

/// The protocol's name in every sealed message's additional data.
const PROTOCOL: &str = "smqtt/1";

/// What a sealed message is bound to besides its own bytes: the CBOR array `["smqtt/1", topic]`, as COSE `external_aad`.
///
/// A broker that moves a ciphertext to another topic thereby makes it fail to open.
#[must_use]
pub fn external_aad(topic: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + topic.len());
    write(&mut out, |e| e.array(2)?.str(PROTOCOL)?.str(topic)?.ok());
    out
}

/// The `Enc_structure` of a sealed message for `topic` (RFC 9052 §5.3): the additional data of its AES-GCM.
///
/// It is the same for all messages of a topic, so both sides make it once.
#[must_use]
pub fn enc_structure(topic: &str) -> Vec<u8> {
    let external_aad = external_aad(topic);
    let mut out = Vec::with_capacity(20 + external_aad.len());
    write(&mut out, |e| {
        e.array(3)?
            .str("Encrypt0")?
            .bytes(&PROTECTED)?
            .bytes(&external_aad)?
            .ok()
    });
    out
}

/// The `Sig_structure` of a `COSE_Sign1` (RFC 9052 §4.4) with empty external data: the bytes that are signed.
///
/// `protected` and `payload` are the contents of the two byte strings, without their heads.
#[must_use]
pub fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + protected.len() + payload.len());
    write(&mut out, |e| {
        e.array(4)?
            .str("Signature1")?
            .bytes(protected)?
            .bytes(&[])?
            .bytes(payload)?
            .ok()
    });
    out
}

/// The `Countersign_structure` of a sealed message's own signature (RFC 9338 §3.3, abbreviated countersignature of a structure
/// without other fields): the bytes that the publisher's device signs.
///
/// The external data names what the ciphertext does not: the topic, the SHA-256 of the key frame, the message's number.
#[must_use]
pub fn countersign_structure(
    topic: &str,
    frame_digest: &[u8; 32],
    sequence: Sequence,
    ciphertext: &[u8],
) -> Vec<u8> {
    let mut external = Vec::with_capacity(56 + topic.len());
    write(&mut external, |e| {
        e.array(4)?
            .str(PROTOCOL)?
            .str(topic)?
            .bytes(frame_digest)?
            .bytes(sequence.partial_iv(&mut [0; 4]))?
            .ok()
    });
    let mut out = Vec::with_capacity(40 + external.len() + ciphertext.len());
    write(&mut out, |e| {
        e.array(4)?
            .str("CounterSignature0")?
            .bytes(&PROTECTED)?
            .bytes(&external)?
            .bytes(ciphertext)?
            .ok()
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_additional_data_is_as_the_specification_writes_it() {
        assert_eq!(
            enc_structure("a/b"),
            b"\x83\x68Encrypt0\x43\xa1\x01\x03\x4d\x82\x67smqtt/1\x63a/b"
        );
        assert_eq!(
            sig_structure(&[1], &[2, 3]),
            b"\x84\x6aSignature1\x41\x01\x40\x42\x02\x03"
        );
        let sequence = Sequence::new(256).expect("not 0");
        let mut expected = b"\x84\x71CounterSignature0\x43\xa1\x01\x03\x58\x32".to_vec();
        expected.extend_from_slice(b"\x84\x67smqtt/1\x63a/b\x58\x20");
        expected.extend_from_slice(&[7; 32]);
        expected.extend_from_slice(b"\x42\x01\x00\x42\x02\x03");
        assert_eq!(
            countersign_structure("a/b", &[7; 32], sequence, &[2, 3]),
            expected
        );
    }
}
