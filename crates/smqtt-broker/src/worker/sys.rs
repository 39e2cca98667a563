//! The `$SYS` topics: what the broker says about itself, retained, to who may read it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smqtt_proto::packet::Publish;
use smqtt_proto::{Message, TopicName};

use super::deliver::Source;
use super::timers::Timer;
use super::{Pass, Worker};
use crate::counters::{Counter, Counters, DropCause, ListenerCounters};
use crate::load::{Load, PERIODS};

/// What the topics tell of the past.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When it was last brought up to date.
    at: Option<Instant>,
    loads: [Load; LOADS.len()],
    most_clients: u64,
    most_memory: u64,
}

/// A load average's name, and the counter that it is of.
type LoadOf = (&'static str, fn(&Counters) -> u64);

/// The load averages that there are, as Mosquitto names them.
const LOADS: [LoadOf; 9] = [
    ("messages/received", |c| packets(c, |l| &l.packets_received)),
    ("messages/sent", |c| packets(c, |l| &l.packets_sent)),
    ("publish/received", |c| c.publish_received.get()),
    ("publish/sent", |c| c.publish_sent.get()),
    ("publish/dropped", |c| c.all_drops()),
    ("bytes/received", |c| c.bytes_received.get()),
    ("bytes/sent", |c| c.bytes_sent.get()),
    ("sockets", |c| c.connections_accepted.get()),
    ("connections", |c| c.clients_admitted.get()),
];

fn packets(counters: &Counters, counter: fn(&ListenerCounters) -> &Counter) -> u64 {
    counters.listeners.iter().map(|l| counter(l).get()).sum()
}

impl Worker {
    /// The topics about the past and about what takes memory.
    fn sys_history(&mut self, pass: &Pass<'_>) -> Vec<(String, String)> {
        let shared = pass.shared;
        let history = &mut self.sys_history;
        let since = history.at.replace(pass.now).unwrap_or(shared.started);
        let elapsed = pass.now.saturating_duration_since(since);
        let mut values = Vec::new();
        for ((name, counter), load) in LOADS.iter().zip(&mut history.loads) {
            let averages = load.update(shared.sum(counter), elapsed);
            for (average, (_, period)) in averages.iter().zip(PERIODS) {
                values.push((format!("load/{name}/{period}"), format!("{average:.2}")));
            }
        }
        let clients = shared.sum(|c| c.clients_connected.get());
        let sessions = shared.sum(|c| c.sessions.get());
        let memory = shared.memory_used();
        history.most_clients = history.most_clients.max(sessions);
        history.most_memory = history.most_memory.max(memory);
        let retained_bytes = shared.retained.read().bytes() as u64;
        for (name, value) in [
            ("clients/disconnected", sessions.saturating_sub(clients)),
            ("clients/maximum", history.most_clients),
            ("heap/current", memory),
            ("heap/maximum", history.most_memory),
            ("messages/received", shared.sum(LOADS[0].1)),
            ("messages/sent", shared.sum(LOADS[1].1)),
            ("publish/messages/dropped", shared.sum(Counters::all_drops)),
            ("retained messages/bytes", retained_bytes),
        ] {
            values.push((name.to_owned(), value.to_string()));
        }
        values
    }

    /// Publishes what has changed since the last time.
    pub(super) fn on_sys_due(&mut self, pass: &mut Pass<'_>) {
        let interval = Duration::from_secs(self.current.config.sys.interval_seconds);
        self.set_sys_timer(pass.now + interval);
        let mut values = self.sys_values(pass);
        for (topic, value) in self.sys_history(pass) {
            values.insert(format!("$SYS/broker/{topic}"), value);
        }
        for (topic, value) in values {
            if self.sys_published.get(&topic) == Some(&value) {
                continue;
            }
            let Ok(name) = TopicName::new(topic.clone()) else {
                continue;
            };
            let mut publish = Publish::new(name, value.clone());
            publish.retain = true;
            if let Ok(message) = Message::new(&publish, pass.now) {
                let mut source = Source::shared(message.into(), None);
                let _ = self.retain(&mut source, pass.now);
                self.route(&mut source, None, pass);
                self.sys_published.insert(topic, value);
            }
        }
    }

    /// Sets when the topics are due next.
    pub(super) fn set_sys_timer(&mut self, at: Instant) {
        if let Some(before) = self.sys_due.replace(at) {
            self.timers.unset(before, Timer::Sys);
        }
        self.set_timer(at, Timer::Sys);
    }

    fn sys_values(&self, pass: &mut Pass<'_>) -> HashMap<String, String> {
        let shared = pass.shared;
        let subscriptions = pass.trie().len();
        let groups = pass.trie().shared();
        let sum = |counter: fn(&Counters) -> &Counter| {
            shared
                .counters
                .iter()
                .map(|worker| counter(worker).get())
                .sum::<u64>()
                .to_string()
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let mut values: HashMap<String, String> = [
            (
                "version",
                format!("smqtt-broker {}", env!("CARGO_PKG_VERSION")),
            ),
            (
                "uptime",
                format!("{} seconds", shared.started.elapsed().as_secs()),
            ),
            ("clients/connected", sum(|c| &c.clients_connected)),
            ("clients/total", sum(|c| &c.sessions)),
            ("connections/accepted", sum(|c| &c.connections_accepted)),
            ("connections/refused", sum(|c| &c.connections_refused)),
            ("connections/errors", sum(|c| &c.peer_errors)),
            ("connections/revoked", sum(|c| &c.revoked)),
            ("clients/expelled", sum(|c| &c.expelled)),
            (
                "connections/passwords_refused",
                sum(|c| &c.passwords_refused),
            ),
            ("rules/denied", sum(|c| &c.denied)),
            ("rules/unsealed/refused", sum(|c| &c.unsealed_refused)),
            ("rules/unsealed/accepted", sum(|c| &c.unsealed_accepted)),
            ("publish/messages/received", sum(|c| &c.publish_received)),
            ("publish/messages/sent", sum(|c| &c.publish_sent)),
            ("publish/messages/refused", sum(|c| &c.publish_refused)),
            ("bytes/received", sum(|c| &c.bytes_received)),
            ("bytes/sent", sum(|c| &c.bytes_sent)),
            (
                "retained messages/count",
                shared.retained.read().len().to_string(),
            ),
            ("subscriptions/count", subscriptions.to_string()),
            (
                "shared_subscriptions/count",
                groups.subscriptions.to_string(),
            ),
            ("shared_subscriptions/groups", groups.groups.to_string()),
            ("reloads/done", count(&shared.reloads.done)),
            ("reloads/refused", count(&shared.reloads.refused)),
        ]
        .into_iter()
        .map(|(topic, value)| (format!("$SYS/broker/{topic}"), value))
        .collect();
        for cause in DropCause::ALL {
            let dropped: u64 = shared
                .counters
                .iter()
                .map(|worker| worker.drops(*cause))
                .sum();
            values.insert(
                format!("$SYS/broker/publish/messages/dropped/{}", cause.code()),
                dropped.to_string(),
            );
        }
        values
    }
}
