//! What goes to stdout: payloads, or JSON lines.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;
use smqtt_client::{EnvelopeEvent, Event, KeyId, Message, Refusal};
use smqtt_pki::DeviceId;

use super::Options;
use super::account::Account;
use crate::json::{self, Payload};

/// Bytes that are written at a time while messages keep coming.
const BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum Form {
    Payload,
    TopicAndPayload,
    Json,
}

/// Buffered standard output. Whoever waits for messages flushes it first.
pub(super) struct Output {
    out: BufWriter<Stdout>,
    form: Form,
}

#[derive(Serialize)]
struct MessageLine<'a> {
    r#type: &'static str,
    topic: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
    publisher: &'a str,
    kid: String,
    sequence: u32,
    retained: bool,
    #[serde(skip_serializing_if = "is_false")]
    repeated: bool,
    #[serde(skip_serializing_if = "is_false")]
    late: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Serialize)]
struct RefusedLine<'a> {
    r#type: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    reason: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct MissingLine<'a> {
    r#type: &'static str,
    topic: &'a str,
    publisher: &'a str,
    kid: String,
    first: u32,
    count: u32,
}

#[derive(Serialize)]
struct EpochLine {
    r#type: &'static str,
    epoch: u64,
    held: u64,
}

#[derive(Serialize)]
struct ConnectionLine<'a> {
    r#type: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    account: &'a Account,
}

impl Output {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, io::stdout()),
            form: match (options.json, options.verbose) {
                (true, _) => Form::Json,
                (false, true) => Form::TopicAndPayload,
                (false, false) => Form::Payload,
            },
        }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        match (self.form, event) {
            (Form::Json, event) => self.line(event),
            (form, Event::Envelope(EnvelopeEvent::Opened(message))) => self.message(form, message),
            _ => Ok(()),
        }
    }

    fn message(&mut self, form: Form, message: &Message) -> io::Result<()> {
        if let Form::TopicAndPayload = form {
            self.out.write_all(message.topic.as_bytes())?;
            self.out.write_all(b" ")?;
        }
        self.out.write_all(&message.payload)?;
        self.out.write_all(b"\n")
    }

    fn line(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Envelope(EnvelopeEvent::Opened(message)) => json::line(
                &mut self.out,
                &MessageLine {
                    r#type: "message",
                    topic: &message.topic,
                    payload: Payload::new(&message.payload),
                    publisher: message.publisher.as_str(),
                    kid: message.kid.to_string(),
                    sequence: message.sequence.get(),
                    retained: message.retained,
                    repeated: message.repeated,
                    late: message.late,
                },
            ),
            Event::Envelope(EnvelopeEvent::Refused {
                topic,
                kid,
                publisher,
                reason,
                ..
            }) => self.refused("refused", topic, *kid, publisher.as_deref(), reason),
            Event::Envelope(EnvelopeEvent::KeyRefused {
                topic,
                kid,
                publisher,
                reason,
            }) => self.refused("key-refused", topic, *kid, publisher.as_deref(), reason),
            Event::Envelope(EnvelopeEvent::Missing {
                topic,
                publisher,
                kid,
                first,
                count,
            }) => json::line(
                &mut self.out,
                &MissingLine {
                    r#type: "missing",
                    topic,
                    publisher: publisher.as_str(),
                    kid: kid.to_string(),
                    first: first.get(),
                    count: *count,
                },
            ),
            Event::Envelope(EnvelopeEvent::EpochAhead { epoch, held }) => json::line(
                &mut self.out,
                &EpochLine {
                    r#type: "epoch-ahead",
                    epoch: epoch.get(),
                    held: held.get(),
                },
            ),
            Event::Disconnected(loss) => json::line(
                &mut self.out,
                &ConnectionLine {
                    r#type: "connection",
                    state: "lost",
                    reason: Some(loss.reason()),
                },
            ),
            Event::Reconnected => json::line(
                &mut self.out,
                &ConnectionLine {
                    r#type: "connection",
                    state: "restored",
                    reason: None,
                },
            ),
            _ => Ok(()),
        }
    }

    fn refused(
        &mut self,
        kind: &'static str,
        topic: &str,
        kid: Option<KeyId>,
        publisher: Option<&DeviceId>,
        reason: &Refusal,
    ) -> io::Result<()> {
        json::line(
            &mut self.out,
            &RefusedLine {
                r#type: kind,
                topic,
                publisher: publisher.map(DeviceId::as_str),
                kid: kid.map(|kid| kid.to_string()),
                reason: reason.code(),
                detail: reason.to_string(),
            },
        )
    }

    pub(super) fn raw(&mut self, payload: &[u8]) -> io::Result<()> {
        self.out.write_all(payload)?;
        self.out.flush()
    }

    pub(super) fn summary(&mut self, account: &Account) -> io::Result<()> {
        json::line(
            &mut self.out,
            &SummaryLine {
                r#type: "summary",
                account,
            },
        )?;
        self.out.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
