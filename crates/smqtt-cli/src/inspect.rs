//! `smqtt inspect`: explain a captured payload without any key.
//!
//! What it shows is what a broker can see, and nothing of it is verified: that takes the authority's
//! root, and `smqtt sub`.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use smqtt_format::{Access, Envelope, KeyFrame, SealedMessage};
use smqtt_policy::AttributeSet;

use crate::console::printable;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json;

const EXAMPLES: &str = "\
Examples:
  # what the broker sees of one message
  smqtt sub -i keys/anna -t plant/7/temperature --raw -C 1 | smqtt inspect

  # with mosquitto's client
  mosquitto_sub -h broker -t plant/7/temperature -C 1 -N | smqtt inspect --json";

/// The longest payload that MQTT can carry, in bytes.
const MAX_PAYLOAD: u64 = 268_435_455;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The file that holds the payload; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    /// `key-frame`, `sealed` or `inline`.
    kind: &'static str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<Frame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

#[derive(Debug, Serialize)]
struct Frame {
    kid: String,
    bytes: usize,
    suite: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    epoch: u64,
    topic: String,
    created: String,
    expires: String,
    /// The device that the signer's certificate names.
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
    certificates: usize,
    abe_ciphertext_bytes: usize,
    each_signed: bool,
    padded: bool,
}

/// The signer's own certificate, as it stands in the frame.
#[derive(Debug, Serialize)]
struct Certificate {
    fingerprint: String,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

#[derive(Debug, Serialize)]
struct Message {
    kid: String,
    bytes: usize,
    sequence: u32,
    payload_bytes: usize,
    overhead_bytes: usize,
    signed: bool,
}

pub(crate) fn run(options: &Options) -> Result<Exit, Failure> {
    let payload = read(&options.file)?;
    let report = Report::new(&payload).map_err(|error| match error {
        smqtt_format::Error::NotAnEnvelope => Failure::input(format!(
            "these {} bytes are not an SMQTT payload: it would begin with d0 83 or d2 84; is it plaintext, or were bytes cut off in front?",
            payload.len()
        )),
        error => Failure::input(format!("this is not a valid SMQTT payload: {error}")),
    })?;
    let mut out = std::io::stdout().lock();
    let written = if options.json {
        json::line(&mut out, &report)
    } else {
        out.write_all(report.text().as_bytes())
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::unexpected(format!("cannot write: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_PAYLOAD)
            .read_to_end(&mut payload)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_PAYLOAD).read_to_end(&mut payload))
    };
    read.map_err(|error| Failure::file(path, &error))?;
    Ok(payload)
}

impl Report {
    fn new(payload: &[u8]) -> Result<Self, smqtt_format::Error> {
        let (kind, frame, message) = match Envelope::parse(payload)? {
            Envelope::KeyFrame(frame) => ("key-frame", Some(frame), None),
            Envelope::Sealed(message) => ("sealed", None, Some(message)),
            Envelope::Inline { frame, sealed } => ("inline", Some(frame), Some(sealed)),
        };
        let frame_bytes = frame.as_ref().map_or(0, |frame| frame.as_bytes().len());
        Ok(Self {
            kind,
            bytes: payload.len(),
            frame: frame.as_ref().map(Frame::new),
            message: message.map(|message| Message::new(&message, payload.len() - frame_bytes)),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<16} {value}");
        };
        let kind = match self.kind {
            "key-frame" => "key frame (announcement)",
            "inline" => "key frame and sealed message",
            _ => "sealed message (its key frame is announced)",
        };
        row("kind", &kind);
        row("size", &format_args!("{} bytes", self.bytes));
        if let Some(frame) = &self.frame {
            row("key id", &frame.kid);
            row("key frame", &format_args!("{} bytes", frame.bytes));
            row("suite", &frame.suite);
            if let Some(policy) = &frame.policy {
                row("policy", &printable(policy));
            }
            if let Some(tags) = &frame.tags {
                row("tags", &printable(tags));
            }
            row("epoch", &frame.epoch);
            row("topic", &printable(&frame.topic));
            row("created", &frame.created);
            row("expires", &frame.expires);
            let publisher = frame.publisher.as_deref().map(printable);
            row(
                "publisher",
                &publisher.as_deref().unwrap_or("the certificate names none"),
            );
            if let Some(certificate) = &frame.certificate {
                row("certificate", &certificate.fingerprint);
                if let (Some(from), Some(until)) = (&certificate.not_before, &certificate.not_after)
                {
                    row("valid", &format_args!("{from} to {until}"));
                }
            }
            if frame.certificates > 1 {
                row(
                    "certificates",
                    &format_args!("{} in the chain", frame.certificates),
                );
            }
            row(
                "abe ciphertext",
                &format_args!("{} bytes", frame.abe_ciphertext_bytes),
            );
            let rules = match (frame.each_signed, frame.padded) {
                (true, true) => Some("each is signed and padded"),
                (true, false) => Some("each is signed"),
                (false, true) => Some("each is padded"),
                (false, false) => None,
            };
            if let Some(rules) = rules {
                row("messages", &rules);
            }
        }
        if let Some(message) = &self.message {
            if self.frame.is_none() {
                row("key id", &message.kid);
            }
            row("sequence", &message.sequence);
            row(
                "payload",
                &format_args!("{} bytes, encrypted", message.payload_bytes),
            );
            row(
                "overhead",
                &format_args!("{} bytes", message.overhead_bytes),
            );
            if message.signed {
                row("signature", &"of this message, not verified");
            }
        }
        row(
            "verified",
            &"nothing, the certificate included: no key was used",
        );
        text
    }
}

impl Frame {
    fn new(frame: &KeyFrame<'_>) -> Self {
        let content = frame.content();
        let (policy, tags) = match content.access {
            Access::Policy(text) => (Some(text.to_owned()), None),
            Access::Attributes(encoded) => {
                let text = AttributeSet::decode(encoded).map_or_else(
                    |error| format!("not readable: {error}"),
                    |set| set.without_topic().without_epoch().to_string(),
                );
                (None, Some(text))
            }
        };
        Self {
            kid: frame.kid().to_string(),
            bytes: frame.as_bytes().len(),
            suite: content.suite,
            policy,
            tags,
            epoch: content.epoch,
            topic: content.topic.to_owned(),
            created: time(content.created),
            expires: time(content.ends()),
            publisher: frame
                .certificates()
                .first()
                .and_then(|own| smqtt_pki::named_device(own).ok())
                .map(|device| device.to_string()),
            certificate: frame
                .certificates()
                .first()
                .map(|own| Certificate::new(own)),
            certificates: frame.certificates().len(),
            abe_ciphertext_bytes: content.ciphertext.len(),
            each_signed: content.rules.signed,
            padded: content.rules.padded,
        }
    }
}

impl Certificate {
    fn new(der: &[u8]) -> Self {
        let validity = smqtt_pki::certificate_validity(Some(&der.into())).ok();
        Self {
            fingerprint: smqtt_pki::Fingerprint::of(der).to_string(),
            bytes: der.len(),
            not_before: validity.map(|validity| time(validity.not_before().as_secs())),
            not_after: validity.map(|validity| time(validity.not_after().as_secs())),
        }
    }
}

impl Message {
    fn new(message: &SealedMessage<'_>, bytes: usize) -> Self {
        Self {
            kid: message.kid().to_string(),
            bytes,
            sequence: message.sequence().get(),
            payload_bytes: message.payload_len(),
            overhead_bytes: bytes - message.payload_len(),
            signed: message.signature().is_some(),
        }
    }
}

/// RFC 3339 in UTC, or the number where no calendar reaches.
fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || format!("{seconds} s after 1970"),
            |time| time.to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use smqtt_format::{KeyId, Sequence};

    #[test]
    fn a_sealed_message_shows_its_sizes_and_nothing_of_its_payload() {
        let mut payload = Vec::new();
        let kid = KeyId([1, 2, 3, 4, 5, 6, 7, 8]);
        SealedMessage::write_head(&mut payload, &kid, Sequence::FIRST, 5);
        payload.extend_from_slice(&[0xaa; 5 + SealedMessage::TAG_LEN]);
        let report = Report::new(&payload).unwrap();
        let text = report.text();
        assert!(
            text.contains("key id           0102030405060708\n"),
            "{text}"
        );
        assert!(
            text.contains("payload          5 bytes, encrypted\n"),
            "{text}"
        );
        assert!(text.contains("overhead         37 bytes\n"), "{text}");
    }

    #[test]
    fn times_out_of_any_calendar_are_shown_as_numbers() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 s after 1970");
    }
}
