//! The task between publishers and the connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use smqtt_proto::QoS;
use smqtt_proto::packet::Publish;
use tokio::sync::{mpsc, watch};

use super::record::{Read, read, record};
use super::store::Changes;
use super::{Gauge, Store};
use crate::command::Command;
use crate::ledger::{Entry, Ledger, Outcome};
use crate::{Error, clock};

/// Commands that are taken, and kept in one commit, at a time.
const BATCH: usize = 128;
/// Messages that the connection has at a time.
const WINDOW: usize = 512;

/// Keeps messages, passes them on in order, and lets go of those that the broker has acknowledged.
pub(crate) struct Courier {
    store: Store,
    gauge: Arc<Gauge>,
    commands: mpsc::Receiver<Command>,
    connection: mpsc::Sender<Command>,
    /// Whether the broker is there.
    online: watch::Receiver<bool>,
    /// Kept and not passed on, with their lengths and whom to tell: nobody for what an earlier program left.
    waiting: BTreeMap<u64, (u64, Option<Entry>)>,
    /// Passed on.
    sent: HashMap<u64, (u64, Option<Entry>)>,
    /// What is no message, to be passed on first.
    other: VecDeque<Command>,
    next: u64,
    /// Of all that is kept.
    bytes: u64,
    ledger: Arc<Ledger>,
    tell: mpsc::UnboundedSender<(u64, Outcome)>,
    settled: mpsc::UnboundedReceiver<(u64, Outcome)>,
}

impl Courier {
    pub(crate) fn new(
        store: Store,
        gauge: Arc<Gauge>,
        commands: mpsc::Receiver<Command>,
        connection: mpsc::Sender<Command>,
        online: watch::Receiver<bool>,
    ) -> Result<Self, Error> {
        let left = store.all()?;
        let next = left.last().map_or(1, |(number, _)| number + 1);
        let mut left_bytes = 0;
        for (_, length) in &left {
            gauge.add(*length);
            left_bytes += length;
        }
        let (tell, settled) = mpsc::unbounded_channel();
        Ok(Self {
            store,
            gauge,
            commands,
            connection,
            online,
            waiting: left
                .into_iter()
                .map(|(number, length)| (number, (length, None)))
                .collect(),
            sent: HashMap::new(),
            other: VecDeque::new(),
            next,
            bytes: left_bytes,
            ledger: Arc::default(),
            tell,
            settled,
        })
    }

    /// Serves until the connection has ended, or nobody is left and nothing either.
    pub(crate) async fn run(mut self) {
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.sent.is_empty() || !self.other.is_empty() {
            let sends = *self.online.borrow_and_update()
                && !self.waiting.is_empty()
                && self.sent.len() < WINDOW;
            let passes = !self.other.is_empty() || sends;
            let mut batch = Vec::new();
            let mut settled = Vec::new();
            let connection = self.connection.clone();
            tokio::select! {
                count = self.settled.recv_many(&mut settled, BATCH) => {
                    if count > 0 {
                        self.settle(settled);
                    }
                }
                place = connection.reserve(), if passes => match place {
                    Ok(place) => match self.other.pop_front() {
                        Some(command) => place.send(command),
                        None => self.pass_on(place),
                    },
                    // What waits is told that it is lost; what is on disk stays there.
                    Err(_) => return,
                },
                // Closed, so is the connection.
                Ok(()) = self.online.changed() => {}
                () = connection.closed() => {
                    while let Ok(last) = self.settled.try_recv() {
                        settled.push(last);
                    }
                    self.settle(settled);
                    return;
                }
                count = self.commands.recv_many(&mut batch, BATCH), if open => {
                    open = count > 0;
                    self.take(batch);
                }
            }
        }
    }

    /// Keeps what was handed over.
    fn take(&mut self, batch: Vec<Command>) {
        let mut changes = Changes::default();
        let mut entries = Vec::new();
        for command in batch {
            let (publish, entry) = match command {
                Command::Publish { publish, entry } | Command::Announce { publish, entry } => {
                    (publish, entry)
                }
                Command::Retract { topic, entry } => {
                    let publish = Publish {
                        qos: QoS::AtLeastOnce,
                        retain: true,
                        ..Publish::new(topic, Vec::new())
                    };
                    self.gauge.add(publish.payload.len() as u64);
                    (publish, entry)
                }
                other => {
                    self.other.push_back(other);
                    continue;
                }
            };
            // Publishers count payloads.
            let length = publish.payload.len() as u64;
            match record(&publish, clock::now().as_secs()) {
                Some(record) => {
                    let number = self.next;
                    self.next += 1;
                    self.gauge.add_bytes(record.len() as u64 - length);
                    entries.push((number, (record.len() as u64, Some(entry))));
                    changes.kept.push((number, record));
                }
                None => {
                    self.gauge.take_off(length);
                    let reason = "MQTT can not carry it: it is too long".to_owned();
                    entry.settle(Outcome::Refused(reason));
                }
            }
        }
        if changes.kept.is_empty() {
            return;
        }
        // A few milliseconds on the medium: what follows waits for it anyway.
        match self.store.commit(changes) {
            Ok(()) => {
                for (_, (_, entry)) in &entries {
                    if let Some(entry) = entry {
                        entry.kept();
                    }
                }
                self.bytes += entries.iter().map(|(_, (length, _))| length).sum::<u64>();
                self.waiting.extend(entries);
                self.make_room();
            }
            Err(error) => {
                tracing::error!(%error, "messages could not be kept");
                for (_, (length, entry)) in entries {
                    self.gauge.take_off(length);
                    if let Some(entry) = entry {
                        entry.settle(Outcome::Refused(error.to_string()));
                    }
                }
            }
        }
    }

    /// Drops the oldest where that is wanted and there are too many.
    fn make_room(&mut self) {
        let mut dropped = 0u64;
        while self.gauge.drops_oldest() && self.waiting.len() > 1 {
            let messages = self.waiting.len() + self.sent.len();
            if !self.gauge.exceeds(messages, self.bytes) {
                break;
            }
            let Some((number, (length, entry))) = self.waiting.pop_first() else {
                break;
            };
            dropped += 1;
            self.let_go(&[number]);
            self.forget(length);
            if let Some(entry) = entry {
                let reason = "the queue was full, and newer messages took its place".to_owned();
                entry.settle(Outcome::Refused(reason));
            }
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "the queue is full: the oldest messages were dropped"
            );
        }
    }

    /// Gives the oldest message to the connection.
    fn pass_on(&mut self, place: mpsc::Permit<'_, Command>) {
        let Some((number, (length, entry))) = self.waiting.pop_first() else {
            return;
        };
        let refusal =
            match self.store.get(number).map(|kept| {
                kept.map_or(Read::Damaged, |record| read(record, clock::now().as_secs()))
            }) {
                Ok(Read::Message(publish)) => {
                    let told = self.ledger.enter_told(number, self.tell.clone());
                    place.send(Command::Publish {
                        publish,
                        entry: told,
                    });
                    self.sent.insert(number, (length, entry));
                    return;
                }
                Ok(Read::Expired) => "it expired while it waited for the broker".to_owned(),
                Ok(Read::Damaged) => "it is damaged in the queue".to_owned(),
                Err(error) => error.to_string(),
            };
        tracing::warn!(%refusal, "a queued message is dropped");
        self.let_go(&[number]);
        self.forget(length);
        if let Some(entry) = entry {
            entry.settle(Outcome::Refused(refusal));
        }
    }

    /// Lets go of what the broker has answered; what it has not stays.
    fn settle(&mut self, settled: Vec<(u64, Outcome)>) {
        let answered: Vec<u64> = settled
            .iter()
            .filter(|(_, outcome)| !matches!(outcome, Outcome::Lost(_)))
            .map(|(number, _)| *number)
            .collect();
        self.let_go(&answered);
        for (number, outcome) in settled {
            let Some((length, entry)) = self.sent.remove(&number) else {
                continue;
            };
            if !matches!(outcome, Outcome::Lost(_)) {
                self.forget(length);
            }
            if let Some(entry) = entry {
                entry.settle(outcome);
            }
        }
    }

    /// One of so many bytes is not kept any more.
    fn forget(&mut self, length: u64) {
        self.bytes -= length;
        self.gauge.take_off(length);
    }

    fn let_go(&mut self, numbers: &[u64]) {
        if numbers.is_empty() {
            return;
        }
        let changes = Changes {
            gone: numbers.to_vec(),
            ..Changes::default()
        };
        if let Err(error) = self.store.commit(changes) {
            // They come again after a restart, and readers drop them.
            tracing::error!(%error, "the queue can not be written");
        }
    }
}
