//! `smqtt bench`: what sealing costs, measured side by side with plaintext in one run.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use smqtt_client::{
    Client, Event, Listener, PlaintextPublisher, Policy, Publication, Publisher, QoS, Subscriber,
    publishable,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::options::PolicyOption;
use crate::{console, json};

const EXAMPLES: &str = "\
Examples:
  smqtt bench -i keys/anna -t bench/1 -p 'role = technician'
  smqtt bench -i keys/anna -t bench/1 -p 'role = technician' --size 64,1024 --rounds 9 --json

Plaintext and sealed messages go by turns, round by round, from one connection of this program
through the broker to another, each with a task of its own. The figures are of complete messages
at the reader, each the median of the rounds. Publisher and reader share this machine, and perhaps
the broker does: the ratio compares like with like, the rates are not those of a machine that does
one thing.
At most 1,000 messages are on the way at a time, so that no broker has to drop any.
The policy must be one that this device satisfies. What is published is random.
Exit codes: smqtt --help";

/// Messages that may be on the way: fewer than a stock Mosquitto queues for a reader before it drops.
const AHEAD: usize = 1_000;
/// Time that one round may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The topic to measure at; nobody else should use it
    #[arg(short, long, value_name = "TOPIC")]
    topic: String,

    #[command(flatten)]
    policy: PolicyOption,

    /// Payload sizes in bytes
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [64u32, 1024], value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: Vec<u32>,

    /// Messages of each kind in a round
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,

    /// Rounds, of which the median counts; one more goes before, to warm up
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,

    /// The quality of service: 1 or 2 (with 0, messages may be dropped and nothing is measured)
    #[arg(short, long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    qos: u8,

    /// Print one JSON object for each size
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// What was measured at one size.
#[derive(Debug, Serialize)]
struct Measured {
    r#type: &'static str,
    size: u32,
    messages: u32,
    rounds: u32,
    /// Messages a second, the median of the rounds.
    plaintext_per_second: f64,
    sealed_per_second: f64,
    /// The median of the rounds' ratios of sealed to plaintext, and the lowest and highest.
    ratio: f64,
    ratio_lowest: f64,
    ratio_highest: f64,
    /// Bytes that sealing adds to a payload, over all sealed messages of the run.
    overhead_mean: f64,
    overhead_highest: usize,
    /// During the measured rounds: key frames made (an encapsulation and a signature each).
    frames_made: u64,
    /// Signatures verified and keys decapsulated (pairings) by the reader.
    verifications: u64,
    decapsulations: u64,
    /// Sealed messages in the measured rounds.
    sealed_messages: u64,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let policy = options.policy.parse()?;
    let topic = publishable(&options.topic)?.to_string();
    let (identity, connect) = options.connection.options()?;
    let held = smqtt_client::attributes(&identity)?.without_epoch();
    if !policy.explain(&held).is_satisfied() {
        return Err(Failure::input(format!(
            "this device does not satisfy {policy}, so that it cannot read what it measures: it has {held}"
        )));
    }
    let interrupt = Interrupt::listen()?;
    let measure = async {
        let sender = Client::connect(connect.clone().reconnect(None)).await?;
        let reader = Client::connect(connect.reconnect(None)).await?;
        for size in &options.size {
            let measured = at_size(&options, &sender, &reader, &topic, &policy, *size).await?;
            print(options.json, &measured);
        }
        let _ = sender.disconnect().await;
        let _ = reader.disconnect().await;
        Ok(Exit::Done)
    };
    tokio::select! {
        done = measure => done,
        () = interrupt.asked() => Ok(Exit::Done),
    }
}

async fn at_size(
    options: &Options,
    sender: &Client,
    reader: &Client,
    topic: &str,
    policy: &Policy,
    size: u32,
) -> Result<Measured, Failure> {
    let qos = if options.qos == 1 {
        QoS::AtLeastOnce
    } else {
        QoS::ExactlyOnce
    };
    let plain_topic = format!("{topic}/plaintext");
    let sealed_topic = format!("{topic}/sealed");
    let mut plain = Plain {
        publisher: sender.plaintext_publisher(),
        listener: reader.listen([&plain_topic], qos).await?,
        topic: plain_topic,
    };
    let mut sealed = Sealed {
        publisher: sender.publisher(policy.clone())?,
        subscriber: reader.subscribe([&sealed_topic], qos).await?,
        topic: sealed_topic,
    };
    let observer = sender.listen([&sealed.topic], qos).await?;
    let mut payload = vec![0; size as usize];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut payload);
    let load = Load {
        payload: payload.into(),
        count: options.messages,
        qos,
    };

    // The bytes of a message are looked at in the warm-up only: it would slow down the measured rounds.
    (_, plain) = within(load.plain(plain)).await?;
    // Who looks at them keeps the publisher waiting, too: what it falls behind by the broker would drop at some time.
    let looked_at = Arc::new(Semaphore::new(AHEAD));
    let (done, overhead) = tokio::join!(
        within(load.sealed(sealed, Some(looked_at.clone()))),
        within(load.look(observer, &looked_at))
    );
    let overhead = overhead?;
    (_, sealed) = done?;

    let before = (
        sealed.publisher.frames_made(),
        sealed.subscriber.counters().clone(),
    );
    let (mut plain_rates, mut sealed_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let (plain_rate, sealed_rate);
        // By turns, so that what slows this machine down meets both.
        if round % 2 == 0 {
            (plain_rate, plain) = within(load.plain(plain)).await?;
            (sealed_rate, sealed) = within(load.sealed(sealed, None)).await?;
        } else {
            (sealed_rate, sealed) = within(load.sealed(sealed, None)).await?;
            (plain_rate, plain) = within(load.plain(plain)).await?;
        }
        plain_rates.push(plain_rate);
        sealed_rates.push(sealed_rate);
        ratios.push(sealed_rate / plain_rate);
    }
    let Sealed {
        publisher,
        subscriber,
        ..
    } = sealed;
    let after = subscriber.counters();
    let measured = Measured {
        r#type: "measured",
        size,
        messages: options.messages,
        rounds: options.rounds,
        plaintext_per_second: median(&mut plain_rates).round(),
        sealed_per_second: median(&mut sealed_rates).round(),
        ratio: thousandths(median(&mut ratios)),
        ratio_lowest: thousandths(ratios.first().copied().unwrap_or_default()),
        ratio_highest: thousandths(ratios.last().copied().unwrap_or_default()),
        #[allow(clippy::cast_precision_loss)] // a few bytes a message
        overhead_mean: thousandths(overhead.sum as f64 / f64::from(options.messages)),
        overhead_highest: overhead.highest,
        frames_made: publisher.frames_made() - before.0,
        verifications: after.verifications - before.1.verifications,
        decapsulations: after.decapsulations - before.1.decapsulations,
        sealed_messages: after.opened - before.1.opened,
    };
    publisher.close().await?;
    Ok(measured)
}

/// Who publishes and reads plaintext.
struct Plain {
    publisher: PlaintextPublisher,
    listener: Listener,
    topic: String,
}

/// Who seals and opens.
struct Sealed {
    publisher: Publisher,
    subscriber: Subscriber,
    topic: String,
}

/// What sealing adds to payloads, in bytes.
#[derive(Default)]
struct Overhead {
    sum: u64,
    highest: usize,
}

/// What is published in a round.
struct Load {
    payload: Arc<[u8]>,
    count: u32,
    qos: QoS,
}

impl Load {
    /// Messages a second, from the first publish to the last message read.
    async fn plain(&self, sides: Plain) -> Result<(f64, Plain), Failure> {
        let Plain {
            publisher,
            mut listener,
            topic,
        } = sides;
        let (payload, count, qos) = (self.payload.clone(), self.count, self.qos);
        let started = Instant::now();
        let room = Arc::new(Semaphore::new(AHEAD));
        let left = room.clone();
        let publish = async move {
            for _ in 0..count {
                enter(&room).await;
                publisher.publish(&topic, &payload, qos).await?;
            }
            Ok((publisher, topic))
        };
        let read = async move {
            for _ in 0..count {
                listener.next().await.map_err(|loss| ended(&loss))?;
                left.add_permits(1);
            }
            Ok(listener)
        };
        let ((publisher, topic), listener) = side_by_side(publish, read).await?;
        let sides = Plain {
            publisher,
            listener,
            topic,
        };
        Ok((self.rate(started), sides))
    }

    /// The same of sealed messages; `looked_at` has a permit for each that may be ahead of another who reads them.
    async fn sealed(
        &self,
        sides: Sealed,
        looked_at: Option<Arc<Semaphore>>,
    ) -> Result<(f64, Sealed), Failure> {
        let Sealed {
            mut publisher,
            mut subscriber,
            topic,
        } = sides;
        let (payload, count, qos) = (self.payload.clone(), self.count, self.qos);
        let started = Instant::now();
        let room = Arc::new(Semaphore::new(AHEAD));
        let left = room.clone();
        let publish = async move {
            for _ in 0..count {
                enter(&room).await;
                if let Some(looked_at) = &looked_at {
                    enter(looked_at).await;
                }
                let publication = Publication::new(&topic, &payload).qos(qos);
                publisher.send(publication).await?;
            }
            Ok((publisher, topic))
        };
        let read = async move {
            let mut missing = count;
            while missing > 0 {
                match subscriber.next().await {
                    Event::Message(_) => {
                        missing -= 1;
                        left.add_permits(1);
                    }
                    Event::Ended(loss) => return Err(ended(&loss)),
                    // Another publisher's message at this topic.
                    _ => {}
                }
            }
            Ok(subscriber)
        };
        let ((publisher, topic), subscriber) = side_by_side(publish, read).await?;
        let sides = Sealed {
            publisher,
            subscriber,
            topic,
        };
        Ok((self.rate(started), sides))
    }

    /// Looks at what the broker relays in a round.
    async fn look(
        &self,
        mut observer: Listener,
        looked_at: &Semaphore,
    ) -> Result<Overhead, Failure> {
        let mut overhead = Overhead::default();
        for _ in 0..self.count {
            let relayed = observer.next().await.map_err(|loss| ended(&loss))?;
            looked_at.add_permits(1);
            let added = relayed.payload.len().saturating_sub(self.payload.len());
            overhead.sum += added as u64;
            overhead.highest = overhead.highest.max(added);
        }
        Ok(overhead)
    }

    fn rate(&self, started: Instant) -> f64 {
        f64::from(self.count) / started.elapsed().as_secs_f64()
    }
}

/// Publisher and reader, each as a task of its own: as two programs would, on two processors where there are two. Both end
/// with this.
async fn side_by_side<P: Send + 'static, R: Send + 'static>(
    publish: impl Future<Output = Result<P, Failure>> + Send + 'static,
    read: impl Future<Output = Result<R, Failure>> + Send + 'static,
) -> Result<(P, R), Failure> {
    let (mut publishing, mut reading) = (JoinSet::new(), JoinSet::new());
    publishing.spawn(publish);
    reading.spawn(read);
    tokio::try_join!(outcome(&mut publishing), outcome(&mut reading))
}

async fn outcome<T: 'static>(task: &mut JoinSet<Result<T, Failure>>) -> Result<T, Failure> {
    match task.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(Failure::unexpected(error.to_string())),
        None => Err(Failure::unexpected("a side of the round is missing")),
    }
}

/// Waits until fewer than [`AHEAD`] messages are on the way.
async fn enter(room: &Semaphore) {
    if let Ok(permit) = room.acquire().await {
        permit.forget();
    }
}

async fn within<T>(round: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, round)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::new(
                Exit::TimedOut,
                format!(
                    "a round took longer than {} s: take fewer --messages, and a topic that nobody else uses",
                    PATIENCE.as_secs()
                ),
            ))
        })
}

fn ended(loss: &smqtt_client::Loss) -> Failure {
    Failure::new(
        loss.kind().into(),
        format!(
            "the connection to the broker has ended: {}; measure again",
            console::printable(loss.reason())
        ),
    )
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => 0.0,
        _ if values.len() % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn print(as_json: bool, measured: &Measured) {
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: there is nothing else to do.
    let _ = if as_json {
        json::line(&mut out, measured)
    } else {
        write!(
            out,
            "{} bytes: plaintext {:.0}/s, sealed {:.0}/s, ratio {:.3} ({:.3} to {:.3}, {} of {})\n\
             \x20 overhead {:.1} bytes a message, at most {}\n\
             \x20 {} sealed messages: {} key frames made, {} signatures verified, {} decapsulations\n",
            measured.size,
            measured.plaintext_per_second,
            measured.sealed_per_second,
            measured.ratio,
            measured.ratio_lowest,
            measured.ratio_highest,
            console::counted(measured.rounds.into(), "round"),
            measured.messages,
            measured.overhead_mean,
            measured.overhead_highest,
            measured.sealed_messages,
            measured.frames_made,
            measured.verifications,
            measured.decapsulations,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
