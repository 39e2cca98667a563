//! The task that owns the connection.
//!
//! It alone touches the socket and the protocol's state. Handles send it [`Command`]s through a
//! bounded channel; subscribers take what it puts into their [`Inbox`](crate::inbox::Inbox). In one
//! turn it handles everything that was read, sends everything that is to be sent, and writes the lot
//! at once.

mod coming_back;
pub(crate) mod link;
mod outgoing;
pub(crate) mod stream;
mod subscriptions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt as _;
use smqtt_pki::{DeviceId, Identity};
use smqtt_proto::client::Event;
use smqtt_proto::packet::{ConnAck, UnsubscribeProperties};
use smqtt_proto::{InFlight, MqttString, PacketId, QoS, ReasonCode, Session, TopicFilter, client};
use tokio::sync::{Notify, mpsc, watch};

use crate::command::{Command, Ended};
use crate::distress::Distress;
use crate::inbox::{Inbound, Receipt};
use crate::ledger::Outcome;
use crate::{Backoff, Error, Loss, Options};

use link::{Dialler, Link, Moved, Opened};
use outgoing::{Next, Outgoing};
use subscriptions::Subscriptions;

/// Bytes that wait for the socket before no more commands are taken.
const HIGH_WATER: usize = 1024 * 1024;
/// Commands that are taken at a time.
const BATCH: usize = 128;
/// QoS 2 messages in flight towards an MQTT 3.1.1 broker, which cannot say how many it takes: what
/// clients have always done. Mosquitto acknowledges and drops what is beyond.
const EXACTLY_ONCE_3_1_1: usize = 20;
/// For how long a broker keeps the session of a client that means to come back, in seconds. MQTT 5.
const SESSION_EXPIRY: u32 = 300;

/// Everything that outlives a single connection.
pub(crate) struct Connection {
    dialler: Dialler,
    backoff: Option<Backoff>,
    commands: mpsc::Receiver<Command>,
    ended: Ended,
    /// A subscriber has taken messages, or has gone.
    taken: Arc<Notify>,
    /// How to connect from now on, after this device was renewed.
    certificate: Certificate,
    /// Whether no connection was made with it yet.
    fresh_certificate: bool,
    /// Whom to call when the broker refuses this device.
    distress: Distress,
    /// Whether there is a link, for whoever keeps messages until there is.
    online: watch::Sender<bool>,
    /// Present but between connections.
    link: Option<Link>,
    /// Connections so far.
    number: u64,
    /// Subscribers were told that the connection is lost, and not that it is back.
    away: bool,
    /// Whether the broker takes subscription identifiers, and gives back those of this connection.
    subscription_ids: bool,
    /// Whether the session outlives the program.
    kept: bool,
    /// Nothing is read: what comes is for a subscriber of the kept session that is not there yet.
    held: bool,
    /// Whether the broker had the session when the first connection was made.
    resumed: bool,
    outgoing: Outgoing,
    subscriptions: Subscriptions,
    /// Until when to settle what is in flight before the end.
    closing: Option<Instant>,
    handles_gone: bool,
    receipts: Vec<Receipt>,
}

/// Where a renewed identity is left for the connection task.
pub(crate) type Certificate = Arc<Mutex<Option<Arc<Identity>>>>;

/// Why a link is not served any more.
enum Served {
    /// It stands on a certificate that was replaced.
    Outdated,
    /// Everything is settled.
    Finished,
    Lost(Loss),
}

impl Connection {
    /// Connects for the first time, without retrying.
    pub(crate) async fn establish(
        options: Options,
        commands: mpsc::Receiver<Command>,
        ended: Ended,
        taken: Arc<Notify>,
        certificate: Certificate,
        distress: Distress,
        online: watch::Sender<bool>,
    ) -> Result<Self, Error> {
        let dialler = dialler(&options)?;
        #[cfg(feature = "queue")]
        let waits = options.queue.is_some();
        #[cfg(not(feature = "queue"))]
        let waits = false;
        // With a queue the broker may come later.
        let opened = if waits {
            None
        } else {
            Some(dialler.dial(&mut Session::new()).await?)
        };
        let mut connection = Self {
            dialler,
            backoff: options.reconnect,
            commands,
            ended,
            taken,
            certificate,
            fresh_certificate: false,
            distress,
            online,
            link: None,
            number: 0,
            away: false,
            subscription_ids: false,
            kept: options.keeps_session(),
            held: options.keeps_session(),
            resumed: false,
            outgoing: Outgoing::default(),
            subscriptions: Subscriptions::default(),
            closing: None,
            handles_gone: false,
            receipts: Vec::new(),
        };
        if let Some(opened) = opened {
            connection.begin(opened);
        }
        Ok(connection)
    }

    /// Whether the broker had the session already when the first connection was made.
    pub(crate) fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// Serves the connection, and the ones after it, until the end.
    pub(crate) async fn run(mut self) -> Result<(), Loss> {
        let ended = loop {
            let (loss, session) = match self.serve().await {
                Served::Finished => break self.finish().await,
                Served::Outdated => match self.replace_link().await {
                    None => continue,
                    Some((loss, session)) => (loss, session),
                },
                Served::Lost(loss) => {
                    tracing::info!(%loss, "connection lost");
                    let session = self.last_words().await;
                    (loss, session)
                }
            };
            if let Err(loss) = self.reconnect(loss, session).await {
                break Err(loss);
            }
        };
        let loss = ended.clone().err().unwrap_or_else(Loss::closed);
        tracing::debug!(%loss, "the connection has ended");
        self.ended.set(&loss);
        self.subscriptions.end(&loss);
        ended
    }

    /// Takes a new link into service.
    fn begin(&mut self, opened: Opened) {
        let Opened {
            link,
            connack,
            forgotten,
        } = opened;
        let ConnAck {
            session_present,
            properties,
            ..
        } = *connack;
        tracing::info!(
            broker = %self.dialler.address,
            session_present,
            forgotten = forgotten.len(),
            "connected"
        );
        // Messages that wait in a kept session have identifiers that an earlier program gave.
        self.subscription_ids = !self.kept
            && self.dialler.mqtt.connect.version.is_v5()
            && properties
                .subscription_identifiers_available
                .unwrap_or(true);
        self.number += 1;
        self.fresh_certificate = false;
        if self.number == 1 {
            self.resumed = session_present;
        }
        self.online.send_replace(true);
        // Whoever loses the connection comes back to its session.
        self.dialler.mqtt.connect.clean_start =
            !self.kept && (self.backoff.is_none() || !self.dialler.mqtt.connect.version.is_v5());
        self.link = Some(link);
        self.recover(session_present, forgotten);
    }

    /// Brings the broker to where the last one was: subscriptions, key frames, messages in flight.
    fn recover(&mut self, session_present: bool, forgotten: Vec<(PacketId, InFlight)>) {
        self.outgoing.send_again(forgotten, session_present);
        self.subscriptions.forget_requests();
        if !session_present || self.number == 1 {
            for id in self.subscriptions.ids() {
                self.subscribe(id);
            }
        } else {
            // A subscription whose SUBACK was lost with the connection is asked for again.
            for id in self.subscriptions.unsettled() {
                self.subscribe(id);
            }
        }
        if std::mem::take(&mut self.away) {
            self.subscriptions.tell(|| Inbound::Restored);
        }
    }

    async fn serve(&mut self) -> Served {
        if self.link.is_none() {
            return Served::Lost(Loss::new("there is no connection yet"));
        }
        loop {
            if self.takes_new_certificate() {
                return Served::Outdated;
            }
            if let Some(loss) = self.handle_events() {
                return Served::Lost(loss);
            }
            self.handle_taken();
            self.send_waiting();
            if self.closing.is_none() && self.handles_gone && self.subscriptions.is_empty() {
                self.start_closing();
            }
            let Some(link) = &mut self.link else {
                return Served::Lost(Loss::closed());
            };
            if self.closing.is_some() {
                let settled = self.outgoing.is_settled() && link.is_flushed();
                let late = self.closing.is_some_and(|by| by <= Instant::now());
                if settled || late {
                    return Served::Finished;
                }
            }

            let read = !self.held && !self.subscriptions.is_full();
            let listen = !self.handles_gone
                && self.closing.is_none()
                && self.outgoing.is_idle()
                && link.mqtt.outbox().len() < HIGH_WATER;
            let wake = [link.mqtt.poll_timeout(), self.closing];
            let wake = wake.into_iter().flatten().min();
            let mut batch = Vec::new();
            tokio::select! {
                moved = link.progress(read) => match moved {
                    Ok(Moved::Bytes) => {
                        if link.is_flushed() {
                            self.outgoing.written();
                        }
                    }
                    Ok(Moved::EndOfStream) => {
                        link.mqtt.handle_end_of_stream();
                    }
                    Err(error) => return Served::Lost(Loss::of_stream(&self.dialler.address, error)),
                },
                count = self.commands.recv_many(&mut batch, BATCH), if listen => {
                    self.handles_gone = count == 0;
                    for command in batch {
                        self.handle_command(command);
                    }
                }
                () = self.taken.notified() => {}
                () = sleep_until(wake) => link.mqtt.handle_timeout(Instant::now()),
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Publish { publish, entry } => self.outgoing.publish(&publish, entry),
            Command::Announce { publish, entry } => self.outgoing.announce(&publish, entry),
            Command::Retract { topic, entry } => self.outgoing.retract(topic, entry),
            Command::Subscribe(mut command) => {
                let kept = command.inbox.is_kept();
                let unwanted = std::mem::take(&mut command.unwanted);
                let id = self.subscriptions.add(command);
                self.subscribe(id);
                if kept {
                    self.held = false;
                    self.unsubscribe(unwanted);
                }
            }
            Command::AskForFrames(inbox) => {
                if let Some(id) = self.subscriptions.of(&inbox) {
                    self.request(self.subscriptions.frames(id, self.subscription_ids));
                }
            }
            Command::Disconnect => self.start_closing(),
        }
    }

    fn start_closing(&mut self) {
        self.closing
            .get_or_insert(Instant::now() + self.dialler.timeouts.close);
    }

    /// Sends what waits, as far as the broker's window and the socket's buffer go.
    fn send_waiting(&mut self) {
        let Some(link) = &mut self.link else { return };
        let now = Instant::now();
        let exactly_once = if link.mqtt.version().is_v5() {
            usize::MAX
        } else {
            EXACTLY_ONCE_3_1_1
        };
        while link.mqtt.outbox().len() < HIGH_WATER {
            match self.outgoing.next(link.mqtt.room(), exactly_once) {
                Next::Nothing => break,
                Next::Send(message) => self.outgoing.sent(
                    link.mqtt
                        .publish(now, &message.message, message.delivery.clone()),
                    message,
                ),
            }
        }
    }

    fn handle_events(&mut self) -> Option<Loss> {
        // A subscriber that is full stops the reading of packets, too.
        while !self.held && !self.subscriptions.is_full() {
            let event = self.link.as_mut()?.mqtt.poll_event()?;
            match event {
                Event::Publish(publish) => self.handle_publish(publish),
                Event::Acknowledged { packet_id, reason } => {
                    self.outgoing.settle(packet_id, outcome(reason));
                }
                Event::SubAck(suback) => {
                    let text = suback.properties.reason_string.as_ref();
                    let unwanted = self.subscriptions.granted(
                        suback.packet_id,
                        &suback.reasons,
                        text.map(MqttString::as_str),
                        &mut self.receipts,
                    );
                    self.unsubscribe(unwanted);
                }
                Event::Closed(closed) => return Some(link::loss(&closed)),
                Event::Connected { .. }
                | Event::UnsubAck(_)
                | Event::Received { .. }
                | Event::Released { .. }
                | Event::Auth(_) => {}
            }
        }
        None
    }

    fn handle_publish(&mut self, publish: smqtt_proto::packet::Publish) {
        let receipt = publish.packet_id.map(|packet_id| Receipt {
            packet_id,
            qos: publish.qos,
            connection: self.number,
        });
        self.receipts
            .extend(self.subscriptions.deliver(publish, receipt));
    }

    /// Acknowledges what subscribers have taken, and ends the subscriptions of those that have gone.
    fn handle_taken(&mut self) {
        self.subscriptions.receipts(&mut self.receipts);
        let unwanted = self.subscriptions.sweep(&mut self.receipts);
        self.unsubscribe(unwanted);
        let Some(link) = &mut self.link else { return };
        for receipt in self.receipts.drain(..) {
            // On a new connection the broker sends unacknowledged messages again: an answer to the old
            // sending would be one to another message. QoS 2 keeps its identifier.
            if receipt.connection == self.number || receipt.qos == QoS::ExactlyOnce {
                link.mqtt
                    .acknowledge(receipt.packet_id, ReasonCode::Success);
            }
        }
    }

    fn subscribe(&mut self, id: u32) {
        self.request(self.subscriptions.requests(id, self.subscription_ids));
    }

    /// Without a connection there is nothing to do: every new one subscribes anew.
    fn request(&mut self, requests: Vec<subscriptions::Request>) {
        let Some(link) = &mut self.link else { return };
        for request in requests {
            let sent = link.mqtt.subscribe(
                Instant::now(),
                request.subscriptions.clone(),
                request.properties.clone(),
            );
            match sent {
                Ok(packet_id) => self.subscriptions.sent(&request, packet_id),
                Err(error) => {
                    self.subscriptions.unsendable(&request, error.to_string());
                    return;
                }
            }
        }
    }

    fn unsubscribe(&mut self, filters: Vec<TopicFilter>) {
        if filters.is_empty() {
            return;
        }
        if let Some(link) = &mut self.link {
            let properties = UnsubscribeProperties::default();
            // What can not be unsubscribed keeps coming and is dropped.
            let _ = link.mqtt.unsubscribe(Instant::now(), filters, properties);
        }
    }

    /// Says goodbye.
    async fn finish(&mut self) -> Result<(), Loss> {
        let Some(link) = self.link.take() else {
            return Ok(());
        };
        let open = !self.outgoing.is_settled();
        let limit = self.dialler.timeouts.close;
        let session_expiry = (!self.kept).then_some(0);
        match tokio::time::timeout(limit, link.close(session_expiry)).await {
            // The broker may close first: everything is settled.
            Ok(_) if !open => Ok(()),
            Ok(_) => Err(Loss::new("messages were not acknowledged in time")),
            Err(_) => Err(Loss::new("the broker did not take the DISCONNECT in time")),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task was cut off: nobody may wait for ever.
        self.subscriptions.end(&Loss::closed());
    }
}

fn outcome(reason: ReasonCode) -> Outcome {
    if reason.is_error() {
        Outcome::Refused(reason.to_string())
    } else {
        Outcome::Acknowledged
    }
}

pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A client id that no other program of this device has.
pub(crate) fn client_id(device: &DeviceId) -> String {
    let suffix: u32 = rand::rng().random();
    format!("{device}-{suffix:08x}")
}

pub(crate) fn dialler(options: &Options) -> Result<Dialler, Error> {
    let address = options.checked_broker()?.clone();
    let tls = crate::credentials::tls(&options.identity, &address)?;
    let client_id = options
        .client_id
        .clone()
        .unwrap_or_else(|| client_id(options.identity.device()));
    let text = |what: &str, text: &str| {
        MqttString::new(text).map_err(|error| Error::Option(format!("the {what}: {error}")))
    };
    let mut mqtt = client::Options::new(options.protocol, text("client id", &client_id)?);
    mqtt.connect.keep_alive = whole_seconds(options.keep_alive);
    mqtt.connect.username = options
        .user_name
        .as_deref()
        .map(|name| text("user name", name))
        .transpose()?;
    mqtt.connect.password = options.password.clone().map(smqtt_proto::Credential::new);
    if options.reconnect.is_some() {
        mqtt.connect.properties.session_expiry_interval = Some(SESSION_EXPIRY);
    }
    #[cfg(feature = "session")]
    if let Some(session) = &options.session {
        mqtt.connect.properties.session_expiry_interval = Some(session.expiry_interval());
        mqtt.connect.clean_start = false;
    }
    mqtt.max_packet_size = options.max_packet;
    mqtt.max_in_flight = options.max_in_flight;
    // Mosquitto 2.0 exceeds the receive maximum under load. What comes beyond it is bounded as what comes within: while an
    // inbox is full of bytes, nothing is read.
    mqtt.receive_tolerance = u16::MAX;
    if !options.protocol.is_v5() {
        // MQTT 3.1.1 can only make a broker wait by not reading, which would keep acknowledgements
        // from being read, too. The brokers' own windows bound what is unacknowledged.
        mqtt.receive_maximum = u16::MAX;
    }
    mqtt.handshake_timeout = options.timeouts.mqtt;
    Ok(Dialler {
        address,
        tls,
        timeouts: options.timeouts,
        mqtt,
    })
}

/// Whole seconds, rounded up, as far as MQTT can say.
fn whole_seconds(duration: Duration) -> u16 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u16::try_from(seconds).unwrap_or(u16::MAX)
}
