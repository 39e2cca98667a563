//! What passes between the two sides of a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smqtt_envelope::{Event as Verdict, Opener, OpenerConfig};
use smqtt_format::announce;
use smqtt_proto::packet::Publish;
use smqtt_proto::{QoS, ReasonCode, client};

use super::super::account::count;
use super::super::downward::MAX_SEALED;
use super::super::requests::Answer;
use super::super::rules::Subscribing;
use super::super::upward::Settled;
use super::{KEY_BYTES, Session, Upstream};
use crate::clock;
use crate::connection::link;
use crate::inbox::Receipt;
use crate::keys::{Keys, add_keys};
use crate::subscriber::differ;

impl Session {
    /// Handles what the broker has said. Returns whether there was anything; the error is why the connection
    /// is over.
    pub(super) fn handle_upstream(&mut self) -> Result<bool, String> {
        let mut handled = false;
        loop {
            // Its client is slow: the broker has to wait.
            if self.local.is_some() && self.downward.is_full() {
                return Ok(handled);
            }
            let Upstream::Up(link) = &mut self.upstream else {
                return Ok(handled);
            };
            let Some(event) = link.mqtt.poll_event() else {
                return Ok(handled);
            };
            handled = true;
            match event {
                client::Event::Publish(publish) => self.on_relayed(&publish),
                client::Event::Acknowledged { packet_id, reason } => {
                    let settled = self.upward.settle(packet_id, reason);
                    self.settle(settled);
                }
                client::Event::SubAck(suback) => {
                    let mut answers = Vec::new();
                    self.requests.suback(&suback, &mut answers);
                    self.tell(answers);
                }
                client::Event::UnsubAck(unsuback) => {
                    let mut answers = Vec::new();
                    self.requests.unsuback(&unsuback, &mut answers);
                    self.tell(answers);
                }
                client::Event::Closed(closed) => return Err(link::loss(&closed).to_string()),
                client::Event::Connected { .. }
                | client::Event::Received { .. }
                | client::Event::Released { .. }
                | client::Event::Auth(_) => {}
            }
        }
    }

    /// The broker has sent a message.
    pub(super) fn on_relayed(&mut self, publish: &Publish) {
        // Nobody is there who would get it. What matters is still the broker's.
        if self.local.is_none() && (self.expiry == 0 || publish.qos == QoS::AtMostOnce) {
            return;
        }
        let receipt = publish.packet_id.map(|packet_id| Receipt {
            packet_id,
            qos: publish.qos,
            connection: self.upstream_number,
        });
        let topic = publish.topic.as_str();
        let now = clock::now();
        if announce::is_reserved(topic) {
            self.owed.extend(receipt);
            if let Some(opener) = self.opener() {
                opener.handle_publish(topic, &publish.payload, publish.retain, now);
                self.handle_verdicts();
            }
            return;
        }
        let action = self.shared.rules.subscribing(&publish.topic);
        if action == Subscribing::Refuse {
            self.owed.extend(receipt);
            return;
        }
        if action == Subscribing::OpenOrPlain && !is_sealed(&publish.payload) {
            count(&self.shared.account.plaintext_passed);
            if !self.downward.pass(publish.clone(), receipt) {
                count(&self.shared.account.dropped);
            }
            return;
        }
        // The end of a retained message. Readers have learned it from a sealed one.
        if publish.payload.is_empty() {
            self.owed.extend(receipt);
            return;
        }
        if self.opener().is_none() {
            self.owed.extend(receipt);
            return;
        }
        self.downward.note(publish, receipt);
        if let Some(opener) = &mut self.opener {
            opener.handle_publish(topic, &publish.payload, publish.retain, now);
        }
        self.handle_verdicts();
    }

    pub(super) fn opener(&mut self) -> Option<&mut Opener> {
        if self.opener.is_none() {
            let config = OpenerConfig {
                key_bytes: KEY_BYTES,
                waiting_messages: MAX_SEALED,
                waiting_bytes: 4 << 20,
                report_missing: false,
                ..OpenerConfig::default()
            };
            match self.shared.client.opener(config) {
                Ok(opener) => self.opener = Some(opener),
                Err(error) => {
                    if let Some(suppressed) = self.shared.account.admit("opener") {
                        tracing::error!(suppressed, "cannot open messages: {error}");
                    }
                }
            }
        }
        self.opener.as_mut()
    }

    /// The gateway has been renewed: what waited for that is opened.
    pub(super) fn renewed(&mut self) {
        let identity = Arc::clone(&self.credentials.borrow_and_update().identity);
        if Arc::ptr_eq(&identity, &self.identity) {
            return;
        }
        let before = std::mem::replace(&mut self.identity, identity);
        // One that is made later has all keys from the start, and knows what the root has taken back.
        let Some(opener) = &mut self.opener else {
            return;
        };
        if let Some(list) = self.identity.trust_anchor().list() {
            opener.revoke(list.serials());
        }
        let taken = Keys::of(&self.identity)
            .and_then(|keys| add_keys(opener, &self.identity, &keys.parameters, clock::now()));
        if let Err(error) = taken {
            tracing::warn!(%error, "the renewed attribute key can not be used");
        }
        self.handle_verdicts();
        if differ(&before, &self.identity) {
            self.requests.ask_again_for_key_frames();
        }
    }

    pub(super) fn handle_verdicts(&mut self) {
        while let Some(verdict) = self.opener.as_mut().and_then(Opener::poll_event) {
            match verdict {
                Verdict::Opened(message) => {
                    let taken = self.downward.opened(message);
                    if !taken {
                        count(&self.shared.account.dropped);
                    }
                }
                Verdict::Refused {
                    topic,
                    kid,
                    publisher,
                    reason,
                    ..
                } => {
                    let replay = reason.code() == "replay";
                    let refused = self.downward.refused(&topic, kid, replay);
                    self.owed.extend(refused.owed);
                    // It has it already; the broker has not heard so.
                    if refused.repeated {
                        continue;
                    }
                    count(&self.shared.account.not_opened);
                    if let Some(suppressed) = self.shared.account.admit(reason.code()) {
                        tracing::warn!(
                            client = %self.client_id.escape_debug(),
                            topic = %topic.escape_debug(),
                            publisher = publisher.as_deref().map(tracing::field::display),
                            suppressed,
                            "not delivered: {reason}"
                        );
                    }
                }
                Verdict::KeyRefused { topic, reason, .. } => {
                    if let Some(suppressed) = self.shared.account.admit("key-refused") {
                        tracing::debug!(topic = %topic.escape_debug(), suppressed, "key frame refused: {reason}");
                    }
                }
                Verdict::EpochAhead { epoch, held } => {
                    self.shared.client.tell_ahead(epoch);
                    if let Some(suppressed) = self.shared.account.admit("epoch-ahead") {
                        tracing::info!(%epoch, %held, suppressed, "messages wait for a key of a later epoch");
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells the local client what became of its messages.
    pub(super) fn settle(&mut self, settled: impl IntoIterator<Item = Settled>) {
        for Settled {
            origin,
            reason,
            detail,
        } in settled
        {
            if reason.is_error() {
                count(&self.shared.account.publishes_refused);
                if let Some(suppressed) = self.shared.account.admit("publish-refused") {
                    let detail =
                        detail.unwrap_or_else(|| format!("the broker refused it: {reason}"));
                    tracing::warn!(
                        client = %self.client_id.escape_debug(),
                        suppressed,
                        "a message was not published: {detail}"
                    );
                }
            } else {
                count(&self.shared.account.published);
            }
            self.answer(origin, reason);
        }
    }

    pub(super) fn tell(&mut self, answers: Vec<(Answer, u64)>) {
        for (answer, connection) in answers {
            if let Answer::SubAck(suback) = &answer {
                let refused = suback
                    .reasons
                    .iter()
                    .filter(|reason| reason.is_error())
                    .count();
                if refused > 0 {
                    let counter = &self.shared.account.subscriptions_refused;
                    counter.fetch_add(refused as u64, Ordering::Relaxed);
                    if let Some(suppressed) = self.shared.account.admit("subscription") {
                        tracing::warn!(
                            client = %self.client_id.escape_debug(),
                            suppressed,
                            "refused a subscription: no subscribe rule covers it, or the broker does not grant it"
                        );
                    }
                }
            }
            let Some(local) = &mut self.local else {
                continue;
            };
            if connection != self.local_number {
                continue;
            }
            match answer {
                Answer::SubAck(suback) => local.mqtt.suback(suback),
                Answer::UnsubAck(unsuback) => local.mqtt.unsuback(unsuback),
            }
        }
    }

    /// Hands over what can go to the other side.
    pub(super) fn pump(&mut self) {
        let mut settled = Vec::new();
        let mut answers = Vec::new();
        if let Upstream::Up(link) = &mut self.upstream {
            self.requests.pump(&mut link.mqtt, &mut answers);
            self.upward
                .pump(&self.shared.seals, &mut link.mqtt, &mut settled);
        }
        self.settle(settled);
        self.tell(answers);
        if let Some(local) = &mut self.local {
            let sent = self.downward.pump(&mut local.mqtt, &mut self.owed);
            if sent > 0 {
                self.stuck_since = None;
            }
            self.shared
                .account
                .delivered
                .fetch_add(sent, Ordering::Relaxed);
        }
        if let Upstream::Up(link) = &mut self.upstream {
            for receipt in self.owed.drain(..) {
                // An answer to the sending on an earlier connection would be one to another message.
                // QoS 2 keeps its identifier.
                if receipt.connection == self.upstream_number || receipt.qos == QoS::ExactlyOnce {
                    link.mqtt
                        .acknowledge(receipt.packet_id, ReasonCode::Success);
                }
            }
        }
    }
}

/// Whether a payload begins as an envelope does.
fn is_sealed(payload: &[u8]) -> bool {
    !matches!(
        smqtt_format::Envelope::parse(payload),
        Err(smqtt_format::Error::NotAnEnvelope)
    )
}
