//! What a local client subscribes to, and what the broker says to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use smqtt_proto::packet::{
    SubAck, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions, UnsubAck,
    Unsubscribe, UnsubscribeProperties,
};
use smqtt_proto::{PacketId, QoS, ReasonCode, TopicFilter, client};

use super::rules::Rules;
use crate::topics::{announcements, subscribable};

/// Subscriptions of one local client.
const MAX_SUBSCRIPTIONS: usize = 1024;
/// SUBSCRIBEs and UNSUBSCRIBEs of a local client that wait for the broker.
const MAX_WAITING: usize = 64;

/// A subscription that the broker has granted.
#[derive(Clone)]
struct Granted {
    subscription: Subscription,
    id: Option<u32>,
}

/// One SUBSCRIBE or UNSUBSCRIBE on its way to the broker.
struct Request {
    /// Whom to answer: the identifier and the local connection. Nobody for what the gateway asks for itself.
    asker: Option<(PacketId, u64)>,
    what: What,
    /// What the broker has not answered: the identifier, and whether it is about key frames.
    unanswered: Vec<(PacketId, bool)>,
    sent: bool,
}

enum What {
    Subscribe {
        /// In the order of the SUBSCRIBE.
        wanted: Vec<Wanted>,
        id: Option<u32>,
    },
    /// Key frames for everything that the rules allow.
    AllKeyFrames(Vec<TopicFilter>),
    Unsubscribe {
        filters: Vec<TopicFilter>,
        reasons: Vec<ReasonCode>,
    },
}

struct Wanted {
    subscription: Subscription,
    /// Why the broker is not asked.
    refused: Option<ReasonCode>,
    /// What the broker said about its key frames, and about its messages.
    frames: Option<ReasonCode>,
    messages: Option<ReasonCode>,
}

impl Wanted {
    fn new(subscription: Subscription, refused: Option<ReasonCode>) -> Self {
        Self {
            subscription,
            refused,
            frames: None,
            messages: None,
        }
    }

    /// What the local client is told. Without its key frames a subscription is of no use.
    fn verdict(&self) -> ReasonCode {
        let frames = self.frames.filter(|reason| reason.is_error());
        let told = self.refused.or(frames).or(self.messages);
        told.unwrap_or(ReasonCode::UnspecifiedError)
    }
}

/// What to tell the local client.
pub(super) enum Answer {
    SubAck(SubAck),
    UnsubAck(UnsubAck),
}

/// The subscriptions of one local client.
#[derive(Default)]
pub(super) struct Requests {
    granted: BTreeMap<String, Granted>,
    requests: VecDeque<Request>,
    /// The broker has subscriptions of this client that the gateway does not know of.
    pub(super) unknown: bool,
}

impl Requests {
    /// Takes a SUBSCRIBE. False if too many wait.
    pub(super) fn subscribe(
        &mut self,
        rules: &Rules,
        subscribe: Subscribe,
        connection: u64,
    ) -> bool {
        if self.requests.len() >= MAX_WAITING {
            return false;
        }
        let room = MAX_SUBSCRIPTIONS.saturating_sub(self.granted.len());
        let wanted = subscribe.subscriptions.into_iter().enumerate();
        let wanted = wanted.map(|(number, mut subscription)| {
            subscription.filter = subscription.filter.detach();
            let filter = &subscription.filter;
            let refusal = if subscribable(filter.as_str()).is_err() {
                Some(ReasonCode::TopicFilterInvalid)
            } else if !rules.may_subscribe(filter) {
                Some(ReasonCode::NotAuthorized)
            } else if number >= room {
                Some(ReasonCode::QuotaExceeded)
            } else {
                None
            };
            Wanted::new(subscription, refusal)
        });
        self.requests.push_back(Request {
            asker: Some((subscribe.packet_id, connection)),
            what: What::Subscribe {
                wanted: wanted.collect(),
                id: subscribe.properties.subscription_id,
            },
            unanswered: Vec::new(),
            sent: false,
        });
        true
    }

    /// Takes an UNSUBSCRIBE. False if too many wait.
    pub(super) fn unsubscribe(&mut self, unsubscribe: Unsubscribe, connection: u64) -> bool {
        if self.requests.len() >= MAX_WAITING {
            return false;
        }
        let filters = unsubscribe.filters.iter().map(TopicFilter::detach);
        self.requests.push_back(Request {
            asker: Some((unsubscribe.packet_id, connection)),
            what: What::Unsubscribe {
                filters: filters.collect(),
                reasons: Vec::new(),
            },
            unanswered: Vec::new(),
            sent: false,
        });
        true
    }

    /// Asks for key frames of all that the rules allow: the broker has subscriptions from before this
    /// program's time, and frames that it announced then.
    pub(super) fn ask_for_all_key_frames(&mut self, rules: &Rules) {
        let filters = rules.subscribable().filter_map(|f| announcements(f).ok());
        self.ask_for_key_frames(filters.collect());
    }

    /// Asks once more for the key frames of what is granted: what was refused before may be for this device now.
    pub(super) fn ask_again_for_key_frames(&mut self) {
        let granted = self.granted.values();
        let filters: Vec<_> = granted
            .filter_map(|granted| announcements(&granted.subscription.filter).ok())
            .collect();
        if !filters.is_empty() {
            self.ask_for_key_frames(filters);
        }
    }

    fn ask_for_key_frames(&mut self, filters: Vec<TopicFilter>) {
        self.requests.push_front(Request {
            asker: None,
            what: What::AllKeyFrames(filters),
            unanswered: Vec::new(),
            sent: false,
        });
    }

    /// A new connection to the broker, which has kept its session or not: what it owes will not come.
    pub(super) fn reconnected(&mut self, session_present: bool) {
        for request in &mut self.requests {
            request.unanswered.clear();
            request.sent = false;
        }
        if session_present {
            return;
        }
        // One request for each identifier; each is what the client asked for.
        let mut by_id: BTreeMap<Option<u32>, Vec<_>> = BTreeMap::new();
        for granted in self.granted.values() {
            let wanted = by_id.entry(granted.id).or_default();
            wanted.push(Wanted::new(granted.subscription.clone(), None));
        }
        for (id, wanted) in by_id {
            self.requests.push_front(Request {
                asker: None,
                what: What::Subscribe { wanted, id },
                unanswered: Vec::new(),
                sent: false,
            });
        }
    }

    /// The local client has gone: nobody waits for answers.
    pub(super) fn forget_requests(&mut self) {
        self.requests.clear();
    }

    /// Sends what waits; answers that the broker need not be asked for go to `answers`.
    pub(super) fn pump(&mut self, mqtt: &mut client::Connection, answers: &mut Vec<(Answer, u64)>) {
        for index in 0..self.requests.len() {
            if !self.requests[index].sent {
                self.send(index, mqtt);
            }
        }
        self.finish(answers);
    }

    fn send(&mut self, index: usize, mqtt: &mut client::Connection) {
        let now = Instant::now();
        let frames = match &self.requests[index].what {
            What::Unsubscribe { filters, .. } => self.unneeded(filters),
            _ => Vec::new(),
        };
        let request = &mut self.requests[index];
        request.sent = true;
        match &mut request.what {
            What::AllKeyFrames(filters) => {
                let subscriptions = filters.iter().cloned().map(key_frames).collect();
                let sent = mqtt.subscribe(now, subscriptions, SubscribeProperties::default());
                request.unanswered.extend(sent.ok().map(|id| (id, true)));
            }
            What::Subscribe { wanted, id } => {
                let allowed = || wanted.iter().filter(|wanted| wanted.refused.is_none());
                if allowed().next().is_none() {
                    return;
                }
                let frames = allowed()
                    .filter_map(|wanted| announcements(&wanted.subscription.filter).ok())
                    .map(key_frames)
                    .collect();
                let messages = allowed().map(|wanted| wanted.subscription.clone());
                let messages = messages.collect();
                let properties = SubscribeProperties {
                    subscription_id: id.filter(|_| mqtt.version().is_v5()),
                    ..SubscribeProperties::default()
                };
                // The key frames' first, so that they are on their way before the messages that need them.
                let sent = mqtt
                    .subscribe(now, frames, SubscribeProperties::default())
                    .and_then(|frames| Ok((frames, mqtt.subscribe(now, messages, properties)?)));
                match sent {
                    Ok((frames, messages)) => {
                        request.unanswered = vec![(frames, true), (messages, false)];
                    }
                    Err(_) => {
                        for wanted in wanted {
                            wanted.refused.get_or_insert(ReasonCode::PacketTooLarge);
                        }
                    }
                }
            }
            What::Unsubscribe { filters, reasons } => {
                let count = filters.len();
                let all = filters.iter().cloned().chain(frames).collect();
                match mqtt.unsubscribe(now, all, UnsubscribeProperties::default()) {
                    Ok(id) => request.unanswered = vec![(id, false)],
                    Err(_) => *reasons = vec![ReasonCode::PacketTooLarge; count],
                }
            }
        }
    }

    /// The filters of key frames that nobody needs once `filters` are gone.
    fn unneeded(&self, filters: &[TopicFilter]) -> Vec<TopicFilter> {
        let going = |text: &str| filters.iter().any(|filter| filter.as_str() == text);
        let needed: Vec<String> = self
            .granted
            .iter()
            .filter(|(text, _)| !going(text))
            .filter_map(|(_, granted)| announcements(&granted.subscription.filter).ok())
            .map(|filter| filter.as_str().to_owned())
            .collect();
        filters
            .iter()
            .filter(|filter| self.granted.contains_key(filter.as_str()))
            .filter_map(|filter| announcements(filter).ok())
            .filter(|filter| !needed.iter().any(|needed| needed == filter.as_str()))
            .collect()
    }

    /// The broker has answered a SUBSCRIBE.
    pub(super) fn suback(&mut self, suback: &SubAck, answers: &mut Vec<(Answer, u64)>) {
        if let Some((request, about_frames)) = self.answered(suback.packet_id)
            && let What::Subscribe { wanted, .. } = &mut request.what
        {
            let asked = wanted.iter_mut().filter(|wanted| wanted.refused.is_none());
            for (wanted, reason) in asked.zip(&suback.reasons) {
                let told = if about_frames {
                    &mut wanted.frames
                } else {
                    &mut wanted.messages
                };
                *told = Some(*reason);
            }
        }
        self.finish(answers);
    }

    /// The broker has answered an UNSUBSCRIBE.
    pub(super) fn unsuback(&mut self, unsuback: &UnsubAck, answers: &mut Vec<(Answer, u64)>) {
        if let Some((request, _)) = self.answered(unsuback.packet_id)
            && let What::Unsubscribe { filters, reasons } = &mut request.what
        {
            let told = unsuback.reasons.iter().copied();
            // MQTT 3.1.1 has no reasons.
            *reasons = told
                .chain(std::iter::repeat(ReasonCode::Success))
                .take(filters.len())
                .collect();
        }
        self.finish(answers);
    }

    fn answered(&mut self, packet_id: PacketId) -> Option<(&mut Request, bool)> {
        self.requests.iter_mut().find_map(|request| {
            let index = request
                .unanswered
                .iter()
                .position(|(id, _)| *id == packet_id)?;
            let (_, about_frames) = request.unanswered.swap_remove(index);
            Some((request, about_frames))
        })
    }

    /// Takes out what is answered whole.
    fn finish(&mut self, answers: &mut Vec<(Answer, u64)>) {
        let (over, open) = std::mem::take(&mut self.requests)
            .into_iter()
            .partition(|request| request.sent && request.unanswered.is_empty());
        self.requests = open;
        let over: VecDeque<Request> = over;
        for request in over {
            match request.what {
                What::AllKeyFrames(_) => {}
                What::Subscribe { wanted, id } => {
                    let mut reasons = Vec::new();
                    for wanted in wanted {
                        let reason = wanted.verdict();
                        let subscription = wanted.subscription;
                        let text = subscription.filter.as_str().to_owned();
                        if reason.is_error() {
                            self.granted.remove(&text);
                        } else {
                            self.granted.insert(text, Granted { subscription, id });
                        }
                        reasons.push(reason);
                    }
                    if let Some((packet_id, connection)) = request.asker {
                        let properties = Default::default();
                        let suback = SubAck {
                            packet_id,
                            properties,
                            reasons,
                        };
                        answers.push((Answer::SubAck(suback), connection));
                    }
                }
                What::Unsubscribe { filters, reasons } => {
                    for filter in &filters {
                        self.granted.remove(filter.as_str());
                    }
                    if let Some((packet_id, connection)) = request.asker {
                        let properties = Default::default();
                        let unsuback = UnsubAck {
                            packet_id,
                            properties,
                            reasons,
                        };
                        answers.push((Answer::UnsubAck(unsuback), connection));
                    }
                }
            }
        }
    }
}

fn key_frames(filter: TopicFilter) -> Subscription {
    Subscription {
        filter,
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    }
}
