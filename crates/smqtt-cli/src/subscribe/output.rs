//! What goes to stdout: payloads, or JSON lines.

use std::io::{self, BufWriter, Stdout, Write};

use jiff::Timestamp;
use serde::Serialize;
use smqtt_client::{EnvelopeEvent, Event, KeyId, Received, Refusal};
use smqtt_pki::DeviceId;

use super::Options;
use super::account::Account;
use super::files::Files;
use super::format::Format;
use super::record::Record;
use crate::failure::{Failure, without_number};
use crate::json;

/// Bytes that are written at a time while messages keep coming.
const BUFFER: usize = 64 * 1024;

enum Form {
    Payload,
    TopicAndPayload,
    Format(Format),
    Json,
}

/// Buffered standard output. Whoever waits for messages flushes it first.
pub(super) struct Output {
    out: BufWriter<Stdout>,
    form: Form,
    /// What ends each message.
    end: &'static [u8],
    /// Where payloads go instead.
    files: Option<Files>,
}

#[derive(Serialize)]
struct MessageLine<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    record: Record<'a>,
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

/// What could not be written.
pub(super) enum Broken {
    Output(io::Error),
    File(io::Error),
}

impl Output {
    /// # Errors
    ///
    /// Why the directory for files cannot be made.
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let files = options.out_dir.as_ref().map(|directory| {
            Files::new(directory, options.session.is_some()).map_err(|error| {
                Failure::input(format!(
                    "cannot make the directory {}: {}",
                    directory.display(),
                    without_number(&error)
                ))
            })
        });
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER, io::stdout()),
            form: match &options.format {
                _ if options.json => Form::Json,
                Some(format) => Form::Format(format.clone()),
                None if options.verbose => Form::TopicAndPayload,
                None => Form::Payload,
            },
            end: if options.no_newline { b"" } else { b"\n" },
            files: files.transpose()?,
        })
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<(), Broken> {
        match event {
            Event::Message(message) => {
                let file = match &mut self.files {
                    Some(files) => Some(files.write(message).map_err(Broken::File)?),
                    None => None,
                };
                self.message(message, file.as_deref())
                    .map_err(Broken::Output)
            }
            event if matches!(self.form, Form::Json) => self.line(event).map_err(Broken::Output),
            _ => Ok(()),
        }
    }

    fn message(&mut self, message: &Received, file: Option<&str>) -> io::Result<()> {
        let now = Timestamp::now();
        match &self.form {
            Form::Json => {
                let record = Record::new(message, now);
                let line = MessageLine {
                    r#type: "message",
                    record: match file {
                        Some(file) => record.in_file(file),
                        None => record,
                    },
                };
                return json::line(&mut self.out, &line);
            }
            Form::Format(format) => format.write(&mut self.out, message, now)?,
            Form::Payload | Form::TopicAndPayload => {
                if let Form::TopicAndPayload = self.form {
                    self.out.write_all(message.topic.as_bytes())?;
                    self.out.write_all(b" ")?;
                }
                match file {
                    Some(file) => self.out.write_all(file.as_bytes())?,
                    None => self.out.write_all(&message.payload)?,
                }
            }
        }
        self.out.write_all(self.end)
    }

    fn line(&mut self, event: &Event) -> io::Result<()> {
        match event {
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

    /// The files of a kept session are on the disk: their messages may be acknowledged.
    pub(super) fn sync_files(&mut self) -> io::Result<()> {
        self.files.as_mut().map_or(Ok(()), Files::sync)
    }
}
