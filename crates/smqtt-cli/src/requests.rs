//! `smqtt rr`: request and response, sealed both ways.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use rand::RngExt as _;
use smqtt_client::{
    Client, Delivery, Event, Publisher, PublisherOptions, QoS, Received, Renewal, Requester,
    publishable, subscribable,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::json::{self, Payload};
use crate::options::RecipientsOption;
use crate::{console, policy};

const EXAMPLES: &str = "\
Examples:
  # ask, and print the answer
  smqtt rr -i keys/anna -t plant/7/ask -p 'role = pump' -m status

  # answer: the request is the program's standard input, its standard output is the response
  smqtt rr -i keys/pump -t plant/7/ask -p 'role = technician' --serve -- /usr/local/bin/status

The request is sealed under the requester's policy, the response under the responder's. Exit code 9
says that no response came in time.
Exit codes: smqtt --help";

/// The longest response of a program, in bytes.
const MAX_RESPONSE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The topic of the requests
    #[arg(short, long, value_name = "TOPIC")]
    topic: String,

    #[command(flatten)]
    recipients: RecipientsOption,

    /// The request
    #[arg(short, long, value_name = "TEXT", required_unless_present = "serve")]
    message: Option<String>,

    /// Where the response is to go [default: TOPIC/response/ and a random number]
    #[arg(short = 'e', long, value_name = "TOPIC", conflicts_with = "serve")]
    response_topic: Option<String>,

    /// Seconds to wait for the response, or for the program
    #[arg(short = 'W', long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,

    /// Answer requests by running the program behind --, until Ctrl-C
    #[arg(long, conflicts_with = "message", requires = "program")]
    serve: bool,

    /// The program and its arguments; it is run for one request at a time, without a shell
    #[arg(last = true, value_name = "PROGRAM", requires = "serve")]
    program: Vec<std::ffi::OsString>,

    /// With --serve: end after so many responses
    #[arg(short = 'C', long, value_name = "COUNT", requires = "serve", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print the response as one JSON object; with --serve, one for each request
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let topic = publishable(&options.topic)?.to_string();
    if !options.connection.is_v5() {
        return Err(Failure::input(
            "MQTT 3.1.1 has no response topic: speak --mqtt 5",
        ));
    }
    if let Some(response) = &options.response_topic {
        subscribable(publishable(response)?.as_str())?;
    }
    let (identity, connect) = options.connection.options()?;
    let schema = policy::Loaded::of(None, &identity)?;
    let recipients = options.recipients.publisher(&schema)?;
    let interrupt = Interrupt::listen()?;
    let client = tokio::select! {
        client = Client::connect(connect) => client?,
        () = interrupt.asked() => return Ok(Exit::Done),
    };
    // Who answers may do so for long.
    let _renewals = options
        .serve
        .then(|| client.keep_renewed(Renewal::default()));
    let done = if options.serve {
        serve(&options, &client, recipients, &topic, &interrupt).await
    } else {
        tokio::select! {
            done = ask(&options, &client, recipients, &topic) => done,
            () = interrupt.asked() => Ok(Exit::Done),
        }
    };
    // What was asked for is done or not; a broker that does not answer the DISCONNECT changes nothing.
    let _ = client.disconnect().await;
    done
}

async fn ask(
    options: &Options,
    client: &Client,
    recipients: PublisherOptions,
    topic: &str,
) -> Result<Exit, Failure> {
    let response_topic = options.response_topic.clone().unwrap_or_else(|| {
        let number: u64 = rand::rng().random();
        format!("{topic}/response/{number:016x}")
    });
    let mut requester = Requester::new(client, recipients, &response_topic).await?;
    let request = options.message.clone().unwrap_or_default();
    let wait = Duration::from_secs(options.wait);
    let asked = requester.request(topic, request.as_bytes());
    let Ok(answered) = tokio::time::timeout(wait, asked).await else {
        let refused = requester.counters().refused.total();
        let why = if refused == 0 {
            "is somebody answering there, and does its device satisfy the policy?".to_owned()
        } else {
            format!(
                "{} came that this device cannot read: under which policy does the other side answer?",
                console::counted(refused, "message")
            )
        };
        return Err(Failure::new(
            Exit::TimedOut,
            format!("no response within {} s; {why}", options.wait),
        ));
    };
    print(options.json, &answered?)
}

fn print(as_json: bool, response: &Received) -> Result<Exit, Failure> {
    #[derive(serde::Serialize)]
    struct Response<'a> {
        r#type: &'static str,
        topic: &'a str,
        #[serde(flatten)]
        payload: Payload<'a>,
        publisher: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tags: Option<&'a str>,
    }
    let mut out = std::io::stdout().lock();
    let written = if as_json {
        json::line(
            &mut out,
            &Response {
                r#type: "response",
                topic: &response.topic,
                payload: Payload::new(&response.payload),
                publisher: response.publisher.as_str(),
                policy: response.access.policy(),
                tags: response.access.tags(),
            },
        )
    } else {
        out.write_all(&response.payload)
            .and_then(|()| out.write_all(b"\n"))
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::unexpected(format!("cannot write: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

async fn serve(
    options: &Options,
    client: &Client,
    recipients: PublisherOptions,
    topic: &str,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let inline = recipients.delivery(Delivery::Inline);
    let mut publisher = client.publisher(inline)?;
    let mut subscriber = client.subscribe([topic], QoS::AtLeastOnce).await?;
    console::say(&format!("answering at {}", console::printable(topic)));
    let (mut answered, mut failed) = (0u64, 0u64);
    while options.count.is_none_or(|count| answered < count) {
        let event = tokio::select! {
            event = subscriber.next() => event,
            () = interrupt.asked() => break,
        };
        match event {
            // A retained request is an old one.
            Event::Message(request) if !request.retained => {
                let done = tokio::select! {
                    done = answer(options, &mut publisher, &request) => done,
                    () = interrupt.asked() => break,
                };
                answered += u64::from(done.is_ok());
                failed += u64::from(done.is_err());
                tell(options, &request, done.err());
            }
            Event::Ended(loss) => {
                return Err(Failure::new(
                    loss.kind().into(),
                    format!(
                        "the connection to the broker has ended: {}; start again",
                        console::printable(loss.reason())
                    ),
                ));
            }
            _ => {}
        }
    }
    let limit = options.connection.timeout();
    let flushed = tokio::time::timeout(limit, publisher.flush()).await;
    if options.json {
        print_line(&Summary {
            r#type: "summary",
            answered,
            failed,
        });
    }
    match flushed {
        Ok(tally)
            if tally
                .as_ref()
                .is_ok_and(|tally| tally.lost + tally.refused == 0) =>
        {
            Ok(Exit::Done)
        }
        _ => Err(Failure::new(
            Exit::Lost,
            "not every response was acknowledged; the requesters will ask again",
        )),
    }
}

#[derive(serde::Serialize)]
struct Answered<'a> {
    r#type: &'static str,
    topic: &'a str,
    publisher: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a str>,
    /// Why there is no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(serde::Serialize)]
struct Summary {
    r#type: &'static str,
    answered: u64,
    failed: u64,
}

/// Tells what became of a request.
fn tell(options: &Options, request: &Received, failed: Option<String>) {
    if options.json {
        print_line(&Answered {
            r#type: if failed.is_none() {
                "answered"
            } else {
                "failed"
            },
            topic: &request.topic,
            publisher: request.publisher.as_str(),
            policy: request.access.policy(),
            tags: request.access.tags(),
            reason: failed,
        });
    } else if let Some(why) = failed {
        console::notice(&format!(
            "no response to {}: {}",
            request.publisher,
            console::printable(&why)
        ));
    }
}

fn print_line(object: &impl serde::Serialize) {
    let mut out = std::io::stdout().lock();
    // Requests are answered also where nobody reads of it.
    let _ = json::line(&mut out, object).and_then(|()| out.flush());
}

/// Runs the program for one request and publishes what it prints.
async fn answer(
    options: &Options,
    publisher: &mut Publisher,
    request: &Received,
) -> Result<(), String> {
    if request.properties().response_topic.is_none() {
        return Err("it asks for none".to_owned());
    }
    let [program, arguments @ ..] = options.program.as_slice() else {
        return Err("there is no program".to_owned());
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("SMQTT_REQUEST_TOPIC", &*request.topic)
        .env("SMQTT_REQUEST_PUBLISHER", request.publisher.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the program cannot be started: {error}"))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the program has no standard streams".to_owned());
    };
    let talk = async {
        let write = async {
            // A program that does not read its input is no error.
            let _ = input.write_all(&request.payload).await;
            drop(input);
        };
        let read = async {
            let mut response = Vec::new();
            output
                .take(MAX_RESPONSE + 1)
                .read_to_end(&mut response)
                .await?;
            Ok::<_, std::io::Error>(response)
        };
        let ((), response) = tokio::join!(write, read);
        let response = response?;
        if response.len() as u64 > MAX_RESPONSE {
            return Err(std::io::Error::other(format!(
                "it is longer than {MAX_RESPONSE} bytes"
            )));
        }
        let status = child.wait().await?;
        if !status.success() {
            return Err(std::io::Error::other(format!(
                "the program ended with {status}"
            )));
        }
        Ok(response)
    };
    let response = tokio::time::timeout(Duration::from_secs(options.wait), talk)
        .await
        .map_err(|_| format!("the program took longer than {} s", options.wait))?
        .map_err(|error| error.to_string())?;
    publisher
        .respond(request, &response)
        .await
        .map_err(|error| error.to_string())
}
