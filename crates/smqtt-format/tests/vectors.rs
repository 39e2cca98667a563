//! The frozen vectors of structure, `tests/vectors/envelope/structure.json`. They were made without this crate.

use std::path::Path;

use serde_json::Value;
use smqtt_format::{Envelope, Error};

fn class(error: &Error) -> &'static str {
    match error {
        Error::NotAnEnvelope => "not-an-envelope",
        Error::Truncated { .. } => "truncated",
        Error::Unexpected { .. } => "unexpected",
        Error::NotDeterministic { .. } => "not-deterministic",
        Error::TrailingBytes { .. } => "trailing-bytes",
        Error::UnsupportedVersion(_) => "unsupported-version",
        Error::UnsupportedAlgorithm(_) => "unsupported-algorithm",
        Error::TooLong { .. } => "too-long",
        Error::Empty { .. } => "empty",
        other => panic!("a class that vectors do not have: {other:?}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        })
        .collect()
}

#[test]
fn payloads_are_what_the_vectors_say() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/envelope/structure.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let vectors = file["vectors"].as_array().expect("an array");
    assert!(vectors.len() > 50);
    for vector in vectors {
        let payload = bytes(vector["payload"].as_str().expect("a string"));
        let (result, kid, sequence) = match Envelope::parse(&payload) {
            Ok(Envelope::Sealed(sealed)) => ("sealed", Some(sealed.kid()), Some(sealed.sequence())),
            Ok(Envelope::KeyFrame(frame)) => ("key-frame", Some(frame.kid()), None),
            Ok(Envelope::Inline { frame, sealed }) => {
                assert_eq!(frame.kid(), sealed.kid());
                ("inline", Some(frame.kid()), Some(sealed.sequence()))
            }
            Err(error) => (class(&error), None, None),
        };
        let proves = &vector["proves"];
        assert_eq!(vector["result"], result, "{proves}");
        let kid = kid.map(|kid| kid.to_string());
        assert_eq!(vector["kid"].as_str(), kid.as_deref(), "{proves}");
        let sequence = sequence.map(|sequence| u64::from(sequence.get()));
        assert_eq!(vector["sequence"].as_u64(), sequence, "{proves}");
    }
}
