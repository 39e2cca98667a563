//! Attributes in certificates: `urn:smqtt:attribute:` and the attribute's text, percent-encoded.

/// What the URI of an attribute begins with.
pub const ATTRIBUTE_URN: &str = "urn:smqtt:attribute:";

/// The most attributes that one certificate shows.
pub const MAX_CERTIFIED_ATTRIBUTES: usize = 32;

/// The URI of an attribute.
pub(crate) fn encode(attribute: &str) -> String {
    let mut uri = ATTRIBUTE_URN.to_owned();
    for byte in attribute.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// The attribute behind [`ATTRIBUTE_URN`]; none if it is not exactly what [`encode`] makes.
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (encode(&text).strip_prefix(ATTRIBUTE_URN) == Some(encoded)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_one_uri() {
        for text in ["role = sensor", "on-call", "site = \"Köln / Süd\"", ""] {
            let uri = encode(text);
            assert!(uri.is_ascii() && !uri.contains(' '), "{uri}");
            assert_eq!(decode(&uri[ATTRIBUTE_URN.len()..]).as_deref(), Some(text));
        }
        for other in ["role%20%3d%20x", "a b", "%4", "%zz", "%FF", "%61"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
