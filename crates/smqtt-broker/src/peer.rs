//! Who is at the other end of a connection, as far as its socket tells.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::ProxySource;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address: the socket's, or the one that a proxy gave.
    Address(SocketAddr),
    /// A process of this machine, on a Unix socket.
    Local { uid: Option<u32>, pid: Option<i32> },
}

impl Peer {
    /// Its IP address. IPv4 stays IPv4 on a socket of both families.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Address(address) => Some(address.ip().to_canonical()),
            Peer::Local { .. } => None,
        }
    }

    /// Whether this is one of those proxies.
    pub(crate) fn is_one_of(&self, proxies: &[ProxySource]) -> bool {
        proxies.iter().any(|proxy| match (proxy, self.ip()) {
            (ProxySource::Network(network), Some(ip)) => network.contains(&ip),
            (ProxySource::Unix, None) => true,
            _ => false,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Local { uid, pid } => {
                f.write_str("unix")?;
                if let Some(uid) = uid {
                    write!(f, ":uid={uid}")?;
                }
                if let Some(pid) = pid {
                    write!(f, ":pid={pid}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_their_network() {
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().expect(text));
        let at = |text: &str| Peer::Address(text.parse().expect(text));
        assert!(at("10.1.2.3:4").is_one_of(&proxies));
        assert!(at("[::ffff:10.1.2.3]:4").is_one_of(&proxies));
        assert!(at("[::1]:4").is_one_of(&proxies));
        assert!(!at("11.1.2.3:4").is_one_of(&proxies));
        let local = Peer::Local {
            uid: Some(0),
            pid: Some(7),
        };
        assert!(!local.is_one_of(&proxies));
        assert!(local.is_one_of(&[ProxySource::Unix]));
        assert_eq!(local.to_string(), "unix:uid=0:pid=7");
    }
}
