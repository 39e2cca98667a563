//! The frozen vectors hold, and an implementation that shares nothing with this crate reads them.

mod vector_file;

use std::collections::BTreeSet;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use coset::{CoseEncrypt0, CoseSign1, TaggedCborSerializable, cbor::value::Value};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use smqtt_envelope::Refusal;
use vector_file::{ContentKeys, Outcome, Reading, directory};

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = directory().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// What readers make of what arrives.
const FILES: [&str; 3] = ["reading.json", "signed-and-padded.json", "tagged.json"];

#[test]
fn readers_do_what_the_vectors_say() {
    for file in FILES {
        let reading: Reading = read(file);
        for case in &reading.cases {
            assert_eq!(
                reading.run(case),
                case.expected,
                "{}: {}",
                case.name,
                case.proves
            );
        }
    }
}

#[test]
fn the_vectors_reach_every_reason_that_does_not_hang_on_limits() {
    let seen: BTreeSet<String> = FILES
        .iter()
        .flat_map(|file| read::<Reading>(file).cases)
        .flat_map(|case| case.expected)
        .filter_map(|outcome| match outcome {
            Outcome::Refused(code) | Outcome::KeyRefused(code) => Some(code),
            _ => None,
        })
        .collect();
    let limits = [
        "frame-too-long",
        "revoked-publisher",
        "forgotten-key",
        "too-many-keys",
        "waiting-full",
        // What a reader asks for beyond the format.
        "unwanted-publisher",
        "too-old",
    ];
    for code in Refusal::CODES {
        assert_eq!(seen.contains(*code), !limits.contains(code), "{code}");
    }
}

/// Reads messages with `coset`, HKDF and AES-GCM, by the words of `docs/envelope.md` alone.
#[test]
fn off_the_shelf_parts_open_the_messages() {
    let file: ContentKeys = read("content-keys.json");
    assert!(!file.vectors.is_empty());
    for vector in &file.vectors {
        let frame_sha256: [u8; 32] = Sha256::digest(&vector.frame.0).into();
        assert_eq!(frame_sha256[..], vector.frame_sha256.0[..]);
        assert_eq!(frame_sha256[..8], vector.kid.0[..]);

        // The frame: who signed it, and that the signer knew the key.
        let frame = CoseSign1::from_tagged_slice(&vector.frame.0).expect("COSE_Sign1");
        let (_, x5chain) = frame.protected.header.rest.first().expect("x5chain");
        let certificate = x5chain.as_bytes().expect("one certificate");
        let salt = Sha256::digest(certificate);
        assert_eq!(salt[..], vector.certificate_sha256.0[..]);
        let mut confirmation = [0; 16];
        Hkdf::<Sha256>::new(Some(&salt), &vector.shared_key.0)
            .expand(b"smqtt/1 confirm", &mut confirmation)
            .expect("short");
        assert_eq!(confirmation[..], vector.confirmation.0[..]);
        let content = frame.payload.as_deref().expect("attached");
        let content: Value = coset::CborSerializable::from_slice(content).expect("CBOR");
        let entries = content.into_map().expect("a map");
        let stated = entries
            .iter()
            .find_map(|(key, value)| (*key == Value::from(9)).then_some(value));
        assert_eq!(
            stated.and_then(|value| value.as_bytes()),
            Some(&vector.confirmation.0)
        );

        // The content key.
        let info = [b"smqtt/1 content", vector.topic.as_bytes()].concat();
        let mut okm = [0; 44];
        Hkdf::<Sha256>::new(Some(&frame_sha256), &vector.shared_key.0)
            .expand(&info, &mut okm)
            .expect("short");
        assert_eq!(okm[..32], vector.content_key.0[..]);
        assert_eq!(okm[32..], vector.base_iv.0[..]);

        // The message.
        let message = CoseEncrypt0::from_tagged_slice(&vector.message.0).expect("COSE_Encrypt0");
        assert_eq!(message.unprotected.key_id, vector.kid.0);
        let partial_iv = &message.unprotected.partial_iv;
        let number = partial_iv.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        assert_eq!(number, vector.sequence);
        let mut nonce = [0; 12];
        nonce[12 - partial_iv.len()..].copy_from_slice(partial_iv);
        for (byte, base) in nonce.iter_mut().zip(&okm[32..]) {
            *byte ^= base;
        }
        assert_eq!(nonce[..], vector.nonce.0[..]);
        let payload = message
            .decrypt_ciphertext(
                &vector.external_aad.0,
                || "no ciphertext",
                |ciphertext, aad| {
                    assert_eq!(aad, vector.enc_structure.0);
                    let (body, tag) = ciphertext.split_last_chunk::<16>().ok_or("short")?;
                    let mut payload = body.to_vec();
                    Aes256Gcm::new_from_slice(&okm[..32])
                        .map_err(|_| "key")?
                        .decrypt_inout_detached(
                            &Nonce::from(nonce),
                            aad,
                            payload.as_mut_slice().into(),
                            &Tag::from(*tag),
                        )
                        .map_err(|_| "does not open")?;
                    Ok::<_, &str>(payload)
                },
            )
            .expect("opens");
        assert_eq!(payload, vector.payload.0, "{}", vector.proves);
    }
}
