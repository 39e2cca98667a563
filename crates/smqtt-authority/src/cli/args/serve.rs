//! `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use smqtt_pki::ServerName;

use super::address::{parse_authority_url, parse_broker_url, parse_host};
use crate::cli::duration::parse_duration;
use crate::cli::keys::KeyOptions;

#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Where to listen. Port 0 takes a free one; the line `listening on https://ADDR:PORT` on stderr tells it.
    #[arg(
        long,
        env = "SMQTT_AUTHORITY_LISTEN",
        default_value = "127.0.0.1:8443",
        value_name = "ADDR:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// One more name or address for the service's certificate; repeat for more.
    #[arg(long = "host", value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    /// The URL at which devices reach the authority, if it is not made of the first host and the port.
    #[arg(long, env = "SMQTT_AUTHORITY_URL", value_parser = parse_authority_url, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// A broker's URL: mqtts://HOST:PORT; repeat for more. Each gets the authority's signed state, the first is told to
    /// each device that enrols. Remembered for later starts.
    #[arg(
        long = "broker",
        env = "SMQTT_BROKER",
        value_delimiter = ',',
        value_parser = parse_broker_url,
        value_name = "URL"
    )]
    pub(crate) brokers: Vec<String>,

    /// The file for the brokers' tls.crl: written at each revocation, and renewed in time. Remembered for later starts, and
    /// for commands.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl_out: Option<PathBuf>,

    /// Show the attributes of this name in device certificates, for the broker's rules; repeat for more. They are public
    /// then: whoever sees a certificate or a key frame of the device reads them.
    #[arg(
        long,
        env = "SMQTT_CERTIFY",
        value_delimiter = ',',
        value_name = "ATTRIBUTE"
    )]
    pub(crate) certify: Vec<String>,

    /// How long the certificates that devices get are valid. A device renews its own at two thirds of that.
    #[arg(
        long,
        env = "SMQTT_DEVICE_LIFETIME",
        default_value = "90d",
        value_parser = parse_duration,
        value_name = "TIME"
    )]
    pub(crate) device_lifetime: std::time::Duration,

    /// How many requests a second one address may make in the long run, at most; 0: as many as it likes.
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) requests_per_second: u32,

    /// Offer the API to administrators on this Unix socket, too: who can open it is an operator. Its mode is 0600.
    #[arg(long, env = "SMQTT_ADMIN_SOCKET", value_name = "PATH")]
    pub(crate) admin_socket: Option<PathBuf>,

    /// Let the group use the socket, too: mode 0660.
    #[arg(long, requires = "admin_socket")]
    pub(crate) admin_socket_group: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}
