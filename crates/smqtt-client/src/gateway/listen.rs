//! Where a gateway listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use super::rules::Rules;
use crate::Error;

/// Where and for how many a gateway listens: `mqtt://ADDRESS[:PORT]`, MQTT over plain TCP, port 1883 if none
/// is given. Port 0 has the operating system choose.
///
/// ```
/// use smqtt_client::gateway::Listen;
///
/// assert!("mqtt://127.0.0.1:1883".parse::<Listen>().is_ok());
/// assert!("mqtts://127.0.0.1".parse::<Listen>().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    address: SocketAddr,
    allow_remote: bool,
    pub(super) max_clients: usize,
    pub(super) max_packet: u32,
}

impl Listen {
    /// Allows an address that other machines reach. Everything on the way there is readable, passwords
    /// included. Default: no.
    #[must_use]
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.allow_remote = allow;
        self
    }

    /// How many local clients there may be, those included that are expected back. Default: 256.
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self
    }

    /// The largest packet in bytes that is taken from either side. Default: 1 MiB.
    #[must_use]
    pub fn max_packet(mut self, bytes: u32) -> Self {
        self.max_packet = bytes;
        self
    }

    /// Whether these rules allow to listen here.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for an address that other machines reach, unless that is allowed and clients have
    /// to log in.
    pub fn check(&self, rules: &Rules) -> Result<(), Error> {
        if self.address.ip().is_loopback() {
            return Ok(());
        }
        if !self.allow_remote {
            return Err(Error::Option(format!(
                "refusing to listen at {}, which other machines reach without TLS: listen at 127.0.0.1, or allow remote clients explicitly",
                self.address
            )));
        }
        if !rules.has_users() {
            return Err(Error::Option(format!(
                "refusing to listen at {} for everybody: name users and their passwords in the rules file, under [users]",
                self.address
            )));
        }
        Ok(())
    }

    pub(super) async fn bind(&self) -> Result<TcpListener, Error> {
        TcpListener::bind(self.address).await.map_err(|error| {
            Error::Option(format!(
                "cannot listen at {}: {}",
                self.address,
                crate::error::in_words(&error)
            ))
        })
    }
}

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Address {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        let form = "write it as mqtt://ADDRESS:PORT, such as mqtt://127.0.0.1:1883";
        let url = url::Url::parse(text).map_err(|_| refuse(form))?;
        match url.scheme() {
            "mqtt" => {}
            "mqtts" => return Err(refuse("the local listener has no TLS: write mqtt://")),
            _ => return Err(refuse(form)),
        }
        let bare = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !bare {
            return Err(refuse(form));
        }
        // For schemes that it does not know, the parser takes an IPv4 address for a name.
        let ip = match url.host() {
            Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(url::Host::Domain("localhost")) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(url::Host::Domain(name)) => name
                .parse()
                .map_err(|_| refuse("give an IP address of this machine, or localhost"))?,
            None => return Err(refuse(form)),
        };
        Ok(Self {
            address: SocketAddr::new(ip, url.port().unwrap_or(1883)),
            allow_remote: false,
            max_clients: 256,
            max_packet: 1024 * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(users: &str) -> Rules {
        let text = format!("[[subscribe]]\ntopic = \"#\"\n{users}");
        Rules::from_toml(&text, "gateway.toml".as_ref()).unwrap()
    }

    #[test]
    fn other_machines_are_let_in_only_if_said_and_only_with_a_password() {
        let open: Listen = "mqtt://0.0.0.0".parse().unwrap();
        let (nobody, someone) = (rules(""), rules("[users]\na = \"b\""));
        assert!(open.check(&someone).is_err());
        assert!(open.allow_remote(true).check(&nobody).is_err());
        assert!(open.allow_remote(true).check(&someone).is_ok());
        for local in [
            "mqtt://127.0.0.1:0",
            "mqtt://[::1]:1884",
            "mqtt://localhost/",
        ] {
            assert!(
                local.parse::<Listen>().unwrap().check(&nobody).is_ok(),
                "{local}"
            );
        }
    }

    #[test]
    fn nothing_else_is_an_address_to_listen_at() {
        for text in [
            "127.0.0.1:1883",
            "tcp://127.0.0.1",
            "mqtts://127.0.0.1",
            "mqtt://",
            "mqtt://host.example",
            "mqtt://a@127.0.0.1",
            "mqtt://127.0.0.1/x",
        ] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
