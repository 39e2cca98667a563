//! The local client's side of a session: it comes, speaks, and goes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smqtt_proto::packet::{DisconnectProperties, Publish, Will};
use smqtt_proto::{Closed, QoS, ReasonCode, Session as InFlight, server};

use super::super::account::count;
use super::super::requests::Requests;
use super::super::rules::Retained;
use super::super::upward::Origin;
use super::{Admission, Arrival, Dialled, GRACE, Session, Upstream};

impl Session {
    /// A client has come, maybe back.
    pub(super) async fn arrive(&mut self, arrival: Arrival) {
        let Arrival {
            local,
            connect,
            assigned,
        } = arrival;
        self.end_local(ReasonCode::SessionTakenOver);
        if let Upstream::Dialling(dialling) = &mut self.upstream {
            let Dialled { result, session } = dialling.await;
            self.upstream = match result {
                Ok(opened) => {
                    let mut settled = Vec::new();
                    self.upward.send_again(opened.forgotten, &mut settled);
                    self.settle(settled);
                    Upstream::Up(Box::new(opened.link))
                }
                Err(_) => Upstream::Idle(session),
            };
        }
        let v5 = connect.version.is_v5();
        if connect.clean_start {
            // The session that was ends here, and its will is due.
            self.publish_will();
        }
        self.will_at = None;
        self.will = None;
        self.ends_at = None;
        self.leave_by = None;
        self.expiry = match (v5, connect.clean_start) {
            (true, _) => connect.properties.session_expiry_interval.unwrap_or(0),
            (false, true) => 0,
            (false, false) => u32::MAX,
        };
        self.will = connect.will.map(detached);
        self.local = Some(local);
        self.local_number += 1;
        self.admission = Some(Admission {
            clean_start: connect.clean_start,
            assigned,
        });
        // The new connection to the broker says what this client says: clean or not, for how long.
        if matches!(self.upstream, Upstream::Up(_)) {
            self.hang_up().await;
        }
        if connect.clean_start {
            self.forget();
        }
        self.attempt = 0;
        self.dial();
    }

    /// Forgets the session's state, but for what is on its way to the broker.
    pub(super) fn forget(&mut self) {
        self.local_session = InFlight::new();
        self.downward.clear();
        self.requests = Requests::default();
        self.opener = None;
        self.owed.clear();
    }

    /// Handles what the client has said, as far as it is looked at now. Returns whether there was anything.
    pub(super) fn handle_local(&mut self) -> bool {
        let mut handled = false;
        loop {
            let takes_events = self.takes_events();
            let Some(local) = &mut self.local else {
                return handled;
            };
            // The end is told of before everything else.
            if !takes_events && !local.mqtt.is_closed() {
                return handled;
            }
            let Some(event) = local.mqtt.poll_event() else {
                return handled;
            };
            handled = true;
            match event {
                server::Event::Publish(publish) => self.on_publish(publish),
                server::Event::Subscribe(subscribe) => {
                    if !self
                        .requests
                        .subscribe(&self.shared.rules, subscribe, self.local_number)
                    {
                        self.end_local(ReasonCode::QuotaExceeded);
                    }
                }
                server::Event::Unsubscribe(unsubscribe) => {
                    if !self.requests.unsubscribe(unsubscribe, self.local_number) {
                        self.end_local(ReasonCode::QuotaExceeded);
                    }
                }
                server::Event::Acknowledged { packet_id, .. } => {
                    self.downward.acknowledged(packet_id, &mut self.owed);
                }
                server::Event::Received { packet_id } => {
                    self.downward.received(packet_id, &mut self.owed);
                }
                server::Event::Closed(closed) => self.detach_local(&closed),
                server::Event::Connect(_)
                | server::Event::Released { .. }
                | server::Event::Auth(_) => {}
            }
        }
    }

    /// Whether what the client says is looked at now. While the broker is there and takes no more, the client
    /// has to wait; while it is away, QoS 0 is dropped instead, so that signs of life are still answered.
    pub(super) fn takes_events(&self) -> bool {
        self.upward.has_room() || !matches!(self.upstream, Upstream::Up(_))
    }

    pub(super) fn on_publish(&mut self, publish: Publish) {
        let origin = Origin {
            packet_id: publish.packet_id,
            qos: publish.qos,
            connection: self.local_number,
        };
        let sealing = self.shared.rules.publishing(&publish.topic);
        let sealing = sealing
            .filter(|(_, sealing)| !(publish.retain && sealing.retained == Retained::Refuse));
        let Some((rule, sealing)) = sealing else {
            count(&self.shared.account.publishes_refused);
            if let Some(suppressed) = self.shared.account.admit("no-publish-rule") {
                tracing::warn!(
                    client = %self.client_id.escape_debug(),
                    topic = %publish.topic.as_str().escape_debug(),
                    suppressed,
                    "refused a message: no publish rule allows it"
                );
            }
            self.answer(origin, ReasonCode::NotAuthorized);
            return;
        };
        if publish.qos == QoS::AtMostOnce && !self.upward.has_room() {
            count(&self.shared.account.dropped);
            return;
        }
        self.upward.push(rule, sealing, publish, origin);
    }

    /// Acknowledges a message of the local client.
    pub(super) fn answer(&mut self, origin: Origin, reason: ReasonCode) {
        let Some(packet_id) = origin.packet_id else {
            return;
        };
        let current = origin.connection == self.local_number;
        if current && let Some(local) = &mut self.local {
            // MQTT 3.1.1 has no word for a refusal, and a client that is told nothing repeats the
            // message for ever.
            let v5 = local.mqtt.version().is_some_and(|version| version.is_v5());
            let reason = if v5 { reason } else { ReasonCode::Success };
            local.mqtt.acknowledge(packet_id, reason);
        } else if origin.qos == QoS::ExactlyOnce {
            match &mut self.local {
                Some(local) => local.mqtt.acknowledge(packet_id, reason),
                None => self.local_session.acknowledge(packet_id),
            }
        }
    }

    /// Ends the local connection, if there is one.
    pub(super) fn end_local(&mut self, reason: ReasonCode) {
        if let Some(local) = &mut self.local {
            local
                .mqtt
                .disconnect(reason, DisconnectProperties::default());
            self.handle_local();
        }
    }

    /// The local connection is over.
    pub(super) fn detach_local(&mut self, closed: &Closed) {
        let Some(mut local) = self.local.take() else {
            return;
        };
        tracing::debug!(client = %self.client_id.escape_debug(), peer = %local.peer, "local connection ended: {closed}");
        if let Closed::Violation(violation) = closed
            && let Some(suppressed) = self.shared.account.admit("violation")
        {
            tracing::warn!(
                client = %self.client_id.escape_debug(),
                suppressed,
                "closed a local connection: {violation}"
            );
        }
        let admitted = self.admission.take().is_none();
        if admitted {
            self.local_session = local.mqtt.take_session();
        }
        tokio::spawn(local.close());
        if !admitted {
            self.will = None;
        }
        if let Closed::Disconnected(disconnect) = closed {
            if let Some(seconds) = disconnect.properties.session_expiry_interval {
                self.expiry = seconds;
            }
            if disconnect.reason == ReasonCode::Success {
                self.will = None;
            }
        }
        let now = Instant::now();
        let dropped = self.downward.forget_qos0();
        self.shared
            .account
            .dropped
            .fetch_add(dropped as u64, Ordering::Relaxed);
        self.requests.forget_requests();
        self.leave_by = Some(now + GRACE);
        self.ends_at = match self.expiry {
            u32::MAX => None,
            seconds => Some(now + Duration::from_secs(seconds.into())),
        };
        let delay = self.will.as_ref().map(|will| {
            let delay = will.properties.will_delay_interval.unwrap_or(0);
            delay.min(self.expiry)
        });
        match delay {
            Some(0) => self.publish_will(),
            Some(seconds) => self.will_at = Some(now + Duration::from_secs(seconds.into())),
            None => {}
        }
        if self.expiry == 0 {
            self.forget();
        }
    }

    /// The will is due: it is sealed and published like any message of the client.
    pub(super) fn publish_will(&mut self) {
        self.will_at = None;
        let Some(will) = self.will.take() else {
            return;
        };
        self.leave_by = Some(Instant::now() + GRACE);
        self.on_publish(will.into());
    }
}

/// A will that keeps no read buffer alive.
fn detached(will: Will) -> Will {
    Will {
        topic: will.topic.detach(),
        payload: bytes::Bytes::copy_from_slice(&will.payload),
        ..will
    }
}
