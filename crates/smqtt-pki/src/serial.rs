//! Serial numbers of certificates.

use core::fmt;
use core::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rand::CryptoRng;

use crate::Error;

/// A certificate's serial number: a positive integer of 128 bits, drawn at random.
///
/// Random, so that it tells nothing of how many certificates there are, and unique without a counter that would have
/// to survive a crash. Encoded in at most 17 bytes, where RFC 5280 §4.1.2.2 allows 20. Text form: 32 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// A new serial number. The chance that two of 2^40 agree is below 2^-48.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        // RFC 5280 §4.1.2.2: positive. Zero has a chance of 2^-128; still it is never issued.
        if bytes == [0; 16] {
            bytes[15] = 1;
        }
        Self(bytes)
    }

    /// The number as 16 bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the content of a DER integer; `None` if it is negative, zero or larger than 128 bits.
    #[must_use]
    pub fn from_der_integer(content: &[u8]) -> Option<Self> {
        if content.first()? & 0x80 != 0 {
            return None;
        }
        let start = content.iter().position(|b| *b != 0)?;
        let digits = &content[start..];
        let mut bytes = [0; 16];
        bytes[16usize.checked_sub(digits.len())?..].copy_from_slice(digits);
        Some(Self(bytes))
    }
}

impl FromStr for Serial {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let refused = || Error::Serial(s.chars().take(80).collect());
        if s.is_empty() || s.len() > 32 {
            return Err(refused());
        }
        let padded = format!("{s:0>32}");
        let decoded = HEXLOWER_PERMISSIVE
            .decode(padded.as_bytes())
            .map_err(|_| refused())?;
        let bytes: [u8; 16] = decoded.try_into().map_err(|_| refused())?;
        if bytes == [0; 16] {
            Err(refused())
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_integer_are_read_back() {
        let serial: Serial = "00000000000000000000000000000abc".parse().unwrap();
        assert_eq!(serial, "abc".parse().unwrap());
        assert_eq!(serial.to_string(), "00000000000000000000000000000abc");
        assert_eq!(Serial::from_der_integer(&[0x0a, 0xbc]), Some(serial));
        let high = Serial([0xff; 16]);
        let mut der = vec![0];
        der.extend_from_slice(high.as_bytes());
        assert_eq!(Serial::from_der_integer(&der), Some(high));
    }

    #[test]
    fn what_is_not_positive_or_too_large_is_refused() {
        assert_eq!(Serial::from_der_integer(&[]), None);
        assert_eq!(Serial::from_der_integer(&[0]), None);
        assert_eq!(Serial::from_der_integer(&[0x80]), None);
        assert_eq!(Serial::from_der_integer(&[1; 17]), None);
        for bad in ["", "0", "xyz", "-1", &"1".repeat(33)] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
        }
    }
}
