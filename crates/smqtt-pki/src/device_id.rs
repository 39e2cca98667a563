//! Names of devices.

use core::fmt;
use core::str::FromStr;

use crate::Error;

/// The name of a device: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
///
/// It fits a certificate's common name (RFC 5280 `ub-common-name` is 64), an MQTT client identifier, a topic level and
/// a file name alike, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Box<str>);

/// What a device's subject alternative name (a URI) begins with.
const URN: &str = "urn:smqtt:device:";

impl DeviceId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that names the device in its certificate: `urn:smqtt:device:<id>`.
    #[must_use]
    pub fn urn(&self) -> String {
        format!("{URN}{}", self.0)
    }

    /// The device that a certificate's URI names; `None` if the URI names none.
    #[must_use]
    pub fn from_urn(uri: &str) -> Option<Self> {
        uri.strip_prefix(URN)?.parse().ok()
    }
}

impl FromStr for DeviceId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins = s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if begins && s.len() <= Self::MAX_LEN && s.bytes().all(allowed) {
            Ok(Self(s.into()))
        } else {
            // An error message quotes what was given: it stays short whatever that was.
            Err(Error::DeviceId(s.chars().take(2 * Self::MAX_LEN).collect()))
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for DeviceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for DeviceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for DeviceId {
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
    fn names_that_fit_everywhere_are_accepted() {
        for name in ["a", "7", "sensor-17", "Ward_3.bed-2", &"x".repeat(64)] {
            assert_eq!(name.parse::<DeviceId>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_with_a_meaning_elsewhere_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "-rf",
            "_x",
            "a b",
            "a/b",
            "a+b",
            "a#",
            "ü",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(name.parse::<DeviceId>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_urn_and_the_name_are_each_others_inverse() {
        let id: DeviceId = "sensor-17".parse().unwrap();
        assert_eq!(id.urn(), "urn:smqtt:device:sensor-17");
        assert_eq!(DeviceId::from_urn(&id.urn()), Some(id));
        assert_eq!(DeviceId::from_urn("urn:smqtt:device:"), None);
        assert_eq!(DeviceId::from_urn("urn:smqtt:broker:sensor-17"), None);
    }
}
