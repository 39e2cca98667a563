//! One local client's session: its own connection to the broker, and everything in between.
//!
//! One task owns it. In each turn it handles what has come from either side, hands over what can go to the
//! other, and waits for the next thing to happen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smqtt_envelope::{Event as Verdict, Opener, OpenerConfig};
use smqtt_format::announce;
use smqtt_proto::packet::{
    ConnAckProperties, Connect, DisconnectProperties, MessageProperties, Publish, Will,
};
use smqtt_proto::{Closed, MqttString, QoS, ReasonCode, Session as InFlight, client, server};
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::account::count;
use super::downward::{Downward, MAX_SEALED};
use super::local::Local;
use super::requests::{Answer, Requests};
use super::rules::{Retained, Subscribing};
use super::upward::{Origin, Settled, Upward};
use crate::connection::link::{self, Dialler, Link, Moved, Opened};
use crate::inbox::Receipt;
use crate::{Error, clock};

/// How long what a client left behind is tried to be sent once it has gone.
const GRACE: Duration = Duration::from_secs(10);
/// How long the broker may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the broker keeps the session of a client whose connection broke, at least, in seconds.
const SESSION_EXPIRY: u32 = 300;
/// Bytes of the keys that one local client's opener holds.
const KEY_BYTES: usize = 8 << 20;

/// A local client that has said CONNECT.
pub(super) struct Arrival {
    pub(super) local: Local,
    pub(super) connect: Box<Connect>,
    /// The identifier that the gateway chose for it.
    pub(super) assigned: Option<MqttString>,
}

/// The connection to the broker.
enum Upstream {
    /// Not wanted.
    Idle(InFlight),
    /// To be tried again.
    Waiting(InFlight, Instant),
    Dialling(Pin<Box<dyn Future<Output = Dialled> + Send>>),
    Up(Box<Link>),
}

struct Dialled {
    result: Result<Opened, Error>,
    session: InFlight,
}

/// A local client that waits for the broker to let it in.
struct Admission {
    clean_start: bool,
    assigned: Option<MqttString>,
}

pub(super) struct Session {
    shared: Arc<Shared>,
    client_id: Arc<str>,
    arrivals: mpsc::Receiver<Arrival>,

    local: Option<Local>,
    /// Local connections so far.
    local_number: u64,
    /// What is in flight to and from a local client that is away.
    local_session: InFlight,
    admission: Option<Admission>,
    /// For how many seconds the session outlives its connection.
    expiry: u32,
    ends_at: Option<Instant>,
    will: Option<Will>,
    will_at: Option<Instant>,
    /// Until when what it left behind is tried to be sent.
    leave_by: Option<Instant>,

    dialler: Dialler,
    upstream: Upstream,
    /// Connections to the broker so far.
    upstream_number: u64,
    attempt: u32,

    upward: Upward,
    downward: Downward,
    requests: Requests,
    opener: Option<Opener>,
    owed: Vec<Receipt>,
    stopping: bool,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        client_id: Arc<str>,
        dialler: Dialler,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Self {
        Self {
            shared,
            client_id,
            arrivals,
            local: None,
            local_number: 0,
            local_session: InFlight::new(),
            admission: None,
            expiry: 0,
            ends_at: None,
            will: None,
            will_at: None,
            leave_by: None,
            dialler,
            upstream: Upstream::Idle(InFlight::new()),
            upstream_number: 0,
            attempt: 0,
            upward: Upward::default(),
            downward: Downward::default(),
            requests: Requests::default(),
            opener: None,
            owed: Vec::new(),
            stopping: false,
        }
    }

    /// Serves until the session has ended.
    pub(super) async fn run(mut self) {
        let mut stop = self.shared.stop.subscribe();
        loop {
            self.turn().await;
            if self.is_over() && self.shared.leave(&self.client_id, &mut self.arrivals) {
                return;
            }
            let wake = self.wake();
            let frame = self.upward.waits_for();
            let read_local = self.takes_events();
            tokio::select! {
                arrival = self.arrivals.recv(), if !self.stopping => {
                    if let Some(arrival) = arrival {
                        self.arrive(arrival).await;
                    }
                }
                moved = progress(self.local.as_mut(), read_local) => match moved {
                    Ok(Moved::Bytes) => {}
                    Ok(Moved::EndOfStream) | Err(_) => {
                        if let Some(local) = &mut self.local {
                            local.mqtt.handle_end_of_stream();
                        }
                    }
                },
                news = self.upstream.news() => match news {
                    News::Moved(Ok(Moved::Bytes)) => {}
                    News::Moved(Ok(Moved::EndOfStream)) => self.upstream.end_of_stream(),
                    News::Moved(Err(error)) => self.lose_upstream(&error.to_string()).await,
                    News::Dialled(dialled) => self.dialled(*dialled),
                },
                () = acknowledged(frame) => {}
                () = crate::connection::sleep_until(wake) => self.handle_timeout(),
                () = told_to_stop(&mut stop), if !self.stopping => self.stop(),
            }
        }
    }

    /// Handles everything that is there, on both sides.
    async fn turn(&mut self) {
        self.handle_local();
        if let Some(reason) = self.handle_upstream() {
            self.lose_upstream(&reason).await;
        }
        self.pump();
        let open = matches!(self.upstream, Upstream::Waiting(..) | Upstream::Up(_));
        if open && !self.wants_upstream() {
            self.close_upstream().await;
        }
        if self.wants_upstream() && matches!(self.upstream, Upstream::Idle(_)) {
            self.dial();
        }
    }

    // ---- The local side.

    /// A client has come, maybe back.
    async fn arrive(&mut self, arrival: Arrival) {
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
    fn forget(&mut self) {
        self.local_session = InFlight::new();
        self.downward.clear();
        self.requests = Requests::default();
        self.opener = None;
        self.owed.clear();
    }

    fn handle_local(&mut self) {
        loop {
            let takes_events = self.takes_events();
            let Some(local) = &mut self.local else { return };
            // The end is told of before everything else.
            if !takes_events && !local.mqtt.is_closed() {
                return;
            }
            let Some(event) = local.mqtt.poll_event() else {
                return;
            };
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
    fn takes_events(&self) -> bool {
        self.upward.has_room() || !matches!(self.upstream, Upstream::Up(_))
    }

    fn on_publish(&mut self, publish: Publish) {
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
    fn answer(&mut self, origin: Origin, reason: ReasonCode) {
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
    fn end_local(&mut self, reason: ReasonCode) {
        if let Some(local) = &mut self.local {
            local
                .mqtt
                .disconnect(reason, DisconnectProperties::default());
            self.handle_local();
        }
    }

    /// The local connection is over.
    fn detach_local(&mut self, closed: &Closed) {
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
    fn publish_will(&mut self) {
        self.will_at = None;
        let Some(will) = self.will.take() else {
            return;
        };
        self.leave_by = Some(Instant::now() + GRACE);
        self.on_publish(will_publish(will));
    }

    // ---- The broker's side.

    /// Whether a connection to the broker is needed.
    fn wants_upstream(&self) -> bool {
        self.local.is_some()
            || (!self.upward.is_settled() && self.leave_by.is_some_and(|by| Instant::now() < by))
    }

    /// Begins to connect, with the session that there is.
    fn dial(&mut self) {
        let session = match std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new())) {
            Upstream::Idle(session) | Upstream::Waiting(session, _) => session,
            dialling @ Upstream::Dialling(_) => {
                self.upstream = dialling;
                return;
            }
            Upstream::Up(mut link) => link.mqtt.take_session(),
        };
        let mut dialler = self.dialler.clone();
        let connect = &mut dialler.mqtt.connect;
        let v5 = connect.version.is_v5();
        let clean_start = self.admission.as_ref().is_some_and(|a| a.clean_start);
        let mut ends_first = false;
        if v5 {
            connect.clean_start = clean_start;
            connect.properties.session_expiry_interval = Some(self.expiry.max(SESSION_EXPIRY));
        } else {
            connect.clean_start = self.expiry == 0;
            // MQTT 3.1.1 cannot begin anew and stay: that takes a connection before the connection.
            ends_first = clean_start && self.expiry > 0;
        }
        self.upstream = Upstream::Dialling(Box::pin(async move {
            let mut session = session;
            if ends_first {
                let mut first = dialler.clone();
                first.mqtt.connect.clean_start = true;
                match first.dial(&mut InFlight::new()).await {
                    Ok(opened) => {
                        let _ = tokio::time::timeout(FAREWELL, opened.link.close(None)).await;
                    }
                    Err(error) => {
                        return Dialled {
                            result: Err(error),
                            session,
                        };
                    }
                }
            }
            let result = dialler.dial(&mut session).await;
            Dialled { result, session }
        }));
    }

    fn dialled(&mut self, dialled: Dialled) {
        let Dialled { result, session } = dialled;
        match result {
            Ok(opened) => self.begin(opened),
            Err(error) => {
                self.upstream = Upstream::Idle(session);
                self.not_connected(&error);
            }
        }
    }

    fn not_connected(&mut self, error: &Error) {
        if let Some(suppressed) = self.shared.account.admit("no-upstream") {
            tracing::warn!(
                client = %self.client_id.escape_debug(),
                suppressed,
                "no connection to the broker: {error}"
            );
        }
        let transient = error.is_transient();
        if self.admission.is_some() {
            let reason = if transient {
                ReasonCode::ServerUnavailable
            } else {
                ReasonCode::NotAuthorized
            };
            count(&self.shared.account.clients_refused);
            if let Some(local) = &mut self.local {
                local.mqtt.reject(reason, ConnAckProperties::default());
            }
            self.handle_local();
            return;
        }
        if !transient {
            self.end_local(ReasonCode::NotAuthorized);
            self.give_up();
            return;
        }
        let backoff = &self.shared.backoff;
        let wait = backoff.wait(self.attempt, &mut rand::rng());
        self.attempt = self.attempt.saturating_add(1);
        if let Upstream::Idle(session) = &mut self.upstream {
            let session = std::mem::take(session);
            self.upstream = Upstream::Waiting(session, Instant::now() + wait);
        }
    }

    /// A connection to the broker stands.
    fn begin(&mut self, opened: Opened) {
        let Opened {
            link,
            connack,
            forgotten,
        } = opened;
        self.upstream = Upstream::Up(Box::new(link));
        self.upstream_number += 1;
        self.attempt = 0;
        let present = connack.session_present;
        let mut settled = Vec::new();
        self.upward.send_again(forgotten, &mut settled);
        self.settle(settled);
        if let Some(admission) = self.admission.take() {
            self.let_in(admission, present);
        } else if !present && self.requests.unknown {
            // What it had subscribed to is not known: it has to do so again.
            self.expiry = 0;
            self.end_local(ReasonCode::UnspecifiedError);
            return;
        }
        self.requests.reconnected(present);
    }

    /// The broker has let the client in, and so does the gateway.
    fn let_in(&mut self, admission: Admission, present: bool) {
        let fresh = self.opener.is_none();
        if !present {
            self.forget();
        } else if fresh && self.local_number == 1 {
            // The broker remembers more than this program.
            self.requests.unknown = true;
            self.requests.ask_for_all_key_frames(&self.shared.rules);
        }
        count(&self.shared.account.clients);
        let properties = ConnAckProperties {
            assigned_client_identifier: admission.assigned,
            ..ConnAckProperties::default()
        };
        let session = std::mem::take(&mut self.local_session);
        if let Some(local) = &mut self.local {
            tracing::info!(client = %self.client_id.escape_debug(), peer = %local.peer, session_present = present, "local client connected");
            local
                .mqtt
                .accept(Instant::now(), session, present, properties);
        }
    }

    fn handle_upstream(&mut self) -> Option<String> {
        loop {
            let Upstream::Up(link) = &mut self.upstream else {
                return None;
            };
            match link.mqtt.poll_event()? {
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
                client::Event::Closed(closed) => return Some(link::loss(&closed).to_string()),
                client::Event::Connected { .. }
                | client::Event::Received { .. }
                | client::Event::Released { .. }
                | client::Event::Auth(_) => {}
            }
        }
    }

    /// The broker has sent a message.
    fn on_relayed(&mut self, publish: &Publish) {
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

    fn opener(&mut self) -> Option<&mut Opener> {
        if self.opener.is_none() {
            let config = OpenerConfig {
                key_bytes: KEY_BYTES,
                waiting_messages: MAX_SEALED,
                waiting_bytes: 1 << 20,
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

    fn handle_verdicts(&mut self) {
        while let Some(verdict) = self.opener.as_mut().and_then(Opener::poll_event) {
            match verdict {
                Verdict::Opened(message) => {
                    if !self.downward.opened(message) {
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
                    match self.downward.refused(&topic, kid, replay) {
                        Some(receipt) => self.owed.push(receipt),
                        // The broker has sent once more what is on its way to the client.
                        None if replay => continue,
                        None => {}
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
                    if let Some(suppressed) = self.shared.account.admit("epoch-ahead") {
                        tracing::warn!(%epoch, %held, suppressed, "messages are sealed for a later epoch: renew this identity");
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells the local client what became of its messages.
    fn settle(&mut self, settled: impl IntoIterator<Item = Settled>) {
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

    fn tell(&mut self, answers: Vec<(Answer, u64)>) {
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
    fn pump(&mut self) {
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

    async fn lose_upstream(&mut self, reason: &str) {
        if let Some(suppressed) = self.shared.account.admit("lost-upstream") {
            tracing::warn!(
                client = %self.client_id.escape_debug(),
                suppressed,
                "lost the connection to the broker: {reason}"
            );
        }
        self.hang_up().await;
        let wait = self.shared.backoff.wait(self.attempt, &mut rand::rng());
        self.attempt = self.attempt.saturating_add(1);
        if let Upstream::Idle(session) = &mut self.upstream {
            let session = std::mem::take(session);
            self.upstream = Upstream::Waiting(session, Instant::now() + wait);
        }
    }

    /// Ends the connection to the broker at once, and keeps what is in flight.
    async fn hang_up(&mut self) {
        let before = std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new()));
        self.upstream = match before {
            Upstream::Up(mut link) => {
                link.say_last_words().await;
                Upstream::Idle(link.mqtt.take_session())
            }
            other => other,
        };
    }

    /// Says goodbye to the broker: nobody is there for whom the connection would be.
    async fn close_upstream(&mut self) {
        let before = std::mem::replace(&mut self.upstream, Upstream::Idle(InFlight::new()));
        self.upstream = match before {
            Upstream::Waiting(session, _) => Upstream::Idle(session),
            Upstream::Up(mut link) => {
                let properties = DisconnectProperties {
                    session_expiry_interval: Some(self.expiry),
                    ..DisconnectProperties::default()
                };
                link.mqtt.disconnect(ReasonCode::Success, properties);
                let session = link.mqtt.take_session();
                let _ = tokio::time::timeout(FAREWELL, link.close(None)).await;
                Upstream::Idle(session)
            }
            other => other,
        };
        if self.expiry == 0 {
            self.give_up();
        }
    }

    /// What could not be sent is lost.
    fn give_up(&mut self) {
        let lost = self.upward.give_up();
        self.shared
            .account
            .dropped
            .fetch_add(lost as u64, Ordering::Relaxed);
    }

    // ---- Time.

    /// When to look again, whatever happens until then.
    fn wake(&self) -> Option<Instant> {
        let local = self
            .local
            .as_ref()
            .and_then(|local| local.mqtt.poll_timeout());
        let upstream = match &self.upstream {
            Upstream::Waiting(_, at) => Some(*at),
            Upstream::Up(link) => link.mqtt.poll_timeout(),
            Upstream::Idle(_) | Upstream::Dialling(_) => None,
        };
        let opener = self
            .opener
            .as_ref()
            .and_then(Opener::poll_timeout)
            .map(|at| {
                let left = at.as_secs().saturating_sub(clock::now().as_secs());
                // The opener counts in whole seconds.
                Instant::now() + Duration::from_secs(left.max(1))
            });
        let absent = if self.local.is_none() {
            [
                self.ends_at,
                self.will_at,
                self.leave_by.filter(|_| !self.upward.is_settled()),
            ]
        } else {
            [None; 3]
        };
        let all = [local, upstream, opener].into_iter().chain(absent);
        all.flatten().min()
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if let Some(local) = &mut self.local {
            local.mqtt.handle_timeout(now);
        }
        if let Upstream::Up(link) = &mut self.upstream {
            link.mqtt.handle_timeout(now);
        }
        if let Upstream::Waiting(_, at) = &self.upstream
            && *at <= now
        {
            self.dial();
        }
        if let Some(opener) = &mut self.opener {
            opener.handle_timeout(clock::now());
            self.handle_verdicts();
        }
        if self.will_at.is_some_and(|at| at <= now) {
            self.publish_will();
        }
        if self.leave_by.is_some_and(|by| by <= now) {
            self.leave_by = None;
        }
    }

    /// The gateway ends: for its clients that is a connection that broke.
    fn stop(&mut self) {
        self.stopping = true;
        self.end_local(ReasonCode::ServerShuttingDown);
    }

    fn is_over(&self) -> bool {
        let away = self.local.is_none() && matches!(self.upstream, Upstream::Idle(_));
        let ended = || {
            let will = self.will.is_some();
            self.expiry == 0 && !will || self.ends_at.is_some_and(|at| at <= Instant::now())
        };
        away && !self.wants_upstream() && (self.stopping || ended())
    }
}

/// What has happened on the way to the broker.
enum News {
    Moved(std::io::Result<Moved>),
    Dialled(Box<Dialled>),
}

impl Upstream {
    /// May be dropped at any time.
    async fn news(&mut self) -> News {
        match self {
            Upstream::Idle(_) | Upstream::Waiting(..) => std::future::pending().await,
            Upstream::Dialling(dialling) => News::Dialled(Box::new(dialling.await)),
            Upstream::Up(link) => News::Moved(link.progress(true).await),
        }
    }

    fn end_of_stream(&mut self) {
        if let Upstream::Up(link) = self {
            link.mqtt.handle_end_of_stream();
        }
    }
}

async fn progress(local: Option<&mut Local>, read: bool) -> std::io::Result<Moved> {
    match local {
        Some(local) => local.progress(read).await,
        None => std::future::pending().await,
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as this session.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Resolves when the broker has the key frame, or never will.
async fn acknowledged(frame: Option<super::seals::Announced>) {
    match frame {
        Some(mut frame) => {
            let _ = frame.wait_for(Option::is_some).await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a payload begins as an envelope does.
fn is_sealed(payload: &[u8]) -> bool {
    !matches!(
        smqtt_format::Envelope::parse(payload),
        Err(smqtt_format::Error::NotAnEnvelope { .. })
    )
}

/// A will that keeps no read buffer alive.
fn detached(will: Will) -> Will {
    Will {
        topic: will.topic.detach(),
        payload: bytes::Bytes::copy_from_slice(&will.payload),
        ..will
    }
}

fn will_publish(will: Will) -> Publish {
    let properties = will.properties;
    Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain,
        topic: will.topic,
        packet_id: None,
        properties: MessageProperties {
            payload_is_utf8: properties.payload_is_utf8,
            message_expiry_interval: properties.message_expiry_interval,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
            user_properties: properties.user_properties,
            content_type: properties.content_type,
            ..MessageProperties::NONE
        }
        .into(),
        payload: will.payload,
    }
}
