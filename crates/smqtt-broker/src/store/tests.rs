//! The store by itself: what is on disk before what is said, and what recovery makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;
use smqtt_proto::packet::Publish;
use smqtt_proto::{Delivery, Message, QoS, TopicName};

use super::faults::{Event, Fault, Faulty, Script};
use super::place::Place;
use super::*;

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let mut publish = Publish::new(TopicName::new(topic).expect("topic"), payload.to_owned());
    publish.qos = QoS::AtLeastOnce;
    Arc::new(Message::new(&publish, Instant::now()).expect("message"))
}

fn session_record(client_id: &str) -> Box<SessionRecord> {
    Box::new(SessionRecord {
        client_id: client_id.to_owned(),
        identity: IdentityRecord::User("u".to_owned()),
        attributes: smqtt_policy::AttributeSet::new().encode(),
        listener: "l".to_owned(),
        certificate: None,
        expiry: 60,
        away_since: None,
        will: None,
    })
}

/// A store at work, with what it tells a worker.
struct Running {
    store: Arc<Store>,
    thread: JoinHandle<()>,
    told: Receiver<Vec<Settlement>>,
    script: Arc<Mutex<Script>>,
}

impl Running {
    /// Opens what is at `path`; the state with it.
    fn open(path: &Path, faults: impl IntoIterator<Item = Fault>, sync: bool) -> (Self, State) {
        let opened = open(path).expect("a store");
        let script = Arc::new(Mutex::new(Script {
            faults: faults.into_iter().collect(),
            events: Vec::new(),
        }));
        let engine = Box::new(Faulty {
            engine: opened.engine,
            path: opened.place.database.clone(),
            script: script.clone(),
        });
        let recovered = recover(engine, sync).expect("whole");
        let (sender, told) = channel();
        let events = script.clone();
        let committer = Committer {
            store: recovered.store.clone(),
            engine: recovered.engine,
            last: recovered.last,
            workers: 1,
            deliver: Box::new(move |_, settlements| {
                events.lock().events.push(Event::Settled(settlements.len()));
                let _ = sender.send(settlements);
            }),
        };
        let running = Running {
            store: recovered.store,
            thread: std::thread::spawn(move || committer.run()),
            told,
            script,
        };
        (running, recovered.state)
    }

    /// Waits until this post is committed.
    fn wait(&self, number: u64) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.store.is_committed(number) {
            assert!(Instant::now() < end, "not committed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn queue(&self, id: u64, place: u64, payload: &str) -> Op {
        let message = message("t", payload);
        let kept = self.store.keep(&message);
        Op::Queued {
            id,
            place,
            session: SessionRef::new(0, 0, 0),
            kept,
            message,
            delivery: Delivery::new(QoS::AtLeastOnce),
            group: None,
        }
    }

    fn session(&self, id: u64, client_id: &str) -> Op {
        Op::Session {
            id,
            version: 1,
            record: session_record(client_id),
            latest: Arc::default(),
        }
    }

    fn stop(self) -> Vec<Event> {
        self.store.stop();
        self.thread.join().expect("no panic");
        let script = self.script.lock();
        script.events.clone()
    }
}

fn connect() -> Settles {
    let connection = ConnectionRef { slot: 0, serial: 0 };
    let mut settles = Settles::new();
    settles.push((0, Settlement::Connect(connection)));
    settles
}

/// Payloads of a session's queue, read through the engine.
fn payloads(path: &Path, session: &RecoveredSession) -> Vec<String> {
    let opened = open(path).expect("a store");
    let reader = opened.engine.reader();
    let text = |number: u64| {
        let bytes = reader
            .get(engine::Table::Messages, &number.to_be_bytes())
            .expect("readable")
            .expect("there");
        let message = record::message_from_bytes(bytes, &Epoch::now()).expect("a message");
        String::from_utf8(message.payload().to_vec()).expect("text")
    };
    session
        .queue
        .iter()
        .filter_map(|outbound| outbound.place.as_ref())
        .map(|place| text(place.kept.number))
        .collect()
}

fn state(path: &Path) -> State {
    let (running, state) = Running::open(path, [], false);
    running.stop();
    state
}

#[test]
fn nothing_is_told_before_its_sync() {
    let dir = tempfile::tempdir().expect("directory");
    for sync in [true, false] {
        let faults = [Fault::None, Fault::Sync, Fault::Write, Fault::None];
        let (running, _) = Running::open(&dir.path().join(sync.to_string()), faults, sync);
        let mut number = 0;
        for n in 0..20 {
            let op = running.queue(1, n, "x");
            number = running.store.post(vec![op], connect());
            if n % 5 == 0 {
                running.wait(number);
            }
        }
        running.wait(number);
        let mut safe = false;
        for event in running.stop() {
            match event {
                Event::Committed { synced, .. } => safe = synced == sync,
                Event::Failed(_) => safe = false,
                Event::Settled(_) => assert!(std::mem::take(&mut safe), "told too early"),
            }
        }
    }
}

#[test]
fn a_message_is_there_once_and_goes_with_its_last_place() {
    let dir = tempfile::tempdir().expect("directory");
    let (running, _) = Running::open(dir.path(), [], true);
    let store = &running.store;
    let message = message("t", "shared");
    let kept = store.keep(&message);
    let mut ops = Vec::new();
    for id in 1..=3 {
        ops.push(running.session(id, &id.to_string()));
        ops.push(Op::Queued {
            id,
            place: 1,
            session: SessionRef::new(0, 0, 0),
            kept: kept.clone(),
            message: message.clone(),
            delivery: Delivery::new(QoS::AtLeastOnce),
            group: None,
        });
    }
    running.wait(store.post(ops, Settles::new()));
    assert!(kept.is_committed());
    let done = |id| Op::Done {
        id,
        place: 1,
        kept: Some(kept.clone()),
    };
    let last = store.post(vec![done(1), done(2)], Settles::new());
    running.wait(last);
    let messages = |path: &Path| {
        let mut count = 0;
        let opened = open(path).expect("a store");
        opened
            .engine
            .scan(engine::Table::Messages, &mut |_, _| {
                count += 1;
                Ok(())
            })
            .expect("readable");
        count
    };
    let last = done(3);
    // Opened anew, the place that is left still has it.
    drop(kept);
    running.stop();
    assert_eq!(messages(dir.path()), 1);
    drop(last);
    let (running, state) = Running::open(dir.path(), [], true);
    let queued: Vec<usize> = state.sessions.iter().map(|s| s.queue.len()).collect();
    assert_eq!(queued, [0, 0, 1]);
    let mut state = state;
    let place = state.sessions[2]
        .queue
        .pop()
        .and_then(|o| o.place)
        .expect("a place");
    running.store.note(Op::Done {
        id: 3,
        place: place.number,
        kept: Some(place.kept),
    });
    drop(state);
    running.stop();
    assert_eq!(messages(dir.path()), 0);
}

#[test]
fn a_place_that_is_given_up_before_it_is_made_is_not_made() {
    let dir = tempfile::tempdir().expect("directory");
    let (running, _) = Running::open(dir.path(), [], true);
    let op = running.queue(1, 1, "never");
    let Op::Queued { kept, .. } = &op else {
        unreachable!()
    };
    let done = Op::Done {
        id: 1,
        place: 1,
        kept: Some(kept.clone()),
    };
    running.store.note(running.session(1, "c"));
    running.store.note(done);
    let last = running
        .store
        .post(vec![op, running.queue(1, 2, "kept")], Settles::new());
    running.wait(last);
    running.stop();
    let state = state(dir.path());
    assert_eq!(payloads(dir.path(), &state.sessions[0]), ["kept"]);
    assert_eq!(state.sessions[0].next_place, 3);
}

#[test]
fn a_state_that_comes_late_is_left_out() {
    let dir = tempfile::tempdir().expect("directory");
    let (running, _) = Running::open(dir.path(), [], true);
    let latest = Arc::<Latest>::default();
    let op = |version, name| Op::Session {
        id: 1,
        version,
        record: session_record(name),
        latest: latest.clone(),
    };
    running.store.note(op(2, "second"));
    running.wait(running.store.note(op(1, "first")));
    running.store.note(Op::Ended(Box::new(Ended {
        id: 7,
        latest: latest.clone(),
        filters: Vec::new(),
        places: Vec::new(),
        incoming: Vec::new(),
    })));
    running.wait(running.store.note(op(3, "third")));
    running.stop();
    let state = state(dir.path());
    assert_eq!(state.sessions[0].record.client_id, "second");
}

/// A store with ten commits, each of one message.
fn ten(dir: &Path) -> PathBuf {
    let (running, _) = Running::open(dir, [], true);
    running.wait(running.store.note(running.session(1, "c")));
    for n in 1..=10 {
        let op = running.queue(1, n, &format!("message {n}"));
        running.wait(running.store.note(op));
    }
    running.stop();
    Place::of(dir).database.join("0.jnl")
}

fn used(journal: &Path) -> usize {
    let bytes = std::fs::read(journal).expect("readable");
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let dir = tempfile::tempdir().expect("directory");
    let journal = ten(dir.path());
    let whole = std::fs::read(&journal).expect("readable");
    let end = used(&journal);
    let mark = place::read_mark(&Place::of(dir.path()))
        .expect("readable")
        .expect("there");
    let database = Place::of(dir.path()).database;
    for missing in [1, 2, 5, 13, 30, 77] {
        for zeros in [false, true] {
            let mut torn = whole[..end - missing].to_vec();
            if zeros {
                torn.resize(end + 5000, 0);
            }
            std::fs::write(&journal, &torn).expect("written");
            let findings = journal::check(&database, &mark).expect("readable");
            assert!(
                findings.damaged.is_empty() && findings.torn.is_some(),
                "{missing}"
            );
            let state = state(dir.path());
            let expected: Vec<String> = (1..=9).map(|n| format!("message {n}")).collect();
            assert_eq!(
                payloads(dir.path(), &state.sessions[0]),
                expected,
                "{missing}"
            );
            std::fs::write(&journal, &whole).expect("written");
        }
    }
}

#[test]
fn damage_before_the_tail_stops_the_start_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let journal = ten(dir.path());
    let whole = std::fs::read(&journal).expect("readable");
    let end = used(&journal);
    for at in [0, 1, 40, end / 3, end / 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&journal, &damaged).expect("written");
        let Err(error) = open(dir.path()) else {
            panic!("opened with damage at {at}");
        };
        let error = error.to_string();
        assert!(error.contains("store check --data-dir"), "{error}");
        assert_eq!(std::fs::read(&journal).expect("readable"), damaged);
    }
}

#[test]
fn a_later_format_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    drop(open(dir.path()).expect("new"));
    let format = Place::of(dir.path()).format;
    let text = std::fs::read_to_string(&format).expect("readable");
    std::fs::write(&format, text.replace("version = 1", "version = 2")).expect("written");
    let Err(error) = open(dir.path()) else {
        panic!("opened");
    };
    assert!(error.to_string().contains("run a later one"), "{error}");
    std::fs::remove_file(&format).expect("removed");
    drop(open(dir.path()).expect("unused, so it can begin anew"));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::Write),
        1 => Just(Fault::ShortWrite),
        1 => Just(Fault::Sync),
        1 => Just(Fault::Full),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever fails below, everything that was told is there after a start, in its order, and
    /// nothing that was taken away.
    #[test]
    fn what_was_told_is_there_whatever_failed(
        faults in prop::collection::vec(fault(), 0..5),
        steps in prop::collection::vec((0_u8..4, any::<bool>()), 1..40),
    ) {
        let dir = tempfile::tempdir().expect("directory");
        let (running, _) = Running::open(dir.path(), faults, true);
        running.store.note(running.session(1, "c"));
        let mut expected: Vec<(u64, String, Arc<Kept>)> = Vec::new();
        let (mut next, mut last) = (1, 0);
        for (what, wait) in steps {
            if what == 0 && !expected.is_empty() {
                let (place, _, kept) = expected.remove(0);
                last = running.store.post(vec![Op::Done { id: 1, place, kept: Some(kept) }], connect());
            } else {
                let payload = format!("message {next}");
                let op = running.queue(1, next, &payload);
                if let Op::Queued { kept, .. } = &op {
                    expected.push((next, payload, kept.clone()));
                }
                last = running.store.post(vec![op], connect());
                next += 1;
            }
            if wait {
                running.wait(last);
            }
        }
        running.wait(last);
        while running.told.try_recv().is_ok() {}
        let texts: Vec<String> = expected.drain(..).map(|(_, payload, _)| payload).collect();
        running.stop();
        let state = state(dir.path());
        prop_assert_eq!(payloads(dir.path(), &state.sessions[0]), texts);
    }
}
