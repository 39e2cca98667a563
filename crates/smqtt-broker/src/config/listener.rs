//! `[[listener]]`: one address to listen on, and what it demands of its clients.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smqtt_proto::ProtocolVersion;

use super::{Config, ListenUrl, MAX_PACKET_BYTES, MIN_PACKET_BYTES, Scheme};

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `mqtts://ADDR:PORT`, `mqtt://ADDR:PORT`, `wss://ADDR:PORT`, `ws://ADDR:PORT` or
    /// `unix:///PATH`; port 0 takes a free one.
    pub url: ListenUrl,
    /// What logs, metrics and rules call it, and which of the sockets that systemd passes is its;
    /// without one its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Allow `mqtt` and `ws` (no TLS) on an address that is not loopback.
    #[serde(default)]
    pub allow_plain: bool,
    /// Admit clients that show no certificate.
    #[serde(default)]
    pub allow_anonymous: bool,
    /// Whether the TLS handshake asks for a client certificate. Without this: as `tls.client_ca` and
    /// `allow_anonymous` have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// The oldest TLS version accepted.
    #[serde(default)]
    pub tls_min_version: TlsVersion,
    /// MQTT versions accepted.
    #[serde(default = "all_versions")]
    pub mqtt_versions: Vec<MqttVersion>,
    /// Connections at a time, within `limits.connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Instead of `limits.max_packet_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_packet_bytes: Option<usize>,
    /// Web pages that may open a WebSocket: their origins (`https://example.com`), or `*` for all. A
    /// page of the same host always may, and so may whoever names no origin, as only browsers do.
    #[serde(default)]
    pub ws_origins: Vec<String>,
    /// Proxies that stand before this listener: networks (`10.0.0.0/8`), or `unix` for whoever can
    /// open a Unix socket. With any, each connection must come from one of them and begin with a
    /// PROXY protocol version 2 header, and the address in it is the client's.
    #[serde(default)]
    pub proxy_from: Vec<ProxySource>,
    /// Permissions of a Unix socket, in octal.
    #[serde(default)]
    pub unix_mode: UnixMode,
}

impl Listener {
    /// A listener with every rule at its default.
    pub fn new(url: ListenUrl) -> Self {
        Listener {
            url,
            name: None,
            allow_plain: false,
            allow_anonymous: false,
            client_certificate: None,
            tls_min_version: TlsVersion::default(),
            mqtt_versions: all_versions(),
            max_connections: None,
            max_packet_bytes: None,
            ws_origins: Vec::new(),
            proxy_from: Vec::new(),
            unix_mode: UnixMode::default(),
        }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.url.to_string())
    }

    /// Whether its handshakes ask for client certificates, given whether there is a root to verify
    /// them against.
    pub(crate) fn client_certificate(&self, verifiable: bool) -> ClientCertificate {
        self.client_certificate
            .unwrap_or(match (verifiable, self.allow_anonymous) {
                (false, _) => ClientCertificate::None,
                (true, true) => ClientCertificate::Optional,
                (true, false) => ClientCertificate::Required,
            })
    }

    /// Whether clients of this MQTT version are accepted.
    pub(crate) fn accepts(&self, version: ProtocolVersion) -> bool {
        self.mqtt_versions.iter().any(|v| v.protocol() == version)
    }

    /// Checks what no single value shows.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn validate(&self, config: &Config) -> Result<(), String> {
        let url = &self.url;
        let tls = url.scheme().is_tls();
        if let Some(name) = &self.name
            && (name.is_empty() || name.contains([':', '/']) || name.contains(char::is_whitespace))
        {
            return Err(format!(
                "listener name \"{}\" must be neither empty nor contain `:`, `/` or white space",
                name.escape_debug()
            ));
        }
        if !tls && !url.is_local() && !self.allow_plain {
            let with_tls = match url.scheme() {
                Scheme::Ws => "wss://",
                _ => "mqtts://",
            };
            return Err(format!(
                "refusing to listen on {url} without TLS: use {with_tls}, a loopback address, or say --allow-plain (allow_plain = true)"
            ));
        }
        if tls && (config.tls.cert.is_none() || config.tls.key.is_none()) {
            return Err(format!(
                "{url} needs a certificate: give --tls-cert FILE and --tls-key FILE (tls.cert and tls.key)"
            ));
        }
        self.validate_numbers()?;
        let only = |key, has: bool, schemes, fits: bool| match has && !fits {
            true => Err(format!("{key} of {url} has no effect: it is for {schemes}")),
            false => Ok(()),
        };
        only(
            "client_certificate",
            self.client_certificate.is_some(),
            "mqtts:// and wss://",
            tls,
        )?;
        only(
            "tls_min_version",
            self.tls_min_version != TlsVersion::default(),
            "mqtts:// and wss://",
            tls,
        )?;
        only(
            "ws_origins",
            !self.ws_origins.is_empty(),
            "wss:// and ws://",
            url.scheme().is_websocket(),
        )?;
        only(
            "unix_mode",
            self.unix_mode != UnixMode::default(),
            "unix://",
            url.scheme() == Scheme::Unix,
        )?;
        let asks = self
            .client_certificate
            .is_some_and(|c| c != ClientCertificate::None);
        if asks && config.tls.client_ca.is_none() {
            return Err(format!(
                "{url} could not verify client certificates: give --tls-client-ca FILE (tls.client_ca)"
            ));
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), String> {
        let url = &self.url;
        if self.max_connections == Some(0) {
            return Err(format!(
                "max_connections = 0 of {url} would admit nobody: use 1 or more, or remove the listener"
            ));
        }
        if let Some(bytes) = self.max_packet_bytes
            && !(MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&bytes)
        {
            return Err(format!(
                "max_packet_bytes = {bytes} of {url} is out of range: use {MIN_PACKET_BYTES} to {MAX_PACKET_BYTES}"
            ));
        }
        if self.mqtt_versions.is_empty() {
            return Err(format!(
                "mqtt_versions of {url} is empty and would admit nobody: use \"3.1.1\" and \"5\""
            ));
        }
        Ok(())
    }
}

fn all_versions() -> Vec<MqttVersion> {
    vec![MqttVersion::V3_1_1, MqttVersion::V5]
}

/// Whether a TLS handshake asks for a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Who shows none gets no further than the handshake.
    Required,
    /// One that is shown must be good.
    Optional,
    /// None is asked for.
    None,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[default]
    #[serde(rename = "1.3")]
    V1_3,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V3_1_1,
    /// MQTT 5.0.
    #[serde(rename = "5")]
    V5,
}

impl MqttVersion {
    fn protocol(self) -> ProtocolVersion {
        match self {
            MqttVersion::V3_1_1 => ProtocolVersion::V3_1_1,
            MqttVersion::V5 => ProtocolVersion::V5,
        }
    }
}

/// Where a proxy may connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProxySource {
    /// An address of this network.
    Network(ipnet::IpNet),
    /// This machine, by a Unix socket.
    Unix,
}

impl FromStr for ProxySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(ProxySource::Unix);
        }
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from));
        network.map(ProxySource::Network).map_err(|_| {
            format!(
                "`{text}` is no network: write ADDR/BITS such as 10.0.0.0/8, one address, or `unix`"
            )
        })
    }
}

impl fmt::Display for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxySource::Network(network) => network.fmt(f),
            ProxySource::Unix => f.write_str("unix"),
        }
    }
}

/// Permissions of a Unix socket: who may write to it may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnixMode(u32);

impl UnixMode {
    /// As the system takes it.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for UnixMode {
    /// The broker's user and group.
    fn default() -> Self {
        UnixMode(0o660)
    }
}

impl FromStr for UnixMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(UnixMode(mode)),
            _ => Err(format!(
                "`{text}` is no file mode: write it in octal, such as \"0660\""
            )),
        }
    }
}

impl fmt::Display for UnixMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Values that stand in the file as strings.
macro_rules! as_string {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

as_string!(ProxySource UnixMode);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(rules: &str) -> String {
        let text = format!(
            "[tls]\ncert = \"c\"\nkey = \"k\"\n[[listener]]\nallow_anonymous = true\n{rules}\n"
        );
        match Config::from_toml(&text, std::path::Path::new("broker.toml")) {
            Err(error) => error.to_string(),
            Ok(config) => config.validate().expect_err(rules).to_string(),
        }
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for (rules, words) in [
            (
                "url = \"mqtt://127.0.0.1:0\"\ntls_min_version = \"1.2\"",
                "it is for mqtts://",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nws_origins = [\"*\"]",
                "it is for wss://",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nunix_mode = \"0600\"",
                "it is for unix://",
            ),
            ("url = \"unix:///a\"\nunix_mode = \"rw\"", "no file mode"),
            (
                "url = \"mqtt://127.0.0.1:0\"\nmax_connections = 0",
                "max_connections",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nmax_packet_bytes = 2",
                "max_packet_bytes",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nmqtt_versions = []",
                "mqtt_versions",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nmqtt_versions = [\"3.1\"]",
                "unknown variant",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nproxy_from = [\"everywhere\"]",
                "no network",
            ),
            (
                "url = \"mqtt://127.0.0.1:0\"\nname = \"a b\"",
                "white space",
            ),
            (
                "url = \"mqtts://127.0.0.1:0\"\nclient_certificate = \"required\"",
                "--tls-client-ca",
            ),
            ("url = \"ws://0.0.0.0:0\"", "use wss://"),
        ] {
            let message = refusal(rules);
            assert!(message.contains(words), "{rules}: {message}");
        }
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        for text in ["10.0.0.0/8", "fd00::/8", "unix"] {
            assert_eq!(text.parse::<ProxySource>().expect(text).to_string(), text);
        }
        let one: ProxySource = "127.0.0.1".parse().expect("an address");
        assert_eq!(one.to_string(), "127.0.0.1/32");
        assert_eq!(UnixMode::default().to_string(), "0660");
    }
}
