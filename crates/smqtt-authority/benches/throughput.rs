//! How many enrolments and renewals a second of processor time carries, with 10 attributes for each device, and whether memory
//! grows: the real program, real TLS, connections as devices make them.
//!
//! The machine may be busy with other things, and the devices run on it too: what counts is operations per second of the
//! authority's own processor time. `SMQTT_BENCH_DEVICES` (2000) and `SMQTT_BENCH_CLIENTS` (48) at a time;
//! `SMQTT_BENCH_DATABASE=postgres` puts PostgreSQL below the register.
#![allow(clippy::unwrap_used)] // a panic ends the measurement

#[path = "../tests/site/mod.rs"]
mod site;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use site::{Reply, Service, Site, connect, csr, key, postgres};
use smqtt_pki::{CertificateDer, IdentityKey, TrustAnchor, tls};

fn number(name: &str, default: usize) -> usize {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seconds of processor time that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // Linux tells in hundredths of a second.
    ticks / 100.0
}

/// The kilobytes of memory that a process has.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace();
    words.filter_map(|word| word.parse().ok()).next().unwrap()
}

/// Does `act` for each of `count` devices, `clients` at a time, and tells what it took.
fn measure(
    what: &str,
    service: &Service,
    count: usize,
    clients: usize,
    act: impl Fn(usize) + Sync,
) {
    let next = AtomicUsize::new(0);
    let (before, begun) = (cpu(service.pid()), Instant::now());
    let samples = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let device = next.fetch_add(1, Ordering::Relaxed);
                    if device >= count {
                        return;
                    }
                    act(device);
                    if (device + 1).is_multiple_of((count / 10).max(1)) {
                        samples.lock().unwrap().push(memory(service.pid()) / 1024);
                    }
                }
            });
        }
    });
    let (used, passed) = (cpu(service.pid()) - before, begun.elapsed().as_secs_f64());
    let n = count as f64;
    println!(
        "{what}: {:.0} per second of processor time ({:.2} ms each); {:.0} a second on {:.2} cores; MiB {:?}",
        n / used,
        used / n * 1e3,
        n / passed,
        used / passed,
        samples.lock().unwrap()
    );
}

/// What a device presents in its next request.
type Chain = Vec<CertificateDer<'static>>;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection with this certificate chain and its key.
fn present(service: &Service, anchor: &TrustAnchor, chain: &Chain, key: &IdentityKey) -> Stream {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(anchor.root().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.clone(), key.to_der().unwrap())
        .unwrap();
    connect(service.address, config, "127.0.0.1")
}

/// Asks over a connection that stays open.
fn ask(stream: &mut Stream, path: &str, body: &Value) -> Reply {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: authority\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let got = stream.read(&mut chunk).unwrap();
        assert_ne!(got, 0, "the answer ended early");
        bytes.extend_from_slice(&chunk[..got]);
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let reply = Reply::read(&mut bytes.as_slice());
        let length = reply.header("content-length").unwrap_or("0");
        if bytes.len() == head + 4 + length.parse::<usize>().unwrap() {
            return reply;
        }
    }
}

fn main() {
    let count = number("SMQTT_BENCH_DEVICES", 2000);
    let clients = number("SMQTT_BENCH_CLIENTS", 48);
    let on_postgres = std::env::var("SMQTT_BENCH_DATABASE").as_deref() == Ok("postgres");
    let site = Site {
        dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        server: on_postgres.then(postgres::Server::start),
    };
    site.ok(&["init"]);
    let file = site.dir.path().join("devices.csv");
    let attributes: Vec<_> = (0..10).map(|n| format!("name{n} = value{n}")).collect();
    let mut lines = "name,attributes\n".to_owned();
    for device in 0..count {
        lines.push_str(&format!("d-{device},\"{}\"\n", attributes.join(", ")));
    }
    fs::write(&file, lines).unwrap();
    let begun = Instant::now();
    let tokens = site.ok(&["device", "import", file.to_str().unwrap()]);
    println!(
        "import: {:.0} devices a second",
        count as f64 / begun.elapsed().as_secs_f64()
    );
    let tokens: Vec<_> = tokens
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(tokens.len(), count);

    let service = site.serve_with(&["--requests-per-second", "0"]);
    let root = fs::read(site.path().join("ca.crt")).unwrap();
    let anchor = TrustAnchor::from_pem(&root).unwrap();
    let csr = |device: usize, seed: u64| csr(&format!("d-{device}"), seed);
    let chains: Vec<Mutex<Chain>> = (0..count).map(|_| Mutex::default()).collect();
    measure("enrolments", &service, count, clients, |device| {
        let given = service
            .try_enrol(&tokens[device], &csr(device, device as u64))
            .unwrap()
            .granted();
        *chains[device].lock().unwrap() = given.certificates().unwrap().0;
    });
    // As `smqtt renew` does: the confirmation goes over the same connection where the certificate is the same. Who has a new
    // key gets a new certificate, and makes a second connection with it.
    let renew = |what: &str, new_key: u64| {
        site.ok(&["epoch", "advance", "--overlap", "0s"]);
        measure(what, &service, count, clients, |device| {
            let (before, after) = (key(device as u64), key(device as u64 + new_key));
            let id = format!("d-{device}").parse().unwrap();
            let chain = chains[device].lock().unwrap();
            let mut stream = present(&service, &anchor, &chain, &before);
            let body = json!({ "csr": after.csr_pem(&id).unwrap() });
            let given = ask(&mut stream, "/v1/renew", &body).granted();
            let next = given.certificates().unwrap().0;
            assert_eq!(next == *chain, new_key == 0);
            if next != *chain {
                stream = present(&service, &anchor, &next, &after);
            }
            let body = json!({ "epoch": given.epoch });
            let reply = ask(&mut stream, "/v1/renew/confirm", &body);
            assert_eq!(reply.status, 204);
        });
    };
    renew("renewals of the attribute key", 0);
    renew("renewals of certificate and attribute key", 1 << 32);
}
