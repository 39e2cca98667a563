//! What seals for all local clients: one sealer a publish rule, so that a client that comes, says one
//! word and goes costs no key frame of its own.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smqtt_envelope::{Announcement, Sealer};
use smqtt_format::sealing_epoch;
use smqtt_pki::UnixTime;
use smqtt_policy::Epoch;
use smqtt_proto::TopicName;
use tokio::sync::{mpsc, watch};

use super::rules::{Publishing, Rules};
use crate::command::Command;
use crate::credentials::Credentials;
use crate::ledger::Ledger;
use crate::publisher::{announce, announcement_topic};
use crate::{Client, Error, clock};

/// The sealers of all publish rules. Key frames are announced on the gateway's own connection.
pub(super) struct Seals {
    /// By the number of the rule; none for a rule that refuses.
    rules: Vec<Option<Mutex<RuleSealer>>>,
    commands: mpsc::Sender<Command>,
    frames: Arc<Ledger>,
    this: Weak<Self>,
}

struct RuleSealer {
    sealer: Sealer,
    /// What the gateway acts under, and what of it this sealer has.
    credentials: watch::Receiver<Arc<Credentials>>,
    current: Arc<Credentials>,
    /// Key frames that the broker has not acknowledged, by the topic of the messages.
    unacknowledged: HashMap<Box<str>, Announced>,
}

impl RuleSealer {
    /// Takes over a renewed identity, and goes on to the epoch whose time has come. Returns the topics of announcements that
    /// are over with that.
    fn follow(&mut self, now: UnixTime) -> Result<Vec<String>, Error> {
        let mut over = Vec::new();
        // Closed, it changes no more.
        if self.credentials.has_changed().unwrap_or(false) {
            let renewed = Arc::clone(&self.credentials.borrow_and_update());
            if renewed.has_other_certificate(&self.current) {
                over = self.sealer.set_signer(Arc::clone(&renewed.identity) as _);
            }
            if renewed.cast_doubt_on(&self.current) {
                over.extend(self.sealer.go_back_to(renewed.epoch_to_seal(now)));
            }
            self.current = renewed;
        }
        let due = sealing_epoch(&self.current.sealing, now.as_secs()).map(Epoch::new);
        if let Some(due) = due.filter(|due| *due > self.sealer.epoch()) {
            over.extend(self.sealer.set_epoch(due).map_err(Error::Seal)?);
        }
        Ok(over)
    }
}

/// Resolves when the broker has a key frame, or has refused it.
pub(super) type Announced = watch::Receiver<Option<Result<(), Arc<str>>>>;

/// A sealed payload.
pub(super) struct Sealed {
    pub(super) payload: Vec<u8>,
    /// What has to be acknowledged before it may go out.
    pub(super) frame: Option<Announced>,
}

impl Seals {
    pub(super) fn new(client: &Client, rules: &Rules) -> Result<Arc<Self>, Error> {
        let sealers = rules.publish.iter().map(|rule| match &rule.action {
            Publishing::Refuse => Ok(None),
            Publishing::Seal(sealing) => {
                let options = sealing.options();
                let mut credentials = client.follow_credentials();
                let current = Arc::clone(&credentials.borrow_and_update());
                Ok(Some(Mutex::new(RuleSealer {
                    sealer: client.sealer(options)?,
                    credentials,
                    current,
                    unacknowledged: HashMap::new(),
                })))
            }
        });
        let rules = sealers.collect::<Result<_, Error>>()?;
        Ok(Arc::new_cyclic(|this| Self {
            rules,
            commands: client.commands(),
            frames: Arc::default(),
            this: this.clone(),
        }))
    }

    /// Seals under the policy of rule number `rule`.
    pub(super) fn seal(
        &self,
        rule: usize,
        topic: &str,
        payload: &[u8],
        inline: bool,
    ) -> Result<Sealed, Error> {
        let Some(Some(state)) = self.rules.get(rule) else {
            return Err(Error::Option(format!("rule {rule} does not seal")));
        };
        let (now, rng) = (clock::now(), &mut rand::rng());
        let mut state = state.lock();
        for over in state.follow(now)? {
            self.retract(&over);
        }
        // The sealer's own delivery is announced.
        let sealed = if inline {
            state.sealer.seal_inline(topic, payload, now, rng)
        } else {
            state.sealer.seal(topic, payload, now, rng)
        };
        let sealed = sealed.map_err(Error::Seal)?;
        for over in sealed.clear {
            self.retract(&over);
        }
        let frame = match sealed.announce {
            Some(announcement) => Some(self.announce(&mut state, rule, topic, &announcement)?),
            None if inline => None,
            None => state.unacknowledged.get(topic).cloned(),
        };
        Ok(Sealed {
            payload: sealed.message,
            frame,
        })
    }

    fn announce(
        &self,
        state: &mut RuleSealer,
        rule: usize,
        topic: &str,
        announcement: &Announcement,
    ) -> Result<Announced, Error> {
        let publish = announce(announcement)?;
        let (done, announced) = watch::channel(None);
        state.unacknowledged.insert(topic.into(), announced.clone());
        let mut entry = self.frames.enter();
        let mut receipt = entry.receipt();
        let (commands, this) = (self.commands.clone(), self.this.clone());
        let topic: Box<str> = topic.into();
        tokio::spawn(async move {
            // If the connection has ended, the entry is dropped, and the receipt tells.
            let _ = commands.send(Command::Announce { publish, entry }).await;
            let outcome = receipt.wait().await;
            if let Some(seals) = this.upgrade() {
                seals.announced(rule, &topic, outcome.is_ok());
            }
            let outcome = outcome.map_err(|error| Arc::from(error.to_string()));
            done.send_replace(Some(outcome));
        });
        Ok(announced)
    }

    fn announced(&self, rule: usize, topic: &str, taken: bool) {
        let Some(Some(state)) = self.rules.get(rule) else {
            return;
        };
        let mut state = state.lock();
        state.unacknowledged.remove(topic);
        if !taken {
            // The sealer believes that the frame stands: let it make and announce another.
            for over in state.sealer.end() {
                self.retract(&over);
            }
        }
    }

    /// Clears an announcement, if the connection has room for that; else the frame expires by itself.
    fn retract(&self, over: &str) {
        let Ok(topic) = announcement_topic(over) else {
            return;
        };
        let entry = self.frames.enter();
        let _ = self.commands.try_send(Command::Retract { topic, entry });
    }

    /// Clears all announcements.
    pub(super) async fn end(&self) {
        let mut over = Vec::new();
        for state in self.rules.iter().flatten() {
            over.extend(state.lock().sealer.end());
        }
        for topic in over
            .iter()
            .filter_map(|topic| TopicName::new(topic.as_str()).ok())
        {
            let entry = self.frames.enter();
            let retract = Command::Retract { topic, entry };
            if self.commands.send(retract).await.is_err() {
                return;
            }
        }
    }
}
