//! The options that `pub` and `sub` share: who I am and where the broker is.

use std::time::Duration;

use clap::{Args, ValueEnum};
use smqtt_client::{BrokerAddress, Identity, ProtocolVersion, Timeouts};

use crate::failure::Failure;
use crate::options::IdentityOption;

/// Which MQTT to speak.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mqtt {
    #[value(name = "5")]
    V5,
    #[value(name = "3.1.1")]
    V3_1_1,
}

/// Who I am and where the broker is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    #[command(flatten)]
    identity: IdentityOption,

    // Not as a doc comment: rustdoc would take [:PORT] for a link.
    #[arg(
        long,
        value_name = "URL",
        env = "SMQTT_BROKER",
        hide_env_values = true,
        help = "The broker, instead of the one that the identity names: mqtts://HOST[:PORT] or wss://HOST[:PORT]/PATH (WebSocket), without TLS mqtt:// or ws://"
    )]
    broker: Option<String>,

    /// The MQTT version to speak
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "5",
        env = "SMQTT_MQTT",
        hide_env_values = true
    )]
    mqtt: Mqtt,

    /// The MQTT client id, instead of the device id with a random suffix
    #[arg(
        long,
        visible_alias = "id",
        value_name = "ID",
        env = "SMQTT_CLIENT_ID",
        hide_env_values = true
    )]
    client_id: Option<String>,

    /// The user name for a broker that wants one; its password is taken from SMQTT_PASSWORD
    #[arg(
        long,
        value_name = "NAME",
        env = "SMQTT_USERNAME",
        hide_env_values = true
    )]
    username: Option<String>,

    /// Seconds between signs of life; 0 switches them off
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u16,

    /// Seconds that each step of connecting may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Allow mqtt:// or ws:// to another machine: payloads stay sealed, but topics and policies are readable
    /// on the way and nobody checks who the broker is
    #[arg(long)]
    allow_plain_transport: bool,
}

impl Connection {
    /// Whether MQTT 5 is spoken.
    pub(crate) fn is_v5(&self) -> bool {
        matches!(self.mqtt, Mqtt::V5)
    }

    /// How long each step may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The identity and the library's options; everything that can be checked without a network is.
    pub(crate) fn options(
        &self,
    ) -> Result<(std::sync::Arc<Identity>, smqtt_client::Options), Failure> {
        let identity = std::sync::Arc::new(self.identity.load()?);
        let limit = self.timeout();
        let mut options = smqtt_client::Options::new(std::sync::Arc::clone(&identity))?
            .protocol(match self.mqtt {
                Mqtt::V5 => ProtocolVersion::V5,
                Mqtt::V3_1_1 => ProtocolVersion::V3_1_1,
            })
            .keep_alive(Duration::from_secs(self.keep_alive.into()))
            .allow_plain_transport(self.allow_plain_transport)
            .timeouts(Timeouts {
                connect: limit,
                tls: limit,
                mqtt: limit,
                close: limit,
            });
        if let Some(broker) = &self.broker {
            options = options.broker(broker.parse::<BrokerAddress>()?);
        }
        if let Some(client_id) = &self.client_id {
            options = options.client_id(client_id.clone());
        }
        if let Some(username) = &self.username {
            let password =
                std::env::var_os("SMQTT_PASSWORD").map(std::os::unix::ffi::OsStringExt::into_vec);
            options = options.credentials(username.clone(), password);
        }
        Ok((identity, options))
    }
}
