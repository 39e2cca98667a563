//! Whatever parses, re-encodes to the same bytes; everything else is refused, without a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use smqtt_format::{
    Access, Envelope, KeyFrame, KeyFrameContent, KeyId, SealedMessage, Sequence,
    SignatureAlgorithm, UnsignedKeyFrame,
};

/// The fields of a key frame, owned.
#[derive(Clone, Debug)]
struct Fields {
    suite: u8,
    access: Result<String, Vec<u8>>,
    epoch: u64,
    ciphertext: Vec<u8>,
    created: u64,
    lifetime: u32,
    confirmation: [u8; 16],
    topic: String,
    chain: Vec<Vec<u8>>,
}

impl Fields {
    fn content(&self) -> KeyFrameContent<'_> {
        KeyFrameContent {
            suite: self.suite,
            access: match &self.access {
                Ok(policy) => Access::Policy(policy),
                Err(attributes) => Access::Attributes(attributes),
            },
            epoch: self.epoch,
            ciphertext: &self.ciphertext,
            created: self.created,
            lifetime: self.lifetime,
            confirmation: &self.confirmation,
            topic: &self.topic,
            rules: smqtt_format::MessageRules {
                signed: false,
                padded: false,
            },
        }
    }

    fn frame(&self) -> Vec<u8> {
        let chain: Vec<&[u8]> = self.chain.iter().map(|c| &c[..]).collect();
        UnsignedKeyFrame::new(SignatureAlgorithm::Es256, &chain, &self.content())
            .expect("valid fields")
            .finish(&[3; 64])
            .expect("not too long")
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let access = prop_oneof![
        "[ -~é€]{1,40}".prop_map(Ok),
        vec(any::<u8>(), 1..40).prop_map(Err)
    ];
    let sometimes_huge = prop_oneof![0u64..300, any::<u64>()];
    (
        (any::<u8>(), access, sometimes_huge.clone()),
        vec(any::<u8>(), 1..400),
        (sometimes_huge, 1u32..),
        any::<[u8; 16]>(),
        "[a-zé]{1,9}(/[a-z]{0,4}){0,3}",
        vec(vec(any::<u8>(), 1..300), 1..=KeyFrame::MAX_CHAIN),
    )
        .prop_map(
            |(
                (suite, access, epoch),
                ciphertext,
                (created, lifetime),
                confirmation,
                topic,
                chain,
            )| {
                Fields {
                    suite,
                    access,
                    epoch,
                    ciphertext,
                    created,
                    lifetime,
                    confirmation,
                    topic,
                    chain,
                }
            },
        )
}

fn sealed(kid: KeyId, sequence: Sequence, ciphertext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    SealedMessage::write_head(
        &mut out,
        &kid,
        sequence,
        ciphertext.len() - SealedMessage::TAG_LEN,
    );
    out.extend_from_slice(ciphertext);
    out
}

/// Builds the envelope again from what was read of it.
fn rebuild(envelope: &Envelope<'_>) -> Vec<u8> {
    let message = |message: &SealedMessage<'_>| {
        sealed(message.kid(), message.sequence(), message.ciphertext())
    };
    let key_frame = |frame: &KeyFrame<'_>| {
        UnsignedKeyFrame::new(frame.algorithm(), frame.certificates(), frame.content())
            .expect("what was read is valid")
            .finish(frame.signature())
            .expect("what was read is not too long")
    };
    match envelope {
        Envelope::KeyFrame(frame) => key_frame(frame),
        Envelope::Sealed(sealed) => message(sealed),
        Envelope::Inline { frame, sealed } => [key_frame(frame), message(sealed)].concat(),
    }
}

proptest! {
    #[test]
    fn key_frames_round_trip(fields in fields()) {
        let bytes = fields.frame();
        let frame = KeyFrame::parse(&bytes).expect("we read what we write");
        prop_assert_eq!(*frame.content(), fields.content());
        prop_assert_eq!(frame.certificates(), &fields.chain.iter().map(|c| &c[..]).collect::<Vec<_>>()[..]);
        prop_assert_eq!(frame.kid(), KeyId::of(&bytes));
        prop_assert_eq!(frame.as_bytes(), &bytes[..]);
    }

    #[test]
    fn sealed_messages_round_trip(
        kid in any::<[u8; 8]>(), number in 1u32.., ciphertext in vec(any::<u8>(), 16..600),
    ) {
        let sequence = Sequence::new(number).expect("not 0");
        let bytes = sealed(KeyId(kid), sequence, &ciphertext);
        let message = SealedMessage::parse(&bytes).expect("we read what we write");
        prop_assert_eq!(message.kid(), KeyId(kid));
        prop_assert_eq!(message.sequence(), sequence);
        prop_assert_eq!(message.ciphertext(), &ciphertext[..]);
        prop_assert_eq!(bytes.len() - message.payload_len(), SealedMessage::overhead(sequence, message.payload_len()));
    }

    #[test]
    fn inline_payloads_round_trip(fields in fields(), ciphertext in vec(any::<u8>(), 16..60)) {
        let frame = fields.frame();
        let message = sealed(KeyId::of(&frame), Sequence::FIRST, &ciphertext);
        let payload = [frame.clone(), message.clone()].concat();
        let Ok(Envelope::Inline { frame: f, sealed: s }) = Envelope::parse(&payload) else {
            return Err(TestCaseError::fail("not read as inline"));
        };
        prop_assert_eq!(f.as_bytes(), &frame[..]);
        prop_assert_eq!(s, SealedMessage::parse(&message).expect("ours"));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_have_one_encoding(
        start in 0usize..4, tail in vec(any::<u8>(), 0..200),
    ) {
        let starts = [&[][..], &[0xd0, 0x83], &[0xd0, 0x83, 0x43, 0xa1, 1, 3, 0xa2, 4, 0x48], &[0xd2, 0x84]];
        let bytes = [starts[start], &tail].concat();
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert_eq!(rebuild(&envelope), bytes);
        }
    }

    /// One byte of a valid envelope replaced, removed or doubled: refused, or read as other content that again has
    /// exactly one encoding.
    #[test]
    fn damaged_envelopes_never_panic_and_have_one_encoding(
        fields in fields(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0u8..4,
    ) {
        let frame = fields.frame();
        let mut bytes = [frame.clone(), sealed(KeyId::of(&frame), Sequence::MAX, &[0; 30])].concat();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => { bytes.remove(at); }
            2 => bytes.insert(at, byte),
            _ => bytes.truncate(at),
        }
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert_eq!(rebuild(&envelope), bytes);
        }
    }
}
