//! The byte strings that are signed and authenticated but not sent (RFC 9052 §4.4 and §5.3).

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
    }
}
