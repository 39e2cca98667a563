//! Sessions and retained messages as they were before the broker ended, put back where they belong
//! before anybody connects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smqtt_policy::AttributeSet;
use smqtt_proto::{InFlight, QoS};

use crate::access::{Admitted, no_attributes};
use crate::certificate::Shown;
use crate::current::Current;
use crate::directory::Identity;
use crate::memory;
use crate::session::{Durable, SessionRef, Sessions};
use crate::shared::Shared;
use crate::store::{Epoch, IdentityRecord, Op, RecoveredSession, SessionRecord, State};
use crate::subscription::Subscription;

/// What one worker begins with.
pub(crate) struct Restored {
    pub(crate) sessions: Sessions,
    /// Sessions that were connected when the broker ended.
    pub(crate) changed: Vec<SessionRef>,
    /// What was charged to this thread for it.
    pub(crate) charged: i64,
}

/// Fills the trie, the directory and the retained store, and shares the sessions out.
///
/// # Errors
/// A message for people: something does not fit.
pub(crate) fn restore(shared: &Shared, state: State) -> Result<Vec<Restored>, String> {
    let workers = shared.mailboxes.len();
    let epoch = Epoch::now();
    let now = Instant::now();
    let current = shared.current();
    let mut restored: Vec<Restored> = (0..workers)
        .map(|worker| Restored {
            sessions: Sessions::new(worker),
            changed: Vec::new(),
            charged: 0,
        })
        .collect();
    {
        let mut retained = shared.retained.write();
        let mut refused = 0;
        for message in state.retained {
            if message.is_expired(now) {
                if let Some(store) = &shared.store {
                    store.note(Op::Retained {
                        topic: message.topic().clone(),
                        message: None,
                    });
                }
                continue;
            }
            let message = Arc::new(message.detach_into(memory::charge));
            refused += usize::from(retained.insert(message).is_err());
        }
        if refused > 0 {
            tracing::warn!(
                refused,
                "retained messages that [retained] has no room for any more stay in the store, and are not sent"
            );
        }
    }
    let mut trie = shared.trie.write();
    for (index, recovered) in state.sessions.into_iter().enumerate() {
        let worker = index % workers;
        let into = &mut restored[worker];
        let RecoveredSession {
            id,
            record,
            subscriptions,
            in_flight,
            queue,
            next_place,
            incoming,
        } = recovered;
        let admitted = admitted_of(&record, shared, &current)?;
        shared
            .directory
            .claim(&record.client_id, &admitted.identity, || worker);
        let session = into.sessions.open(&record.client_id, admitted);
        let reference = session.reference;
        session.expiry = record.expiry;
        session.queue = queue;
        let away_since = record.away_since.map_or(now, |at| epoch.past(at));
        if record.away_since.is_none() {
            into.changed.push(reference);
        }
        session.away_since = Some(away_since);
        let after = |since: Option<u64>, seconds: u32| match since {
            // Counted from then, which may be before this machine's clock began.
            Some(at) => epoch.instant_of(at.saturating_add(u64::from(seconds) * 1000)),
            None => now + Duration::from_secs(seconds.into()),
        };
        if record.expiry != u32::MAX {
            session.ends_at = Some(after(record.away_since, record.expiry));
        }
        if let Some(will) = &record.will {
            session.will = Some(Box::new(will.to_will()?));
            session.will_at = Some(after(record.away_since, will.delay));
        }
        let mut durable = Box::new(Durable {
            id,
            next_place,
            ..Durable::default()
        });
        for sent in in_flight {
            let kept = sent.message.as_ref().map(|(kept, _)| kept.clone());
            durable.sent.insert(sent.packet_id, (sent.place, kept));
            let state = match sent.message {
                None => InFlight::Released,
                Some((_, message)) => {
                    if let Some(group) = sent.group
                        && sent.delivery.qos == QoS::AtLeastOnce
                    {
                        session.shares.insert(sent.packet_id, group);
                    }
                    InFlight::Published {
                        message: Arc::new(message.detach_into(memory::charge)),
                        delivery: sent.delivery,
                    }
                }
            };
            session.in_flight.restore_outgoing(sent.packet_id, state);
        }
        for packet_id in incoming {
            session.in_flight.restore_incoming(packet_id);
        }
        session.durable = Some(durable);
        for (filter, options) in subscriptions {
            let qos = QoS::from_u8(options.qos).ok_or("a subscription has no QoS")?;
            let subscription = Subscription::new(reference, qos)
                .with_options(options.no_local, options.retain_as_published)
                .with_identifier(options.identifier);
            let presence = || {
                let presence = session.presence.get_or_insert_default().clone();
                presence.set(false, false);
                presence
            };
            session
                .subscriptions
                .insert(&filter, subscription, presence, &mut trie);
        }
    }
    shared
        .trie_version
        .store(trie.version(), std::sync::atomic::Ordering::Release);
    drop(trie);
    restored[0].charged = memory::take();
    Ok(restored)
}

/// Whose a session is. Which rules hold for it is looked up now: the listener that it came by may be
/// gone.
fn admitted_of(
    record: &SessionRecord,
    shared: &Shared,
    current: &Current,
) -> Result<Admitted, String> {
    let identity = match &record.identity {
        IdentityRecord::Anonymous => Identity::Anonymous,
        IdentityRecord::User(user) => Identity::User(user.as_str().into()),
        IdentityRecord::Device(id) => {
            Identity::Device(Arc::new(id.parse().map_err(|error| {
                format!("the device id of a session is none: {error}")
            })?))
        }
    };
    let attributes = AttributeSet::decode(&record.attributes)
        .map_err(|error| format!("the attributes of a session are none: {error}"))?;
    let named = shared
        .listener_names
        .iter()
        .position(|name| *name == record.listener);
    let certificate_at = |listener: usize| {
        let tls = current.listeners[listener].tls.as_ref();
        record
            .certificate
            .as_ref()
            .map(|certificate| Shown::from_record(certificate, tls))
    };
    let admits = |listener: &usize| {
        let rules = &current.listeners[*listener];
        !matches!(certificate_at(*listener), Some(None))
            && current
                .access
                .still_admits(rules, &identity, &record.client_id)
                .is_ok()
    };
    // If none admits it, the worker finds that out and ends the session.
    let listener = named
        .into_iter()
        .chain(0..current.listeners.len())
        .find(admits)
        .or(named)
        .unwrap_or(0);
    Ok(Admitted {
        certificate: certificate_at(listener).flatten(),
        identity,
        attributes: match attributes.is_empty() {
            true => no_attributes(),
            false => Arc::new(attributes),
        },
        listener,
    })
}
