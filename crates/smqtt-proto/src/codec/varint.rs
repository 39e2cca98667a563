//! Variable byte integers (MQTT 5.0 §1.5.5).

use crate::DecodeError;

/// The greatest number that four bytes hold.
pub(crate) const MAX: u32 = 268_435_455;

/// A variable byte integer that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VarInt {
    pub(crate) value: u32,
    /// How many bytes it takes.
    pub(crate) len: usize,
    /// Whether fewer would not have done (`[MQTT-1.5.5-1]`).
    pub(crate) minimal: bool,
}

/// Reads from the beginning of `bytes`; `None` if they end too early.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<VarInt>, DecodeError> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some(VarInt {
                value,
                len: i + 1,
                minimal: i == 0 || byte != 0,
            }));
        }
    }
    if bytes.len() >= 4 {
        Err(DecodeError::VariableIntegerTooLong)
    } else {
        Ok(None)
    }
}

/// How many bytes a number up to [`MAX`] takes.
pub(crate) const fn len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// The bytes of a number up to [`MAX`], and how many of them count.
pub(crate) fn bytes(mut value: u32) -> ([u8; 4], usize) {
    debug_assert!(value <= MAX, "callers check the range");
    let mut bytes = [0; 4];
    let mut len = 0;
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 || len == 3 {
            bytes[len] = low;
            return (bytes, len + 1);
        }
        bytes[len] = low | 0x80;
        len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT 5.0 table 1-1.
    #[test]
    fn sizes_change_where_the_specification_says() {
        for (value, expected) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let (encoded, n) = bytes(value);
            assert_eq!(&encoded[..n], expected);
            assert_eq!(len(value), n);
            let read = read(expected).expect("well-formed").expect("whole");
            assert_eq!(
                read,
                VarInt {
                    value,
                    len: n,
                    minimal: true
                }
            );
        }
    }

    #[test]
    fn a_fifth_byte_is_refused_as_soon_as_the_fourth_announces_it() {
        assert_eq!(read(&[0xFF; 3]), Ok(None));
        assert_eq!(read(&[0xFF; 4]), Err(DecodeError::VariableIntegerTooLong));
    }

    #[test]
    fn superfluous_bytes_are_noticed() {
        let read = read(&[0x81, 0x00]).expect("well-formed").expect("whole");
        assert_eq!(
            read,
            VarInt {
                value: 1,
                len: 2,
                minimal: false
            }
        );
    }
}
