//! JSON lines on stdout: one object a line, `type` first, nothing else on stdout.

use std::io::{self, Write};

use serde::Serialize;

/// Writes one object and a line feed.
pub(crate) fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

/// Writes one object, without a line feed.
pub(crate) fn object(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    Ok(serde_json::to_writer(out, object)?)
}

/// A payload in JSON: `payload` if it is UTF-8, else `payload_base64`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload<'a> {
    Payload(&'a str),
    PayloadBase64(String),
}

impl<'a> Payload<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Payload(text),
            Err(_) => Self::PayloadBase64(data_encoding::BASE64.encode(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_if_it_can_be_and_base64_if_it_cannot() {
        let json = |bytes: &[u8]| serde_json::to_string(&Payload::new(bytes)).unwrap();
        assert_eq!(json("21.5 °C".as_bytes()), r#"{"payload":"21.5 °C"}"#);
        assert_eq!(json(b""), r#"{"payload":""}"#);
        assert_eq!(json(&[0xff, 0x00]), r#"{"payload_base64":"/wA="}"#);
    }
}
