//! What goes to stderr while messages come: one line each, and never a flood.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use smqtt_client::{EnvelopeEvent, Event, KeyId, Refusal};
use smqtt_format::announce;
use smqtt_pki::DeviceId;
use smqtt_policy::AttributeSet;

use crate::console::{self, Throttle, printable};

/// Key frames whose refusal was told in full. A publisher makes a few a day; the bound is for one
/// that does not.
const MAX_TOLD: usize = 4_096;

/// Tells the reader what happens beside messages.
pub(super) struct Notices {
    quiet: bool,
    /// The device's attributes in words.
    held: String,
    /// Its key policy, if it has one.
    key_policy: Option<String>,
    told: HashSet<KeyId>,
    throttles: HashMap<&'static str, Throttle>,
}

impl Notices {
    pub(super) fn new(quiet: bool, held: &AttributeSet, key_policy: Option<&str>) -> Self {
        let mut notices = Self {
            quiet,
            held: String::new(),
            key_policy: None,
            told: HashSet::new(),
            throttles: HashMap::new(),
        };
        notices.holds(held, key_policy);
        notices
    }

    /// What the device has from now on: what it could not read before is told anew.
    pub(super) fn holds(&mut self, held: &AttributeSet, key_policy: Option<&str>) {
        self.held = if held.is_empty() {
            "none".to_owned()
        } else {
            held.to_string()
        };
        self.key_policy = key_policy.map(str::to_owned);
        self.told.clear();
    }

    pub(super) fn note(&mut self, event: &Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Envelope(EnvelopeEvent::Refused {
                topic,
                kid,
                publisher,
                reason,
                ..
            }) => {
                self.refused(topic, *kid, publisher.as_deref(), reason);
            }
            // What is refused for a key frame of its own kind; its messages follow, if there are any.
            Event::Envelope(EnvelopeEvent::KeyRefused {
                topic,
                kid,
                publisher,
                reason,
            }) => {
                let topic = announce::parse(topic).map_or(&**topic, |(topic, _)| topic);
                self.refused(topic, *kid, publisher.as_deref(), reason);
            }
            Event::Envelope(EnvelopeEvent::Missing {
                topic,
                publisher,
                count,
                ..
            }) => {
                let noun = if *count == 1 { "message" } else { "messages" };
                let notice = format!(
                    "missing: {count} {noun} from {publisher} on {}",
                    printable(topic)
                );
                self.show("missing", &notice);
            }
            Event::Envelope(EnvelopeEvent::EpochAhead { epoch, held }) => {
                let notice = format!(
                    "messages are sealed for epoch {epoch}, this device is at epoch {held}: it has to renew"
                );
                self.show("epoch-ahead", &notice);
            }
            Event::Disconnected(loss) => {
                let notice = format!(
                    "connection lost: {}; trying to get it back",
                    printable(loss.reason())
                );
                self.show("connection", &notice);
            }
            Event::Reconnected => self.show("connection", "connection restored"),
            _ => {}
        }
    }

    /// Tells of something that is no event.
    pub(super) fn say(&mut self, kind: &'static str, text: &str) {
        if !self.quiet {
            self.show(kind, text);
        }
    }

    fn refused(
        &mut self,
        topic: &str,
        kid: Option<KeyId>,
        publisher: Option<&DeviceId>,
        reason: &Refusal,
    ) {
        let notice = if let Refusal::NotAuthorised { policy } = reason {
            if !self.first_of(kid) {
                return;
            }
            format!(
                "not authorised: {} needs {}, this device has {}",
                printable(topic),
                printable(policy),
                self.held
            )
        } else if let Refusal::NoKeyPolicy { tags } | Refusal::OutsideKeyPolicy { tags } = reason {
            if !self.first_of(kid) {
                return;
            }
            let has = self.key_policy.as_ref();
            format!(
                "not authorised: {} is tagged {}, this device has {}",
                printable(topic),
                printable(tags),
                has.map_or_else(
                    || "no key policy".to_owned(),
                    |policy| format!("the key policy {policy}")
                )
            )
        } else {
            let publisher =
                publisher.map_or_else(String::new, |publisher| format!(" from {publisher}"));
            format!(
                "refused: {}{publisher}: {}",
                printable(topic),
                printable(&reason.to_string())
            )
        };
        self.show(reason.code(), &notice);
    }

    /// Whether this key frame was not told of yet. What has no key frame is told of every time.
    fn first_of(&mut self, kid: Option<KeyId>) -> bool {
        let Some(kid) = kid else { return true };
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(kid)
    }

    fn show(&mut self, kind: &'static str, notice: &str) {
        let throttle = self.throttles.entry(kind).or_default();
        match throttle.admit(Instant::now()) {
            None => {}
            Some(0) => console::notice(notice),
            Some(held_back) => console::notice(&format!("{notice} (and {held_back} more like it)")),
        }
    }
}
