//! Listener addresses: `mqtts://127.0.0.1:8883`, `mqtt://localhost:1883`, `wss://[::]:8084/mqtt`,
//! `unix:///run/smqtt.sock`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How clients reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// MQTT over TCP without TLS; default port 1883.
    Mqtt,
    /// MQTT over TLS; default port 8883.
    Mqtts,
    /// MQTT over WebSocket without TLS; default port 80.
    Ws,
    /// MQTT over WebSocket over TLS; default port 443.
    Wss,
    /// MQTT over a Unix socket of this machine.
    Unix,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Unix => "unix",
        }
    }

    /// Whether there is TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Mqtts | Scheme::Wss)
    }

    /// Whether MQTT is carried in WebSocket frames.
    pub fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }
}

/// A listener's scheme and place, parsed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenUrl {
    scheme: Scheme,
    place: Place,
    /// Of a WebSocket listener, when it is not the usual one.
    path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    File(PathBuf),
}

impl ListenUrl {
    /// How clients reach it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it listens, unless it is a Unix socket; port 0 means any free one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Address(address) => Some(address),
            Place::File(_) => None,
        }
    }

    /// The file of a Unix socket.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::Address(_) => None,
            Place::File(path) => Some(path),
        }
    }

    /// The one path at which a WebSocket is opened; `None` for `/mqtt` and `/`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        self.address()
            .is_none_or(|address| address.ip().is_loopback())
    }

    /// The same listener at the address that it got.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        ListenUrl {
            place: Place::Address(address),
            ..self.clone()
        }
    }

    /// The same listener at this Unix socket.
    pub(crate) fn at_file(&self, file: PathBuf) -> Self {
        ListenUrl {
            place: Place::File(file),
            ..self.clone()
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.place {
            Place::Address(address) => write!(f, "{address}")?,
            Place::File(path) => write!(f, "{}", path.display())?,
        }
        f.write_str(self.path.as_deref().unwrap_or_default())
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    /// Parses `SCHEME://ADDR[:PORT]`, where `ADDR` is an IP address or `localhost`, with a path for
    /// a WebSocket; or `unix:///PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not a listener address: {why}");
        if let Some(path) = text.strip_prefix("unix://") {
            return unix(path).map_err(|why| wrong(&why));
        }
        let url =
            url::Url::parse(text).map_err(|e| wrong(&format!("{e}; write mqtts://ADDR:PORT")))?;
        let (scheme, default_port) = match url.scheme() {
            "mqtt" => (Scheme::Mqtt, 1883),
            "mqtts" => (Scheme::Mqtts, 8883),
            "ws" => (Scheme::Ws, 80),
            "wss" => (Scheme::Wss, 443),
            other => {
                return Err(wrong(&format!(
                    "unknown scheme `{other}`; use mqtts://, mqtt://, wss://, ws:// or unix://"
                )));
            }
        };
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(wrong("only scheme, address, port and path are allowed"));
        }
        let path = match url.path() {
            "" | "/" => None,
            path if scheme.is_websocket() => Some(path.to_owned()),
            _ => {
                return Err(wrong(
                    "it has a path; only scheme, address and port are allowed",
                ));
            }
        };
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
        Ok(ListenUrl {
            scheme,
            place: Place::Address(SocketAddr::new(ip, url.port().unwrap_or(default_port))),
            path,
        })
    }
}

/// The system's limit of 108 bytes, its NUL included.
const UNIX_PATH_BYTES: usize = 107;

fn unix(path: &str) -> Result<ListenUrl, String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("write unix:///PATH with the absolute path of the socket".into());
    }
    if path.len() > UNIX_PATH_BYTES {
        return Err(format!(
            "a socket's path has at most {UNIX_PATH_BYTES} bytes"
        ));
    }
    Ok(ListenUrl {
        scheme: Scheme::Unix,
        place: Place::File(path.into()),
        path: None,
    })
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
            ("ws://127.0.0.1", "ws://127.0.0.1:80"),
            ("ws://127.0.0.1:9001/", "ws://127.0.0.1:9001"),
            ("wss://[::]:8084/iot", "wss://[::]:8084/iot"),
            ("unix:///run/smqtt.sock", "unix:///run/smqtt.sock"),
        ] {
            assert_eq!(text.parse::<ListenUrl>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn a_listener_says_who_reaches_it() {
        for (text, local) in [
            ("mqtt://127.0.0.1:1", true),
            ("mqtt://[::1]:1", true),
            ("unix:///a", true),
            ("mqtt://[::]:1", false),
            ("ws://0.0.0.0:1", false),
        ] {
            assert_eq!(text.parse::<ListenUrl>().expect(text).is_local(), local);
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
            ("ws://127.0.0.1:9001/mqtt?x", "only scheme"),
            ("unix://smqtt.sock", "absolute path"),
            ("unix:///run/", "absolute path"),
        ] {
            let error = text.parse::<ListenUrl>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
