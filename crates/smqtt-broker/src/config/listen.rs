//! Listener addresses: `mqtts://127.0.0.1:8883`, `mqtt://localhost:1883`, `mqtts://[::]:8883`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How clients reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// MQTT over TCP without TLS; default port 1883.
    Mqtt,
    /// MQTT over TLS; default port 8883.
    Mqtts,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
        }
    }
}

/// A listener's scheme, address and port, parsed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenUrl {
    scheme: Scheme,
    address: SocketAddr,
}

impl ListenUrl {
    /// A listener of `scheme` at `address`.
    pub fn new(scheme: Scheme, address: SocketAddr) -> Self {
        ListenUrl { scheme, address }
    }

    /// How clients reach it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it listens; port 0 means any free one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    /// Parses `SCHEME://ADDR[:PORT]`, where `ADDR` is an IP address or `localhost`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not a listener address: {why}");
        let url =
            url::Url::parse(text).map_err(|e| wrong(&format!("{e}; write mqtts://ADDR:PORT")))?;
        let scheme = match url.scheme() {
            "mqtt" => Scheme::Mqtt,
            "mqtts" => Scheme::Mqtts,
            other => {
                return Err(wrong(&format!(
                    "unknown scheme `{other}`; use mqtts:// or mqtt://"
                )));
            }
        };
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(wrong("only scheme, address and port are allowed"));
        }
        if !matches!(url.path(), "" | "/") {
            return Err(wrong(
                "it has a path; only scheme, address and port are allowed",
            ));
        }
        let host = url.host_str().unwrap_or_default();
        let ip = match host.trim_start_matches('[').trim_end_matches(']') {
            "" => {
                return Err(wrong(
                    "it has no address; use 127.0.0.1, or 0.0.0.0 for all interfaces",
                ));
            }
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| {
                wrong(&format!(
                    "`{host}` is not an IP address; use one of this machine's, or localhost"
                ))
            })?,
        };
        let default_port = match scheme {
            Scheme::Mqtt => 1883,
            Scheme::Mqtts => 8883,
        };
        Ok(ListenUrl {
            scheme,
            address: SocketAddr::new(ip, url.port().unwrap_or(default_port)),
        })
    }
}

impl TryFrom<String> for ListenUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenUrl> for String {
    fn from(url: ListenUrl) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_with_default_ports() {
        for (text, shown) in [
            ("mqtts://127.0.0.1:0", "mqtts://127.0.0.1:0"),
            ("mqtts://0.0.0.0", "mqtts://0.0.0.0:8883"),
            ("mqtt://localhost", "mqtt://127.0.0.1:1883"),
            ("mqtt://[::1]:2000", "mqtt://[::1]:2000"),
            ("mqtt://127.0.0.1:2000/", "mqtt://127.0.0.1:2000"),
        ] {
            assert_eq!(text.parse::<ListenUrl>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_a_hint() {
        for (text, part) in [
            ("127.0.0.1:1883", "mqtts://"),
            ("http://127.0.0.1:1883", "unknown scheme"),
            ("mqtts://broker.example:8883", "not an IP address"),
            ("mqtts://user@127.0.0.1:8883", "only scheme"),
            ("mqtts://127.0.0.1:8883/path", "path"),
            ("mqtts://127.0.0.1:70000", "port"),
            ("mqtts://", "no address"),
        ] {
            let error = text.parse::<ListenUrl>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
