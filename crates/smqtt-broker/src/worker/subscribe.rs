//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use smqtt_proto::ReasonCode;
use smqtt_proto::packet::{
    AckProperties, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe,
};

use super::rules::may_subscribe;
use super::{Pass, Worker};
use crate::memory::Pressure;
use crate::session::{RetainedCursor, Session};
use crate::share::Presence;
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
        for wanted in subscribe.subscriptions {
            let (filter, options) = (wanted.filter, wanted.options);
            let known = session.subscriptions.contains_key(&filter);
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
            } else if !known
                && (session.subscriptions.len() >= limits.session.subscriptions
                    || self.pressure >= Pressure::Critical)
            {
                ReasonCode::QuotaExceeded
            } else {
                let filter = filter.detach();
                let subscription = Subscription::new(session.reference, options.qos)
                    .with_options(options.no_local, options.retain_as_published)
                    .with_identifier(identifier);
                if session
                    .subscriptions
                    .insert(filter.clone(), subscription)
                    .is_none()
                {
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
        // First the subscription, then the look at the retained store: a message that is retained
        // meanwhile comes one way or the other.
        if !granted.is_empty() {
            pass.change_trie(|trie| {
                for (filter, subscription, _) in &granted {
                    if filter.is_shared() {
                        trie.join(filter, *subscription, presence_of(session));
                    } else {
                        trie.subscribe(filter.filter(), *subscription);
                    }
                }
            });
        }
        for (filter, subscription, send_retained) in granted {
            // A subscription that is replaced starts over.
            session.retained.retain(|cursor| cursor.filter != filter);
            if send_retained {
                session.retained.push_back(RetainedCursor {
                    filter,
                    subscription,
                    after: None,
                });
            }
        }
        let properties = AckProperties::default();
        connection.protocol.suback(SubAck {
            packet_id: subscribe.packet_id,
            properties,
            reasons,
        });
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
        let reasons = pass.change_trie(|trie| {
            let remove = |filter: &smqtt_proto::TopicFilter| {
                session.retained.retain(|cursor| cursor.filter != *filter);
                if session.subscriptions.remove(filter).is_none() {
                    return ReasonCode::NoSubscriptionExisted;
                }
                self.shared.counters[self.index].subscriptions.sub(1);
                trie.remove(filter, session.reference);
                ReasonCode::Success
            };
            unsubscribe.filters.iter().map(remove).collect()
        });
        let properties = AckProperties::default();
        connection.protocol.unsuback(UnsubAck {
            packet_id: unsubscribe.packet_id,
            properties,
            reasons,
        });
    }
}

/// What groups know of a session that has just subscribed.
fn presence_of(session: &mut Session) -> Arc<Presence> {
    session.presence.get_or_insert_default().clone()
}
