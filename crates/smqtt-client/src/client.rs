//! The handle on a connection.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smqtt_abe::cp;
use smqtt_envelope::{Opener, OpenerConfig, Sealer, Signer};
use smqtt_format::{STATE_TOPIC, Sealing};
use smqtt_pki::Identity;
use smqtt_policy::{AttributeSet, Epoch, Policy};
use smqtt_proto::{QoS, TopicFilter};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::ahead::Ahead;
use crate::command::{Command, Ended, SubscribeCommand};
use crate::connection::{Certificate, Connection};
use crate::credentials::{Credentials, newer};
use crate::distress::{self, Distress};
use crate::inbox::Inbox;
use crate::keys::{Keys, add_keys, damaged, decoded};
use crate::publisher::Recipients;
#[cfg(feature = "queue")]
use crate::queue::{Courier, Gauge, Store};
#[cfg(feature = "session")]
use crate::session;
use crate::states::AuthorityStates;
use crate::topics::{announcements, subscribable};
use crate::{Error, Listener, Loss, Options, Publisher, PublisherOptions, Subscriber, clock};

/// Commands that wait for the connection task.
const COMMANDS: usize = 256;

/// A connection to a broker, of which publishers and subscribers are made.
///
/// Cheap to clone; all clones share the connection. The connection ends by [`Client::disconnect`],
/// or when the last clone, publisher and subscriber is dropped.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    commands: mpsc::Sender<Command>,
    ended: Ended,
    /// Tells the connection task that a subscriber has taken messages or has gone.
    taken: Arc<Notify>,
    /// How to connect from now on, for the connection task to take.
    certificate: Certificate,
    /// Where the connection task calls when the broker refuses this device.
    distress: Distress,
    /// How full the queue is, if there is one.
    #[cfg(feature = "queue")]
    gauge: Option<Arc<Gauge>>,
    #[cfg(feature = "session")]
    session: Option<Arc<session::Store>>,
    /// Whether the kept session has its subscriber.
    #[cfg(feature = "session")]
    subscribed: std::sync::atomic::AtomicBool,
    /// Whether the broker had the session already.
    resumed: bool,
    task: Mutex<Option<JoinHandle<Result<(), Loss>>>>,
    credentials: watch::Sender<Arc<Credentials>>,
    /// The newest epoch of a message that a subscriber could not open yet.
    ahead: Ahead,
    parameters: cp::PublicParameters,
    close: Duration,
    protocol: smqtt_proto::ProtocolVersion,
}

impl Client {
    /// Connects and returns when the broker has accepted the connection.
    ///
    /// # Errors
    ///
    /// Before any network: [`Error::DamagedIdentity`], [`Error::Option`], [`Error::Address`],
    /// [`Error::InsecureTransport`]. Then [`Error::Unreachable`], [`Error::TimedOut`],
    /// [`Error::Untrusted`], [`Error::Tls`], [`Error::Refused`], [`Error::Protocol`].
    pub async fn connect(
        #[cfg_attr(not(feature = "session"), allow(unused_mut))] mut options: Options,
    ) -> Result<Self, Error> {
        options.checked_broker()?;
        let identity = Arc::clone(&options.identity);
        let keys = Keys::of(&identity)?;
        let credentials = Credentials::of(identity, &keys)?;
        let close = options.timeouts.close;
        let protocol = options.protocol;
        let (commands, requests) = mpsc::channel(COMMANDS);
        #[cfg(feature = "queue")]
        let queue = options.queue.clone();
        #[cfg(feature = "queue")]
        if queue.is_some() && options.reconnect.is_none() {
            return Err(Error::Option(
                "a queue waits for the broker: say how to reconnect".to_owned(),
            ));
        }
        #[cfg(feature = "queue")]
        let store = queue
            .as_ref()
            .map(|queue| Store::open(queue.directory(), credentials.identity.device()))
            .transpose()?;
        #[cfg(feature = "session")]
        let session = session_store(&mut options)?;
        let taken = Arc::new(Notify::new());
        let ended = Ended::default();
        let certificate = Certificate::default();
        let distress = Distress::default();
        let online = watch::Sender::new(false);
        #[cfg(feature = "queue")]
        let seen = online.subscribe();
        let connection = Connection::establish(
            options,
            requests,
            ended.clone(),
            Arc::clone(&taken),
            Arc::clone(&certificate),
            distress.clone(),
            online,
        )
        .await?;
        let resumed = connection.was_resumed();
        #[cfg(feature = "queue")]
        let (commands, gauge) = match queue.zip(store) {
            Some((queue, store)) => {
                let gauge = Arc::new(Gauge::new(queue));
                let (handed, taken) = mpsc::channel(COMMANDS);
                let courier = Courier::new(store, Arc::clone(&gauge), taken, commands, seen)?;
                tokio::spawn(courier.run());
                (handed, Some(gauge))
            }
            None => (commands, None),
        };
        let task = tokio::spawn(connection.run());
        Ok(Self(Arc::new(Shared {
            commands,
            ended,
            taken,
            certificate,
            distress,
            #[cfg(feature = "queue")]
            gauge,
            #[cfg(feature = "session")]
            session,
            #[cfg(feature = "session")]
            subscribed: std::sync::atomic::AtomicBool::new(false),
            resumed,
            task: Mutex::new(Some(task)),
            credentials: watch::Sender::new(Arc::new(credentials)),
            ahead: Ahead::default(),
            parameters: keys.parameters,
            close,
            protocol,
        })))
    }

    /// The MQTT version that is spoken.
    #[must_use]
    pub fn protocol(&self) -> smqtt_proto::ProtocolVersion {
        self.0.protocol
    }

    /// Whether the broker had this client's session already when it connected.
    #[must_use]
    pub fn session_was_present(&self) -> bool {
        self.0.resumed
    }

    /// The identity that this client acts under: the renewed one, where it is [kept
    /// renewed](Client::keep_renewed).
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.credentials().identity)
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.credentials.borrow())
    }

    /// The epoch of this client's attribute key.
    pub(crate) fn epoch(&self) -> Epoch {
        self.credentials().epoch
    }

    /// What this client acts under, as it changes.
    pub(crate) fn follow_credentials(&self) -> watch::Receiver<Arc<Credentials>> {
        self.0.credentials.subscribe()
    }

    /// A message of this epoch waits for this client's renewal.
    #[cfg(feature = "gateway")]
    pub(crate) fn tell_ahead(&self, epoch: Epoch) {
        self.0.ahead.tell(epoch);
    }

    /// Resolves with the epoch of a message that waits for this client's renewal.
    pub(crate) async fn epoch_ahead(&self) -> Epoch {
        self.0.ahead.wanted().await
    }

    /// What the connection task calls for, from now on.
    pub(crate) fn distress_calls(&self) -> mpsc::Receiver<distress::Answer> {
        self.0.distress.calls()
    }

    /// Goes on with another identity of this device: publishers, subscribers and the connection.
    pub(crate) fn take_over(&self, identity: Arc<Identity>) -> Result<(), Error> {
        let before = self.credentials();
        let keys = Keys::of(&identity)?;
        if keys.parameters.hash() != self.0.parameters.hash()
            || identity.device() != before.identity.device()
        {
            return Err(damaged(
                &identity,
                "identity.toml",
                &"it is of another device or authority than when this program connected",
            ));
        }
        let mut after = Credentials::of(identity, &keys)?;
        let hash = |credentials: &Credentials| {
            let parameters = credentials.policy_parameters.as_ref();
            parameters.map(smqtt_abe::kp::PublicParameters::hash)
        };
        if hash(&before).is_some() && hash(&after) != hash(&before) {
            return Err(damaged(
                &after.identity,
                "kp-parameters.cbor",
                &"it is not what it was when this program connected",
            ));
        }
        if !after.cast_doubt_on(&before) {
            after.sealing = newer(std::mem::take(&mut after.sealing), &before.sealing);
        }
        if after.has_other_certificate(&before) {
            *self.0.certificate.lock() = Some(Arc::clone(&after.identity));
            self.0.taken.notify_one();
        }
        self.0.credentials.send_replace(Arc::new(after));
        Ok(())
    }

    /// Lets publishers seal by what the authority has said.
    pub(crate) fn seal_by(&self, sealing: Vec<Sealing>) {
        let after = self.credentials().sealing_as(sealing);
        self.0.credentials.send_replace(Arc::new(after));
    }

    /// A publisher that seals with these tags, for the devices whose key policy they satisfy: as
    /// [`Client::publisher`] with [`PublisherOptions::with_tags`].
    ///
    /// # Errors
    ///
    /// As [`Client::publisher`].
    pub fn publisher_with_tags(&self, tags: AttributeSet) -> Result<Publisher, Error> {
        self.publisher(PublisherOptions::with_tags(tags))
    }

    /// A publisher that seals under a policy, or as the options say.
    ///
    /// # Errors
    ///
    /// [`Error::Policy`] if the policy asks for what the schema does not have, [`Error::Tags`] if the tags do,
    /// [`Error::NoKeyPolicies`] for tags where the authority has given no parameters for them,
    /// [`Error::DamagedIdentity`] if the identity's attribute key is of no epoch, [`Error::Seal`] for
    /// options out of their range.
    pub fn publisher(&self, options: impl Into<PublisherOptions>) -> Result<Publisher, Error> {
        let mut options = options.into();
        #[cfg(feature = "queue")]
        if self.0.gauge.is_some() {
            // A frame that was announced may be gone before a message that waited.
            options.config.delivery = smqtt_envelope::Delivery::Inline;
        }
        let delivery = options.config.delivery;
        let credentials = self.0.credentials.subscribe();
        let sealer = self.sealer(options)?;
        Ok(Publisher::new(
            self.0.commands.clone(),
            self.0.ended.clone(),
            sealer,
            delivery,
            credentials,
            #[cfg(feature = "queue")]
            self.0.gauge.clone(),
        ))
    }

    pub(crate) fn sealer(&self, options: PublisherOptions) -> Result<Sealer, Error> {
        let PublisherOptions {
            recipients,
            config,
            schema,
        } = options;
        let credentials = self.credentials();
        let schema = schema.as_ref().or(credentials.schema.as_ref());
        let signer: Arc<dyn Signer> = Arc::clone(&credentials.identity) as _;
        let current = credentials.epoch_to_seal(clock::now());
        let sealer = match recipients {
            Recipients::Policy(policy) => {
                let checked = schema.map(|schema| schema.check_policy(&policy));
                checked.transpose().map_err(|reason| Error::Policy {
                    policy: policy.to_string(),
                    reason,
                })?;
                let parameters = self.0.parameters.clone();
                Sealer::new(signer, parameters, policy, current, config)
            }
            Recipients::Tags(tags) => {
                let checked = schema.map(|schema| schema.check_set(&tags));
                checked.transpose().map_err(|reason| Error::Tags {
                    tags: tags.to_string(),
                    reason,
                })?;
                let parameters = credentials.policy_parameters.clone();
                let parameters = parameters.ok_or(Error::NoKeyPolicies)?;
                Sealer::with_tags(signer, parameters, &tags, current, config)
            }
        };
        sealer.map_err(Error::Seal)
    }

    pub(crate) fn opener(&self, config: OpenerConfig) -> Result<Opener, Error> {
        let identity = self.identity();
        let parameters = &self.0.parameters;
        let newest = decoded(&identity, parameters)?;
        let mut opener = Opener::new(
            identity.trust_anchor().clone(),
            parameters.clone(),
            newest,
            config,
        )
        .map_err(Error::Open)?;
        add_keys(&mut opener, &identity, parameters, clock::now())?;
        Ok(opener)
    }

    /// Subscribes to filters, and to the key frames for them first. Returns when the broker has
    /// granted all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Topic`], [`Error::SubscriptionRefused`] with the filter and the broker's reason,
    /// [`Error::ConnectionLost`]; of a client with a [kept session](Options::keep_session), [`Error::Session`], and
    /// [`Error::Option`] for a second subscription.
    pub async fn subscribe<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = F>,
        qos: QoS,
    ) -> Result<Subscriber, Error> {
        self.subscribe_with(filters, qos, OpenerConfig::default())
            .await
    }

    /// As [`Client::subscribe`], with other bounds for the opener.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub async fn subscribe_with<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = F>,
        qos: QoS,
        mut config: OpenerConfig,
    ) -> Result<Subscriber, Error> {
        let filters = parsed(filters)?;
        // Each member of a shared subscription gets its share only: gaps are no loss.
        config.report_missing &= filters.iter().all(|filter| !filter.is_shared());
        let frames = filters
            .iter()
            .map(announcements)
            .collect::<Result<Vec<_>, _>>()?;
        let credentials = self.0.credentials.subscribe();
        let identity = self.identity();
        let opener = self.opener(config)?;
        let ahead = self.0.ahead.clone();
        let subscriber = |inbox| {
            let commands = self.0.commands.clone();
            Subscriber::new(inbox, opener, credentials, identity, ahead, commands)
        };
        #[cfg(feature = "session")]
        if let Some(store) = &self.0.session {
            let inbox = self.resume(store, frames, filters, qos).await?;
            let keeper = session::Keeper::new(Arc::clone(store));
            return Ok(subscriber(inbox).kept_by(keeper));
        }
        let inbox = self.request(frames, filters, qos).await?;
        Ok(subscriber(inbox))
    }

    /// Receives what the broker relays, unopened and unverified. Returns when the broker has granted
    /// all filters.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub async fn listen<F: AsRef<str>>(
        &self,
        filters: impl IntoIterator<Item = F>,
        qos: QoS,
    ) -> Result<Listener, Error> {
        let inbox = self.request(Vec::new(), parsed(filters)?, qos).await?;
        Ok(Listener::new(inbox))
    }

    /// Follows the state that the authority publishes through this broker: which epoch there is, and from when publishers seal
    /// for it. The broker has to allow subscribing to [`STATE_TOPIC`](smqtt_format::STATE_TOPIC).
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub async fn authority_states(&self) -> Result<AuthorityStates, Error> {
        let topic = TopicFilter::new(STATE_TOPIC).map_err(|error| Error::Topic {
            topic: STATE_TOPIC.to_owned(),
            reason: error.to_string(),
        })?;
        let inbox = self
            .request(Vec::new(), vec![topic], QoS::AtLeastOnce)
            .await?;
        Ok(AuthorityStates::new(
            Listener::new(inbox),
            self.follow_credentials(),
            self.0.parameters.hash(),
        ))
    }

    /// Settles what is in flight, for as long as the close timeout allows, and disconnects.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLost`] if the connection had ended before.
    pub async fn disconnect(self) -> Result<(), Error> {
        let limit = self.0.close;
        // Without a task, another clone waits for it.
        let Some(mut task) = self.0.task.lock().take() else {
            return Ok(());
        };
        // A channel that is closed already has its reason in the task's result.
        let asked = self.0.commands.send(Command::Disconnect);
        let ended = async {
            let _ = asked.await;
            (&mut task).await
        };
        // The task keeps the limit itself, once for what is in flight and once for the goodbye, but
        // may be in the middle of making a connection, or may never come to see the command.
        match tokio::time::timeout(limit * 2, ended).await {
            Ok(Ok(ended)) => ended.map_err(Error::ConnectionLost),
            Ok(Err(error)) => Err(Error::ConnectionLost(Loss::new(error))),
            Err(_) => {
                task.abort();
                let loss = Loss::new("messages were not acknowledged in time");
                Err(Error::ConnectionLost(loss))
            }
        }
    }

    /// The way to the connection task.
    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.0.commands.clone()
    }

    /// Why the connection has ended, once it has.
    pub(crate) fn ended(&self) -> Ended {
        self.0.ended.clone()
    }

    async fn request(
        &self,
        announcements: Vec<smqtt_proto::TopicFilter>,
        filters: Vec<smqtt_proto::TopicFilter>,
        qos: QoS,
    ) -> Result<Arc<Inbox>, Error> {
        let inbox = Arc::new(Inbox::new(Arc::clone(&self.0.taken)));
        let (done, granted) = oneshot::channel();
        let command = SubscribeCommand {
            announcements,
            filters,
            qos,
            inbox,
            unwanted: Vec::new(),
            done,
        };
        self.ask_for(command, granted).await
    }

    async fn ask_for(
        &self,
        command: SubscribeCommand,
        granted: oneshot::Receiver<Result<(), Error>>,
    ) -> Result<Arc<Inbox>, Error> {
        let inbox = Arc::clone(&command.inbox);
        let mut unclaimed = Unclaimed(Some(Arc::clone(&inbox)));
        let lost = || self.0.ended.error();
        let command = Command::Subscribe(command);
        self.0.commands.send(command).await.map_err(|_| lost())?;
        granted.await.map_err(|_| lost())??;
        unclaimed.0 = None;
        Ok(inbox)
    }

    /// Makes the one subscription of a kept session, or goes on with it.
    #[cfg(feature = "session")]
    async fn resume(
        &self,
        store: &session::Store,
        announcements: Vec<TopicFilter>,
        filters: Vec<TopicFilter>,
        qos: QoS,
    ) -> Result<Arc<Inbox>, Error> {
        use std::sync::atomic::Ordering;
        if self.0.subscribed.swap(true, Ordering::Relaxed) {
            return Err(Error::Option(
                "a client with a kept session has one subscription: give it all filters".to_owned(),
            ));
        }
        let wanted = || announcements.iter().chain(&filters);
        let before = store.filters()?;
        let is_wanted = |filter: &str| wanted().any(|wanted| wanted.as_str() == filter);
        // What is written there and is no filter any more the broker does not have either.
        let unwanted = before
            .iter()
            .filter(|filter| !is_wanted(filter))
            .filter_map(|filter| TopicFilter::new(filter.as_str()).ok())
            .collect();
        store.note_filters(wanted().map(TopicFilter::as_str))?;
        let (done, granted) = oneshot::channel();
        let command = SubscribeCommand {
            inbox: Arc::new(Inbox::settled_by_hand(Arc::clone(&self.0.taken))),
            announcements,
            filters,
            qos,
            unwanted,
            done,
        };
        self.ask_for(command, granted).await
    }
}

/// Opens the session of the options, and takes its client id.
#[cfg(feature = "session")]
fn session_store(options: &mut Options) -> Result<Option<Arc<session::Store>>, Error> {
    let Some(session) = &options.session else {
        return Ok(None);
    };
    let device = options.identity.device();
    let store = session::Store::open(session.directory(), device, session::ended(clock::now()))?;
    let new = || crate::connection::client_id(device);
    options.client_id = Some(store.client_id(options.client_id.as_deref(), new)?);
    Ok(Some(Arc::new(store)))
}

/// An inbox whose subscriber does not wait for it any more: it must not fill up and stop the reading.
struct Unclaimed(Option<Arc<Inbox>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(inbox) = &self.0 {
            inbox.abandon();
        }
    }
}

/// A policy alone: announced frames, the default key period.
impl From<Policy> for PublisherOptions {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}

fn parsed<F: AsRef<str>>(
    filters: impl IntoIterator<Item = F>,
) -> Result<Vec<smqtt_proto::TopicFilter>, Error> {
    let filters = filters
        .into_iter()
        .map(|filter| subscribable(filter.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    if filters.is_empty() {
        return Err(Error::Option("give at least one topic filter".to_owned()));
    }
    Ok(filters)
}
