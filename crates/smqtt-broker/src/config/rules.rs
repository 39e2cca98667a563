//! Who may come in and do what: `[access]`, `[[sealed]]`, `[authority]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smqtt_proto::{MqttString, TopicFilter};

/// Who is admitted, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRules {
    /// Users and their passwords, a file of `smqtt-broker passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passwords: Option<PathBuf>,
    /// The access control list. Without one everyone who is admitted may publish and subscribe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl: Option<PathBuf>,
    /// Which client ids devices and users may take.
    pub client_id: ClientIdRule,
}

/// Which client ids an identity may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ClientIdRule {
    /// Any that nobody else has.
    #[default]
    Free,
    /// The device's or user's name, or what begins with it and `-`, `.`, `_`, `:` or `/`.
    Prefix,
    /// Exactly the device's or user's name.
    Identity,
}

/// Topics that take sealed messages only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Which topics.
    pub filter: String,
    /// What becomes of other messages.
    #[serde(default)]
    pub mode: SealedMode,
}

/// What becomes of messages that are not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum SealedMode {
    /// They are accepted.
    Off,
    /// They are accepted, counted and logged.
    Warn,
    /// They are refused.
    #[default]
    Enforce,
}

/// What MQTT 5 clients are told of the authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// Where it is: user property `smqtt-authority-url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its root certificate, if other than `tls.client_ca`: its fingerprint is the user property
    /// `smqtt-ca-fingerprint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Sealed {
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn validate(&self) -> Result<(), String> {
        match TopicFilter::new(self.filter.as_str()) {
            Ok(filter) if !filter.is_shared() => Ok(()),
            Ok(_) => Err(format!(
                "sealed.filter `{}`: leave $share/GROUP/ out",
                self.filter
            )),
            Err(error) => Err(format!("sealed.filter `{}`: {error}", self.filter)),
        }
    }
}

impl Authority {
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn validate(&self) -> Result<(), String> {
        let Some(url) = &self.url else {
            return match self.ca {
                Some(_) => {
                    Err("authority.ca without authority.url: say where the authority is".into())
                }
                None => Ok(()),
            };
        };
        match url::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "https" && MqttString::new(url.as_str()).is_ok() => {
                Ok(())
            }
            _ => Err(format!("authority.url `{url}` is no https:// address")),
        }
    }
}
