//! Every rule of the format, broken one at a time.

use smqtt_format::{
    Access, Envelope, Error, KeyFrame, KeyFrameContent, SealedMessage, SignatureAlgorithm,
    UnsignedKeyFrame,
};

const CONTENT: KeyFrameContent<'static> = KeyFrameContent {
    suite: 1,
    access: Access::Policy("a = b"),
    epoch: 1,
    ciphertext: &[1, 2, 3],
    created: 1_760_000_000,
    lifetime: 60,
    confirmation: &[0; 16],
    topic: "t",
    rules: smqtt_format::MessageRules {
        signed: false,
        padded: false,
    },
};

/// `d0 83 43 a1 01 03 a2 04 48 kid 06 41 01 50 tag`: the smallest sealed message.
fn sealed() -> Vec<u8> {
    let mut bytes = vec![0xd0, 0x83, 0x43, 0xa1, 1, 3, 0xa2, 4, 0x48];
    bytes.extend_from_slice(&[0xee; 8]);
    bytes.extend_from_slice(&[6, 0x41, 1, 0x50]);
    bytes.extend_from_slice(&[0xaa; 16]);
    bytes
}

/// The sealed message with `range` replaced.
fn with(range: std::ops::Range<usize>, replacement: &[u8]) -> Vec<u8> {
    let mut bytes = sealed();
    bytes.splice(range, replacement.iter().copied());
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], expected: Error) {
    assert_eq!(Envelope::parse(bytes), Err(expected));
}

fn unexpected(part: &'static str, offset: usize) -> Error {
    Error::Unexpected { part, offset }
}

fn not_deterministic(part: &'static str, offset: usize) -> Error {
    Error::NotDeterministic { part, offset }
}

#[test]
fn the_smallest_message_is_accepted() {
    let bytes = sealed();
    assert_eq!(SealedMessage::parse(&bytes).map(|m| m.payload_len()), Ok(0));
}

#[test]
fn plaintext_is_told_apart_from_damage() {
    for plaintext in [
        &b""[..],
        b"21.5",
        b"{}",
        b"\xd0",
        b"\xd0\x9f\xd1\x80",
        b"\xa1\x01\x02",
    ] {
        refused(plaintext, Error::NotAnEnvelope);
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = sealed();
    for length in 2..bytes.len() {
        assert!(
            matches!(
                Envelope::parse(&bytes[..length]),
                Err(Error::Truncated { .. })
            ),
            "cut to {length}"
        );
    }
}

#[test]
fn bytes_behind_the_message_are_refused() {
    let mut bytes = sealed();
    bytes.push(0);
    refused(
        &bytes,
        Error::TrailingBytes {
            part: "sealed message",
            offset: 37,
            count: 1,
        },
    );
}

#[test]
fn another_algorithm_is_refused() {
    // A128GCM
    refused(
        &with(5..6, &[1]),
        unexpected("sealed message's protected header", 2),
    );
}

#[test]
fn further_headers_and_other_orders_are_refused() {
    refused(
        &with(6..7, &[0xa4]),
        unexpected("sealed message's unprotected header", 6),
    );
    // A third header is the message's own signature, and nothing else.
    refused(
        &with(6..7, &[0xa3]),
        unexpected("sealed message's header label", 20),
    );
    let mut short = vec![12, 0x58, 63];
    short.extend_from_slice(&[7; 63]);
    let mut signed = with(6..7, &[0xa3]);
    signed.splice(20..20, short);
    refused(&signed, unexpected("sealed message's signature", 21));
    // Partial IV before key id.
    let mut swapped = vec![0xd0, 0x83, 0x43, 0xa1, 1, 3, 0xa2, 6, 0x41, 1, 4, 0x48];
    swapped.extend_from_slice(&sealed()[9..17]);
    swapped.extend_from_slice(&sealed()[20..]);
    refused(&swapped, unexpected("sealed message's header label", 7));
}

#[test]
fn a_key_id_has_eight_bytes() {
    refused(
        &with(8..17, &[0x47, 1, 2, 3, 4, 5, 6, 7]),
        unexpected("key id", 8),
    );
}

#[test]
fn a_partial_iv_has_one_spelling() {
    refused(&with(18..20, &[0x40]), unexpected("partial iv", 18));
    refused(
        &with(18..20, &[0x41, 0]),
        not_deterministic("partial iv", 18),
    );
    refused(
        &with(18..20, &[0x42, 0, 1]),
        not_deterministic("partial iv", 18),
    );
    refused(
        &with(18..20, &[0x45, 1, 0, 0, 0, 0]),
        unexpected("partial iv", 18),
    );
}

#[test]
fn a_ciphertext_holds_at_least_its_tag() {
    refused(
        &with(20..37, &[0x4f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        unexpected("ciphertext", 20),
    );
}

#[test]
fn longer_lengths_than_needed_are_refused() {
    refused(
        &with(20..21, &[0x58, 0x10]),
        not_deterministic("ciphertext", 20),
    );
    refused(
        &with(2..3, &[0x58, 3]),
        not_deterministic("sealed message's protected header", 2),
    );
}

#[test]
fn indefinite_lengths_are_refused() {
    let mut bytes = with(1..2, &[0x9f]);
    bytes.push(0xff);
    // Already the second byte says that it is no envelope of ours.
    refused(&bytes, Error::NotAnEnvelope);
    let mut bytes = with(6..7, &[0xbf]);
    bytes.insert(20, 0xff);
    refused(&bytes, unexpected("sealed message's unprotected header", 6));
}

/// A frame whose protected header and content are given as CBOR.
fn frame(protected: &[u8], content: &[u8]) -> Vec<u8> {
    let bstr = |bytes: &[u8]| [&[0x59][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat();
    [
        &[0xd2, 0x84][..],
        &bstr(protected),
        &[0xa0],
        &bstr(content),
        &[0x58, 64],
        &[9; 64],
    ]
    .concat()
}

/// `{1: -7, 3: "application/smqtt-key+cbor", 33: x5chain}`, long enough for a two-byte length.
fn protected(alg: u8, content_type: &str, x5chain: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xa3, 1, alg, 3, 0x78, content_type.len() as u8];
    bytes.extend_from_slice(content_type.as_bytes());
    bytes.extend_from_slice(&[0x18, 33]);
    bytes.extend_from_slice(x5chain);
    bytes
}

const MEDIA: &str = "application/smqtt-key+cbor";

fn certificate() -> Vec<u8> {
    [&[0x59, 0x01, 0x00][..], &[5; 256]].concat()
}

/// The content, long enough for a two-byte length.
fn content() -> Vec<u8> {
    KeyFrameContent {
        ciphertext: &[1; 300],
        ..CONTENT
    }
    .encode()
    .expect("valid")
}

#[test]
fn the_hand_made_frame_is_accepted() {
    let bytes = frame(&protected(0x26, MEDIA, &certificate()), &content());
    let frame = KeyFrame::parse(&bytes).expect("valid");
    assert_eq!(frame.certificates(), [&[5; 256]]);
}

#[test]
fn other_signature_algorithms_are_refused_by_name() {
    // -8, EdDSA
    let bytes = frame(&protected(0x27, MEDIA, &certificate()), &content());
    refused(&bytes, Error::UnsupportedAlgorithm(-8));
}

#[test]
fn other_content_types_are_refused() {
    let bytes = frame(
        &protected(0x26, "application/smqtt-kez+cbor", &certificate()),
        &content(),
    );
    refused(&bytes, unexpected("content type", 4));
}

#[test]
fn a_chain_of_one_is_a_byte_string() {
    let chain = [&[0x81][..], &certificate()].concat();
    let bytes = frame(&protected(0x26, MEDIA, &chain), &content());
    refused(&bytes, unexpected("certificate chain", 34));
}

#[test]
fn chains_are_bounded() {
    let certificate = certificate();
    let chain = [&[0x85][..], &certificate.repeat(5)].concat();
    let bytes = frame(&protected(0x26, MEDIA, &chain), &content());
    refused(
        &bytes,
        Error::TooLong {
            part: "certificate chain",
            length: 5,
            limit: 4,
        },
    );
    // A length that promises more than there is costs nothing.
    let chain = [
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &certificate,
    ]
    .concat();
    let bytes = frame(&protected(0x26, MEDIA, &chain), &content());
    assert!(matches!(
        Envelope::parse(&bytes),
        Err(Error::Truncated { .. })
    ));
}

#[test]
fn an_unprotected_header_is_refused() {
    let protected = protected(0x26, MEDIA, &certificate());
    let mut bytes = frame(&protected, &content());
    let at = 5 + protected.len();
    assert_eq!(bytes[at], 0xa0);
    bytes.splice(at..=at, [0xa1, 4, 0x41, 0]);
    refused(&bytes, unexpected("key frame's unprotected header", at));
}

#[test]
fn other_versions_are_told_even_if_their_fields_are_unknown() {
    let content = [&[0xac, 1, 2, 2, 0xf6][..], &[0; 300]].concat();
    let bytes = frame(&protected(0x26, MEDIA, &certificate()), &content);
    refused(&bytes, Error::UnsupportedVersion(2));
}

#[test]
fn missing_further_and_misplaced_fields_are_refused() {
    let good = content();
    let read = |content: &[u8]| KeyFrameContent::parse(content).map(|_| ());
    assert_eq!(read(&good), Ok(()));

    let mut bad = good.clone();
    bad[0] = 0xa8;
    assert_eq!(read(&bad), Err(unexpected("key frame's content", 0)));
    // Map key 5 where 3 or 4 has to stand.
    let mut bad = good.clone();
    bad[5] = 5;
    assert_eq!(read(&bad), Err(unexpected("key frame's map key", 5)));
    // A suite beyond one byte.
    let mut bad = good.clone();
    bad.splice(4..5, [0x19, 1, 0]);
    assert_eq!(read(&bad), Err(unexpected("suite", 4)));
    // Something behind the map.
    let mut bad = good.clone();
    bad.push(0);
    assert_eq!(
        read(&bad),
        Err(Error::TrailingBytes {
            part: "key frame's content",
            offset: good.len(),
            count: 1
        })
    );
    // Text that is not UTF-8.
    let mut bad = good;
    bad[7] = 0xff;
    assert_eq!(read(&bad), Err(unexpected("policy", 6)));
}

#[test]
fn fields_that_a_reader_would_refuse_are_not_built() {
    let long_topic = "t".repeat(smqtt_format::announce::MAX_TOPIC_LEN + 1);
    let long_policy = "p".repeat(16 * 1024 + 1);
    let long_ciphertext = vec![0; 64 * 1024 + 1];
    let cases = [
        KeyFrameContent {
            access: Access::Policy(""),
            ..CONTENT
        },
        KeyFrameContent {
            access: Access::Attributes(&[]),
            ..CONTENT
        },
        KeyFrameContent {
            access: Access::Policy(&long_policy),
            ..CONTENT
        },
        KeyFrameContent {
            ciphertext: &[],
            ..CONTENT
        },
        KeyFrameContent {
            ciphertext: &long_ciphertext,
            ..CONTENT
        },
        KeyFrameContent {
            lifetime: 0,
            ..CONTENT
        },
        KeyFrameContent {
            topic: "",
            ..CONTENT
        },
        KeyFrameContent {
            topic: &long_topic,
            ..CONTENT
        },
    ];
    for content in cases {
        assert!(matches!(
            content.encode(),
            Err(Error::Empty { .. } | Error::TooLong { .. })
        ));
    }
    let long_certificate = vec![0; KeyFrame::MAX_CERTIFICATE_LEN + 1];
    for chain in [
        &[][..],
        &[&[][..]],
        &[&long_certificate[..]],
        &[&[1][..]; 5],
    ] {
        let built = UnsignedKeyFrame::new(SignatureAlgorithm::Es256, chain, &CONTENT).map(|_| ());
        assert!(matches!(
            built,
            Err(Error::Empty { .. } | Error::TooLong { .. })
        ));
    }
}
