//! `identity.toml`: what a bundle says of itself.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PROFILE;
use crate::enrolment::SealingEpoch;
use crate::{DeviceId, Error, Fingerprint};

/// `identity.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) version: u32,
    pub(super) device: DeviceId,
    pub(super) authority: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) broker: Option<String>,
    pub(super) ca_fingerprint: Fingerprint,
    pub(super) suite: u8,
    /// What the device may open by its policy key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sealing: Vec<SealingEpoch>,
}

/// The format version that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

impl Profile {
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e: toml::de::Error| Error::Damaged {
            path: path.into(),
            reason: e.message().into(),
        };
        // The version decides how to read the rest.
        let Version { version } = toml::from_str(text).map_err(damaged)?;
        if version != VERSION {
            return Err(Error::FormatVersion {
                path: path.into(),
                found: version,
                supported: VERSION,
            });
        }
        toml::from_str(text).map_err(damaged)
    }

    pub(super) fn to_toml(&self) -> Result<String, Error> {
        let body = toml::to_string(self).map_err(|e| Error::Damaged {
            path: PROFILE.into(),
            reason: e.to_string(),
        })?;
        Ok(format!(
            "# An SMQTT device's identity. Made by `smqtt enroll`.\n{body}"
        ))
    }
}
