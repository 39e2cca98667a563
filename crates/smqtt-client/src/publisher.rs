//! Sealed publishing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smqtt_envelope::{Announcement, Delivery, Padding, Sealer, SealerConfig, Signing};
use smqtt_format::announce::PREFIX;
use smqtt_format::{MEDIA_TYPE, MEDIA_TYPE_INLINE, Sealing, Sequence, sealing_epoch};
use smqtt_pki::UnixTime;
use smqtt_policy::{AttributeSet, Epoch, Policy, Schema};
use smqtt_proto::packet::{Publish, PublishProperties};
use smqtt_proto::{MqttString, QoS, TopicName};
use tokio::sync::{mpsc, watch};

use crate::command::{Command, Ended};
use crate::credentials::{Credentials, newer};
use crate::ledger::Ledger;
use crate::topics::publishable;
use crate::{Error, Properties, Receipt, Tally, clock};

/// How a [`Publisher`] seals: for whom, with which key periods, how readers come by the key frames.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    pub(crate) recipients: Recipients,
    pub(crate) config: SealerConfig,
    pub(crate) schema: Option<Schema>,
}

/// For whom a publisher seals.
#[derive(Clone, Debug)]
pub(crate) enum Recipients {
    /// Devices whose attributes satisfy it.
    Policy(Policy),
    /// Devices whose key policy they satisfy.
    Tags(AttributeSet),
}

impl PublisherOptions {
    /// For the devices whose attributes satisfy `policy`; announced frames and the default key period.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::sealing_for(Recipients::Policy(policy))
    }

    /// For the devices whose key policy `tags` satisfy, together with the topic; announced frames and the default key period.
    /// The frame says the topic, so that each topic has one of its own.
    ///
    /// ```no_run
    /// # async fn example(client: smqtt_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use smqtt_client::PublisherOptions;
    ///
    /// let tags = "site = 4, kind = temperature".parse()?;
    /// let mut publisher = client.publisher(PublisherOptions::with_tags(tags))?;
    /// publisher.publish("plant/7/temperature", "21.5").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_tags(tags: AttributeSet) -> Self {
        Self::sealing_for(Recipients::Tags(tags))
    }

    fn sealing_for(recipients: Recipients) -> Self {
        Self {
            recipients,
            config: SealerConfig::default(),
            schema: None,
        }
    }

    /// How readers come by the key frames. Default: [`Delivery::Announced`].
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.config.delivery = delivery;
        self
    }

    /// How many messages one key frame seals at each topic. Default: 65,535.
    #[must_use]
    pub fn max_messages(mut self, max: Sequence) -> Self {
        self.config.max_messages = max;
        self
    }

    /// How long one key frame is used, in whole seconds. Default: 24 h.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.config.lifetime = lifetime;
        self
    }

    /// What is signed. Default: [`Signing::Session`], each key frame.
    #[must_use]
    pub fn signing(mut self, signing: Signing) -> Self {
        self.config.signing = signing;
        self
    }

    /// To which lengths payloads are padded. Default: [`Padding::Off`].
    #[must_use]
    pub fn padding(mut self, padding: Padding) -> Self {
        self.config.padding = padding;
        self
    }

    /// The schema that the policy or the tags have to keep to, instead of the one that the identity has from its authority.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The sealer's configuration as a whole.
    #[must_use]
    pub fn sealer(mut self, config: SealerConfig) -> Self {
        self.config = config;
        self
    }
}

/// One message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    retain: bool,
    properties: Option<&'a Properties>,
}

impl<'a> Publication<'a> {
    /// A message with QoS 1, not retained.
    #[must_use]
    pub fn new(topic: &'a str, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            topic,
            payload: payload.as_ref(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        }
    }

    /// The quality of service. Default: QoS 1.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the broker keeps it for later subscribers. Default: no.
    ///
    /// A retained message outlives the key period, and its announced frame: it therefore always
    /// carries its frame inline.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// What MQTT 5 carries beside the payload, readable by the broker. Default: nothing. MQTT 3.1.1 has
    /// no place for it: it is left out there.
    #[must_use]
    pub fn properties(mut self, properties: &'a Properties) -> Self {
        self.properties = Some(properties);
        self
    }
}

/// Seals messages under one policy, or with one set of tags, and publishes them.
///
/// The key frame is acknowledged by the broker before the first message under it goes out. Frames
/// are cleared when their period ends and by [`Publisher::close`]; a publisher that is dropped clears
/// them if the connection has room for that, else they expire (MQTT 5) or stay (MQTT 3.1.1).
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    /// Why there is no connection any more.
    ended: Ended,
    sealer: Sealer,
    delivery: Delivery,
    topics: HashMap<Box<str>, TopicName>,
    /// Announcements of ended periods that are still to be cleared.
    over: Vec<TopicName>,
    /// A message whose key frame is not acknowledged yet. It is here and not on the stack so that
    /// nothing is lost when the caller stops waiting.
    held: Option<Held>,
    messages: Arc<Ledger>,
    frames: Arc<Ledger>,
    /// From when to seal for which epoch.
    sealing: Vec<Sealing>,
    /// What to sign and seal with.
    credentials: watch::Receiver<Arc<Credentials>>,
    /// As of the last look.
    current: Arc<Credentials>,
    /// How full the queue is, if there is one.
    #[cfg(feature = "queue")]
    gauge: Option<Arc<crate::queue::Gauge>>,
}

struct Held {
    frame: Option<Receipt>,
    message: Command,
}

/// Topics that a publisher remembers as checked.
const MAX_TOPICS: usize = 4_096;

impl Publisher {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        ended: Ended,
        sealer: Sealer,
        delivery: Delivery,
        mut credentials: watch::Receiver<Arc<Credentials>>,
        #[cfg(feature = "queue")] gauge: Option<Arc<crate::queue::Gauge>>,
    ) -> Self {
        let current = Arc::clone(&credentials.borrow_and_update());
        Self {
            commands,
            ended,
            sealer,
            delivery,
            sealing: current.sealing.clone(),
            credentials,
            current,
            #[cfg(feature = "queue")]
            gauge,
            topics: HashMap::new(),
            over: Vec::new(),
            held: None,
            messages: Arc::default(),
            frames: Arc::default(),
        }
    }

    /// Seals and publishes with QoS 1. Returns when the message is handed over to the connection:
    /// many may be in flight. [`Publisher::flush`] waits for the acknowledgements.
    ///
    /// # Errors
    ///
    /// As [`Publisher::send`].
    pub async fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.send(Publication::new(topic, payload.as_ref())).await
    }

    /// Seals and publishes. Returns when the message is handed over to the connection, which waits
    /// while too many are in flight, and while a new key frame is not acknowledged.
    ///
    /// Nothing is lost if the returned future is dropped: the message is either not sealed at all, or
    /// goes out with the next one or with [`Publisher::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::Topic`] for a topic that cannot be published to, [`Error::Seal`],
    /// [`Error::PublishRefused`] if the broker refuses the key frame, [`Error::ConnectionLost`] if
    /// there will be no connection any more.
    pub async fn send(&mut self, publication: Publication<'_>) -> Result<(), Error> {
        self.hand_over(publication, false).await.map(drop)
    }

    /// As [`Publisher::send`], with a receipt for this very message.
    ///
    /// # Errors
    ///
    /// As [`Publisher::send`].
    pub async fn send_with_receipt(
        &mut self,
        publication: Publication<'_>,
    ) -> Result<Receipt, Error> {
        let receipt = self.hand_over(publication, true).await?;
        Ok(receipt.expect("it was asked for"))
    }

    async fn hand_over(
        &mut self,
        publication: Publication<'_>,
        with_receipt: bool,
    ) -> Result<Option<Receipt>, Error> {
        let topic = self.checked(publication.topic)?;
        self.catch_up().await?;
        #[cfg(feature = "queue")]
        if let Some(gauge) = &self.gauge {
            gauge.admit().await?;
        }
        // The place in the channel comes before the sealing: a number that is used up and not sent
        // would look like a lost message.
        let commands = self.commands.clone();
        let place = commands.reserve().await.map_err(|_| self.ended.error())?;
        // Nothing is waited for from here to the sealing: what holds now holds for the message.
        let now = clock::now();
        self.follow(now)?;
        self.go_on(now)?;

        let inline = publication.retain || self.delivery == Delivery::Inline;
        // Before the sealing, too: what can not be sent must not use up a number.
        let properties = match publication.properties {
            Some(own) => own.to_mqtt(content_type(inline))?.into(),
            None => properties(content_type(inline), None),
        };
        let (topic_name, payload) = (publication.topic, publication.payload);
        // Not held while anything is awaited: the generator stays on its thread, and this future may go to another.
        let sealed = if inline {
            self.sealer
                .seal_inline(topic_name, payload, now, &mut rand::rng())
        } else {
            self.sealer.seal(topic_name, payload, now, &mut rand::rng())
        };
        let sealed = sealed.map_err(Error::Seal)?;
        for ended in &sealed.clear {
            self.over.push(announcement_topic(ended)?);
        }
        #[cfg(feature = "queue")]
        if let Some(gauge) = &self.gauge {
            gauge.add(sealed.message.len() as u64);
        }
        let mut entry = self.messages.enter();
        let receipt = with_receipt.then(|| entry.receipt());
        let message = Command::Publish {
            publish: publish(&topic, sealed.message, properties, &publication),
            entry,
        };
        match sealed.announce {
            None => place.send(message),
            Some(announcement) => {
                let publish = announce(&announcement)?;
                let mut entry = self.frames.enter();
                self.held = Some(Held {
                    frame: Some(entry.receipt()),
                    message,
                });
                place.send(Command::Announce { publish, entry });
            }
        }
        if self.held.is_some() || !self.over.is_empty() {
            self.catch_up().await?;
        }
        Ok(receipt)
    }

    /// Takes back what the broker retains at `topic`: an empty retained message, which is what MQTT has for
    /// it. There is nothing to seal; readers that are there at that moment get it as a message that is no
    /// envelope. It is counted like a message.
    ///
    /// # Errors
    ///
    /// As [`Publisher::send`].
    pub async fn clear(&mut self, topic: &str) -> Result<(), Error> {
        let topic = self.checked(topic)?;
        self.catch_up().await?;
        let place = self.commands.reserve().await;
        place
            .map_err(|_| self.ended.error())?
            .send(Command::Retract {
                topic,
                entry: self.messages.enter(),
            });
        Ok(())
    }

    /// Takes over from when publishers seal for which epoch, epochs ascending, such as from
    /// [`AuthorityState::sealing`](smqtt_format::AuthorityState::sealing). Epochs never go back.
    pub fn set_sealing(&mut self, sealing: Vec<Sealing>) {
        self.sealing = sealing;
    }

    /// The epoch that the next message is sealed for, if it is sent now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch_at(clock::now())
    }

    fn epoch_at(&self, now: UnixTime) -> Epoch {
        let due = sealing_epoch(&self.sealing, now.as_secs()).map(Epoch::new);
        due.map_or(self.sealer.epoch(), |due| due.max(self.sealer.epoch()))
    }

    /// Takes over a renewed identity and what the authority has said of epochs.
    fn follow(&mut self, now: UnixTime) -> Result<(), Error> {
        // Closed, it changes no more.
        if !self.credentials.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let renewed = Arc::clone(&self.credentials.borrow_and_update());
        if renewed.has_other_certificate(&self.current) {
            for ended in self.sealer.set_signer(Arc::clone(&renewed.identity) as _) {
                self.over.push(announcement_topic(&ended)?);
            }
        }
        if renewed.cast_doubt_on(&self.current) {
            self.sealing = renewed.sealing.clone();
            for ended in self.sealer.go_back_to(renewed.epoch_to_seal(now)) {
                self.over.push(announcement_topic(&ended)?);
            }
        } else {
            self.sealing = newer(renewed.sealing.clone(), &self.sealing);
        }
        self.current = renewed;
        Ok(())
    }

    /// Goes on to the epoch whose time has come.
    fn go_on(&mut self, now: UnixTime) -> Result<(), Error> {
        let due = self.epoch_at(now);
        if due > self.sealer.epoch() {
            for ended in self.sealer.set_epoch(due).map_err(Error::Seal)? {
                self.over.push(announcement_topic(&ended)?);
            }
        }
        Ok(())
    }

    /// Sends what an earlier call did not get to: a message that waits for its key frame, and the end
    /// of announcements whose period is over. In this order: who reads the message may still need
    /// nothing but the new frame.
    async fn catch_up(&mut self) -> Result<(), Error> {
        self.release_held().await?;
        while let Some(topic) = self.over.last() {
            let place = self
                .commands
                .reserve()
                .await
                .map_err(|_| self.ended.error())?;
            place.send(Command::Retract {
                topic: topic.clone(),
                entry: self.frames.enter(),
            });
            self.over.pop();
        }
        Ok(())
    }

    /// Sends the message that waits for its key frame, once that is acknowledged.
    async fn release_held(&mut self) -> Result<(), Error> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if let Some(receipt) = &mut held.frame {
            let outcome = receipt.wait().await;
            held.frame = None;
            if let Err(error) = outcome {
                // Without its frame nobody can read the message.
                self.held = None;
                return Err(match error {
                    Error::PublishRefused { reason } => Error::PublishRefused {
                        reason: format!(
                            "{reason}, for the key frame: allow publishing below {}, or send key frames inline",
                            PREFIX
                        ),
                    },
                    other => other,
                });
            }
        }
        let place = self
            .commands
            .reserve()
            .await
            .map_err(|_| self.ended.error())?;
        if let Some(held) = self.held.take() {
            place.send(held.message);
        }
        Ok(())
    }

    /// Key frames made so far: each cost an encapsulation and a signature. A message under one costs
    /// neither.
    #[must_use]
    pub fn frames_made(&self) -> u64 {
        self.sealer.frames_made()
    }

    /// Messages signed so far: none but with [`Signing::Each`].
    #[must_use]
    pub fn messages_signed(&self) -> u64 {
        self.sealer.messages_signed()
    }

    /// Tells how many messages of this publisher the queue has kept, also while one waits for room.
    #[cfg(feature = "queue")]
    #[must_use]
    pub fn kept(&self) -> crate::Kept {
        crate::Kept::new(Arc::clone(&self.messages))
    }

    /// How far the messages have come. Key frames are not counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.messages.read()
    }

    /// Waits until every message is acknowledged, refused or lost, and tells how many of each.
    ///
    /// # Errors
    ///
    /// Those of a message that still waited for its key frame, as [`Publisher::send`].
    pub async fn flush(&mut self) -> Result<Tally, Error> {
        self.catch_up().await?;
        Ok(self.messages.flushed().await)
    }

    /// Flushes, and clears the announced key frames once every message is settled.
    ///
    /// # Errors
    ///
    /// As [`Publisher::flush`]; [`Error::ConnectionLost`] if the frames could not be cleared.
    pub async fn close(mut self) -> Result<Tally, Error> {
        let tally = self.flush().await?;
        let before = self.frames.read().lost;
        for topic in self.sealer.end() {
            self.over.push(announcement_topic(&topic)?);
        }
        self.catch_up().await?;
        if self.frames.flushed().await.lost > before {
            return Err(self.ended.error());
        }
        Ok(tally)
    }

    fn checked(&mut self, topic: &str) -> Result<TopicName, Error> {
        if let Some(name) = self.topics.get(topic) {
            return Ok(name.clone());
        }
        let name = publishable(topic)?;
        if self.topics.len() >= MAX_TOPICS {
            self.topics.clear();
        }
        self.topics.insert(topic.into(), name.clone());
        Ok(name)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let standing = self.sealer.end();
        let standing = standing
            .iter()
            .filter_map(|topic| TopicName::new(topic.as_str()).ok());
        for topic in self.over.drain(..).chain(standing) {
            let entry = self.frames.enter();
            // No room, or no connection: the frame expires by itself.
            let _ = self.commands.try_send(Command::Retract { topic, entry });
        }
    }
}

fn content_type(inline: bool) -> &'static str {
    if inline {
        MEDIA_TYPE_INLINE
    } else {
        MEDIA_TYPE
    }
}

pub(crate) fn announcement_topic(text: &str) -> Result<TopicName, Error> {
    TopicName::new(text).map_err(|error| Error::Topic {
        topic: text.to_owned(),
        reason: error.to_string(),
    })
}

fn publish(
    topic: &TopicName,
    payload: Vec<u8>,
    properties: PublishProperties,
    publication: &Publication<'_>,
) -> Publish {
    Publish {
        dup: false,
        qos: publication.qos,
        retain: publication.retain,
        topic: topic.clone(),
        packet_id: None,
        properties,
        payload: Bytes::from(payload),
    }
}

pub(crate) fn announce(announcement: &Announcement) -> Result<Publish, Error> {
    Ok(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: announcement_topic(&announcement.topic)?,
        packet_id: None,
        properties: properties(MEDIA_TYPE, Some(announcement.expires_in)),
        payload: Bytes::copy_from_slice(&announcement.frame),
    })
}

pub(crate) fn properties(content_type: &'static str, expiry: Option<u32>) -> PublishProperties {
    let mut properties = PublishProperties::default();
    properties.payload_is_utf8 = Some(false);
    properties.message_expiry_interval = expiry;
    properties.content_type =
        MqttString::from_bytes(Bytes::from_static(content_type.as_bytes())).ok();
    properties
}
