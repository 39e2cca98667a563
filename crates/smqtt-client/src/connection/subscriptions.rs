//! Which subscriber gets what, and what the broker has granted.

use std::sync::Arc;

use smqtt_format::announce;
use smqtt_proto::packet::{
    Publish, RetainHandling, SubscribeProperties, Subscription, SubscriptionOptions,
};
use smqtt_proto::{PacketId, QoS, ReasonCode, TopicFilter};
use tokio::sync::oneshot;

use crate::command::SubscribeCommand;
use crate::inbox::{Inbound, Inbox, Receipt};
use crate::{Error, Loss};

/// One subscriber's subscription.
struct Entry {
    /// The MQTT 5 subscription identifier, unique on this client.
    id: u32,
    announcements: Vec<TopicFilter>,
    filters: Vec<TopicFilter>,
    qos: QoS,
    inbox: Arc<Inbox>,
    /// SUBSCRIBEs whose SUBACK is not in.
    waiting: Vec<(PacketId, Part)>,
    /// Told when the first SUBACKs are in.
    done: Option<oneshot::Sender<Result<(), Error>>>,
    /// The first refusal of this round.
    refused: Option<Error>,
}

/// The half of a subscription that one SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Announcements,
    Messages,
}

/// All subscriptions of a client.
#[derive(Default)]
pub(crate) struct Subscriptions {
    entries: Vec<Entry>,
    last_id: u32,
}

/// A SUBSCRIBE to send.
pub(crate) struct Request {
    id: u32,
    part: Part,
    pub(crate) properties: SubscribeProperties,
    pub(crate) subscriptions: Vec<Subscription>,
}

impl Subscriptions {
    /// Enters a subscription; the result identifies it.
    pub(crate) fn add(&mut self, command: SubscribeCommand) -> u32 {
        self.last_id += 1;
        self.entries.push(Entry {
            id: self.last_id,
            announcements: command.announcements,
            filters: command.filters,
            qos: command.qos,
            inbox: command.inbox,
            waiting: Vec::new(),
            done: Some(command.done),
            refused: None,
        });
        self.last_id
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.entries.iter().map(|entry| entry.id).collect()
    }

    /// Those that wait for their first SUBACKs.
    pub(crate) fn unsettled(&self) -> Vec<u32> {
        let unsettled = self.entries.iter().filter(|entry| entry.done.is_some());
        unsettled.map(|entry| entry.id).collect()
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.inbox.is_kept() && entry.inbox.is_abandoned())
    }

    /// The SUBSCRIBEs for a subscription: the key frames' first, so that they are on their way before
    /// the messages that need them. `with_id`: whether the broker takes subscription identifiers.
    pub(crate) fn requests(&self, id: u32, with_id: bool) -> Vec<Request> {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else {
            return Vec::new();
        };
        let request = |part, filters: &[TopicFilter], qos| Request {
            id,
            part,
            properties: SubscribeProperties {
                subscription_id: with_id.then_some(id),
                ..SubscribeProperties::default()
            },
            subscriptions: filters
                .iter()
                .map(|filter| Subscription {
                    filter: filter.clone(),
                    options: SubscriptionOptions {
                        // What is retained was delivered when the session began.
                        retain_handling: match part {
                            Part::Messages if entry.inbox.is_kept() => RetainHandling::SendIfNew,
                            Part::Messages | Part::Announcements => RetainHandling::Send,
                        },
                        ..SubscriptionOptions::new(qos)
                    },
                })
                .collect(),
        };
        [
            request(Part::Announcements, &entry.announcements, QoS::AtLeastOnce),
            request(Part::Messages, &entry.filters, entry.qos),
        ]
        .into_iter()
        .filter(|request| !request.subscriptions.is_empty())
        .collect()
    }

    /// The SUBSCRIBE for a subscription's key frames alone, to have what is retained sent again; not while there is another.
    pub(crate) fn frames(&self, id: u32, with_id: bool) -> Vec<Request> {
        let mut requests = self.requests(id, with_id);
        requests.retain(|request| request.part == Part::Announcements);
        requests
    }

    /// The subscription with this inbox.
    pub(crate) fn of(&self, inbox: &Arc<Inbox>) -> Option<u32> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| Arc::ptr_eq(&entry.inbox, inbox))
            .map(|entry| entry.id)
    }

    /// Notes under which identifier a request went out.
    pub(crate) fn sent(&mut self, request: &Request, packet_id: PacketId) {
        if let Some(entry) = self.entry(request.id) {
            entry.waiting.push((packet_id, request.part));
        }
    }

    /// A request could not be sent: the broker does not take it.
    pub(crate) fn unsendable(&mut self, request: &Request, reason: String) {
        if let Some(entry) = self.entry(request.id) {
            let filter = request
                .subscriptions
                .first()
                .map_or_else(String::new, |s| s.filter.as_str().to_owned());
            entry
                .refused
                .get_or_insert(Error::SubscriptionRefused { filter, reason });
            entry.settle();
        }
    }

    /// A SUBACK came. Returns the filters to be unsubscribed, if the subscription is given up.
    pub(crate) fn granted(
        &mut self,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        reason_string: Option<&str>,
        receipts: &mut Vec<Receipt>,
    ) -> Vec<TopicFilter> {
        let found = self.entries.iter_mut().find_map(|entry| {
            let index = entry.waiting.iter().position(|(id, _)| *id == packet_id)?;
            Some((entry, index))
        });
        let Some((entry, index)) = found else {
            return Vec::new();
        };
        let (_, part) = entry.waiting.swap_remove(index);
        let filters = match part {
            Part::Announcements => &entry.announcements,
            Part::Messages => &entry.filters,
        };
        let refused = filters.iter().zip(reasons).find(|(_, r)| r.is_error());
        if let Some((filter, reason)) = refused {
            let text = reason_string.map_or_else(String::new, |text| format!(": {text}"));
            entry.refused.get_or_insert(Error::SubscriptionRefused {
                filter: filter.as_str().to_owned(),
                reason: format!("{reason}{text}"),
            });
        }
        entry.settle();
        self.sweep(receipts)
    }

    /// Hands a message to whom it is for. Returns what is owed to the broker at once: the receipt, if
    /// nobody has asked for the message.
    pub(crate) fn deliver(
        &self,
        mut publish: Publish,
        receipt: Option<Receipt>,
    ) -> Option<Receipt> {
        let properties = &mut publish.properties;
        let ids = if properties.subscription_ids.is_empty() {
            smqtt_proto::packet::SubscriptionIds::new()
        } else {
            std::mem::take(&mut properties.subscription_ids)
        };
        let mut chosen = self.entries.iter().filter(|entry| {
            if ids.is_empty() {
                entry.selects(&publish)
            } else {
                ids.contains(&entry.id)
            }
        });
        let Some(first) = chosen.next() else {
            return receipt;
        };
        for further in chosen {
            further.inbox.push(Inbound::Publish(publish.clone(), None));
        }
        // Acknowledgements leave in the order of the messages: one for a key frame that waits for its subscriber would keep
        // back those of all other subscribers. The broker has the frame for whoever asks again. A kept session's messages are
        // settled together with their frames.
        if first.is_announcement(&publish) && !first.inbox.is_kept() {
            first.inbox.push(Inbound::Publish(publish, None));
            return receipt;
        }
        // One subscriber's receipt is enough for the broker.
        first.inbox.push(Inbound::Publish(publish, receipt));
        None
    }

    /// Tells every subscriber.
    pub(crate) fn tell(&self, news: impl Fn() -> Inbound) {
        for entry in &self.entries {
            entry.inbox.push(news());
        }
    }

    /// The connection is over: SUBACKs of it will not come any more.
    pub(crate) fn forget_requests(&mut self) {
        for entry in &mut self.entries {
            entry.waiting.clear();
            entry.refused = None;
        }
    }

    /// Nothing will follow, for anybody.
    pub(crate) fn end(&mut self, loss: &Loss) {
        for mut entry in self.entries.drain(..) {
            if let Some(done) = entry.done.take() {
                let _ = done.send(Err(Error::ConnectionLost(loss.clone())));
            }
            entry.inbox.push(Inbound::Ended(loss.clone()));
        }
    }

    /// Whether a subscriber has so much waiting that nothing more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.iter().any(|entry| entry.inbox.is_full())
    }

    /// Moves the receipts of what subscribers have taken to `into`.
    pub(crate) fn receipts(&self, into: &mut Vec<Receipt>) {
        for entry in &self.entries {
            entry.inbox.receipts(into);
        }
    }

    /// Removes subscriptions whose subscriber has gone or that were refused. Returns the filters that
    /// nobody else needs.
    pub(crate) fn sweep(&mut self, receipts: &mut Vec<Receipt>) -> Vec<TopicFilter> {
        if !self.entries.iter().any(Entry::is_over) {
            return Vec::new();
        }
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(Entry::is_over);
        self.entries = kept;
        for entry in &gone {
            // A refused subscriber may still be there; it gets nothing any more.
            entry.inbox.abandon();
            entry.inbox.receipts(receipts);
        }
        let mut filters: Vec<TopicFilter> = gone
            .into_iter()
            .flat_map(|entry| entry.announcements.into_iter().chain(entry.filters))
            .collect();
        filters.retain(|filter| {
            !self.entries.iter().any(|entry| {
                let mut wanted = entry.announcements.iter().chain(&entry.filters);
                wanted.any(|other| other.as_str() == filter.as_str())
            })
        });
        filters
    }

    fn entry(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }
}

impl Entry {
    fn is_over(&self) -> bool {
        let gone = self.inbox.is_abandoned() && !self.inbox.is_kept();
        self.refused.is_some() || gone
    }

    /// Whether it is a key frame, come for this subscription's messages.
    fn is_announcement(&self, publish: &Publish) -> bool {
        let topic = &publish.topic;
        announce::parse(topic.as_str()).is_some()
            && self
                .announcements
                .iter()
                .any(|filter| filter.matches(topic))
    }

    fn selects(&self, publish: &Publish) -> bool {
        self.announcements
            .iter()
            .chain(&self.filters)
            .any(|filter| filter.matches(&publish.topic))
    }

    /// Tells whoever waits, once every SUBACK is in or one filter was refused.
    fn settle(&mut self) {
        if let Some(refused) = &self.refused {
            let (Error::SubscriptionRefused { filter, reason }
            | Error::Topic {
                topic: filter,
                reason,
            }) = refused
            else {
                return;
            };
            match self.done.take() {
                Some(done) => {
                    let _ = done.send(Err(Error::SubscriptionRefused {
                        filter: filter.clone(),
                        reason: reason.clone(),
                    }));
                }
                // It was granted on an earlier connection.
                None => self.inbox.push(Inbound::Ended(Loss::refused(refused))),
            }
        } else if self.waiting.is_empty()
            && let Some(done) = self.done.take()
        {
            let _ = done.send(Ok(()));
        }
    }
}
