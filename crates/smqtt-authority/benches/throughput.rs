//! How many enrolments and renewals a second of processor time carries, with 10 attributes for each device, and whether memory
//! grows: the real program, real TLS, a connection for each request as devices make it.
//!
//! The machine may be busy with other things, and the devices run on it too: what counts is operations per second of the
//! authority's own processor time. `SMQTT_BENCH_DEVICES` (2000) and `SMQTT_BENCH_CLIENTS` (8) at a time;
//! `SMQTT_BENCH_DATABASE=postgres` puts PostgreSQL below the register.
#![allow(clippy::unwrap_used)] // a panic ends the measurement

#[path = "../tests/site/mod.rs"]
mod site;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustls::ClientConfig;
use serde_json::json;
use site::{Service, Site, csr, key, postgres};
use smqtt_pki::{CertificateDer, TrustAnchor, tls};

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

fn config(anchor: &TrustAnchor, chain: Chain, seed: u64) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(anchor.root().clone()).unwrap();
    ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key(seed).to_der().unwrap())
        .unwrap()
}

fn main() {
    let count = number("SMQTT_BENCH_DEVICES", 2000);
    let clients = number("SMQTT_BENCH_CLIENTS", 8);
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
    let requests: Vec<_> = (0..count)
        .map(|device| csr(&format!("d-{device}"), device as u64))
        .collect();

    let service = site.serve_with(&["--requests-per-second", "0"]);
    let root = fs::read(site.path().join("ca.crt")).unwrap();
    let anchor = TrustAnchor::from_pem(&root).unwrap();
    let chains: Vec<Mutex<Chain>> = (0..count).map(|_| Mutex::default()).collect();
    measure("enrolments", &service, count, clients, |device| {
        let given = service
            .try_enrol(&tokens[device], &requests[device])
            .unwrap()
            .granted();
        *chains[device].lock().unwrap() = given.certificates().unwrap().0;
    });
    site.ok(&["epoch", "advance", "--overlap", "0s"]);
    measure(
        "renewals, begun and confirmed",
        &service,
        count,
        clients,
        |device| {
            let seed = device as u64;
            let chain = chains[device].lock().unwrap().clone();
            let body = json!({ "csr": requests[device] }).to_string();
            let mine = config(&anchor, chain, seed);
            let given = service
                .try_post(mine, "/v1/renew", &body)
                .unwrap()
                .granted();
            let chain = given.certificates().unwrap().0;
            let body = json!({ "epoch": given.epoch }).to_string();
            let mine = config(&anchor, chain, seed);
            let reply = service.try_post(mine, "/v1/renew/confirm", &body).unwrap();
            assert_eq!(reply.status, 204);
        },
    );
}
