//! An authority, a server certificate and device certificates for one test.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use smqtt_pki::{
    CertificateAuthority, CertificateDer, CertificateRequest, IdentityKey, Revocation,
    RevocationReason, Serial, ServerName, UnixTime, Validity, files, tls,
};
use smqtt_proto::ProtocolVersion;

use super::client::{Client, Shared};

pub struct TestPki {
    dir: tempfile::TempDir,
    authority: CertificateAuthority,
    rng: ChaCha20Rng,
}

impl TestPki {
    pub fn new(seed: u8) -> TestPki {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let authority =
            CertificateAuthority::create("Test", lasting(HOUR), &mut rng).expect("authority");
        let dir = tempfile::tempdir().expect("temporary directory");
        let pki = TestPki {
            dir,
            authority,
            rng,
        };
        files::write_public(&pki.path("ca.crt"), pki.authority.root_pem().as_bytes())
            .expect("write");
        let host = ServerName::try_from("127.0.0.1").expect("an address");
        let (server, key) = pki
            .authority
            .issue_server(&[host], lasting(HOUR), &mut pki.rng.clone())
            .expect("issue");
        files::write_public(&pki.path("server.crt"), server.chain_pem().as_bytes()).expect("write");
        files::write_private(
            &pki.path("server.key"),
            key.to_pem().expect("PEM").as_bytes(),
        )
        .expect("write");
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The broker's arguments for a `mqtts` listener that demands certificates of this authority.
    pub fn arguments(&self) -> Vec<String> {
        let mut all = vec!["--listen".to_owned(), "mqtts://127.0.0.1:0".to_owned()];
        for (flag, file) in [
            ("--tls-cert", "server.crt"),
            ("--tls-key", "server.key"),
            ("--tls-client-ca", "ca.crt"),
        ] {
            all.extend([flag.to_owned(), super::utf8(&self.path(file)).to_owned()]);
        }
        all
    }

    /// What a device of this name connects with.
    pub fn device(&mut self, name: &str) -> ClientConfig {
        self.device_for(name, HOUR).0
    }

    /// As [`TestPki::device`], for so many seconds, with the certificate's serial number.
    pub fn device_for(&mut self, name: &str, seconds: u64) -> (ClientConfig, Serial) {
        self.device_with(name, &[], seconds)
    }

    /// As [`TestPki::device_for`], with attributes in the certificate.
    pub fn device_with(
        &mut self,
        name: &str,
        attributes: &[&str],
        seconds: u64,
    ) -> (ClientConfig, Serial) {
        let (chain, key, serial) = self.issue(name, attributes, seconds);
        (self.client(Some((chain, key))), serial)
    }

    /// A device's certificate chain and private key.
    pub fn identity(&mut self, name: &str) -> (Vec<CertificateDer<'static>>, IdentityKey) {
        let (chain, key, _) = self.issue(name, &[], HOUR);
        (chain, key)
    }

    fn issue(
        &mut self,
        name: &str,
        attributes: &[&str],
        seconds: u64,
    ) -> (Vec<CertificateDer<'static>>, IdentityKey, Serial) {
        let id = name.parse().expect("device id");
        let key = IdentityKey::generate(&mut self.rng);
        let request =
            CertificateRequest::from_pem(&key.csr_pem(&id).expect("request")).expect("request");
        let attributes: Vec<String> = attributes.iter().map(ToString::to_string).collect();
        let validity = lasting(seconds);
        let issued = self
            .authority
            .issue_device_with(&request, &id, &attributes, validity, &mut self.rng)
            .expect("issue");
        (issued.chain, key, issued.serial)
    }

    /// Puts a revocation list in the place of `ca.crl`, which is made if it is not there.
    pub fn revoke(&self, number: u64, serials: &[Serial], validity: Validity) {
        let revoked: Vec<_> = serials
            .iter()
            .map(|serial| Revocation {
                serial: *serial,
                at: UnixTime::now(),
                reason: RevocationReason::KeyCompromise,
            })
            .collect();
        let list = self
            .authority
            .issue_crl(&revoked, number, validity)
            .expect("issue");
        replace(&self.path("ca.crl"), list.to_pem().as_bytes(), 0o644);
    }

    /// Gives the broker another certificate, with another key; returns the certificate.
    pub fn renew_server(&mut self) -> CertificateDer<'static> {
        let host = ServerName::try_from("127.0.0.1").expect("an address");
        let (server, key) = self
            .authority
            .issue_server(&[host], lasting(HOUR), &mut self.rng)
            .expect("issue");
        let key = key.to_pem().expect("PEM");
        replace(&self.path("server.key"), key.as_bytes(), 0o600);
        replace(
            &self.path("server.crt"),
            server.chain_pem().as_bytes(),
            0o644,
        );
        server.chain[0].clone()
    }

    /// Of the authority's root certificate.
    pub fn fingerprint(&self) -> String {
        self.authority.fingerprint().to_string()
    }

    /// What a client without certificate connects with.
    pub fn anonymous(&self) -> ClientConfig {
        self.client(None)
    }

    fn client(
        &self,
        identity: Option<(Vec<smqtt_pki::CertificateDer<'static>>, IdentityKey)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.trust_anchor().root().clone())
            .expect("root");
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key.to_der().expect("key"))
                .expect("certificate"),
        }
    }
}

/// A TLS connection on which no MQTT was said.
pub fn connect_tls(port: u16, config: &ClientConfig, version: ProtocolVersion) -> Client {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    socket.set_nodelay(true).expect("nodelay");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let tls = ClientConnection::new(Arc::new(config.clone()), name).expect("client");
    let socket = Arc::new(socket);
    let stream = StreamOwned::new(tls, Shared(socket.clone()));
    Client::over(stream, socket, version)
}

/// The certificate that the broker shows to who connects now.
pub fn served_certificate(port: u16, config: &ClientConfig) -> CertificateDer<'static> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut tls = ClientConnection::new(Arc::new(config.clone()), name).expect("client");
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).expect("a handshake");
    }
    tls.peer_certificates().expect("a certificate")[0].clone()
}

/// Puts a file in the place of another in one step.
pub fn replace(path: &Path, content: &[u8], mode: u32) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).expect("write");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).expect("chmod");
    std::fs::rename(&beside, path).expect("rename");
}

pub const HOUR: u64 = 3600;

/// From now on, for so many seconds.
pub fn lasting(seconds: u64) -> Validity {
    Validity::starting(UnixTime::now(), Duration::from_secs(seconds)).expect("a time")
}
