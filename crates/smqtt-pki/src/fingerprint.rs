//! Fingerprints of certificates.

use core::fmt;
use core::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use crate::Error;

/// SHA-256 over a certificate's DER encoding (32 bytes): how a person compares and a device pins it.
///
/// Text form: `sha256:` and 64 lower-case hexadecimal digits. Upper case and the colons between the bytes that
/// `openssl x509 -fingerprint` writes are read too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate, given its DER encoding.
    #[must_use]
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let refused = || Error::Fingerprint(s.chars().take(120).collect());
        let text = s.trim();
        let (scheme, digits) = text.split_once(':').ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("sha256") || digits.len() > 95 {
            return Err(refused());
        }
        let digits: String = match digits.len() {
            95 if digits.bytes().skip(2).step_by(3).all(|b| b == b':') => {
                digits.chars().filter(|c| *c != ':').collect()
            }
            _ => digits.to_owned(),
        };
        let bytes = HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| refused())?;
        Ok(Self(bytes.try_into().map_err(|_| refused())?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back() {
        let fingerprint = Fingerprint::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn the_notation_of_openssl_is_read() {
        let text = "SHA256:BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:\
                    B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";
        assert_eq!(
            text.parse::<Fingerprint>().unwrap(),
            Fingerprint::of(b"abc")
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let good = Fingerprint::of(b"abc").to_string();
        for bad in [
            "",
            "sha256:",
            &good[7..],
            &good[..70],
            &format!("{good}0"),
            &good.replace("256", "1"),
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }
}
