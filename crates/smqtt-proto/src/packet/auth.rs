//! AUTH.

use super::{Credential, UserProperties};
use crate::{MqttString, ReasonCode};

/// AUTH, a step of extended authentication (MQTT 5.0 §3.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Success, ContinueAuthentication or ReAuthenticate (`[MQTT-3.15.2-1]`).
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties,
}

/// The properties of AUTH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthProperties {
    /// The method of authentication (property 21).
    pub authentication_method: Option<MqttString>,
    /// What the method defines (property 22).
    pub authentication_data: Option<Credential>,
    /// For people to read (property 31).
    pub reason_string: Option<MqttString>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
}
