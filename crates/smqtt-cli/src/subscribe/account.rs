//! What came, by kind: the numbers that `smqtt sub` ends with.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use smqtt_client::{EnvelopeEvent, Event};

/// Counts of what came since the subscription was made.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    read: u64,
    bytes: u64,
    /// Messages, by the reason's code, so that the order is the same every time.
    refused: BTreeMap<&'static str, u64>,
    /// Key frames, by the reason's code. Their messages are counted in `refused` as they come.
    keys_refused: BTreeMap<&'static str, u64>,
    missing: u64,
    /// Messages read that came behind a higher number; most had been counted as missing.
    late: u64,
    reconnects: u64,
}

impl Account {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Message(message) => {
                self.read += 1;
                self.bytes += message.payload.len() as u64;
                self.late += u64::from(message.late);
            }
            Event::Envelope(EnvelopeEvent::Refused { reason, .. }) => {
                *self.refused.entry(reason.code()).or_default() += 1;
            }
            Event::Envelope(EnvelopeEvent::KeyRefused { reason, .. }) => {
                *self.keys_refused.entry(reason.code()).or_default() += 1;
            }
            Event::Envelope(EnvelopeEvent::Missing { count, .. }) => {
                self.missing += u64::from(*count);
            }
            Event::Reconnected => self.reconnects += 1,
            _ => {}
        }
    }

    /// A payload was passed on unopened.
    pub(super) fn relayed(&mut self) {
        self.read += 1;
    }

    /// Messages read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }
}

/// `12 read; refused: not-authorised 3, replay 1; 2 missing; 1 late`
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read", self.read)?;
        for (index, (code, count)) in self.refused.iter().enumerate() {
            let lead = if index == 0 { "; refused: " } else { ", " };
            write!(f, "{lead}{code} {count}")?;
        }
        if self.missing > 0 {
            write!(f, "; {} missing", self.missing)?;
        }
        if self.late > 0 {
            write!(f, "; {} late", self.late)?;
        }
        match self.reconnects {
            0 => {}
            1 => f.write_str("; 1 reconnect")?,
            count => write!(f, "; {count} reconnects")?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_only_what_happened() {
        let mut account = Account::default();
        assert_eq!(account.to_string(), "0 read");
        account.read = 12;
        account.refused.insert("replay", 1);
        account.refused.insert("not-authorised", 3);
        account.missing = 2;
        account.late = 1;
        account.reconnects = 1;
        assert_eq!(
            account.to_string(),
            "12 read; refused: not-authorised 3, replay 1; 2 missing; 1 late; 1 reconnect"
        );
    }
}
