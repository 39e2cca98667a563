//! `GET /metrics`: the workers' counters, added up when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Answer, respond, text};
use crate::counters::{Counter, Counters, DropCause, ListenerCounters, PrefixCounters, Refusal};
use crate::lifecycle::Stage;
use crate::shared::Shared;

/// What `/metrics` is made of.
#[derive(Debug)]
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut registry = Registry::with_prefix("smqtt_broker");
        registry.register_collector(Box::new(Snapshot(shared)));
        Metrics(registry)
    }

    pub(super) fn answer(&self) -> Answer {
        let mut body = String::new();
        match encode(&mut body, &self.0) {
            Ok(()) => respond(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            ),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

#[derive(Debug)]
struct Snapshot(Arc<Shared>);

/// Samples of one metric: the value of its one label, and the number.
type Samples = Vec<(String, u64)>;

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.0;
        let current = shared.current();
        let mut family = |kind, name, help, label, samples: Samples| {
            family(&mut encoder, kind, name, help, label, samples)
        };
        use MetricType::{Counter as Total, Gauge};
        family(
            Gauge,
            "build_info",
            "The running version",
            "version",
            vec![(env!("CARGO_PKG_VERSION").into(), 1)],
        )?;
        for (name, help, counter) in LISTENER {
            let samples = shared
                .listener_names
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    let sum = shared.sum(|worker| counter(&worker.listeners[index]).get());
                    (name.clone(), sum)
                });
            let kind = if *name == "connections" { Gauge } else { Total };
            family(kind, name, help, "listener", samples.collect())?;
        }
        let prefixes = &current.config.metrics.topic_prefixes;
        for (name, help, counter) in PREFIX {
            let samples = prefixes.iter().enumerate().map(|(index, prefix)| {
                let sum = shared.sum(|worker| counter(&worker.prefixes[index]).get());
                (prefix.clone(), sum)
            });
            family(Total, name, help, "prefix", samples.collect())?;
        }
        let dropped = DropCause::ALL.iter().map(|cause| {
            (
                cause.code().into(),
                shared.sum(|worker| worker.drops(*cause)),
            )
        });
        family(
            Total,
            "dropped_messages",
            "Messages that a session did not get, or the store did not keep",
            "cause",
            dropped.collect(),
        )?;
        let refused = Refusal::ALL.iter().map(|cause| {
            (
                cause.code().into(),
                shared.sum(|worker| worker.refusals(*cause)),
            )
        });
        family(
            Total,
            "connections_refused",
            "Connections closed before a byte of them was read",
            "cause",
            refused.collect(),
        )?;
        let unsealed = [
            (
                "refused",
                shared.sum(|worker| worker.unsealed_refused.get()),
            ),
            (
                "accepted",
                shared.sum(|worker| worker.unsealed_accepted.get()),
            ),
        ];
        family(
            Total,
            "rules_unsealed",
            "Messages at sealed topics that were not sealed by their publisher",
            "outcome",
            labelled(unsealed),
        )?;
        let reloads = [
            ("done", shared.reloads.done.load(Ordering::Relaxed)),
            ("refused", shared.reloads.refused.load(Ordering::Relaxed)),
        ];
        family(
            Total,
            "reloads",
            "Reloads of the configuration and its files",
            "outcome",
            labelled(reloads),
        )?;
        let by_worker = shared
            .counters
            .iter()
            .enumerate()
            .map(|(index, worker)| (index.to_string(), worker.connections.get()));
        family(
            Gauge,
            "worker_connections",
            "Connections open, by the worker that has them",
            "worker",
            by_worker.collect(),
        )?;
        if let Some(store) = &shared.store {
            let took = store.counters.commit_micros.load(Ordering::Relaxed);
            let help = "Seconds that commits of the store took";
            encoder
                .encode_descriptor("store_commit_seconds", help, None, Total)?
                .encode_counter::<NoLabelSet, _, u64>(&(took as f64 / 1e6), None)?;
        }
        let mut single = |kind, name, help, value| single(&mut encoder, kind, name, help, value);
        for (kind, name, help, counter) in SINGLE {
            single(
                *kind,
                name,
                help,
                shared.sum(|worker| counter(worker).get()),
            )?;
        }
        let (messages, bytes) = {
            let retained = shared.retained.read();
            (retained.len() as u64, retained.bytes() as u64)
        };
        single(
            Total,
            "worker_moves",
            "Workers that went to a thread of their own because there was much to do, or came back",
            shared.hosts.moves(),
        )?;
        single(
            Gauge,
            "retained_messages",
            "Topics with a retained message",
            messages,
        )?;
        single(
            Gauge,
            "retained_bytes",
            "Topics, properties and payloads of retained messages",
            bytes,
        )?;
        single(
            Gauge,
            "subscriptions",
            "Subscriptions of all sessions",
            shared.trie.read().len() as u64,
        )?;
        single(
            Gauge,
            "memory_used_bytes",
            "Bytes charged to the memory budget",
            shared.memory_used(),
        )?;
        single(
            Gauge,
            "memory_budget_bytes",
            "limits.memory_bytes, or what it came to",
            current.memory,
        )?;
        single(
            Gauge,
            "uptime_seconds",
            "Seconds since the start",
            shared.started.elapsed().as_secs(),
        )?;
        if let Some(store) = &shared.store {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let counters = &store.counters;
            for (name, help, value) in [
                (
                    "store_commits",
                    "Commits of the store",
                    load(&counters.commits),
                ),
                (
                    "store_changes",
                    "Entries that they changed",
                    load(&counters.changes),
                ),
                (
                    "store_failures",
                    "Commits that failed and were tried again",
                    load(&counters.failures),
                ),
            ] {
                single(Total, name, help, value)?;
            }
            single(
                Gauge,
                "store_failing",
                "1 while the store cannot be written",
                u64::from(store.refuses()),
            )?;
        }
        let draining = shared.lifecycle.stage() != Stage::Running;
        single(
            Gauge,
            "draining",
            "1 from the beginning of a drain or stop",
            draining.into(),
        )
    }
}

fn labelled<const N: usize>(samples: [(&str, u64); N]) -> Samples {
    samples.map(|(label, number)| (label.into(), number)).into()
}

type OfListener = (
    &'static str,
    &'static str,
    fn(&ListenerCounters) -> &Counter,
);

const LISTENER: &[OfListener] = &[
    (
        "connections",
        "Connections open, those without a CONNECT yet included",
        |c| &c.connections,
    ),
    ("connections_accepted", "Connections accepted", |c| {
        &c.accepted
    }),
    ("packets_received", "MQTT packets received", |c| {
        &c.packets_received
    }),
    ("packets_sent", "MQTT packets sent", |c| &c.packets_sent),
    ("messages_received", "PUBLISH packets received", |c| {
        &c.publishes_received
    }),
    ("messages_sent", "PUBLISH packets sent", |c| {
        &c.publishes_sent
    }),
    ("bytes_received", "Bytes received, after TLS", |c| {
        &c.bytes_received
    }),
    ("bytes_sent", "Bytes sent, before TLS", |c| &c.bytes_sent),
];

type OfPrefix = (&'static str, &'static str, fn(&PrefixCounters) -> &Counter);

const PREFIX: &[OfPrefix] = &[
    (
        "topic_messages",
        "Messages published under a prefix of metrics.topic_prefixes",
        |c| &c.messages,
    ),
    ("topic_payload_bytes", "Bytes of their payloads", |c| {
        &c.bytes
    }),
    ("topic_deliveries", "Sessions that they were for", |c| {
        &c.deliveries
    }),
];

type OfWorker = (
    MetricType,
    &'static str,
    &'static str,
    fn(&Counters) -> &Counter,
);

const SINGLE: &[OfWorker] = &[
    (
        MetricType::Gauge,
        "clients_connected",
        "Clients connected",
        |c| &c.clients_connected,
    ),
    (
        MetricType::Gauge,
        "sessions",
        "Sessions, of clients that are away included",
        |c| &c.sessions,
    ),
    (
        MetricType::Counter,
        "messages_refused",
        "PUBLISH packets refused",
        |c| &c.publish_refused,
    ),
    (
        MetricType::Counter,
        "peer_errors",
        "Connections ended because the peer broke the rules or was refused",
        |c| &c.peer_errors,
    ),
    (
        MetricType::Counter,
        "handshakes_revoked",
        "TLS handshakes refused because the client's certificate is revoked",
        |c| &c.revoked,
    ),
    (
        MetricType::Counter,
        "passwords_refused",
        "Clients refused for a wrong user name or password",
        |c| &c.passwords_refused,
    ),
    (
        MetricType::Counter,
        "clients_expelled",
        "Sessions ended because their client is not admitted any more",
        |c| &c.expelled,
    ),
    (
        MetricType::Counter,
        "rules_denied",
        "Messages and subscriptions that the access rules do not allow",
        |c| &c.denied,
    ),
];

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    label: &'static str,
    samples: Samples,
) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (value, number) in samples {
        let labels = [(label, value)];
        let mut sample = metric.encode_family(&labels)?;
        match kind {
            MetricType::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&number, None)?,
            _ => sample.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX))?,
        }
    }
    Ok(())
}

fn single(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    number: u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&number, None),
        _ => metric.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX)),
    }
}
