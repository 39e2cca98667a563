//! An authority with devices, and brokers that do what a test wants.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used)]

pub(crate) mod mosquitto;
pub(crate) mod scripted;

use std::path::{Path, PathBuf};
use std::time::Duration;

use smqtt_abe::cp;
use smqtt_client::{AttributeSet, Epoch, Identity};
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, IdentityKey, IdentityParts, ServerName, UnixTime,
    Validity,
};
use tempfile::TempDir;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, and a directory for what it gives out.
pub(crate) struct Site {
    directory: TempDir,
    authority: CertificateAuthority,
    master: cp::MasterKey,
    parameters: cp::PublicParameters,
}

fn days(days: u64) -> Validity {
    Validity::starting(UnixTime::now(), Duration::from_secs(days * 86_400)).unwrap()
}

impl Site {
    pub(crate) fn new() -> Self {
        let rng = &mut rand::rng();
        let (master, parameters) = cp::setup(rng);
        Self {
            directory: tempfile::tempdir().unwrap(),
            authority: CertificateAuthority::create("Test site", days(10), rng).unwrap(),
            master,
            parameters,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Issues an identity with these attributes, at epoch 1.
    pub(crate) fn device(&self, name: &str, attributes: &str) -> Identity {
        let rng = &mut rand::rng();
        let id = name.parse().unwrap();
        let key = IdentityKey::generate(rng);
        let request = CertificateRequest::from_pem(&key.csr_pem(&id).unwrap()).unwrap();
        let issued = self
            .authority
            .issue_device(&request, &id, days(5), rng)
            .unwrap();
        let attributes: AttributeSet = attributes.parse().unwrap();
        let attributes = attributes.with_epoch(Epoch::new(1));
        let attribute_key = self
            .master
            .issue(&self.parameters, &attributes, rng)
            .unwrap();
        Identity::create(
            &self.path().join(name),
            &IdentityParts {
                device: &id,
                authority: "https://127.0.0.1:1",
                broker: None,
                suite: smqtt_abe::Suite::FabeoCpBls12381.id(),
                key: &key,
                chain_pem: &issued.chain_pem(),
                ca_pem: &self.ca_pem(),
                root_list: None,
                parameters: &self.parameters.to_bytes(),
                attribute_key: &attribute_key.to_bytes(),
                sealing: &[],
                schema: None,
                key_policy: None,
            },
        )
        .unwrap()
    }

    pub(crate) fn parameters(&self) -> cp::PublicParameters {
        self.parameters.clone()
    }

    fn ca_pem(&self) -> String {
        let root = self.authority.trust_anchor().root().clone();
        smqtt_pki::certificates_to_pem(&[root])
    }

    /// `server.crt`, `server.key` and `ca.crt` for 127.0.0.1.
    pub(crate) fn server(&self) -> PathBuf {
        let directory = self.path().join("server");
        std::fs::create_dir_all(&directory).unwrap();
        let host = ServerName::try_from("127.0.0.1").unwrap();
        let (issued, key) = self
            .authority
            .issue_server(&[host], days(5), &mut rand::rng())
            .unwrap();
        std::fs::write(directory.join("server.crt"), issued.chain_pem()).unwrap();
        std::fs::write(
            directory.join("server.key"),
            key.to_pem().unwrap().as_bytes(),
        )
        .unwrap();
        std::fs::write(directory.join("ca.crt"), self.ca_pem()).unwrap();
        directory
    }
}

/// Waits for what has to come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes longer than anything takes that works")
}
