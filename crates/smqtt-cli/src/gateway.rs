//! `smqtt gateway`: a local MQTT listener for unchanged clients.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use smqtt_client::gateway::{Counts, Gateway, Listen, Rules, RulesError};
use smqtt_client::{Identity, Renewal};

use crate::connection::Connection;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::{json, policy};

/// What is logged when nothing else is said: a service tells what it refuses.
pub(crate) const LOG: &str = "smqtt_client=info";

const EXAMPLES: &str = "\
Examples:
  smqtt gateway -i keys/home --rules gateway.toml

  # what the rules say, without serving
  smqtt gateway -i keys/home --rules gateway.toml --check

A rules file in short; in each list the first rule that matches decides, and what none matches is refused:
  [[publish]]
  topic = \"homeassistant/#\"
  policy = \"site = home\"

  [[subscribe]]
  topic = \"homeassistant/#\"

What is refused or cannot be opened is counted, and logged at most once a second of each kind.
Ctrl-C ends with exit code 0. Exit codes: smqtt --help";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where local clients connect, without TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    listen: String,

    /// The rules file: what is sealed under which policy, and what is opened
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,

    /// Check the rules file, its policies against the schema included, print what it says, and end
    #[arg(long)]
    check: bool,

    /// Check the policies against this schema, a TOML file, instead of the one that the identity has
    /// from its authority
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Print JSON objects, one a line, on stdout: what --check finds, where it listens, and at the end
    /// what was counted
    #[arg(long)]
    json: bool,

    /// Leave renewing to others, such as `smqtt renew` from a timer: what they put into the identity
    /// directory is taken over
    #[arg(long)]
    no_renew: bool,

    /// Allow an address that other machines reach: passwords, topics and payloads are readable on the
    /// way from there to here
    #[arg(long)]
    allow_remote: bool,

    /// How many local clients there may be, those included that are expected back
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    max_clients: usize,

    /// The largest packet in bytes that is taken from either side
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = clap::value_parser!(u32).range(1024..=268_435_455))]
    max_packet: u32,

    #[command(flatten)]
    connection: Connection,
}

/// Serves until it is interrupted.
pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let rules = Rules::from_file(&options.rules)?;
    let listen = options
        .listen
        .parse::<Listen>()?
        .allow_remote(options.allow_remote)
        .max_clients(options.max_clients)
        .max_packet(options.max_packet);
    listen.check(&rules)?;
    if options.check {
        // Rules can be checked where the identity is not.
        match (options.schema.as_deref(), options.connection.options()) {
            (Some(_), Err(_)) => options.check_policies(&rules, None)?,
            (_, Ok((identity, _))) => options.check_policies(&rules, Some(&identity))?,
            (None, Err(failure)) => console::say(&format!(
                "the policies are not checked against a schema: {failure}"
            )),
        }
        if options.json {
            options.print(&Checked::new(&options, &rules));
        } else {
            console::say(&format!("{} is valid:\n{rules}", options.rules.display()));
        }
        return Ok(Exit::Done);
    }
    let (identity, connect) = options.connection.options()?;
    options.check_policies(&rules, Some(&identity))?;
    let interrupt = Interrupt::listen()?;
    let gateway = tokio::select! {
        gateway = Gateway::start(connect, rules, listen) => gateway?,
        () = interrupt.asked() => return Ok(Exit::Done),
    };
    let gateway = match options.no_renew {
        true => gateway.renewal(Renewal::default().ask(false)),
        false => gateway,
    };
    let address = gateway
        .address()
        .map_err(|error| Failure::unexpected(format!("cannot tell the address: {error}")))?;
    console::say(&format!("listening on mqtt://{address}"));
    if options.json {
        options.print(&Listening {
            r#type: "listening",
            address: format!("mqtt://{address}"),
        });
    }
    let counts = gateway.run(interrupt.asked()).await?;
    if options.json {
        options.print(&Summary::new(&counts));
    } else {
        console::say(&counts.to_string());
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Checked {
    r#type: &'static str,
    file: String,
    /// In words, in their order.
    rules: Vec<String>,
    policies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

impl Checked {
    fn new(options: &Options, rules: &Rules) -> Self {
        let mut lines: Vec<String> = rules.to_string().lines().map(str::to_owned).collect();
        // What every file ends with is no rule of it.
        lines.pop();
        Self {
            r#type: "checked",
            file: options.rules.display().to_string(),
            rules: lines,
            policies: rules.policies().map(ToString::to_string).collect(),
            tags: rules.tags().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Serialize)]
struct Listening {
    r#type: &'static str,
    address: String,
}

#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    clients: u64,
    clients_refused: u64,
    published: u64,
    publishes_refused: u64,
    delivered: u64,
    plaintext_passed: u64,
    not_opened: u64,
    subscriptions_refused: u64,
    dropped: u64,
}

impl Summary {
    fn new(counts: &Counts) -> Self {
        Self {
            r#type: "summary",
            clients: counts.clients,
            clients_refused: counts.clients_refused,
            published: counts.published,
            publishes_refused: counts.publishes_refused,
            delivered: counts.delivered,
            plaintext_passed: counts.plaintext_passed,
            not_opened: counts.not_opened,
            subscriptions_refused: counts.subscriptions_refused,
            dropped: counts.dropped,
        }
    }
}

impl Options {
    fn print(&self, object: &impl Serialize) {
        debug_assert!(self.json, "nobody asked for JSON");
        let mut out = std::io::stdout().lock();
        // A gateway goes on serving where nobody reads what it prints.
        let _ = json::line(&mut out, object).and_then(|()| out.flush());
    }

    /// Checks the policies and tags of all rules against the schema.
    fn check_policies(&self, rules: &Rules, identity: Option<&Identity>) -> Result<(), Failure> {
        let schema = match (self.schema.as_deref(), identity) {
            (None, Some(identity)) => policy::Loaded::of(None, identity)?,
            (file, _) => policy::Loaded::file(file)?,
        };
        let in_file = |failure: Failure| {
            Failure::new(
                failure.exit(),
                format!("{}: {failure}", self.rules.display()),
            )
        };
        for policy in rules.policies() {
            schema.policy(&policy.to_string()).map_err(in_file)?;
        }
        for tags in rules.tags() {
            schema.tags(&tags.to_string()).map_err(in_file)?;
        }
        Ok(())
    }
}

impl From<RulesError> for Failure {
    fn from(error: RulesError) -> Self {
        Self::input(error.to_string())
    }
}
