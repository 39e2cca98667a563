//! Payloads as they come off the wire: no panic, and what parses has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smqtt_format::{Envelope, KeyFrame, SealedMessage, UnsignedKeyFrame, announce};

fn frame_again(frame: &KeyFrame<'_>) {
    let unsigned = UnsignedKeyFrame::new(frame.algorithm(), frame.certificates(), frame.content())
        .expect("what was read can be written");
    let bytes = unsigned.finish(frame.signature()).expect("what was read can be written");
    assert_eq!(bytes, frame.as_bytes());
}

fn message_again(sealed: &SealedMessage<'_>) {
    let mut bytes = Vec::new();
    let (kid, sequence, length) = (sealed.kid(), sealed.sequence(), sealed.payload_len());
    match sealed.signature() {
        None => SealedMessage::write_head(&mut bytes, &kid, sequence, length),
        Some(signature) => {
            let place = SealedMessage::write_signed_head(&mut bytes, &kid, sequence, length);
            bytes[place].copy_from_slice(signature);
        }
    }
    bytes.extend_from_slice(sealed.ciphertext());
    assert_eq!(bytes, sealed.as_bytes());
}

fuzz_target!(|data: &[u8]| {
    match Envelope::parse(data) {
        Ok(Envelope::KeyFrame(frame)) => frame_again(&frame),
        Ok(Envelope::Sealed(sealed)) => message_again(&sealed),
        Ok(Envelope::Inline { frame, sealed }) => {
            frame_again(&frame);
            message_again(&sealed);
        }
        Err(_) => {}
    }
    if let Ok(topic) = std::str::from_utf8(data)
        && let Some((of, kid)) = announce::parse(topic)
    {
        assert_eq!(announce::topic(of, &kid), topic);
    }
});
