//! `smqtt sub`: subscribe, verify and open messages.

mod account;
mod files;
mod format;
mod notices;
mod output;
pub(crate) mod record;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use smqtt_client::{
    Client, DeviceId, ErrorKind, Event, KeptSession, Listener, Loss, OpenerConfig, Policy, QoS,
    Renewal, Renewals, Subscriber,
};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

use account::Account;
use format::Format;
use notices::Notices;
use output::{Broken, Output};

const EXAMPLES: &str = "\
Examples:
  smqtt sub -i keys/anna -t 'plant/+/temperature' -v

  # one message, at most ten seconds, as JSON
  smqtt sub -i keys/anna -t plant/7/temperature -C 1 -W 10 --json

  # who sent what, and when
  smqtt sub -i keys/anna -t 'plant/#' -F '%I %d %t %p'

  # for other programs
  smqtt sub -i keys/anna -t 'plant/#' --json | jq -r 'select(.type == \"message\") | .payload'

  # nothing is missed between two runs
  smqtt sub -i keys/anna -t 'plant/#' --session /var/lib/anna/session

  # every message into a file of its own
  smqtt sub -i keys/anna -t 'plant/+/plan' --out-dir plans

  # what the broker relays, unopened
  smqtt sub -i keys/anna -t plant/7/temperature --raw -C 1 | smqtt inspect

Messages go to stdout, one a line; everything else goes to stderr. With --json every line of stdout
is an object with a \"type\": message, refused, missing, connection or, last, summary.
A message that this device may not read is counted, not an error; Ctrl-C ends with exit code 0.
Exit codes: smqtt --help";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", format::TABLE))]
pub(crate) struct Options {
    /// A topic filter, with + and # as wildcards; may be given several times
    #[arg(short, long = "topic", value_name = "FILTER", required = true)]
    topics: Vec<String>,

    /// Print the topic in front of each payload
    #[arg(short, long, conflicts_with_all = ["json", "raw"])]
    verbose: bool,

    /// Print this for each message: text with %t for the topic, %p for the payload and so on, see below
    #[arg(short = 'F', long, value_name = "FORMAT", conflicts_with_all = ["json", "raw", "verbose"])]
    format: Option<Format>,

    /// No line feed behind each message
    #[arg(short = 'N', long, conflicts_with_all = ["json", "raw"])]
    no_newline: bool,

    /// Write each payload into a file of its own in this directory, and print the file's name instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["format", "raw"])]
    out_dir: Option<PathBuf>,

    /// Take messages of this publisher only, a device's name; may be given several times
    #[arg(long, value_name = "DEVICE", conflicts_with = "raw")]
    from: Vec<DeviceId>,

    /// Take only messages whose key is at most so old: they cannot be older
    #[arg(long, value_name = "SECONDS", conflicts_with = "raw", value_parser = seconds)]
    max_age: Option<Duration>,

    /// Take only messages that their publisher has signed itself, one by one (pub --sign each)
    #[arg(long, conflicts_with = "raw")]
    require_signature: bool,

    /// End after this many messages were read
    #[arg(short = 'C', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this many seconds; with -C it is an error if fewer messages came
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,

    /// The quality of service to ask for: 0, 1 or 2
    #[arg(short, long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,

    /// Print the payloads as the broker relays them: sealed, nothing opened, nothing verified,
    /// nothing between them
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    /// Keep the session: what is published while this program is away is delivered when it runs again
    /// with the same directory, in which it remembers what it has read. Made if it is not there
    #[arg(short = 'c', long, value_name = "DIR", conflicts_with = "raw")]
    session: Option<PathBuf>,

    /// With --session: seconds for which the broker is to keep it
    #[arg(
        short = 'x',
        long,
        value_name = "SECONDS",
        default_value_t = 604_800,
        requires = "session"
    )]
    session_expiry_interval: u32,

    /// No notices and no summary on stderr
    #[arg(long)]
    quiet: bool,

    /// Do not ask the authority to renew this device when it is time: something else does, such as a
    /// timer with smqtt renew, and what that brings is taken over
    #[arg(long)]
    no_renew: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Events after which a kept session is settled where they come without a pause.
const SETTLE: u32 = 1_000;

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "give a number of seconds above 0".to_owned())
}

/// Why the loop ended without an error.
enum End {
    /// As many messages as were asked for.
    Enough,
    /// A signal.
    Asked,
    /// Nobody reads the output.
    Gone,
    /// The time is over.
    Time,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    for filter in &options.topics {
        smqtt_client::subscribable(filter)?;
    }
    let (identity, mut connect) = options.connection.options()?;
    if let Some(directory) = &options.session {
        let expiry = Duration::from_secs(options.session_expiry_interval.into());
        connect = connect.keep_session(KeptSession::in_directory(directory).expiry(expiry));
    }
    let output = Output::new(&options)?;
    let held = smqtt_client::attributes(&identity)?.without_epoch();
    let key_policy = smqtt_client::key_policy(&identity)?;
    let deadline = options.wait.map(|wait| Instant::now() + wait);
    let interrupt = Interrupt::listen()?;
    let deadline = Deadline {
        deadline,
        interrupt,
    };

    let client = tokio::select! {
        client = Client::connect(connect) => client?,
        end = deadline.reached() => return options.ended(&end, 0),
    };
    let mut run = Run {
        renewals: client.keep_renewed(Renewal::default().ask(!options.no_renew)),
        output,
        notices: Notices::new(
            options.quiet || options.json,
            &held,
            key_policy.as_ref().map(Policy::as_str),
        ),
        account: Account::default(),
        deadline,
        options: &options,
    };
    let end = if options.raw {
        run.relay(&client).await
    } else {
        run.read(&client).await
    };
    // Whatever happened, what was counted is told.
    let told = run.summarise();
    let end = end?;
    told?;
    // The summary is out; a broker that does not answer the DISCONNECT changes nothing.
    let _ = client.disconnect().await;
    options.ended(&end, run.account.read())
}

impl Options {
    fn qos(&self) -> QoS {
        match self.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    fn ended(&self, end: &End, read: u64) -> Result<Exit, Failure> {
        match (end, self.count, self.wait) {
            (End::Time, Some(count), Some(wait)) => Err(Failure::new(
                Exit::TimedOut,
                format!(
                    "{read} of {count} messages came within {} s; is somebody publishing there, under a policy that this device satisfies?",
                    wait.as_secs_f64()
                ),
            )),
            _ => Ok(Exit::Done),
        }
    }
}

/// When to end without an error.
struct Deadline {
    deadline: Option<Instant>,
    interrupt: Interrupt,
}

impl Deadline {
    /// Whether it is time already.
    fn passed(&self) -> Option<End> {
        if self.interrupt.is_asked() {
            return Some(End::Asked);
        }
        let over = self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now());
        over.then_some(End::Time)
    }

    async fn reached(&self) -> End {
        let over = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => End::Time,
            () = self.interrupt.asked() => End::Asked,
        }
    }
}

struct Run<'a> {
    renewals: Renewals,
    options: &'a Options,
    output: Output,
    notices: Notices,
    account: Account,
    deadline: Deadline,
}

impl Run<'_> {
    /// Opens messages until it is time to end.
    async fn read(&mut self, client: &Client) -> Result<End, Failure> {
        let demands = OpenerConfig {
            publishers: (!self.options.from.is_empty())
                .then(|| self.options.from.iter().cloned().collect()),
            max_age: self.options.max_age,
            require_signature: self.options.require_signature,
            ..OpenerConfig::default()
        };
        let subscribing = client.subscribe_with(&self.options.topics, self.options.qos(), demands);
        let mut subscriber: Subscriber = tokio::select! {
            subscriber = subscribing => subscriber?,
            end = self.deadline.reached() => return Ok(end),
        };
        self.subscribed();
        if self.options.session.is_some() && !self.options.quiet {
            console::say(if client.session_was_present() {
                "the broker has kept the session"
            } else {
                "a new session: the broker keeps what comes from now on"
            });
        }
        let end = self.open(&mut subscriber).await?;
        if let End::Gone = end {
            // What nobody has read is not acknowledged.
            return Ok(End::Asked);
        }
        let _ = self.settle(&mut subscriber)?;
        Ok(end)
    }

    /// Opens what comes until it is time to end.
    async fn open(&mut self, subscriber: &mut Subscriber) -> Result<End, Failure> {
        let mut unsettled = 0;
        loop {
            // What is there is taken without looking at clocks; before a wait, the output goes out.
            let event = match subscriber.try_next() {
                Some(event) => event,
                None => {
                    if !self.settle(subscriber)? {
                        return Ok(End::Gone);
                    }
                    unsettled = 0;
                    tokio::select! {
                        event = subscriber.next() => event,
                        renewed = self.renewals.next() => {
                            match renewed {
                                Ok(renewed) => self.notices.holds(
                                    &renewed.attributes,
                                    renewed.key_policy.as_ref().map(Policy::as_str),
                                ),
                                Err(error) => {
                                    let text = format!("this device could not be renewed: {error}");
                                    self.notices.say("renewal", &text);
                                }
                            }
                            continue;
                        }
                        end = self.deadline.reached() => return Ok(end),
                    }
                }
            };
            if let Event::Ended(loss) = &event {
                return Err(ended(loss));
            }
            self.account.note(&event);
            self.notices.note(&event);
            match self.output.event(&event) {
                Ok(()) => {}
                Err(Broken::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(End::Gone);
                }
                Err(Broken::Output(error)) => return Err(cannot_write(&error)),
                Err(Broken::File(error)) => return Err(cannot_write_file(&error)),
            }
            if self.options.count == Some(self.account.read()) {
                return Ok(End::Enough);
            }
            if let Some(end) = self.deadline.passed() {
                return Ok(end);
            }
            unsettled += 1;
            if unsettled == SETTLE && self.options.session.is_some() {
                if !self.settle(subscriber)? {
                    return Ok(End::Gone);
                }
                unsettled = 0;
            }
        }
    }

    /// Passes payloads on unopened until it is time to end.
    async fn relay(&mut self, client: &Client) -> Result<End, Failure> {
        let listening = client.listen(&self.options.topics, self.options.qos());
        let mut listener: Listener = tokio::select! {
            listener = listening => listener?,
            end = self.deadline.reached() => return Ok(end),
        };
        self.subscribed();
        loop {
            let relayed = tokio::select! {
                relayed = listener.next() => relayed,
                end = self.deadline.reached() => return Ok(end),
            };
            let relayed = match relayed {
                Ok(relayed) => relayed,
                Err(loss) => return Err(ended(&loss)),
            };
            match self.output.raw(&relayed.payload) {
                Ok(()) => self.account.relayed(),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Gone),
                Err(error) => return Err(cannot_write(&error)),
            }
            if self.options.count == Some(self.account.read()) {
                return Ok(End::Enough);
            }
        }
    }

    fn subscribed(&self) {
        for filter in &self.options.topics {
            console::say(&format!("subscribed to {}", console::printable(filter)));
        }
    }

    /// Everything so far has gone to where it belongs, and is acknowledged. False if nobody reads the output any more: what
    /// nobody has read is not acknowledged.
    fn settle(&mut self, subscriber: &mut Subscriber) -> Result<bool, Failure> {
        if self.flush()? {
            return Ok(false);
        }
        self.output
            .sync_files()
            .map_err(|error| cannot_write_file(&error))?;
        subscriber.settle()?;
        Ok(true)
    }

    /// Writes out what is buffered. True if nobody reads it any more.
    fn flush(&mut self) -> Result<bool, Failure> {
        match self.output.flush() {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            Err(error) => Err(cannot_write(&error)),
        }
    }

    fn summarise(&mut self) -> Result<(), Failure> {
        if self.options.json {
            match self.output.summary(&self.account) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(cannot_write(&error));
                }
                _ => {}
            }
        } else {
            self.flush()?;
            if !self.options.quiet && !self.options.raw {
                console::say(&self.account.to_string());
            }
        }
        Ok(())
    }
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::unexpected(format!("cannot write to standard output: {error}"))
}

fn cannot_write_file(error: &io::Error) -> Failure {
    Failure::unexpected(format!(
        "cannot write a message into the directory of --out-dir: {}",
        crate::failure::without_number(error)
    ))
}

fn ended(loss: &Loss) -> Failure {
    let reason = console::printable(loss.reason());
    let next = match loss.kind() {
        ErrorKind::Lost => "subscribe again",
        ErrorKind::Refused => "the broker's log says more",
        _ => "set that right and subscribe again",
    };
    Failure::new(
        loss.kind().into(),
        format!("the connection to the broker has ended: {reason}; {next}"),
    )
}
