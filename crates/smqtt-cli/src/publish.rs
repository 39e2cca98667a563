//! `smqtt pub`: seal messages under a policy and publish them.

mod input;
mod properties;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use smqtt_client::{
    Backoff, Client, Delivery, Error, Kept, Padding, Properties, Publication, Publisher,
    PublisherOptions, QoS, Queue, Renewal, Renewals, Sequence, Signing, Tally, WhenFull,
    publishable,
};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::console::{self, Progress};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::options::{RecipientsOption, span};
use crate::{json, policy};

use input::Input;
use properties::PropertyOptions;

const EXAMPLES: &str = "\
Examples:
  # one message, its key frame inline
  smqtt pub -i keys/sensor -t plant/7/temperature -p 'role = technician' -m 21.5

  # each line of a file, one key frame announced for all of them
  smqtt pub -i keys/sensor -t plant/7/log -p 'role = auditor or site = berlin' -l < readings.txt

  # a file as one message, retained; and taking it back
  smqtt pub -i keys/sensor -t plant/7/plan -p 'role = technician' -r -f plan.pdf
  smqtt pub -i keys/sensor -t plant/7/plan -p 'role = technician' -r -n

  # for devices whose key policy the tags satisfy
  smqtt pub -i keys/sensor -t plant/7/temperature --tags 'site = 4, kind = temperature' -m 21.5

  # a sign of life every ten seconds, with the unit as a property of MQTT 5
  smqtt pub -i keys/sensor -t plant/7/alive -p 'role = technician' -m up \\
    --repeat 360 --interval 10 --property site=berlin

Exit code 0: the broker has acknowledged every message (with -q 0: all were sent); 7: it refused
some; 8: some were not acknowledged.

Exit codes: smqtt --help";

/// How readers come by the key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FramesOption {
    Announced,
    Inline,
}

/// What happens when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FullOption {
    Wait,
    Refuse,
    DropOldest,
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SignOption {
    Session,
    Each,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The topic to publish to
    #[arg(short, long, value_name = "TOPIC")]
    topic: String,

    #[command(flatten)]
    recipients: RecipientsOption,

    /// Check the policy or the tags against this schema, a TOML file, instead of the one that the identity has
    /// from its authority
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    #[command(flatten)]
    message: MessageSource,

    /// The quality of service: 0 sent once, 1 acknowledged, 2 exactly once
    #[arg(short, long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,

    /// Let the broker keep the message for later subscribers; a retained message always carries its
    /// key frame inline
    #[arg(short, long)]
    retain: bool,

    /// How readers come by the key frame: announced once and retained, or inline in front of every
    /// message [default: announced with -l and --repeat, else inline]
    #[arg(long, value_name = "HOW")]
    frames: Option<FramesOption>,

    /// Change the key after this many messages at one topic, also sooner where time or epoch ask for it
    #[arg(long, value_name = "COUNT", default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(1..))]
    rekey_messages: u32,

    /// Change the key after this time: seconds, or with a unit as 15m, 12h. Readers take up to 240 keys
    /// a minute of one publisher
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    rekey_after: Duration,

    /// What this device signs: each key frame, or each message too, so that no other reader of the
    /// policy can make one in its name
    #[arg(long, value_name = "WHAT", default_value = "session")]
    sign: SignOption,

    /// Pad payloads before they are sealed, so that their lengths tell less: off, pow2, or lengths in
    /// bytes such as 64,256,1024
    #[arg(long, value_name = "CLASSES", default_value = "off")]
    pad: Padding,

    /// Keep what is published in this directory, sealed, until the broker has acknowledged it, and
    /// begin with what is left there; the broker may be away. Key frames go inline
    #[arg(long, value_name = "DIR")]
    queue: Option<PathBuf>,

    /// With --queue: the most messages that it holds
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, requires = "queue", value_parser = clap::value_parser!(u64).range(1..))]
    queue_messages: u64,

    /// With --queue: the most bytes that it holds
    #[arg(long, value_name = "BYTES", default_value_t = 67_108_864, requires = "queue", value_parser = clap::value_parser!(u64).range(1..))]
    queue_bytes: u64,

    /// With --queue: what happens when it is full: wait, refuse the message and end, or drop the
    /// oldest ones
    #[arg(long, value_name = "WHAT", default_value = "wait", requires = "queue")]
    queue_full: FullOption,

    /// Publish the message this many times
    #[arg(long, value_name = "COUNT", conflicts_with = "lines", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,

    /// With --repeat: seconds from one message to the next [default: 1]
    #[arg(long, value_name = "SECONDS", requires = "repeat", conflicts_with = "rate", value_parser = seconds)]
    interval: Option<f64>,

    /// With -l and --repeat: the most messages a second
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// With -l and --repeat: seconds to try to get a lost connection back before giving up; 0 gives up at once
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry: u64,

    /// With -l and --repeat: do not ask the authority to renew this device when it is time:
    /// something else does, such as a timer with smqtt renew, and what that brings is taken over
    #[arg(long)]
    no_renew: bool,

    /// Print a summary as one JSON object on stdout
    #[arg(long)]
    json: bool,

    /// No progress and no summary on stderr
    #[arg(long)]
    quiet: bool,

    #[command(flatten)]
    properties: PropertyOptions,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct MessageSource {
    /// Publish this text
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Publish this file's content as one message; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Publish each line of standard input, without its line feed
    #[arg(short, long)]
    lines: bool,

    /// Publish an empty message; with -r, take back what the broker retains there
    #[arg(short, long)]
    null: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0 to 86400".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("give a number above 0".to_owned()),
    }
}

/// What the queue has so far, with `--json`.
#[derive(Debug, Serialize)]
struct KeptLine {
    r#type: &'static str,
    count: u64,
}

/// The summary of `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    r#type: &'static str,
    /// Messages handed to the connection.
    published: u64,
    acknowledged: u64,
    refused: u64,
    lost: u64,
    /// Plaintext bytes of all messages.
    bytes: u64,
    seconds: f64,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    // Everything that can be wrong without a network is checked before there is one.
    let topic = publishable(&options.topic)?.to_string();
    let properties = options.properties.checked(&options.connection)?;
    let (identity, connect) = options.connection.options()?;
    let schema = policy::Loaded::of(options.schema.as_deref(), &identity)?;
    let recipients = options.recipients.publisher(&schema)?;
    let mut input = Input::open(&options.message, options.repeat.unwrap_or(1))?;

    let interrupt = Interrupt::listen()?;
    let mut connect = connect.reconnect(options.backoff());
    if let Some(queue) = options.queue() {
        connect = connect.queue(queue);
    }
    let client = tokio::select! {
        client = Client::connect(connect) => client?,
        () = interrupt.asked() => return Ok(Exit::Done),
    };
    // What goes on for long follows the authority's epochs; a single message has what the identity knows.
    let renewals = options
        .is_long()
        .then(|| client.keep_renewed(Renewal::default().ask(!options.no_renew)));
    let publisher = client.publisher(options.publisher(recipients, schema))?;
    let mut run = Run {
        renewals,
        told: Told {
            kept: publisher.kept(),
            count: 0,
            json: options.json,
        },
        publisher,
        topic,
        properties,
        options: &options,
        progress: Progress::new(options.is_long() && !options.quiet, options.repeat),
        bytes: 0,
    };
    let sent = run.send(&mut input, &interrupt).await;
    let settled = run.settle().await;
    run.progress.clear();
    let tally = run.publisher.tally();
    run.summarise(&tally);
    // What is kept is on the disk: there is nothing to wait for.
    let closed = match options.queue.is_some() && settled.is_err() {
        true => Ok(()),
        false => run.close().await,
    };
    // The first thing that went wrong is the one to report; a lost connection is, by what it cost.
    let mut lost = None;
    if let Err(failure) = sent.and(settled) {
        if failure.exit() != Exit::Lost {
            return Err(failure);
        }
        if options.queue.is_some() {
            return Err(failure);
        }
        lost = Some(failure);
    }
    let disconnected = client.disconnect().await;
    if let Some(failure) = shortfall(&tally, disconnected.as_ref().err()) {
        return Err(failure);
    }
    if let Some(failure) = lost {
        return Err(failure);
    }
    closed?;
    disconnected?;
    Ok(Exit::Done)
}

impl Options {
    /// Whether there may be many messages.
    fn is_long(&self) -> bool {
        self.message.lines || self.repeat.is_some()
    }

    /// The time from one message to the next.
    fn pace(&self) -> Option<f64> {
        match (self.rate, self.interval) {
            (Some(rate), _) => Some(rate.recip()),
            (None, Some(interval)) => Some(interval),
            (None, None) => self.repeat.map(|_| 1.0),
        }
    }

    fn queue(&self) -> Option<Queue> {
        let queue = Queue::on_disk(self.queue.as_ref()?)
            .max_messages(self.queue_messages)
            .max_bytes(self.queue_bytes)
            .when_full(match self.queue_full {
                FullOption::Wait => WhenFull::Wait,
                FullOption::Refuse => WhenFull::Refuse,
                FullOption::DropOldest => WhenFull::DropOldest,
            });
        Some(queue)
    }

    fn backoff(&self) -> Option<Backoff> {
        if self.queue.is_some() {
            return Some(Backoff {
                most: Duration::from_secs(10),
                ..Backoff::default()
            });
        }
        (self.is_long() && self.retry > 0).then(|| Backoff {
            give_up: Some(Duration::from_secs(self.retry)),
            ..Backoff::default()
        })
    }

    fn publisher(&self, recipients: PublisherOptions, schema: policy::Loaded) -> PublisherOptions {
        let frames = self.frames.unwrap_or(if self.is_long() {
            FramesOption::Announced
        } else {
            FramesOption::Inline
        });
        let options = recipients.delivery(match frames {
            FramesOption::Announced => Delivery::Announced,
            FramesOption::Inline => Delivery::Inline,
        });
        let options = options.padding(self.pad.clone()).signing(match self.sign {
            SignOption::Session => Signing::Session,
            SignOption::Each => Signing::Each,
        });
        let options = options.lifetime(self.rekey_after);
        // 0 was refused as it was read.
        let options = match Sequence::new(self.rekey_messages) {
            Some(messages) => options.max_messages(messages),
            None => options,
        };
        match schema.into_schema() {
            Some(schema) => options.schema(schema),
            None => options,
        }
    }

    fn qos(&self) -> QoS {
        match self.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// How long acknowledgements may stay away before they are given up.
    fn patience(&self) -> Duration {
        let retry = if self.is_long() { self.retry } else { 0 };
        self.connection.timeout() + Duration::from_secs(retry)
    }
}

/// The next renewal that fails; never if there is none.
async fn not_renewed(renewals: &mut Option<Renewals>) -> Error {
    let Some(renewals) = renewals else {
        return std::future::pending().await;
    };
    loop {
        if let Err(error) = renewals.next().await {
            return error;
        }
    }
}

/// Tells a program how many messages the queue has: these it may forget.
struct Told {
    kept: Kept,
    /// As was told.
    count: u64,
    json: bool,
}

impl Told {
    /// Resolves when the queue has more, and that is told.
    async fn next(&mut self) {
        let kept = self.kept.beyond(self.count).await;
        self.now(kept);
    }

    fn now(&mut self, kept: u64) {
        if kept <= self.count {
            return;
        }
        self.count = kept;
        if self.json {
            let mut out = std::io::stdout().lock();
            let line = KeptLine {
                r#type: "kept",
                count: kept,
            };
            // Nobody reads it any more: the messages are kept all the same.
            let _ = json::line(&mut out, &line).and_then(|()| out.flush());
        }
    }
}

struct Run<'a> {
    renewals: Option<Renewals>,
    publisher: Publisher,
    topic: String,
    properties: Properties,
    options: &'a Options,
    progress: Progress,
    bytes: u64,
    told: Told,
}

impl Run<'_> {
    /// Publishes whatever the input gives until it ends or the program is asked to.
    async fn send(&mut self, input: &mut Input, interrupt: &Interrupt) -> Result<(), Failure> {
        let started = Instant::now();
        let mut count = 0u64;
        loop {
            let payload = tokio::select! {
                biased;
                () = interrupt.asked() => return Ok(()),
                error = not_renewed(&mut self.renewals) => {
                    if !self.options.quiet {
                        console::say(&format!("this device could not be renewed: {error}"));
                    }
                    continue;
                }
                _ = self.told.next(), if self.options.queue.is_some() => {
                    continue;
                }
                payload = input.next() => match payload? {
                    Some(payload) => payload,
                    None => return Ok(()),
                },
            };
            if let Some(pace) = self.options.pace() {
                #[allow(clippy::cast_precision_loss)] // exact up to 2^53 messages
                let due = Duration::try_from_secs_f64(count as f64 * pace)
                    .ok()
                    .and_then(|after| started.checked_add(after));
                let Some(due) = due else { return Ok(()) };
                while Instant::now() < due {
                    let look = due.min(Instant::now() + Progress::EVERY);
                    tokio::select! {
                        () = tokio::time::sleep_until(look) => self.show_progress(),
                        () = interrupt.asked() => return Ok(()),
                    }
                }
            }
            let publication = Publication::new(&self.topic, &payload)
                .qos(self.options.qos())
                .retain(self.options.retain)
                .properties(&self.properties);
            let send = async {
                if self.options.retain && self.options.message.null {
                    self.publisher.clear(&self.topic).await
                } else {
                    self.publisher.send(publication).await
                }
            };
            let told = async {
                loop {
                    self.told.next().await;
                }
            };
            // It may wait for room, while others are kept.
            tokio::select! {
                sent = send => sent?,
                () = told => {}
                () = interrupt.asked() => return Ok(()),
            }
            count += 1;
            self.bytes += payload.len() as u64;
            self.show_progress();
        }
    }

    /// Waits for acknowledgements for as long as they keep coming.
    async fn settle(&mut self) -> Result<(), Failure> {
        let patience = self.options.patience();
        loop {
            let before = self.publisher.tally().in_flight();
            let waited = tokio::time::timeout(Duration::from_millis(200), self.publisher.flush());
            let done = waited.await.is_ok();
            self.told.now(self.publisher.tally().kept);
            if done {
                return Ok(());
            }
            self.show_progress();
            if self.publisher.tally().in_flight() < before {
                continue;
            }
            let waited = tokio::time::timeout(patience, self.publisher.flush()).await;
            let after = self.publisher.tally().in_flight();
            self.told.now(self.publisher.tally().kept);
            if waited.is_err() && after >= before {
                if let Some(queue) = &self.options.queue {
                    return Err(Failure::new(
                        Exit::Lost,
                        format!(
                            "the broker acknowledged nothing for {} s; {after} messages are kept in {} and go out with the next --queue of it",
                            patience.as_secs(),
                            queue.display()
                        ),
                    ));
                }
                return Err(Failure::new(
                    Exit::Lost,
                    format!(
                        "the broker acknowledged nothing for {} s, {after} messages are open; publish them again",
                        patience.as_secs()
                    ),
                ));
            }
        }
    }

    fn show_progress(&mut self) {
        let publisher = &self.publisher;
        self.progress
            .tick(publisher.tally().acknowledged, |elapsed| {
                let tally = publisher.tally();
                #[allow(clippy::cast_precision_loss)] // a rate for the eye
                let rate = tally.acknowledged as f64 / elapsed.as_secs_f64();
                format!(
                    "{} published, {} acknowledged, {rate:.0} a second",
                    tally.handed_over, tally.acknowledged
                )
            });
    }

    fn summarise(&self, tally: &Tally) {
        let seconds = self.progress.elapsed().as_secs_f64();
        if self.options.json {
            let summary = Summary {
                r#type: "summary",
                published: tally.handed_over,
                acknowledged: tally.acknowledged,
                refused: tally.refused,
                lost: tally.lost,
                bytes: self.bytes,
                seconds: (seconds * 1000.0).round() / 1000.0,
            };
            let mut out = std::io::stdout().lock();
            // Nobody reads the summary any more: the messages are published all the same.
            let _ = json::line(&mut out, &summary).and_then(|()| out.flush());
        } else if self.options.is_long() && !self.options.quiet {
            console::say(&format!(
                "{} published, {} acknowledged, {seconds:.1} s",
                tally.handed_over, tally.acknowledged
            ));
        }
    }

    /// Takes the announced frames back, for as long as that may take.
    async fn close(self) -> Result<(), Failure> {
        match tokio::time::timeout(self.options.connection.timeout(), self.publisher.close()).await
        {
            Ok(closed) => Ok(closed.map(drop)?),
            Err(_) => Err(Failure::new(
                Exit::Lost,
                "the broker did not acknowledge that the key frames are removed; they expire by themselves",
            )),
        }
    }
}

/// What to report when not every message was acknowledged.
fn shortfall(tally: &Tally, error: Option<&Error>) -> Option<Failure> {
    let of = tally.handed_over;
    if tally.refused > 0 {
        let reason = tally.first_refusal.as_deref().unwrap_or("no reason");
        return Some(Failure::new(
            Exit::Refused,
            format!(
                "the broker refused {} of {of} messages: {}; ask who runs it for the right to publish there",
                tally.refused,
                console::printable(reason)
            ),
        ));
    }
    let open = tally.lost + tally.in_flight();
    (open > 0).then(|| {
        let why = error.map_or_else(String::new, |error| format!(" ({error})"));
        Failure::new(
            Exit::Lost,
            format!(
                "{open} of {of} messages were not acknowledged{why}: they may or may not have arrived; publish them again"
            ),
        )
    })
}
