//! What this crate builds, an independent COSE library reads, and the other way round.

use coset::iana::{self, EnumI64};
use coset::{
    CborSerializable, CoseEncrypt0, CoseEncrypt0Builder, CoseSign1, CoseSign1Builder, Header,
    HeaderBuilder, TaggedCborSerializable, cbor::value::Value,
};
use smqtt_format::{
    Access, Envelope, KEY_FRAME_CONTENT_TYPE, KeyFrame, KeyFrameContent, KeyId, SealedMessage,
    Sequence, SignatureAlgorithm, UnsignedKeyFrame, enc_structure, external_aad,
};

const CONTENT: KeyFrameContent<'static> = KeyFrameContent {
    suite: 1,
    access: Access::Policy("role = doctor and dept = icu"),
    epoch: 300,
    ciphertext: &[0xab; 672],
    created: 1_760_000_000,
    lifetime: 86_400,
    confirmation: &[0xcd; 16],
    topic: "clinic/icu/bed-4",
    rules: smqtt_format::MessageRules {
        signed: false,
        padded: false,
    },
};

fn x5chain(chain: &[&[u8]]) -> Value {
    match chain {
        [only] => Value::Bytes(only.to_vec()),
        several => Value::Array(several.iter().map(|c| Value::Bytes(c.to_vec())).collect()),
    }
}

fn frame_header(chain: &[&[u8]]) -> Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::ES256)
        .content_type(KEY_FRAME_CONTENT_TYPE.into())
        .value(iana::HeaderParameter::X5Chain.to_i64(), x5chain(chain))
        .build()
}

#[test]
fn coset_reads_our_key_frames_and_signs_over_the_same_bytes() {
    for chain in [&[&[1u8; 500][..]][..], &[&[1; 500], &[2; 40]]] {
        let unsigned =
            UnsignedKeyFrame::new(SignatureAlgorithm::Es256, chain, &CONTENT).expect("valid");
        let to_be_signed = unsigned.to_be_signed();
        let bytes = unsigned.finish(&[7; 64]).expect("valid");

        let theirs = CoseSign1::from_tagged_slice(&bytes).expect("coset reads it");
        assert_eq!(theirs.tbs_data(b""), to_be_signed);
        assert_eq!(theirs.signature, [7; 64]);
        assert!(theirs.unprotected.is_empty());
        assert_eq!(theirs.protected.header, frame_header(chain));
        assert_eq!(
            theirs.payload.as_deref(),
            Some(&*CONTENT.encode().expect("valid"))
        );

        let ours = KeyFrame::parse(&bytes).expect("we read it");
        assert_eq!(ours.to_be_signed(), to_be_signed);
        assert_eq!(ours.certificates(), chain);
        assert_eq!(*ours.content(), CONTENT);
    }
}

#[test]
fn we_read_the_key_frames_that_coset_builds() {
    for chain in [&[&[1u8; 500][..]][..], &[&[1; 500], &[2; 40]]] {
        let bytes = CoseSign1Builder::new()
            .protected(frame_header(chain))
            .payload(CONTENT.encode().expect("valid"))
            .signature(vec![9; 64])
            .build()
            .to_tagged_vec()
            .expect("coset writes it");
        let frame = KeyFrame::parse(&bytes).expect("we read it");
        assert_eq!(*frame.content(), CONTENT);
        assert_eq!(frame.certificates(), chain);
        assert_eq!(frame.signature(), &[9; 64]);
        assert_eq!(frame.algorithm(), SignatureAlgorithm::Es256);
    }
}

#[test]
fn the_key_frames_content_is_cbor_that_others_read() {
    let value = Value::from_slice(&CONTENT.encode().expect("valid")).expect("ciborium reads it");
    let entries = value.into_map().expect("a map");
    let expected: Vec<(i64, Value)> = vec![
        (1, 1.into()),
        (2, 1.into()),
        (3, "role = doctor and dept = icu".into()),
        (5, 300.into()),
        (6, Value::Bytes(vec![0xab; 672])),
        (7, 1_760_000_000.into()),
        (8, 86_400.into()),
        (9, Value::Bytes(vec![0xcd; 16])),
        (10, "clinic/icu/bed-4".into()),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(k, v)| (k.into(), v)).collect();
    assert_eq!(entries, expected);
}

#[test]
fn coset_reads_our_sealed_messages_and_authenticates_the_same_bytes() {
    let kid = KeyId(*b"12345678");
    for (number, partial_iv) in [
        (1, &[1][..]),
        (255, &[255]),
        (256, &[1, 0]),
        (u32::MAX, &[255, 255, 255, 255]),
    ] {
        let sequence = Sequence::new(number).expect("not 0");
        let ciphertext = [0x5a; 300 + SealedMessage::TAG_LEN];
        let mut bytes = Vec::new();
        SealedMessage::write_head(&mut bytes, &kid, sequence, 300);
        bytes.extend_from_slice(&ciphertext);

        let theirs = CoseEncrypt0::from_tagged_slice(&bytes).expect("coset reads it");
        assert_eq!(theirs.unprotected.key_id, kid.as_bytes());
        assert_eq!(theirs.unprotected.partial_iv, partial_iv);
        assert_eq!(theirs.ciphertext.as_deref(), Some(&ciphertext[..]));
        assert_eq!(
            theirs.protected.header,
            HeaderBuilder::new()
                .algorithm(iana::Algorithm::A256GCM)
                .build()
        );
        // coset hands the Enc_structure to the cipher: it has to be ours.
        let opened = theirs.decrypt_ciphertext(
            &external_aad("a/b"),
            || unreachable!("there is a ciphertext"),
            |_, aad| -> Result<_, ()> {
                assert_eq!(aad, enc_structure("a/b"));
                Ok(vec![])
            },
        );
        assert_eq!(opened, Ok(vec![]));
    }
}

#[test]
fn we_read_the_sealed_messages_that_coset_builds() {
    let bytes = CoseEncrypt0Builder::new()
        .protected(
            HeaderBuilder::new()
                .algorithm(iana::Algorithm::A256GCM)
                .build(),
        )
        .unprotected(
            HeaderBuilder::new()
                .key_id(b"12345678".to_vec())
                .partial_iv(vec![1, 2, 3])
                .build(),
        )
        .ciphertext(vec![3; 20])
        .build()
        .to_tagged_vec()
        .expect("coset writes it");
    let Ok(Envelope::Sealed(message)) = Envelope::parse(&bytes) else {
        panic!("we read it");
    };
    assert_eq!(message.kid(), KeyId(*b"12345678"));
    assert_eq!(message.sequence().get(), 0x01_02_03);
    assert_eq!(message.ciphertext(), [3; 20]);
    assert_eq!(message.payload_len(), 4);
}
