//! What handles ask of the connection task.

use std::sync::{Arc, OnceLock};

use smqtt_proto::packet::Publish;
use smqtt_proto::{QoS, TopicFilter, TopicName};
use tokio::sync::oneshot;

use crate::inbox::Inbox;
use crate::ledger::Entry;
use crate::{Error, Loss};

/// Why the connection task has ended, once it has: what a closed channel cannot tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<OnceLock<Loss>>);

impl Ended {
    pub(crate) fn set(&self, loss: &Loss) {
        // The first reason is the reason.
        let _ = self.0.set(loss.clone());
    }

    pub(crate) fn loss(&self) -> Loss {
        self.0.get().cloned().unwrap_or_else(Loss::closed)
    }

    pub(crate) fn error(&self) -> Error {
        Error::ConnectionLost(self.loss())
    }
}

/// One request. The channel that carries them is bounded: who sends faster than the broker takes
/// waits.
#[derive(Debug)]
pub(crate) enum Command {
    /// Publish a message once.
    Publish { publish: Publish, entry: Entry },
    /// Publish a retained key frame, and publish it again on every new connection until it is
    /// retracted: the broker may have lost what it retained.
    Announce { publish: Publish, entry: Entry },
    /// Clear a retained key frame.
    Retract { topic: TopicName, entry: Entry },
    /// Make a subscription, and make it again on every new connection.
    Subscribe(SubscribeCommand),
    /// Ask once more for the key frames of the subscription with this inbox: what is retained comes again.
    AskForFrames(Arc<Inbox>),
    /// Settle what is in flight, then disconnect.
    Disconnect,
}

#[derive(Debug)]
pub(crate) struct SubscribeCommand {
    /// Filters for key frames; empty for a listener that opens nothing.
    pub(crate) announcements: Vec<TopicFilter>,
    /// Filters for messages.
    pub(crate) filters: Vec<TopicFilter>,
    /// The QoS for messages. Key frames always come with QoS 1.
    pub(crate) qos: QoS,
    pub(crate) inbox: Arc<Inbox>,
    /// What the session was subscribed to at an earlier time and is not to be any more.
    pub(crate) unwanted: Vec<TopicFilter>,
    /// Told when every SUBACK is in.
    pub(crate) done: oneshot::Sender<Result<(), Error>>,
}
