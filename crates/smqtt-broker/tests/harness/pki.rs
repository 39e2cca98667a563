//! An authority, a server certificate and device certificates for one test.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, IdentityKey, ServerName, UnixTime, Validity, files,
    tls,
};
use smqtt_proto::ProtocolVersion;

use super::Client;

pub struct TestPki {
    dir: tempfile::TempDir,
    authority: CertificateAuthority,
    rng: ChaCha20Rng,
}

impl TestPki {
    pub fn new(seed: u8) -> TestPki {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let authority =
            CertificateAuthority::create("Test", validity(), &mut rng).expect("authority");
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
            .issue_server(&[host], validity(), &mut pki.rng.clone())
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
        let id = name.parse().expect("device id");
        let key = IdentityKey::generate(&mut self.rng);
        let request =
            CertificateRequest::from_pem(&key.csr_pem(&id).expect("request")).expect("request");
        let issued = self
            .authority
            .issue_device(&request, &id, validity(), &mut self.rng)
            .expect("issue");
        self.client(Some((issued.chain, key)))
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
    let stream = StreamOwned::new(tls, socket.try_clone().expect("clone"));
    Client::over(stream, socket, version)
}

fn validity() -> Validity {
    Validity::starting(UnixTime::now(), Duration::from_secs(3600)).expect("an hour")
}
