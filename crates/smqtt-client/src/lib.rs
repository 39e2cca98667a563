//! The asynchronous SMQTT client: connect, publish sealed, subscribe verified, enrol, renew.
//!
//! A device has an [`Identity`], written by [`enrol`]. With it, it [connects](Client::connect) to any
//! MQTT broker, 3.1.1 or 5, and seals what it [publishes](Client::publisher) under a policy; whoever
//! [subscribes](Client::subscribe) opens what its own attributes satisfy. The broker in between holds
//! no key: a stock Mosquitto will do.
//!
//! # Invariants
//!
//! - No payload leaves unsealed unless that is said in so many words:
//!   [`Client::plaintext_publisher`] is the only call that publishes plaintext.
//! - A policy that asks for what the authority's schema does not have is an error before anything
//!   leaves.
//! - A message that arrives is verified before it is handed out; one that cannot be opened is an
//!   event with its reason and never ends a subscription.
//! - A key frame is acknowledged by the broker before the first message under it goes out, and is
//!   subscribed to before the messages that need it.
//! - Every queue is bounded: who publishes faster than the broker takes waits; who reads slower than
//!   the broker sends makes the connection stop reading.
//! - A private key never leaves the device.
//!
//! A program that runs for long lets [`Client::keep_renewed`] replace certificate and attribute key in time. A [`Client`] may be cloned and
//! shared; every future here may be spawned as a task.
//!
//! # Publish
//!
//! ```no_run
//! # async fn example() -> Result<(), smqtt_client::Error> {
//! use smqtt_client::{Client, Identity, Options, Policy};
//!
//! let sensor = Identity::load("keys/sensor".as_ref())?;
//! let client = Client::connect(Options::new(sensor)?).await?;
//! let policy: Policy = "role = technician and site = berlin".parse().expect("a valid policy");
//! let mut publisher = client.publisher(policy)?;
//! publisher.publish("plant/7/temperature", "21.5").await?;
//! publisher.close().await?;
//! client.disconnect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Subscribe
//!
//! ```no_run
//! # async fn example() -> Result<(), smqtt_client::Error> {
//! use smqtt_client::{Client, Identity, Options, QoS};
//!
//! let anna = Identity::load("keys/anna".as_ref())?;
//! let client = Client::connect(Options::new(anna)?).await?;
//! let mut subscriber = client.subscribe(["plant/+/temperature"], QoS::AtLeastOnce).await?;
//! loop {
//!     let message = subscriber.next_message().await?;
//!     println!("{} from {}: {:?}", message.topic, message.publisher, message.payload);
//! }
//! # }
//! ```
//!
//! [`Subscriber::next`] tells everything else, too: what could not be opened and why, what is missing, a connection that is lost or back.
//! [`Subscriber::into_stream`] makes a `Stream` of that.
#![forbid(unsafe_code)]

mod address;
mod ahead;
mod ask;
mod authority;
mod backoff;
mod client;
mod clock;
mod command;
mod connection;
#[cfg(all(test, feature = "queue", feature = "session"))]
mod corpora;
mod credentials;
#[cfg(any(feature = "queue", feature = "session"))]
mod disk;
mod distress;
mod enrol;
mod error;
mod event;
mod examine;
#[cfg(feature = "gateway")]
pub mod gateway;
mod inbox;
mod keys;
mod ledger;
mod options;
mod plaintext;
mod probe;
mod properties;
mod publisher;
#[cfg(feature = "queue")]
mod queue;
mod received;
mod renew;
mod renewals;
mod requests;
#[cfg(feature = "session")]
mod session;
mod states;
mod subscriber;
mod topics;
mod transport;

pub use address::BrokerAddress;
pub use authority::{Presence, authority_presence, authority_revocations};
pub use backoff::Backoff;
pub use client::Client;
pub use clock::seconds_now;
pub use enrol::{Enrolled, Enrolment, enrol};
pub use error::{Error, ErrorKind, Loss};
pub use event::Event;
pub use examine::{Capture, Findings};
pub use keys::{attributes, key_policy, schema};
pub use ledger::{Receipt, Tally};
pub use options::{Options, Timeouts};
pub use plaintext::PlaintextPublisher;
pub use probe::MayPublish;
pub use properties::Properties;
pub use publisher::{Publication, Publisher, PublisherOptions};
#[cfg(feature = "queue")]
pub use queue::{Kept, Queue, WhenFull};
pub use received::Received;
pub use renew::{Renewed, renew};
pub use renewals::{Renewal, Renewals};
pub use requests::Requester;
#[cfg(feature = "session")]
pub use session::KeptSession;
pub use states::AuthorityStates;
pub use subscriber::{Listener, Relayed, Subscriber};
pub use topics::{publishable, subscribable};

pub use smqtt_envelope::{
    Access, Counters, Delivery, Event as EnvelopeEvent, Message, OpenerConfig, Padding, Refusal,
    RefusalCounts, SealerConfig, Signing,
};
pub use smqtt_format::{AuthorityState, KeyId, Sealing, Sequence, sealing_epoch};
pub use smqtt_pki::{DeviceId, Fingerprint, Identity};
pub use smqtt_policy::{AttributeSet, Epoch, Policy, Schema};
pub use smqtt_proto::{ProtocolVersion, QoS, TopicFilter, TopicName};
