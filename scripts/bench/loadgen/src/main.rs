//! One load on any MQTT broker, from one thread: what it delivers, and what that costs the broker.
//!
//! All publishers and subscribers are in this process, so what was sent and has not arrived is known exactly, and a
//! closed loop finds the highest rate without loss. Prints one line of JSON; scripts/bench/brokers reads it.

mod client;
mod engine;
mod histogram;
mod packet;
mod process;

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

use engine::{Engine, Target};
use process::{cpu_seconds, memory_kib};

/// Loads a broker on 127.0.0.1 and prints what it did, in JSON.
#[derive(Parser)]
struct Cli {
    /// Where it listens
    #[arg(long)]
    port: u16,
    /// Its process
    #[arg(long)]
    pid: u32,
    /// TLS 1.3, trusting this authority (PEM)
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Acknowledge at once what arrives: for a broker without TCP_NODELAY
    #[arg(long)]
    quickack: bool,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Publishers and subscribers, a second of warming up, then so many seconds
    Messages(Messages),
    /// Connections that do nothing
    Idle {
        #[arg(long)]
        connections: usize,
        /// Handshakes at a time
        #[arg(long)]
        at_a_time: usize,
    },
}

#[derive(Args)]
struct Messages {
    #[arg(long, value_enum, default_value = "pairs")]
    shape: Shape,
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// How many filters the subscribers have between them, for `filters`
    #[arg(long, default_value_t = 100_000)]
    filters: usize,
    #[arg(long, default_value_t = 0)]
    qos: u8,
    /// Bytes of payload, at least 12
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Messages that each publisher has under way
    #[arg(long, default_value_t = 1000)]
    window: i64,
    /// Messages each second of all publishers, instead of a window
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 4.0)]
    secs: f64,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each publisher has a subscriber of its own
    Pairs,
    /// All publishers to each subscriber
    FanIn,
    /// Each message to all subscribers
    FanOut,
    /// Many filters, of which one matches each message
    Filters,
}

const SETUP: Duration = Duration::from_secs(90);
/// Filters in a SUBSCRIBE.
const BATCH: usize = 50;
/// Topics that are published to, where there are many filters.
const TOPICS: usize = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    process::raise_open_files();
    let target = Target {
        port: cli.port,
        tls: cli.ca.as_ref().map(tls).transpose()?,
        quickack: cli.quickack,
    };
    let mut engine = Engine::new(target)?;
    let report = match cli.load {
        Load::Messages(load) => messages(&mut engine, &load, cli.pid),
        Load::Idle {
            connections,
            at_a_time,
        } => idle(&mut engine, connections, at_a_time, cli.pid),
    };
    let fields: Vec<String> = report
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value:.4}"))
        .collect();
    println!("{{{}}}", fields.join(","));
    Ok(())
}

fn tls(ca: &PathBuf) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

type Report = Vec<(&'static str, f64)>;

fn messages(engine: &mut Engine, load: &Messages, pid: u32) -> Report {
    assert!(
        load.size >= engine::STAMP,
        "a payload has at least 12 bytes"
    );
    let rss_before = memory_kib(pid, "VmRSS");
    let fan = match load.shape {
        Shape::FanOut => load.subscribers as i64,
        _ => 1,
    };
    subscribe(engine, load);
    let began = Instant::now();
    let ready = engine.connect(0, 32, SETUP);
    let setup = began.elapsed();
    let rss_ready = memory_kib(pid, "VmRSS");
    add_publishers(engine, load);
    let publishing = engine.connect(load.subscribers, 32, SETUP);
    if ready < load.subscribers || publishing < load.publishers {
        eprintln!("only {ready} subscribers and {publishing} publishers are connected");
    }

    let start = Instant::now();
    let measured_from = start + Duration::from_secs(1);
    let until = measured_from + Duration::from_secs_f64(load.secs);
    let (mut sent, mut stalls, mut next) = (0u64, 0u32, 0);
    let (mut from, mut cpu, mut own, mut delivered) = (start, 0.0, 0.0, 0);
    engine.last_delivery = start;
    loop {
        let now = Instant::now();
        if !engine.records && now >= measured_from {
            engine.records = true;
            engine.latencies.clear();
            (from, delivered) = (now, engine.delivered);
            (cpu, own) = (cpu_seconds(pid), cpu_seconds(std::process::id()));
        }
        if now >= until || engine.dead >= engine.clients.len() {
            break;
        }
        if let Some(rate) = load.rate {
            let due = ((now - start).as_secs_f64() * rate) as u64;
            while sent < due {
                // One that is refused reading is passed over: its messages count as lost.
                if engine.backlog(next) < 4 << 20 {
                    engine.publish(next, 1, load.qos, fan);
                }
                sent += 1;
                next = (next + 1) % load.publishers;
            }
            let then = start + Duration::from_secs_f64((sent + 1) as f64 / rate);
            let wait = then.saturating_duration_since(Instant::now());
            engine.poll(wait.clamp(Duration::from_micros(50), Duration::from_millis(5)));
            continue;
        }
        for publisher in 0..load.publishers {
            let room = engine.room(publisher, load.window, fan);
            // In steps of half a window, so that writes are batches.
            if room >= (load.window / 2).max(1) {
                engine.publish(publisher, room, load.qos, fan);
                sent += room as u64;
            }
        }
        engine.poll(Duration::from_millis(20));
        if now.saturating_duration_since(engine.last_delivery) > Duration::from_secs(1) {
            // What is under way counts as lost: the windows open again.
            stalls += 1;
            engine.last_delivery = now;
            for publisher in &mut engine.publishers {
                publisher.undelivered = 0;
                publisher.unacknowledged = 0;
            }
        }
    }
    let seconds = from.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid) - cpu;
    let own = cpu_seconds(std::process::id()) - own;
    let messages = (engine.delivered - delivered) as f64;
    let (p50, p99) = (
        engine.latencies.quantile(0.5),
        engine.latencies.quantile(0.99),
    );
    drain(engine);
    let millions = (messages / 1e6).max(1e-9);
    vec![
        ("seconds", seconds),
        ("messages_s", messages / seconds),
        ("cpu_s_m", cpu / millions),
        ("generator_cpu_s_m", own / millions),
        ("p50_us", p50 as f64 / 1e3),
        ("p99_us", p99 as f64 / 1e3),
        ("lost", (sent * fan as u64) as f64 - engine.delivered as f64),
        ("stalls", f64::from(stalls)),
        ("dead", engine.dead as f64),
        ("peak_kib", memory_kib(pid, "VmHWM")),
        ("setup_s", setup.as_secs_f64()),
        ("setup_kib", rss_ready - rss_before),
    ]
}

/// Waits until nothing more comes, so that what is lost can be counted.
fn drain(engine: &mut Engine) {
    engine.records = false;
    let began = Instant::now();
    engine.last_delivery = began;
    while engine.last_delivery.elapsed() < Duration::from_millis(500)
        && began.elapsed() < Duration::from_secs(5)
    {
        engine.poll(Duration::from_millis(20));
    }
}

fn subscribe(engine: &mut Engine, load: &Messages) {
    let each = load.filters.div_ceil(load.subscribers);
    for subscriber in 0..load.subscribers {
        let filters = match load.shape {
            Shape::Pairs => vec![format!("bench/{subscriber}")],
            Shape::FanIn => vec!["bench/#".into()],
            Shape::FanOut => vec!["bench/0".into()],
            Shape::Filters => (subscriber * each..load.filters.min((subscriber + 1) * each))
                .map(|n| match n % 4 {
                    0 => format!("bench/{n}/t"),
                    1 => format!("bench/{n}/+"),
                    2 => format!("bench/{n}/#"),
                    _ => format!("+/{n}/t"),
                })
                .collect(),
        };
        let requests: VecDeque<_> = filters
            .chunks(BATCH)
            .zip(1..)
            .map(|(filters, packet_id)| packet::subscribe(packet_id, filters, load.qos))
            .collect();
        engine.add(format!("subscriber-{subscriber}"), requests);
    }
}

fn add_publishers(engine: &mut Engine, load: &Messages) {
    let topics: Vec<String> = match load.shape {
        Shape::FanOut => vec!["bench/0".into()],
        Shape::Pairs | Shape::FanIn => (0..load.publishers).map(|n| format!("bench/{n}")).collect(),
        Shape::Filters => {
            let mut random = 12345u64;
            (0..TOPICS.min(load.filters))
                .map(|_| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    format!("bench/{}/t", (random >> 33) as usize % load.filters)
                })
                .collect()
        }
    };
    engine.templates = topics
        .iter()
        .map(|topic| packet::publish(topic, load.qos, load.size))
        .collect();
    let count = engine.templates.len();
    for publisher in 0..load.publishers {
        let topics = match load.shape {
            Shape::FanOut => vec![0],
            Shape::Pairs | Shape::FanIn => vec![publisher],
            Shape::Filters => {
                let first = publisher * count / load.publishers;
                (0..count).map(|n| (first + n) % count).collect()
            }
        };
        engine.add_publisher(format!("publisher-{publisher}"), topics);
    }
}

fn idle(engine: &mut Engine, connections: usize, at_a_time: usize, pid: u32) -> Report {
    for number in 0..connections {
        engine.add(format!("idle-{number}"), VecDeque::new());
    }
    let rss = memory_kib(pid, "VmRSS");
    let cpu = cpu_seconds(pid);
    let began = Instant::now();
    let ready = engine.connect(0, at_a_time, SETUP);
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid) - cpu;
    // What is freed after a handshake is freed by then.
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_millis(1500) {
        engine.poll(Duration::from_millis(100));
    }
    let idle = (Instant::now(), cpu_seconds(pid));
    while idle.0.elapsed() < Duration::from_secs(1) {
        engine.poll(Duration::from_millis(100));
    }
    let ready = ready.max(1) as f64;
    let kib = memory_kib(pid, "VmRSS") - rss;
    vec![
        ("ready", ready),
        ("connects_s", ready / seconds),
        ("cpu_ms_each", cpu * 1e3 / ready),
        ("bytes_each", kib * 1024.0 / ready),
        ("idle_cores", cpu_seconds(pid) - idle.1),
        ("dead", engine.dead as f64),
        ("peak_kib", memory_kib(pid, "VmHWM")),
    ]
}
