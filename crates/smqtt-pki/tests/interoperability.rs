//! The certificates and key files, taken by OpenSSL and by a stock Mosquitto.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fixture::*;
use smqtt_pki::{CertificateAuthority, Identity, IdentityParts, files};

/// An authority's root, a server's files and a device's bundle in a directory.
struct Site {
    dir: tempfile::TempDir,
    device: PathBuf,
}

impl Site {
    fn new(ca: &CertificateAuthority, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (issued, key) = server(ca, 50);
        files::write_public(
            &dir.path().join("server.crt"),
            issued.chain_pem().as_bytes(),
        )
        .unwrap();
        files::write_private(
            &dir.path().join("server.key"),
            key.to_pem().unwrap().as_bytes(),
        )
        .unwrap();
        files::write_public(&dir.path().join("ca.crt"), ca.root_pem().as_bytes()).unwrap();
        let (id, key, issued) = device(ca, name, 60);
        let device = dir.path().join("device");
        let parts = IdentityParts {
            device: &id,
            authority: "https://localhost:1",
            broker: None,
            suite: 1,
            key: &key,
            chain_pem: &issued.chain_pem(),
            ca_pem: &ca.root_pem(),
            root_list: None,
            parameters: b"p",
            attribute_key: b"k",
            sealing: &[],
            schema: None,
            key_policy: None,
        };
        Identity::create(&device, &parts).unwrap();
        Self { dir, device }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the broker has logged a text so many times.
    fn wait_for_log(&self, wanted: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let log = fs::read_to_string(self.file("log")).unwrap();
            if log.matches(wanted).count() >= times {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "mosquitto did not log {wanted:?}: {log}"
            );
            sleep(Duration::from_millis(20));
        }
    }
}

/// Stops a program that a test has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| {
            panic!("{program} can not be run ({e}): install it, or leave this test out")
        })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn strict_verification_with_openssl_accepts_the_certificates_for_their_purpose_only() {
    let ca = authority(1);
    let site = Site::new(&ca, "sensor-17");
    let (root, server, device) = (
        site.file("ca.crt"),
        site.file("server.crt"),
        site.device.join("device.crt"),
    );
    let verify = |purpose: &str, host: &[&str], certificate: &Path| {
        let mut args = vec![
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            text(&root),
        ];
        args.extend(host);
        args.push(text(certificate));
        run("openssl", &args)
    };
    let ok = |output: Output| {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        )
    };
    ok(verify(
        "sslserver",
        &["-verify_hostname", "localhost"],
        &server,
    ));
    ok(verify("sslserver", &["-verify_ip", "127.0.0.1"], &server));
    ok(verify("sslserver", &["-verify_ip", "::1"], &server));
    ok(verify("sslclient", &[], &device));
    assert!(
        !verify("sslserver", &["-verify_hostname", "example.org"], &server)
            .status
            .success()
    );
    assert!(!verify("sslclient", &[], &server).status.success());
    assert!(!verify("sslserver", &[], &device).status.success());

    // The fingerprint that people compare is the one that openssl shows.
    let shown = run(
        "openssl",
        &[
            "x509",
            "-noout",
            "-fingerprint",
            "-sha256",
            "-in",
            text(&root),
        ],
    );
    let shown = String::from_utf8(shown.stdout).unwrap();
    let shown = shown.trim().rsplit('=').next().unwrap();
    assert_eq!(
        format!("sha256:{shown}")
            .parse::<smqtt_pki::Fingerprint>()
            .unwrap(),
        ca.fingerprint()
    );
}

#[test]
fn a_signature_over_a_message_is_verified_with_openssl_too() {
    let ca = authority(1);
    let site = Site::new(&ca, "sensor-17");
    let message = site.file("message");
    fs::write(&message, "21.5").unwrap();
    let signature = run(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-sign",
            text(&site.device.join("device.key")),
            text(&message),
        ],
    );
    assert!(signature.status.success());
    // r and s out of the DER that openssl writes: the device verifies what another implementation signed with its key.
    let der = p256::ecdsa::Signature::from_der(&signature.stdout).unwrap();
    let identity = Identity::load(&site.device).unwrap();
    let verified = identity
        .trust_anchor()
        .verify_device(identity.chain(), now())
        .unwrap();
    verified.verify_signature(b"21.5", &der.to_bytes()).unwrap();
}

/// A stock Mosquitto that demands a client certificate of the site's authority and takes its name as the user name.
fn mosquitto(site: &Site) -> (Running, u16) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = site.file("mosquitto.conf");
    let mut file = fs::File::create(&config).unwrap();
    writeln!(
        file,
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
         use_identity_as_username true\nallow_anonymous false\nlog_dest stderr\nlog_type all\n",
        text(&site.file("ca.crt")),
        text(&site.file("server.crt")),
        text(&site.file("server.key")),
    )
    .unwrap();
    // Started by root, Mosquitto becomes the user "mosquitto", who must not read our files: stay who we are.
    if run("id", &["-u"]).stdout == b"0\n" {
        writeln!(file, "user root").unwrap();
    }
    let program = if Path::new("/usr/sbin/mosquitto").exists() {
        "/usr/sbin/mosquitto"
    } else {
        "mosquitto"
    };
    let child = Command::new(program)
        .args(["-c", text(&config)])
        .stderr(fs::File::create(site.file("log")).unwrap())
        .spawn()
        .expect("mosquitto can not be run: install it, or leave this test out");
    let running = Running(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = fs::read_to_string(site.file("log")).unwrap();
        assert!(
            Instant::now() < deadline,
            "mosquitto does not listen: {log}"
        );
        sleep(Duration::from_millis(20));
    }
    (running, port)
}

#[test]
fn the_bundle_connects_with_mosquitto_clients_and_broker() {
    let ca = authority(1);
    let site = Site::new(&ca, "sensor-17");
    let (_broker, port) = mosquitto(&site);
    let port = port.to_string();
    let (root, cert, key) = (
        site.device.join("ca.crt"),
        site.device.join("device.crt"),
        site.device.join("device.key"),
    );
    for (turn, host) in ["localhost", "127.0.0.1"].into_iter().enumerate() {
        let tls = [
            "-h",
            host,
            "-p",
            &port,
            "--cafile",
            text(&root),
            "--cert",
            text(&cert),
            "--key",
            text(&key),
        ];
        let mut subscriber = Command::new("mosquitto_sub")
            .args(tls)
            .args(["-V", "5", "-t", "t", "-C", "1", "-W", "20"])
            .stdout(Stdio::piped())
            .spawn()
            .map(Running)
            .expect(
                "mosquitto_sub can not be run: install mosquitto-clients, or leave this test out",
            );
        site.wait_for_log("Sending SUBACK", turn + 1);
        let mut publish = tls.to_vec();
        publish.extend(["-V", "311", "-q", "1", "-t", "t", "-m", "21.5"]);
        let published = run("mosquitto_pub", &publish);
        assert!(
            published.status.success(),
            "{}",
            String::from_utf8_lossy(&published.stderr)
        );
        let mut received = String::new();
        subscriber
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut received)
            .unwrap();
        assert_eq!(received, "21.5\n");
    }
    site.wait_for_log("u'sensor-17'", 1);
}

#[test]
fn a_stranger_is_turned_away_with_mosquitto_as_the_broker() {
    let (ours, theirs) = (authority(1), authority(2));
    let site = Site::new(&ours, "sensor-17");
    let stranger = Site::new(&theirs, "sensor-17");
    let (_broker, port) = mosquitto(&site);
    let port = port.to_string();
    let (root, cert, key) = (
        site.file("ca.crt"),
        stranger.device.join("device.crt"),
        stranger.device.join("device.key"),
    );
    let base = [
        "-h",
        "localhost",
        "-p",
        &port,
        "--cafile",
        text(&root),
        "-q",
        "1",
        "-t",
        "t",
        "-m",
        "x",
    ];
    let mut args = base.to_vec();
    args.extend(["--cert", text(&cert), "--key", text(&key)]);
    assert!(!run("mosquitto_pub", &args).status.success());
    assert!(!run("mosquitto_pub", &base).status.success());
}
