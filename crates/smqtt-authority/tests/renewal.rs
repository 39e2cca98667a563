//! Renewal over mutual TLS, as seen from a device.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::io::Write;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use site::{Reply, Service, Site, connect, csr, key};
use smqtt_pki::enrolment::{EnrolResponse, ProblemCode};
use smqtt_pki::{CertificateDer, DeviceId, certificates_from_pem, tls};

/// A device that has enrolled.
struct Device {
    name: &'static str,
    seed: u64,
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

impl Device {
    fn enrol(site: &Site, service: &Service, name: &'static str, seed: u64) -> Self {
        let token = site.add(name, "role = sensor");
        let granted = service.enrol(&token, &csr(name, seed)).granted();
        Self::with(name, seed, &granted)
    }

    fn with(name: &'static str, seed: u64, granted: &EnrolResponse) -> Self {
        let (chain, anchor) = granted.certificates().unwrap();
        Self {
            name,
            seed,
            chain,
            root: anchor.root().clone(),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::new(roots))
            .with_client_auth_cert(self.chain.clone(), key(self.seed).to_der().unwrap())
            .unwrap()
    }

    fn post(&self, service: &Service, path: &str, body: &str) -> Reply {
        let mut stream = connect(service.address, self.config(), "127.0.0.1");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: authority\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.flush());
        Reply::read(&mut stream)
    }

    fn renew(&self, service: &Service) -> Reply {
        let body = json!({ "csr": csr(self.name, self.seed) }).to_string();
        self.post(service, "/v1/renew", &body)
    }

    fn confirm(&self, service: &Service, epoch: u64) -> Reply {
        let body = json!({ "epoch": epoch }).to_string();
        self.post(service, "/v1/renew/confirm", &body)
    }
}

fn actions(site: &Site, action: &str) -> Vec<String> {
    site.ok(&["audit", "list", "--json"])
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|row| row["action"] == action)
        .map(|row| row["outcome"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_device_renews_and_says_when_it_uses_what_it_got() {
    let site = Site::new();
    let service = site.serve();
    let device = Device::enrol(&site, &service, "sensor-1", 1);
    site.ok(&["epoch", "advance", "--overlap", "1h"]);
    let renewed = device.renew(&service).granted();
    assert_eq!(renewed.epoch, 2);
    assert_eq!(renewed.sealing.len(), 2, "the window is open");
    assert_eq!((renewed.sealing[0].epoch, renewed.sealing[1].epoch), (1, 2));
    // Issued is not in use.
    assert_eq!(site.device("sensor-1")["key_epoch"], 1);
    let after = Device::with("sensor-1", 1, &renewed);
    assert_eq!(after.confirm(&service, 2).status, 204);
    assert_eq!(site.device("sensor-1")["key_epoch"], 2);
    // Once more changes nothing.
    assert_eq!(after.confirm(&service, 2).status, 204);
    assert_eq!(actions(&site, "renew"), ["ok"]);
    assert_eq!(actions(&site, "renew-confirm"), ["ok"]);
}

#[test]
fn a_lost_answer_is_given_again_with_the_same_certificate() {
    let site = Site::new();
    let service = site.serve();
    let device = Device::enrol(&site, &service, "sensor-1", 1);
    let first = device.renew(&service).granted();
    let second = device.renew(&service).granted();
    assert_eq!(first.certificate_chain, second.certificate_chain);
    assert_eq!(first.epoch, second.epoch);
    // Another key is another certificate, and what the device had still works.
    let other = Device {
        seed: 2,
        ..Device::with("sensor-1", 1, &first)
    };
    let body = json!({ "csr": csr("sensor-1", 2) }).to_string();
    let third = device.post(&service, "/v1/renew", &body).granted();
    assert_ne!(first.certificate_chain, third.certificate_chain);
    assert_eq!(other.seed, 2);
    device.renew(&service).granted();
}

#[test]
fn an_enrolment_whose_answer_got_lost_is_answered_again_for_the_same_key_only() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-1", "role = sensor");
    let first = service.enrol(&token, &csr("sensor-1", 1)).granted();
    let again = service.enrol(&token, &csr("sensor-1", 1)).granted();
    assert_eq!(first.certificate_chain, again.certificate_chain);
    service
        .enrol(&token, &csr("sensor-1", 2))
        .refused(ProblemCode::TokenUsed);
    site.ok(&["device", "revoke", "sensor-1"]);
    service
        .enrol(&token, &csr("sensor-1", 1))
        .refused(ProblemCode::TokenUsed);
}

#[test]
fn who_must_not_renew_is_told_why() {
    let site = Site::new();
    let service = site.serve();
    let body = json!({ "csr": csr("sensor-1", 1) }).to_string();
    service
        .post("/v1/renew", body.as_bytes())
        .refused(ProblemCode::CertificateRequired);
    let device = Device::enrol(&site, &service, "sensor-1", 1);
    let other = json!({ "csr": csr("sensor-2", 1) }).to_string();
    device
        .post(&service, "/v1/renew", &other)
        .refused(ProblemCode::CsrNameMismatch);
    device
        .post(&service, "/v1/renew", "{}")
        .refused(ProblemCode::MalformedRequest);
    site.ok(&["device", "suspend", "sensor-1"]);
    device.renew(&service).refused(ProblemCode::DeviceSuspended);
    site.ok(&["device", "reinstate", "sensor-1"]);
    device.renew(&service).granted();
    site.ok(&["device", "revoke", "sensor-1"]);
    device
        .renew(&service)
        .refused(ProblemCode::CertificateRevoked);
    device
        .confirm(&service, 1)
        .refused(ProblemCode::CertificateRevoked);
    assert_eq!(
        actions(&site, "renew"),
        [
            "csr-name-mismatch",
            "device-suspended",
            "ok",
            "certificate-revoked"
        ]
    );
}

#[test]
fn a_device_of_another_authority_does_not_come_through() {
    let (site, foreign) = (Site::new(), Site::new());
    let (service, elsewhere) = (site.serve(), foreign.serve());
    let stranger = Device::enrol(&foreign, &elsewhere, "sensor-1", 1);
    let mine = Device::enrol(&site, &service, "sensor-1", 1);
    let mixed = Device {
        chain: stranger.chain,
        ..mine
    };
    let mut stream = connect(service.address, mixed.config(), "127.0.0.1");
    let sent = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answered = std::io::read_to_string(&mut stream);
    assert!(sent.is_err() || answered.is_err(), "{answered:?}");
}

#[test]
fn after_its_expiry_a_certificate_is_renewed_within_the_grace_window() {
    let site = Site::new();
    let service = site.serve();
    let device = Device::enrol(&site, &service, "sensor-1", 1);
    let name: DeviceId = "sensor-1".parse().unwrap();
    // As it will be when the certificate has expired: one that this authority has issued for a span that is over.
    let expired = site.expired_certificate(&name, 1);
    let late = Device {
        chain: certificates_from_pem(expired.as_bytes()).unwrap(),
        ..device
    };
    let renewed = late.renew(&service).granted();
    assert_eq!(renewed.epoch, 1);
    site.ok(&["epoch", "schedule", "--renewal-grace", "10s"]);
    let refused = late
        .renew(&service)
        .refused(ProblemCode::CertificateExpired);
    assert!(
        refused.detail.unwrap().contains("--re-enrol"),
        "it says what to do"
    );
    site.ok(&["epoch", "schedule", "--renewal-grace", "30d"]);
    site.ok(&["device", "revoke", "sensor-1"]);
    late.renew(&service)
        .refused(ProblemCode::CertificateRevoked);
}
