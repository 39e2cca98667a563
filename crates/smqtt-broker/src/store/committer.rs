//! The store's threads: one that commits, and one that reads messages back.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smqtt_proto::Message;

use super::engine::{Change, Engine, Reader, Table};
use super::record::{
    self, Epoch, QueueRecord, SubscriptionRecord, key_of, message_to_bytes, session_key, to_bytes,
};
use super::{COMMITTED, Ended, Kept, Load, Op, Post, Settlement, Store};

/// A commit is cut off from this many bytes or changes on.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_CHANGES: usize = 50_000;
/// How long nothing must come before what only frees space is committed by itself.
const TIDY: Duration = Duration::from_millis(50);
/// How long a failed commit waits for the next try.
const RETRY: Duration = Duration::from_millis(500);

/// Where settlements go: to the worker with this index.
pub(crate) type Deliver = Box<dyn FnMut(usize, Vec<Settlement>) + Send>;

/// The thread that commits.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Box<dyn Engine>,
    /// The number of the last commit.
    pub(crate) last: u64,
    pub(crate) workers: usize,
    pub(crate) deliver: Deliver,
}

/// The changes of one commit.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    /// Messages that the commit makes safe.
    kept: Vec<Arc<Kept>>,
}

impl Batch {
    fn put(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len() + 32;
        self.changes.push(Change {
            table,
            key,
            value: Some(value),
        });
    }

    fn remove(&mut self, table: Table, key: Bytes) {
        self.bytes += key.len() + 32;
        self.changes.push(Change {
            table,
            key,
            value: None,
        });
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.changes.len() >= BATCH_CHANGES
    }
}

impl Committer {
    /// Commits until the store is stopped and everything that was posted is committed.
    pub(crate) fn run(mut self) {
        // Places that were given up before the transaction that makes them was posted.
        let mut given_up: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        while let Some(posts) = self.take() {
            let mut posts = posts.into_iter().peekable();
            loop {
                let epoch = Epoch::now();
                let mut batch = Batch::default();
                let mut done: Vec<Post> = Vec::new();
                while !batch.is_full()
                    && let Some(post) = posts.next()
                {
                    for op in &post.ops {
                        add(op, &mut batch, &mut given_up, &epoch);
                    }
                    done.push(post);
                }
                for number in std::mem::take(&mut *self.store.garbage.lock()) {
                    batch.remove(
                        Table::Messages,
                        Bytes::copy_from_slice(&number.to_be_bytes()),
                    );
                }
                if !batch.changes.is_empty() && !self.commit(&batch) {
                    return;
                }
                for kept in &batch.kept {
                    kept.state.store(COMMITTED, Ordering::Release);
                }
                self.settle(done);
                drop(batch);
                let memory = crate::memory::take();
                if memory != 0 {
                    let counter = &self.store.counters.memory;
                    counter.fetch_add(memory, Ordering::Relaxed);
                }
                if posts.peek().is_none() {
                    break;
                }
            }
        }
    }

    /// What was posted meanwhile, or nothing when only garbage waits. `None` when the store is
    /// stopped and nothing is left.
    fn take(&self) -> Option<Vec<Post>> {
        let store = &self.store;
        let mut inbox = store.inbox.lock();
        loop {
            if !inbox.posts.is_empty() {
                return Some(std::mem::take(&mut inbox.posts));
            }
            let garbage = !store.garbage.lock().is_empty();
            if inbox.stop {
                return garbage.then(Vec::new);
            }
            if !garbage {
                store.wake.wait(&mut inbox);
            } else if store.wake.wait_for(&mut inbox, TIDY).timed_out() {
                return Some(std::mem::take(&mut inbox.posts));
            }
        }
    }

    /// Commits, however often that takes. `false` if the store was stopped before it succeeded.
    fn commit(&mut self, batch: &Batch) -> bool {
        let began = Instant::now();
        let mut failed: Option<Instant> = None;
        let mut broken = false;
        loop {
            let number = self.last + 1;
            let tried = match broken {
                true => self.engine.mend(self.last),
                false => Ok(()),
            };
            let tried =
                tried.and_then(|()| self.engine.commit(number, &batch.changes, self.store.sync));
            match tried {
                Ok(()) => break,
                Err(error) => {
                    broken = true;
                    if failed.is_none() {
                        self.store.failing.store(true, Ordering::Relaxed);
                        tracing::error!(%error, "cannot write to the store: what asks for durability is refused until it works again; see free space and the health of the disk of data_dir");
                    }
                    failed.get_or_insert_with(Instant::now);
                    self.store.counters.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
            if self.wait_to_retry() {
                tracing::error!(
                    changes = batch.changes.len(),
                    "stopped while the store could not be written: these changes are lost; no client was told that they were safe"
                );
                return false;
            }
        }
        if let Some(since) = failed {
            self.store.failing.store(false, Ordering::Relaxed);
            tracing::info!(seconds = since.elapsed().as_secs(), "the store works again");
        }
        self.last += 1;
        let counters = &self.store.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters
            .changes
            .fetch_add(batch.changes.len() as u64, Ordering::Relaxed);
        counters
            .commit_micros
            .fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        true
    }

    /// Waits; tells whether the store was stopped.
    fn wait_to_retry(&self) -> bool {
        let until = Instant::now() + RETRY;
        let mut inbox = self.store.inbox.lock();
        while !inbox.stop {
            if self.store.wake.wait_until(&mut inbox, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Tells the workers what is committed.
    fn settle(&mut self, done: Vec<Post>) {
        let Some(last) = done.last().map(|post| post.number) else {
            return;
        };
        self.store.committed.store(last, Ordering::Release);
        let mut by_worker: Vec<Vec<Settlement>> = (0..self.workers).map(|_| Vec::new()).collect();
        for post in done {
            for op in &post.ops {
                if let Op::Queued { session, .. } = op {
                    by_worker[session.worker()].push(Settlement::Ready(*session));
                }
            }
            for (worker, settlement) in post.settles {
                by_worker[worker].push(settlement);
            }
        }
        for (worker, settlements) in by_worker.into_iter().enumerate() {
            if !settlements.is_empty() {
                (self.deliver)(worker, settlements);
            }
        }
    }
}

/// Turns a change into changes of tables.
fn add(op: &Op, batch: &mut Batch, given_up: &mut HashMap<u64, Vec<(u64, u64)>>, epoch: &Epoch) {
    let place_key = |id: u64, place: u64| key_of(id, &place.to_be_bytes());
    match op {
        Op::Session {
            id,
            version,
            record,
            latest,
        } => {
            if latest.admits(*version) {
                batch.put(Table::Sessions, session_key(*id), to_bytes(&**record));
            }
        }
        Op::Ended(ended) => {
            let Ended {
                id,
                latest,
                filters,
                places,
                incoming,
            } = &**ended;
            latest.admits(u64::MAX);
            batch.remove(Table::Sessions, session_key(*id));
            for filter in filters {
                let key = key_of(*id, filter.as_str().as_bytes());
                batch.remove(Table::Subscriptions, key);
            }
            for (place, kept) in places {
                give_up(*id, *place, kept.as_deref(), batch, given_up);
            }
            for packet_id in incoming {
                let key = key_of(*id, &packet_id.get().to_be_bytes());
                batch.remove(Table::Incoming, key);
            }
        }
        Op::Subscribed {
            id,
            filter,
            subscription,
        } => batch.put(
            Table::Subscriptions,
            key_of(*id, filter.as_str().as_bytes()),
            to_bytes(&SubscriptionRecord::from(subscription)),
        ),
        Op::Unsubscribed { id, filter } => {
            let key = key_of(*id, filter.as_str().as_bytes());
            batch.remove(Table::Subscriptions, key);
        }
        Op::Queued {
            id,
            place,
            kept,
            message,
            delivery,
            group,
            ..
        } => {
            if let Some(places) = given_up.get_mut(&kept.number)
                && let Some(index) = places.iter().position(|one| *one == (*id, *place))
            {
                places.swap_remove(index);
                if places.is_empty() {
                    given_up.remove(&kept.number);
                }
                return;
            }
            if !kept.is_committed() && !batch.kept.last().is_some_and(|k| Arc::ptr_eq(k, kept)) {
                match message_to_bytes(message, epoch) {
                    Ok(bytes) => {
                        let key = Bytes::copy_from_slice(&kept.number.to_be_bytes());
                        batch.put(Table::Messages, key, bytes);
                    }
                    // It came as a PUBLISH, so it can be written as one.
                    Err(error) => tracing::error!(%error, "a message cannot be stored"),
                }
                batch.kept.push(kept.clone());
            }
            kept.places.fetch_add(1, Ordering::Relaxed);
            let record = QueueRecord::new(kept.number, delivery, group.as_deref(), None);
            batch.put(Table::Queue, place_key(*id, *place), to_bytes(&record));
        }
        Op::Sent {
            id,
            place,
            kept,
            delivery,
            group,
            packet_id,
        } => {
            let record =
                QueueRecord::new(kept.number, delivery, group.as_deref(), Some(*packet_id));
            batch.put(Table::Queue, place_key(*id, *place), to_bytes(&record));
        }
        Op::Released {
            id,
            place,
            packet_id,
            kept,
        } => {
            if let Some(kept) = kept {
                kept.places.fetch_sub(1, Ordering::Relaxed);
            }
            let record = QueueRecord::released(*packet_id);
            batch.put(Table::Queue, place_key(*id, *place), to_bytes(&record));
        }
        Op::Done { id, place, kept } => give_up(*id, *place, kept.as_deref(), batch, given_up),
        Op::Received { id, packet_id } => batch.put(
            Table::Incoming,
            key_of(*id, &packet_id.get().to_be_bytes()),
            Bytes::new(),
        ),
        Op::Completed { id, packet_id } => {
            let key = key_of(*id, &packet_id.get().to_be_bytes());
            batch.remove(Table::Incoming, key);
        }
        Op::Retained { topic, message } => {
            let key = Bytes::copy_from_slice(topic.bytes());
            let bytes = message
                .as_ref()
                .and_then(|message| message_to_bytes(message, epoch).ok());
            match bytes {
                Some(bytes) => batch.put(Table::Retained, key, bytes),
                None => batch.remove(Table::Retained, key),
            }
        }
    }
}

/// Frees a place in a queue, which may not have been made yet.
fn give_up(
    id: u64,
    place: u64,
    kept: Option<&Kept>,
    batch: &mut Batch,
    given_up: &mut HashMap<u64, Vec<(u64, u64)>>,
) {
    match kept {
        Some(kept)
            if !kept.is_committed() && !batch.kept.iter().any(|k| k.number == kept.number) =>
        {
            given_up.entry(kept.number).or_default().push((id, place));
        }
        kept => {
            if let Some(kept) = kept {
                kept.places.fetch_sub(1, Ordering::Relaxed);
            }
            batch.remove(Table::Queue, key_of(id, &place.to_be_bytes()));
        }
    }
}

/// The thread that reads messages back.
pub(crate) struct Loader {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) wanted: Receiver<Load>,
    pub(crate) deliver: LoadDeliver,
}

/// Where messages that were read go.
pub(crate) type LoadDeliver = Box<dyn FnMut(Load, Vec<Option<Message>>) + Send>;

impl Loader {
    /// Reads until nobody is left who could ask.
    pub(crate) fn run(mut self) {
        while let Ok(load) = self.wanted.recv() {
            let epoch = Epoch::now();
            let mut messages = Vec::with_capacity(load.wanted.len());
            for (_, number) in &load.wanted {
                match self.read(*number, &epoch) {
                    Ok(message) => messages.push(message),
                    Err(error) => {
                        tracing::error!(%error, number, "a message in the store cannot be read");
                        break;
                    }
                }
            }
            if messages.is_empty() && !load.wanted.is_empty() {
                // The engine is being mended, or the disk fails: whoever waits asks again.
                std::thread::sleep(RETRY);
            }
            (self.deliver)(load, messages);
        }
    }

    /// `None`: it is not there, or is none.
    fn read(&self, number: u64, epoch: &Epoch) -> io::Result<Option<Message>> {
        let Some(bytes) = self.reader.get(Table::Messages, &number.to_be_bytes())? else {
            tracing::error!(
                number,
                "a message is missing in the store: run smqtt-broker store check"
            );
            return Ok(None);
        };
        match record::message_from_bytes(bytes, epoch) {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                tracing::error!(number, %error, "a message in the store is damaged: run smqtt-broker store check");
                Ok(None)
            }
        }
    }
}
