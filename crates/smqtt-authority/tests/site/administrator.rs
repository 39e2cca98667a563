//! Administrators of an authority: a certificate in a directory, requests over TLS or the socket.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use smqtt_pki::enrolment::EnrolResponse;
use smqtt_pki::{CertificateDer, IdentityKey, PrivateKeyDer, ServerName, files, tls};

use super::{Reply, Service, Site, key};

/// What a client presents, and what it trusts.
pub(crate) struct Presented {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    root: CertificateDer<'static>,
}

impl Presented {
    /// A new administrator.
    pub(crate) fn admin(site: &Site, name: &str, role: &str) -> Self {
        let out = directory(site, name);
        let path = out.to_str().unwrap();
        site.ok(&["admin", "add", name, "--role", role, "--out", path]);
        let root = files::read_certificates(&out.join("ca.crt")).unwrap();
        Self {
            chain: files::read_certificates(&out.join("client.crt")).unwrap(),
            key: files::read_private_key(&out.join("client.key")).unwrap(),
            root: root[0].clone(),
        }
    }

    /// A device that was enrolled with the key of this seed.
    pub(crate) fn device(granted: &EnrolResponse, seed: u64) -> Self {
        let (chain, anchor) = granted.certificates().unwrap();
        Self::with(chain, seed, anchor.root().clone())
    }

    /// Whatever chain, for the key of this seed.
    pub(crate) fn with(
        chain: Vec<CertificateDer<'static>>,
        seed: u64,
        root: CertificateDer<'static>,
    ) -> Self {
        Self::of(chain, &key(seed), root)
    }

    /// Whatever chain, for this key.
    pub(crate) fn of(
        chain: Vec<CertificateDer<'static>>,
        key: &IdentityKey,
        root: CertificateDer<'static>,
    ) -> Self {
        Self {
            chain,
            key: key.to_der().unwrap(),
            root,
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = trusting(&self.root)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    pub(crate) fn ask(
        &self,
        service: &Service,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        self.ask_from(service, Ipv4Addr::LOCALHOST.into(), method, path, body)
    }

    /// The same, from another of this machine's addresses.
    pub(crate) fn ask_from(
        &self,
        service: &Service,
        source: IpAddr,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        exchange(self.config(), service, source, method, path, body)
    }

    /// Only the handshake, and what it comes to.
    pub(crate) fn handshake(&self, service: &Service) -> std::io::Result<()> {
        let mut stream = super::connect(service.address, self.config(), "127.0.0.1");
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        stream.flush()?;
        // The server's refusal comes after the client believes that it is done.
        std::io::Read::read(&mut stream, &mut [0; 1]).map(|_| ())
    }
}

/// Where [`Presented::admin`] puts what it gets.
pub(crate) fn directory(site: &Site, name: &str) -> PathBuf {
    site.dir.path().join(format!("admin-{name}"))
}

/// Somebody without a certificate.
pub(crate) fn anonymous(
    site: &Site,
    service: &Service,
    source: IpAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    let root = files::read_certificates(&site.path().join("ca.crt")).unwrap();
    let config = trusting(&root[0]).with_no_client_auth();
    exchange(config, service, source, method, path, body)
}

fn trusting(
    root: &CertificateDer<'static>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::new(roots))
}

fn exchange(
    config: ClientConfig,
    service: &Service,
    source: IpAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    let tcp = connect_from(source, service.address);
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    let _ = stream
        .write_all(request(method, path, body).as_bytes())
        .and_then(|()| stream.flush());
    Reply::read(&mut stream)
}

pub(crate) fn request(method: &str, path: &str, body: Option<&Value>) -> String {
    let (head, body) = match body {
        Some(body) => ("Content-Type: application/json\r\n", body.to_string()),
        None => ("", String::new()),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: authority\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request on the administrators' socket.
pub(crate) fn ask_locally(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Reply {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(request(method, path, body).as_bytes())
        .unwrap();
    Reply::read(&mut stream)
}

/// One of this machine's addresses: all of 127.0.0.0/8 are.
pub(crate) fn source(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low).into()
}

pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// A number among the metrics, 0 if it is not there yet. `name` has the labels.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().unwrap())
}
