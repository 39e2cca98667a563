//! Verified reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use smqtt_envelope::{Counters, Opener};
use smqtt_pki::Identity;
use smqtt_proto::QoS;
use smqtt_proto::packet::Publish;
use tokio::sync::{mpsc, watch};

use crate::ahead::Ahead;
use crate::command::Command;
use crate::credentials::Credentials;
use crate::inbox::{Inbound, Inbox, Receipt};
use crate::keys::{Keys, add_keys};
use crate::received::Deliveries;
#[cfg(feature = "session")]
use crate::session::Keeper;
use crate::{Error, Event, Loss, Properties, Received, clock};

/// Receives what a subscription brings, verified and opened.
///
/// A message that cannot be opened is an event with its reason, never an error: it does not end the
/// subscription. Dropping the subscriber ends it.
pub struct Subscriber {
    inbox: Taker,
    opener: Opener,
    deliveries: Deliveries,
    /// What to open with.
    credentials: watch::Receiver<Arc<Credentials>>,
    /// As of the last look.
    identity: Arc<Identity>,
    /// Whom to tell that messages wait for a renewal.
    ahead: Ahead,
    /// The way to the connection task.
    commands: mpsc::Sender<Command>,
    /// Key frames that were refused may be for this device by now, and have to come again.
    frames_wanted: bool,
    /// What is remembered of a kept session.
    #[cfg(feature = "session")]
    keeper: Option<Keeper>,
}

impl Subscriber {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        opener: Opener,
        credentials: watch::Receiver<Arc<Credentials>>,
        identity: Arc<Identity>,
        ahead: Ahead,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            inbox: Taker::new(inbox),
            opener,
            deliveries: Deliveries::default(),
            credentials,
            identity,
            ahead,
            commands,
            frames_wanted: false,
            #[cfg(feature = "session")]
            keeper: None,
        }
    }

    /// It remembers what it opens beyond its own life.
    #[cfg(feature = "session")]
    pub(crate) fn kept_by(self, keeper: Keeper) -> Self {
        Self {
            keeper: Some(keeper),
            ..self
        }
    }

    /// Everything that was handed out is dealt with: of a [kept session](crate::Options::keep_session), what was opened is
    /// remembered on the disk, and then acknowledged to the broker. Of any other, nothing is to be done.
    ///
    /// It writes to the disk and waits for that. Call it as often as messages may come twice after a crash; a broker sends no more
    /// than its window of unacknowledged messages, 20 of a stock Mosquitto, before it is called.
    ///
    /// # Errors
    ///
    /// [`Error::Session`]: nothing is acknowledged.
    #[cfg(feature = "session")]
    pub fn settle(&mut self) -> Result<(), Error> {
        if let Some(keeper) = &mut self.keeper {
            let receipts = keeper.settle(&self.opener)?;
            if !receipts.is_empty() {
                self.inbox.inbox.settle(receipts);
            }
        }
        Ok(())
    }

    /// Hands a publish to the opener.
    fn open(
        &mut self,
        publish: &Publish,
        #[cfg_attr(not(feature = "session"), allow(unused))] receipt: Option<Receipt>,
    ) -> Result<(), Error> {
        let arrival = self.deliveries.arrive(publish);
        let topic = publish.topic.as_str();
        #[cfg(feature = "session")]
        if let Some(keeper) = &mut self.keeper {
            let payload = (topic, &publish.payload);
            return keeper.open(&mut self.opener, payload, arrival, receipt, clock::now());
        }
        self.opener
            .handle_arrival(topic, &publish.payload, arrival, clock::now());
        Ok(())
    }

    /// A message comes to its end, opened or not.
    fn note(&mut self, event: &smqtt_envelope::Event) {
        match event {
            smqtt_envelope::Event::Refused { tag, .. } => self.deliveries.forget(*tag),
            smqtt_envelope::Event::EpochAhead { epoch, .. } => self.ahead.tell(*epoch),
            _ => {}
        }
        #[cfg(feature = "session")]
        if let Some(keeper) = &mut self.keeper {
            match event {
                smqtt_envelope::Event::Opened(message) => {
                    keeper.opened(message.tag, message.kid, &message.topic);
                }
                smqtt_envelope::Event::Refused { tag, .. } => keeper.done(*tag),
                _ => {}
            }
        }
    }

    /// The next event. Nothing is lost if the returned future is dropped.
    ///
    /// After [`Event::Ended`] every call gives [`Event::Ended`].
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            tokio::select! {
                () = self.inbox.ready() => {}
                () = changed(&mut self.credentials) => self.take_over(),
                () = asked(&self.commands, &self.inbox.inbox), if self.frames_wanted => {
                    self.frames_wanted = false;
                }
                () = waited(&self.opener) => self.opener.handle_timeout(clock::now()),
            }
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.follow();
        loop {
            if let Some(event) = self.opener.poll_event() {
                self.note(&event);
                return Some(match event {
                    smqtt_envelope::Event::Opened(message) => {
                        Event::Message(self.deliveries.received(message))
                    }
                    event => Event::Envelope(event),
                });
            }
            match self.inbox.take()? {
                Inbound::Publish(publish, receipt) => {
                    // Without what is remembered, a message could be opened twice.
                    if let Err(error) = self.open(&publish, receipt) {
                        return Some(Event::Ended(Loss::of(&error)));
                    }
                }
                Inbound::Lost(loss) => return Some(Event::Disconnected(loss)),
                Inbound::Restored => return Some(Event::Reconnected),
                Inbound::Ended(loss) => return Some(Event::Ended(loss)),
            }
        }
    }

    /// Takes over an identity that was renewed in the background, if there is one.
    fn follow(&mut self) {
        if self.credentials.has_changed().unwrap_or(false) {
            self.take_over();
        }
    }

    fn take_over(&mut self) {
        let identity = Arc::clone(&self.credentials.borrow_and_update().identity);
        if Arc::ptr_eq(&identity, &self.identity) {
            return;
        }
        let before = std::mem::replace(&mut self.identity, Arc::clone(&identity));
        if let Err(error) = self.renewed(&identity) {
            tracing::warn!(%error, "the renewed attribute key can not be used");
        }
        self.frames_wanted |= differ(&before, &identity);
        self.ask_for_frames();
    }

    /// Asks, if there is room for it: else [`next`](Self::next) waits for that.
    fn ask_for_frames(&mut self) {
        if self.frames_wanted {
            let asked = Command::AskForFrames(Arc::clone(&self.inbox.inbox));
            self.frames_wanted = self.commands.try_send(asked).is_err();
        }
    }

    /// Takes over the attribute and policy keys of an identity that was renewed: messages that waited for it are opened. So is what the
    /// root has taken back: nothing of it is opened any more.
    ///
    /// # Errors
    ///
    /// [`Error::DamagedIdentity`] if a key can not be read or belongs to other parameters.
    pub fn renewed(&mut self, identity: &Identity) -> Result<(), Error> {
        if let Some(list) = identity.trust_anchor().list() {
            self.opener.revoke(list.serials());
        }
        let keys = Keys::of(identity)?;
        add_keys(&mut self.opener, identity, &keys.parameters, clock::now())
    }

    /// The next opened message; everything else is passed over and only counted.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLost`] when nothing will follow.
    pub async fn next_message(&mut self) -> Result<Received, Error> {
        loop {
            match self.next().await {
                Event::Message(message) => return Ok(message),
                Event::Ended(loss) => return Err(Error::ConnectionLost(loss)),
                _ => {}
            }
        }
    }

    /// The events as a [`Stream`], for programs that work with [`StreamExt`](futures_util::StreamExt): it ends after
    /// [`Event::Ended`].
    ///
    /// ```no_run
    /// # async fn example(subscriber: smqtt_client::Subscriber) {
    /// use futures_util::StreamExt as _;
    /// use smqtt_client::Event;
    ///
    /// tokio::spawn(subscriber.into_stream().for_each(async |event| {
    ///     if let Event::Message(message) = event {
    ///         println!("{}: {:?}", message.topic, message.payload);
    ///     }
    /// }));
    /// # }
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Event> + Send + 'static {
        stream::unfold(Some(self), |subscriber| async move {
            let mut subscriber = subscriber?;
            let event = subscriber.next().await;
            let rest = (!matches!(event, Event::Ended(_))).then_some(subscriber);
            Some((event, rest))
        })
    }

    /// Messages of QoS 0 that were dropped because they came faster than they were taken. They are
    /// reported as missing, too.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inbox.inbox.dropped()
    }

    /// What was opened, refused and missing so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.opener.counters()
    }
}

/// Whether two identities of a device let it read different things, epochs aside.
pub(crate) fn differ(before: &Identity, after: &Identity) -> bool {
    let held = |identity| crate::attributes(identity).map(|held| held.without_epoch());
    match (held(before), held(after)) {
        (Ok(held_before), Ok(held_after)) => {
            held_before != held_after || before.key_policy() != after.key_policy()
        }
        _ => true,
    }
}

/// Resolves when the connection task is asked for the key frames of this inbox again, or there is none any more, which the inbox tells.
async fn asked(commands: &mpsc::Sender<Command>, inbox: &Arc<Inbox>) {
    if let Ok(place) = commands.reserve().await {
        place.send(Command::AskForFrames(Arc::clone(inbox)));
    }
}

/// Resolves when there are others; never if there will be none.
async fn changed(credentials: &mut watch::Receiver<Arc<Credentials>>) {
    if credentials.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Resolves when the opener wants to be told of the time; never if it does not.
async fn waited(opener: &Opener) {
    match opener.poll_timeout() {
        Some(at) => {
            let left = at.as_secs().saturating_sub(clock::now().as_secs());
            // The opener counts in whole seconds.
            tokio::time::sleep(Duration::from_secs(left.max(1))).await;
        }
        None => std::future::pending().await,
    }
}

/// One message as the broker relayed it: nothing is opened, nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// The topic.
    pub topic: String,
    /// The payload: an envelope, or whatever else was published there.
    pub payload: Bytes,
    /// The QoS with which it was delivered.
    pub qos: QoS,
    /// Whether the broker had retained it.
    pub retained: bool,
    /// The properties of MQTT 5.
    pub properties: Properties,
}

/// Receives what a broker relays, unopened: to look at, to store, to pass on.
pub struct Listener(Taker);

impl Listener {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self(Taker::new(inbox))
    }

    /// The next message. Lost and restored connections are passed over. Nothing is lost if the
    /// returned future is dropped.
    ///
    /// # Errors
    ///
    /// Why nothing will follow.
    pub async fn next(&mut self) -> Result<Relayed, Loss> {
        loop {
            match self.0.take() {
                Some(Inbound::Publish(publish, _)) => {
                    return Ok(Relayed {
                        topic: publish.topic.as_str().to_owned(),
                        properties: Properties::of(&publish.properties).unwrap_or_default(),
                        payload: publish.payload,
                        qos: publish.qos,
                        retained: publish.retain,
                    });
                }
                Some(Inbound::Ended(loss)) => return Err(loss),
                Some(Inbound::Lost(_) | Inbound::Restored) => {}
                None => self.0.ready().await,
            }
        }
    }
}

/// The consumer's end of an inbox, with what was taken from it and not handled yet.
struct Taker {
    inbox: Arc<Inbox>,
    taken: VecDeque<Inbound>,
    ended: Option<Loss>,
}

impl Taker {
    fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            taken: VecDeque::new(),
            ended: None,
        }
    }

    fn take(&mut self) -> Option<Inbound> {
        if let Some(loss) = &self.ended {
            return Some(Inbound::Ended(loss.clone()));
        }
        if self.taken.is_empty() && !self.inbox.take(&mut self.taken) {
            return None;
        }
        let next = self.taken.pop_front();
        if let Some(Inbound::Ended(loss)) = &next {
            self.ended = Some(loss.clone());
        }
        next
    }

    async fn ready(&self) {
        self.inbox.ready().await;
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}
