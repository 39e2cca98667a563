//! A long stream of real readings through a relay that duplicates, replays, drops, reorders, moves and alters some of them:
//! exactly the untouched ones come out, and every manipulation is named.
//!
//! `SMQTT_READINGS` says how many, 100,000 if it does not: that takes half a minute with unoptimised programs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smqtt_format::{Envelope, KeyId, announce};
use smqtt_proto::TopicName;
use smqtt_proto::packet::Publish;
use smqtt_tests::fleet::{Authority, Fleet, Service, plain_broker, publish, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, repository, run};
use smqtt_tests::relay::Relay;

const POLICY: &str = "role = reader";
/// What each of the two sensors measures, and its share of the readings, in hundredths: of 100,000 the second has more than
/// one key period takes.
const SENSORS: [(&str, &str, &str, usize); 2] = [
    (
        "office",
        "plant/office/temperature",
        "ambient_temperature_system_failure.csv",
        30,
    ),
    (
        "machine",
        "plant/machine/temperature",
        "machine_temperature_system_failure.csv",
        70,
    ),
];
/// Messages of a key period.
const PERIOD: u32 = 65_535;
/// At the end of a key period and of the stream nothing is done: what is withheld there nobody can know of.
const QUIET: u32 = 400;
/// How far behind the highest number a message is still opened.
const WINDOW: u32 = 128;
/// How many readings a sensor may be ahead of the relay: no broker drops so few.
const AHEAD: usize = 2_000;

fn count() -> usize {
    std::env::var("SMQTT_READINGS").map_or(100_000, |text| {
        text.parse().expect("SMQTT_READINGS is a number")
    })
}

/// `count` readings; from the beginning again where the file has fewer.
fn readings(file: &str, count: usize) -> Vec<String> {
    let path = repository().join("tests/data").join(file);
    let text = std::fs::read_to_string(path).expect("the readings are in the tree");
    let rows = text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    rows.into_iter().cycle().take(count).collect()
}

/// Random numbers that are the same every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % sides
    }
}

type Number = (KeyId, u32);

/// What the relay has done to the messages of one topic.
#[derive(Default)]
struct Deeds {
    seen: usize,
    untouched: u64,
    duplicated: u64,
    replayed: u64,
    moved: u64,
    altered: u64,
    dropped: u64,
    reordered: u64,
    held_too_long: u64,
    /// What has to come out, in this order: reading, its number, and whether it comes behind a higher one.
    expected: Vec<(usize, u32, bool)>,
    /// What does not come when it is due.
    missing: BTreeSet<Number>,
}

/// The relay's side of one topic.
struct Stream {
    total: usize,
    deeds: Deeds,
    /// The highest number that went on, under the newest key.
    highest: Option<Number>,
    /// Messages that wait until the highest number is so much higher.
    held: Vec<(u32, Number, usize, Publish)>,
    /// What went by, to be played again.
    past: VecDeque<Publish>,
}

impl Stream {
    fn new(total: usize) -> Self {
        Self {
            total,
            deeds: Deeds::default(),
            highest: None,
            held: Vec::new(),
            past: VecDeque::new(),
        }
    }

    /// What goes on in place of a message.
    fn relay(&mut self, publish: Publish, dice: &mut Dice) -> Vec<Publish> {
        let number = number(&publish);
        let reading = self.deeds.seen;
        self.deeds.seen += 1;
        let quiet =
            number.1 == 1 || number.1 > PERIOD - QUIET || reading + QUIET as usize >= self.total;
        let mut out = Vec::new();
        match if quiet { u64::MAX } else { dice.roll(100) } {
            0 => {
                self.deeds.duplicated += 1;
                out.push(publish.clone());
                self.pass(publish, reading, &mut out);
            }
            1 if !self.past.is_empty() => {
                self.deeds.replayed += 1;
                let nth = dice.roll(self.past.len() as u64);
                let nth = usize::try_from(nth).expect("a few hundred");
                out.extend(self.past.get(nth).cloned());
                self.pass(publish, reading, &mut out);
            }
            2 => {
                self.deeds.dropped += 1;
                self.deeds.missing.insert(number);
            }
            3 => {
                self.deeds.moved += 1;
                self.deeds.missing.insert(number);
                let elsewhere = ["plant/hall/temperature", SENSORS[0].1, SENSORS[1].1]
                    .into_iter()
                    .filter(|topic| *topic != publish.topic.as_str())
                    .nth(usize::from(dice.roll(2) == 1))
                    .expect("there are two others");
                let topic = TopicName::new(elsewhere).expect("a topic");
                out.push(Publish { topic, ..publish });
            }
            4 => {
                self.deeds.altered += 1;
                self.deeds.missing.insert(number);
                let mut bytes = publish.payload.to_vec();
                // In the ciphertext or its tag: in front of them it would be another kind of message.
                let place = bytes.len() - 1 - usize::try_from(dice.roll(32)).expect("below 32");
                bytes[place] ^= 1 << dice.roll(8);
                out.push(Publish {
                    payload: Bytes::from(bytes),
                    ..publish
                });
            }
            5 | 6 => {
                self.deeds.missing.insert(number);
                let far = if dice.roll(4) == 0 { WINDOW } else { 1 };
                let distance = far + u32::try_from(dice.roll(90)).expect("below 90");
                self.held.push((distance, number, reading, publish));
            }
            _ => {
                self.deeds.untouched += 1;
                self.pass(publish, reading, &mut out);
            }
        }
        out
    }

    /// The message goes on, and behind it those that were held until it did.
    fn pass(&mut self, publish: Publish, reading: usize, out: &mut Vec<Publish>) {
        let number = number(&publish);
        self.highest = Some(number);
        self.deeds.expected.push((reading, number.1, false));
        if self.past.len() == 300 {
            self.past.pop_front();
        }
        self.past.push_back(publish.clone());
        out.push(publish);
        let due = |held: &mut (u32, Number, usize, Publish)| number.1 - held.1.1 >= held.0;
        for (_, (_, own), reading, publish) in self.held.extract_if(.., due) {
            if number.1 - own < WINDOW {
                self.deeds.reordered += 1;
                self.deeds.expected.push((reading, own, true));
            } else {
                self.deeds.held_too_long += 1;
            }
            out.push(publish);
        }
    }
}

fn number(publish: &Publish) -> Number {
    match Envelope::parse(&publish.payload) {
        Ok(Envelope::Sealed(sealed)) => (sealed.kid(), sealed.sequence().get()),
        _ => panic!("a sealed message at {:?}", publish.topic),
    }
}

/// The relay's doings, by topic.
type Book = Arc<Mutex<BTreeMap<&'static str, Stream>>>;

/// Publishes `readings`, never far ahead of the relay, and ends when every one is acknowledged.
fn feed(book: &Book, topic: &str, readings: &[String], mut publisher: Running) {
    let seen = || book.lock().expect("nobody panics")[topic].deeds.seen;
    let deadline = Instant::now() + Duration::from_secs(600);
    for (index, lines) in readings.chunks(AHEAD / 4).enumerate() {
        while index * (AHEAD / 4) > seen() + AHEAD {
            assert!(Instant::now() < deadline, "{topic}: {} relayed", seen());
            std::thread::sleep(Duration::from_millis(5));
        }
        publisher.write((lines.join("\n") + "\n").as_bytes());
    }
    let published = publisher.wait().success();
    let summary = format!(r#""acknowledged":{}"#, readings.len());
    assert!(published.text().contains(&summary), "{}", published.text());
}

fn play(broker: impl FnOnce(&Authority) -> Service) {
    let authority = Authority::init();
    let plain = broker(&authority);
    let url = plain.url().to_owned();
    let fleet = Fleet::with_broker(authority, plain);
    let reader = fleet.enrol("reader", "role = reader");
    let sensors: Vec<(&str, PathBuf, Vec<String>)> = SENSORS
        .iter()
        .map(|(name, topic, file, share)| {
            let identity = fleet.enrol(name, "type = thermometer");
            (*topic, identity, readings(file, count() * share / 100))
        })
        .collect();
    let streams = SENSORS.iter().zip(&sensors);
    let streams = streams.map(|((_, topic, ..), (_, _, readings))| {
        let stream = Stream::new(readings.len());
        (*topic, stream)
    });
    let book: Book = Arc::new(Mutex::new(streams.collect()));
    let mut dice = Dice(7);
    let pages = Arc::clone(&book);
    let relay = Relay::start(
        &fleet.authority,
        fleet.broker.port(),
        Box::new(move |publish| {
            if announce::is_reserved(publish.topic.as_str()) {
                return vec![publish];
            }
            let mut pages = pages.lock().expect("nobody panics");
            match pages.get_mut(publish.topic.as_str()) {
                Some(stream) => stream.relay(publish, &mut dice),
                None => vec![publish],
            }
        }),
    );

    let began = Instant::now();
    let relayed = relay.url();
    let reading = subscribe(
        &reader,
        "plant/#",
        &["--json", "--quiet", "--broker", &relayed],
    );
    std::thread::scope(|scope| {
        for (topic, identity, readings) in &sensors {
            let mut command = publish(identity, topic, POLICY, &["-l", "--json", "--broker", &url]);
            let publisher = Running::start(&mut command);
            let book = &book;
            scope.spawn(move || feed(book, topic, readings, publisher));
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    let all = || {
        let book = book.lock().expect("nobody panics");
        book.values()
            .all(|stream| stream.deeds.seen == stream.total)
    };
    while !all() {
        assert!(Instant::now() < deadline, "the broker has kept some back");
        std::thread::sleep(Duration::from_millis(5));
    }
    end(&sensors[0].1, &url, &reading);
    let took = began.elapsed();
    let finished = reading.interrupt().success();

    let book = book.lock().expect("nobody panics");
    let came = Came::read(&finished.text());
    for (topic, _, readings) in &sensors {
        check(&came, topic, readings, &book[topic].deeds);
    }
    let sum = |of: fn(&Deeds) -> u64| book.values().map(|s| of(&s.deeds)).sum::<u64>();
    let (duplicated, replayed) = (sum(|d| d.duplicated), sum(|d| d.replayed));
    let (reordered, held) = (sum(|d| d.reordered), sum(|d| d.held_too_long));
    let (dropped, moved, altered) = (sum(|d| d.dropped), sum(|d| d.moved), sum(|d| d.altered));
    eprintln!(
        "{} readings in {took:.1?}: {} untouched, {duplicated} duplicated, {replayed} replayed, {dropped} dropped, {reordered} \
         reordered, {held} held back too long, {moved} moved, {altered} altered",
        count(),
        sum(|d| d.untouched),
    );
    let summary = &came.summary;
    // One more is what told the end.
    let opened = sum(|d| d.untouched) + duplicated + replayed + reordered + 1;
    assert_eq!(summary["read"], opened, "{summary}");
    let refused = serde_json::json!({
        "altered": altered,
        "replay": duplicated + replayed + held,
        "wrong-topic": moved,
    });
    assert_eq!(summary["refused"], refused, "{summary}");
    assert_eq!(summary["keys_refused"], serde_json::json!({}), "{summary}");
    let late = reordered + held + dropped + moved + altered;
    assert_eq!(summary["missing"], late, "{summary}");
    assert_eq!(summary["late"], reordered, "{summary}");
    // A relay that did nothing would show nothing.
    for deed in [
        duplicated, replayed, dropped, reordered, held, moved, altered,
    ] {
        assert!(deed > 0);
    }
}

/// A last message, of a topic that the relay leaves alone: behind it nothing is on the way.
fn end(identity: &Path, broker: &str, reading: &Running) {
    let _ = run(&mut publish(
        identity,
        "plant/end",
        POLICY,
        &["-m", "the end", "--broker", broker],
    ))
    .success();
    reading.wait_for_stdout(r#""payload":"the end""#);
}

/// What the reader said.
struct Came {
    /// By topic: payload, number and whether it came late.
    messages: BTreeMap<String, Vec<(String, u32, bool)>>,
    missing: BTreeMap<String, BTreeSet<(String, u32)>>,
    summary: serde_json::Value,
}

impl Came {
    fn read(stdout: &str) -> Self {
        let mut came = Self {
            messages: BTreeMap::new(),
            missing: BTreeMap::new(),
            summary: serde_json::Value::Null,
        };
        for line in stdout.lines() {
            let line: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| {
                let number = line[key]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{key}: {line}"));
                u32::try_from(number).expect("a number of a message")
            };
            match line["type"].as_str() {
                Some("message") => {
                    let message = (text("payload"), number("sequence"), line["late"] == true);
                    came.messages
                        .entry(text("topic"))
                        .or_default()
                        .push(message);
                }
                Some("missing") => {
                    let numbers = number("first")..number("first") + number("count");
                    let missing = came.missing.entry(text("topic")).or_default();
                    missing.extend(numbers.map(|number| (text("kid"), number)));
                }
                Some("summary") => came.summary = line,
                _ => {}
            }
        }
        came
    }
}

fn check(came: &Came, topic: &str, readings: &[String], deeds: &Deeds) {
    let messages = &came.messages[topic];
    let expected = deeds.expected.iter();
    let expected = expected.map(|(reading, number, late)| (&readings[*reading], *number, *late));
    for (index, (came, expected)) in messages.iter().zip(expected).enumerate() {
        assert_eq!((&came.0, came.1, came.2), expected, "{topic}, {index}");
    }
    assert_eq!(messages.len(), deeds.expected.len(), "{topic}");
    let missing = deeds.missing.iter();
    let missing: BTreeSet<_> = missing
        .map(|(kid, number)| (kid.to_string(), *number))
        .collect();
    assert_eq!(came.missing[topic], missing, "{topic}");
}

#[test]
fn exactly_the_untouched_come_out_and_every_manipulation_is_named() {
    play(plain_broker);
}

#[test]
fn with_mosquitto_exactly_the_untouched_come_out_and_every_manipulation_is_named() {
    play(mosquitto::plain_broker);
}
