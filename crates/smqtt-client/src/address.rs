//! Where a broker is: `mqtts://host[:port]`, `wss://host[:port]/path`, or the same without TLS.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::Error;

/// The address of a broker, parsed once.
///
/// `mqtts` is MQTT over TLS 1.3 (default port 8883), `mqtt` is MQTT over plain TCP (default port
/// 1883). `wss` and `ws` are the same in WebSocket frames (default ports 443 and 80), at a path, `/mqtt` if none is given.
/// Nothing else may stand in the URL: no query, no user name, and no path for `mqtts` and `mqtt`.
///
/// ```
/// use smqtt_client::BrokerAddress;
///
/// let address: BrokerAddress = "mqtts://broker.example".parse()?;
/// assert_eq!((address.host(), address.port(), address.is_tls()), ("broker.example", 8883, true));
/// assert!("https://broker.example".parse::<BrokerAddress>().is_err());
/// # Ok::<(), smqtt_client::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BrokerAddress {
    tls: bool,
    /// Where the WebSocket is, if it is one.
    path: Option<String>,
    host: String,
    port: u16,
}

impl BrokerAddress {
    /// The host: a DNS name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the scheme is `mqtts` or `wss`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the scheme is `wss` or `ws`.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the host is this machine by its name or address: `localhost`, 127.0.0.0/8 or ::1.
    ///
    /// A name that merely resolves to a loopback address does not count.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for BrokerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Address {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        let parsed = url::Url::parse(text).map_err(|_| {
            refuse(
                "write it as mqtts://HOST:PORT or wss://HOST:PORT/PATH, or with mqtt or ws without TLS",
            )
        })?;
        let (tls, websocket, default) = match parsed.scheme() {
            "mqtts" => (true, false, 8883),
            "mqtt" => (false, false, 1883),
            "wss" => (true, true, 443),
            "ws" => (false, true, 80),
            _ => {
                return Err(refuse("the scheme must be mqtts, wss, mqtt or ws"));
            }
        };
        let host = match parsed.host() {
            Some(url::Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(url::Host::Ipv4(address)) => address.to_string(),
            Some(url::Host::Ipv6(address)) => address.to_string(),
            _ => return Err(refuse("the host is missing")),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse(
                "user name and password do not belong in the address",
            ));
        }
        let has_path = !matches!(parsed.path(), "" | "/");
        if (has_path && !websocket) || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(refuse("nothing may follow the port"));
        }
        if parsed.port() == Some(0) {
            return Err(refuse("port 0 cannot be connected to"));
        }
        let path = websocket.then(|| {
            let path = if has_path { parsed.path() } else { "/mqtt" };
            path.to_owned()
        });
        Ok(Self {
            tls,
            path,
            host,
            port: parsed.port().unwrap_or(default),
        })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.tls, &self.path) {
            (true, None) => "mqtts",
            (false, None) => "mqtt",
            (true, Some(_)) => "wss",
            (false, Some(_)) => "ws",
        };
        let path = self.path.as_deref().unwrap_or_default();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{path}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
        }
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ports_follow_the_scheme() {
        let tls: BrokerAddress = "mqtts://broker.example".parse().unwrap();
        let plain: BrokerAddress = "mqtt://broker.example/".parse().unwrap();
        assert_eq!(tls.port(), 8883);
        assert_eq!(plain.port(), 1883);
        assert_eq!(plain.to_string(), "mqtt://broker.example:1883");
    }

    #[test]
    fn a_websocket_has_a_path() {
        let tls: BrokerAddress = "wss://broker.example".parse().unwrap();
        assert_eq!((tls.port(), tls.is_tls()), (443, true));
        assert_eq!(tls.to_string(), "wss://broker.example:443/mqtt");
        let plain: BrokerAddress = "ws://127.0.0.1:8080/iot/v1".parse().unwrap();
        assert!(plain.is_websocket() && !plain.is_tls() && plain.is_loopback());
        assert_eq!(plain.to_string(), "ws://127.0.0.1:8080/iot/v1");
        let usual: BrokerAddress = "mqtts://broker.example".parse().unwrap();
        assert!(!usual.is_websocket());
    }

    #[test]
    fn ipv6_is_written_with_brackets_and_kept_without() {
        let address: BrokerAddress = "mqtts://[::1]:1234".parse().unwrap();
        assert_eq!(address.host(), "::1");
        assert_eq!(address.to_string(), "mqtts://[::1]:1234");
        assert!(address.is_loopback());
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| text.parse::<BrokerAddress>().unwrap().is_loopback();
        assert!(loopback("mqtt://127.0.0.1"));
        assert!(loopback("mqtt://127.8.7.6"));
        assert!(loopback("mqtt://LOCALHOST"));
        assert!(!loopback("mqtt://localhost.example"));
        assert!(!loopback("mqtt://10.0.0.1"));
        assert!(!loopback("mqtt://0.0.0.0"));
    }

    #[test]
    fn whatever_else_stands_in_the_url_is_refused() {
        for text in [
            "broker.example",
            "broker.example:8883",
            "https://broker.example",
            "mqtts://",
            "mqtts://user@broker.example",
            "mqtts://:secret@broker.example",
            "mqtts://broker.example/topic",
            "mqtts://broker.example?x=1",
            "wss://broker.example/mqtt?x=1",
            "wss://user@broker.example/mqtt",
            "mqtts://broker.example#x",
            "mqtts://broker.example:0",
            "mqtts://broker.example:70000",
        ] {
            let error = text.parse::<BrokerAddress>().unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
