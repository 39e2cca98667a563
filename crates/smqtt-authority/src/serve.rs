//! The service: HTTPS around the API.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use smqtt_pki::ServerName;
use smqtt_pki::tls::{renewal_server_config, tls_error};

use crate::api::{self, Bounds, PeerAcceptor};
use crate::clock::now;
use crate::metrics::Metrics;
use crate::register::Addresses;
use crate::register::audit::Actor;
use crate::socket::AdminSocket;
use crate::{Error, Issuer, keeper};

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// More names and addresses for the service's certificate, beside those from init, `localhost` and the loopback
    /// addresses.
    pub hosts: Vec<ServerName<'static>>,
    /// The URL at which devices reach the service; by default made from the first host and the port.
    pub url: Option<String>,
    /// The URLs of the brokers: the first is told to each device that enrols, all get the authority's state. Empty keeps
    /// those from before.
    pub brokers: Vec<String>,
    /// How many requests a second are answered to one address in the long run; `None`: as many as it likes.
    pub requests_per_second: Option<NonZeroU32>,
    /// Where the administrators' Unix socket shall be, if anywhere.
    pub admin_socket: Option<PathBuf>,
    /// Whether the group may use it too, not the owner alone.
    pub admin_socket_group: bool,
}

/// What [`serve()`] tells once it listens.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// The URL at which devices reach it.
    pub url: String,
}

/// The most connections at a time; more are closed at once.
const CONNECTIONS: usize = 512;
/// The most that one address may have of them.
const SHARE: usize = 256;
/// How long a connection may last: an enrolment takes well under a second.
pub(crate) const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long TLS handshake and request header may take, each.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
pub(crate) const LONGEST_HEAD: usize = 16 * 1024;
/// How long running requests may take to end at a stop.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long ago a client's certificate may have expired for a handshake. The setting decides for a renewal, and its refusal says
/// what to do, as a failed handshake could not.
const LONGEST_GRACE: Duration = Duration::from_secs(3650 * 86_400);
/// How long the service's own certificate is valid. It is issued at each start and renewed at two thirds of its time.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// From when before its end on the intermediate should be renewed: what is issued for a year is cut short from then on.
pub(crate) const RENEW_INTERMEDIATE: Duration = Duration::from_secs(400 * 86_400);
/// How often the service signs where the audit log stands.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(86_400);

/// Serves until `stop` completes, then lets running requests end.
///
/// # Errors
/// [`Error::Damaged`] if the register is; [`Error::Listen`], [`Error::Serve`], and those of issuing the service's own certificate.
pub async fn serve(
    issuer: Issuer,
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send + 'static,
    listening: impl FnOnce(&Serving),
) -> Result<(), Error> {
    issuer.authority.check_register().await?;
    let listen = |source| Error::Listen {
        address: options.listen,
        source,
    };
    let listener = TcpListener::bind(options.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let mut given = issuer.authority.directory().hosts()?;
    given.extend(options.hosts);
    let url = options
        .url
        .clone()
        .unwrap_or_else(|| default_url(&given, address));
    let hosts = hosts_for(given, address.ip())?;
    let socket = match &options.admin_socket {
        None => None,
        Some(path) => Some(AdminSocket::bind(path, options.admin_socket_group)?),
    };

    let mut addresses = issuer.authority.register().addresses().await?;
    addresses = Addresses {
        url: Some(url.clone()),
        broker: options.brokers.first().cloned().or(addresses.broker),
    };
    issuer
        .authority
        .register()
        .set_addresses(&addresses)
        .await?;
    if !options.brokers.is_empty() {
        issuer.authority.set_brokers(&options.brokers).await?;
    }

    let tls = RustlsConfig::from_config(certificate(&issuer, &hosts).await?);
    let renewal = tokio::spawn(renew(issuer.clone(), hosts, tls.clone()));
    let checkpoints = tokio::spawn(sign_daily(issuer.clone()));
    let mut keeper = tokio::spawn(keeper::keep(issuer.clone()));
    let watch = tokio::spawn(watch_intermediate(issuer.clone()));
    let metrics = Arc::new(Metrics::new());
    let service = api::Service::new(issuer.clone(), options.requests_per_second, metrics.clone());
    let acceptor = PeerAcceptor::new(
        RustlsAcceptor::new(tls)
            .handshake_timeout(PATIENCE)
            .acceptor(Bounds::new(CONNECTIONS, SHARE, CONNECTION_LIFETIME)),
        metrics.clone(),
    );
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)
        .map_err(listen)?
        .acceptor(acceptor)
        .handle(handle.clone())
        .http1_only()
        .accept_error_handler({
            let metrics = metrics.clone();
            move |peer, error| {
                metrics.connection_refused(cause(error));
                tracing::debug!(?peer, %error, "connection refused");
            }
        });
    server
        .http_builder()
        .http1()
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST_HEAD);

    // Set before the service is told to end: who sees that it has ended sees why.
    let was_replaced = Arc::new(AtomicBool::new(false));
    let stopping = tokio::spawn({
        let was_replaced = was_replaced.clone();
        let (handle, local) = (handle.clone(), socket.as_ref().map(AdminSocket::stop));
        async move {
            let replaced = tokio::select! {
                () = stop => false,
                _ = &mut keeper => true,
            };
            match replaced {
                false => tracing::info!("stopping"),
                true => {
                    tracing::error!("another intermediate issues by now: stopping, start again")
                }
            }
            was_replaced.store(replaced, Ordering::Release);
            keeper.abort();
            handle.graceful_shutdown(Some(FAREWELL));
            if let Some(local) = local {
                local.graceful_shutdown(Some(FAREWELL));
            }
        }
    });
    let administrators = match &socket {
        None => None,
        Some(socket) => Some(socket.serve(service.clone(), metrics)?),
    };
    listening(&Serving { address, url });
    let served = server
        .serve(api::network(service).into_make_service())
        .await;
    if let Some(administrators) = administrators {
        let _ = tokio::time::timeout(FAREWELL, administrators).await;
    }
    drop(socket);
    renewal.abort();
    checkpoints.abort();
    watch.abort();
    stopping.abort();
    issuer.authority.close().await;
    served.map_err(Error::Serve)?;
    match was_replaced.load(Ordering::Acquire) {
        true => Err(Error::Replaced),
        false => Ok(()),
    }
}

/// Says once a day that the intermediate comes to its end.
async fn watch_intermediate(issuer: Issuer) {
    let mut day = tokio::time::interval(Duration::from_secs(86_400));
    while let Some(intermediate) = issuer.authority.directory().intermediate() {
        day.tick().await;
        let end = intermediate.validity().not_after().as_secs();
        let left = end.saturating_sub(now().as_secs());
        if left < RENEW_INTERMEDIATE.as_secs() {
            tracing::warn!(
                days = left / 86_400,
                "the intermediate expires: renew it with `smqtt-authority root renew`, or with `root request` and the offline root"
            );
        }
    }
}

/// Why a connection came to no request, for the counters.
fn cause(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connections",
        std::io::ErrorKind::TimedOut => "handshake-timeout",
        _ => match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(_)) => "client-certificate",
            Some(_) => "handshake",
            None => "network",
        },
    }
}

/// A configuration with a certificate that was just issued.
async fn certificate(
    issuer: &Issuer,
    hosts: &[ServerName<'static>],
) -> Result<Arc<ServerConfig>, Error> {
    let (issued, key) = issuer
        .issue_server(hosts, CERTIFICATE_LIFETIME, &Actor::service(), now())
        .await?;
    Ok(Arc::new(renewal_server_config(
        issued.chain,
        key.to_der()?,
        issuer.authority.directory().trust_anchor(),
        issuer.authority.directory().intermediates(),
        LONGEST_GRACE,
        &[b"http/1.1"],
    )?))
}

/// Replaces the service's certificate long before it expires, for new connections.
async fn renew(issuer: Issuer, hosts: Vec<ServerName<'static>>, tls: RustlsConfig) {
    let mut wait = CERTIFICATE_LIFETIME * 2 / 3;
    loop {
        tokio::time::sleep(wait).await;
        match certificate(&issuer, &hosts).await {
            Ok(config) => {
                tls.reload_from_config(config);
                tracing::info!("the service's certificate was renewed");
                wait = CERTIFICATE_LIFETIME * 2 / 3;
            }
            Err(error) => {
                tracing::error!(%error, "the service's certificate could not be renewed; trying again in an hour");
                wait = Duration::from_secs(3600);
            }
        }
    }
}

/// Signs where the audit log stands, at once and then each day.
async fn sign_daily(issuer: Issuer) {
    let mut day = tokio::time::interval(CHECKPOINT_PERIOD);
    loop {
        day.tick().await;
        if let Err(error) = issuer.checkpoint(now()).await {
            tracing::error!(%error, "the audit log could not be signed; trying again tomorrow");
        }
    }
}

/// The names in the service's certificate: those given, this machine's own, and the address that it listens on.
fn hosts_for(
    mut hosts: Vec<ServerName<'static>>,
    listening: IpAddr,
) -> Result<Vec<ServerName<'static>>, Error> {
    for own in ["localhost", "127.0.0.1", "::1"] {
        hosts.push(ServerName::try_from(own).map_err(|_| Error::Host(own.into()))?);
    }
    if !listening.is_unspecified() {
        hosts.push(ServerName::from(listening));
    }
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.to_str().into_owned()));
    Ok(hosts)
}

/// The URL that devices are told: the first host that was given, else the address, else this machine.
fn default_url(given: &[ServerName<'_>], address: SocketAddr) -> String {
    let host = match (given.first(), address.ip()) {
        (Some(ServerName::IpAddress(ip)), _) => bracketed((*ip).into()),
        (Some(name), _) => name.to_str().into_owned(),
        (None, ip) if ip.is_unspecified() => "localhost".into(),
        (None, ip) => bracketed(ip),
    };
    format!("https://{host}:{}", address.port())
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> ServerName<'static> {
        ServerName::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn devices_are_told_the_best_known_address() {
        let any: SocketAddr = "0.0.0.0:8443".parse().unwrap();
        assert_eq!(
            default_url(&[], "127.0.0.1:1".parse().unwrap()),
            "https://127.0.0.1:1"
        );
        assert_eq!(
            default_url(&[], "[::1]:2".parse().unwrap()),
            "https://[::1]:2"
        );
        assert_eq!(default_url(&[], any), "https://localhost:8443");
        assert_eq!(
            default_url(&[host("ca.example.org"), host("x")], any),
            "https://ca.example.org:8443"
        );
        assert_eq!(
            default_url(&[host("2001:db8::1")], any),
            "https://[2001:db8::1]:8443"
        );
    }

    #[test]
    fn the_certificate_names_each_host_once() {
        let hosts = hosts_for(
            vec![host("ca.example.org"), host("localhost")],
            "192.0.2.1".parse().unwrap(),
        )
        .unwrap();
        let names: Vec<_> = hosts.iter().map(|h| h.to_str().into_owned()).collect();
        assert_eq!(
            names,
            [
                "ca.example.org",
                "localhost",
                "127.0.0.1",
                "::1",
                "192.0.2.1"
            ]
        );
        let hosts = hosts_for(vec![], "0.0.0.0".parse().unwrap()).unwrap();
        assert_eq!(hosts.len(), 3);
    }
}
