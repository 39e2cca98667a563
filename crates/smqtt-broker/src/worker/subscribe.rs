//! SUBSCRIBE and UNSUBSCRIBE.

use smallvec::smallvec;
use smqtt_proto::packet::{
    AckProperties, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe,
};
use smqtt_proto::{ReasonCode, TopicFilter};

use super::rules::may_subscribe;
use super::{Pass, Worker};
use crate::memory::Pressure;
use crate::session::{RetainedCursor, Session};
use crate::store::{Op, Settlement, Store};
use crate::subscription::Subscription;

impl Worker {
    pub(super) fn on_subscribe(&mut self, slot: usize, subscribe: Subscribe, pass: &mut Pass<'_>) {
        let limits = &self.current.config;
        let connection = &mut *self.connections[slot];
        let Some(session) = connection
            .session
            .and_then(|session| self.sessions.get_mut(session))
        else {
            return;
        };
        let identifier = subscribe.properties.subscription_id;
        let mut reasons = Vec::with_capacity(subscribe.subscriptions.len());
        let mut granted = Vec::new();
        // First the subscription, then the look at the retained store: a message that is retained
        // meanwhile comes one way or the other.
        pass.change_trie(|trie| {
            for wanted in subscribe.subscriptions {
                let (filter, options) = (wanted.filter, wanted.options);
                let known = session.subscriptions.contains(&filter, trie);
                let reason = if filter.is_shared() && !limits.protocol.shared_subscriptions {
                    // MQTT 5.0 clients were told in the CONNACK; MQTT 3.1.1 has only this answer.
                    ReasonCode::SharedSubscriptionsNotSupported
                } else if !may_subscribe(
                    &self.current.access,
                    &session.admitted,
                    &session.client_id,
                    &filter,
                ) {
                    self.shared.counters[self.index].denied.add(1);
                    ReasonCode::NotAuthorized
                } else if filter.levels().count() > limits.limits.topic_levels {
                    ReasonCode::TopicFilterInvalid
                } else if cannot_store(session, &filter, self.shared.store.as_deref())
                    || (!known
                        && (session.subscriptions.len() >= limits.session.subscriptions
                            || self.pressure >= Pressure::Critical))
                {
                    ReasonCode::QuotaExceeded
                } else {
                    let subscription = Subscription::new(session.reference, options.qos)
                        .with_options(options.no_local, options.retain_as_published)
                        .with_identifier(identifier);
                    // What groups know of a session that has just subscribed.
                    let presence = || session.presence.get_or_insert_default().clone();
                    let subscriptions = &mut session.subscriptions;
                    if subscriptions.insert(&filter, subscription, presence, trie) {
                        self.shared.counters[self.index].subscriptions.add(1);
                    }
                    // [MQTT-3.3.1-9] to [MQTT-3.3.1-11], [MQTT-3.8.4-3]; none for shared subscriptions
                    // (MQTT 5.0 §4.8.2).
                    let send_retained = match options.retain_handling {
                        _ if filter.is_shared() => false,
                        RetainHandling::Send => true,
                        RetainHandling::SendIfNew => !known,
                        RetainHandling::DoNotSend => false,
                    };
                    granted.push((filter, subscription, send_retained));
                    ReasonCode::granted(options.qos)
                };
                reasons.push(limits.protocol.told(reason));
            }
        });
        let nothing_retained = pass.shared.retained.read().is_empty();
        let mut ops = Vec::new();
        for (filter, subscription, send_retained) in granted {
            // A subscription that is replaced starts over.
            session.retained.retain(|cursor| cursor.filter != filter);
            let send_retained = send_retained && !nothing_retained;
            if !send_retained && session.durable.is_none() {
                continue;
            }
            let filter = filter.detach();
            if let Some(durable) = &session.durable {
                ops.push(Op::Subscribed {
                    id: durable.id,
                    filter: filter.clone(),
                    subscription,
                });
            }
            if send_retained {
                session.retained.push_back(RetainedCursor {
                    filter,
                    subscription,
                    after: None,
                });
            }
        }
        let suback = SubAck {
            packet_id: subscribe.packet_id,
            properties: AckProperties::default(),
            reasons,
        };
        let this = connection.reference(slot);
        match (&self.shared.store, &mut session.durable) {
            (Some(store), Some(durable)) => {
                let settle = Settlement::SubAck(this, Box::new(suback));
                durable.posted = store.post(ops, smallvec![(self.index, settle)]);
            }
            _ => connection.protocol.suback(suback),
        }
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        slot: usize,
        unsubscribe: &Unsubscribe,
        pass: &mut Pass<'_>,
    ) {
        let connection = &mut *self.connections[slot];
        let Some(session) = connection
            .session
            .and_then(|session| self.sessions.get_mut(session))
        else {
            return;
        };
        let mut ops = Vec::new();
        let durable = session.durable.as_ref().map(|durable| durable.id);
        let reasons = pass.change_trie(|trie| {
            let mut remove = |filter: &smqtt_proto::TopicFilter| {
                session.retained.retain(|cursor| cursor.filter != *filter);
                let reference = session.reference;
                if !session.subscriptions.remove(filter, reference, trie) {
                    return ReasonCode::NoSubscriptionExisted;
                }
                self.shared.counters[self.index].subscriptions.sub(1);
                if let Some(id) = durable {
                    let filter = filter.detach();
                    ops.push(Op::Unsubscribed { id, filter });
                }
                ReasonCode::Success
            };
            unsubscribe.filters.iter().map(&mut remove).collect()
        });
        let unsuback = UnsubAck {
            packet_id: unsubscribe.packet_id,
            properties: AckProperties::default(),
            reasons,
        };
        let this = connection.reference(slot);
        match (&self.shared.store, &mut session.durable) {
            (Some(store), Some(durable)) => {
                let settle = Settlement::UnsubAck(this, Box::new(unsuback));
                durable.posted = store.post(ops, smallvec![(self.index, settle)]);
            }
            _ => connection.protocol.unsuback(unsuback),
        }
    }
}

/// A key of the store is at most 65,535 bytes long, the session's number included.
const MAX_STORED_FILTER: usize = 65_535 - 8;

/// Whether a subscription would have to be stored and cannot be.
fn cannot_store(session: &Session, filter: &TopicFilter, store: Option<&Store>) -> bool {
    session.durable.is_some()
        && (filter.as_str().len() > MAX_STORED_FILTER || store.is_some_and(Store::refuses))
}
