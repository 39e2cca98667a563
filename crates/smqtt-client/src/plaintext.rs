//! Publishing without sealing, for those who say that they mean it.

use std::sync::Arc;

use bytes::Bytes;
use smqtt_proto::packet::Publish;
use smqtt_proto::{QoS, TopicName};
use tokio::sync::mpsc;

use crate::command::{Command, Ended};
use crate::ledger::Ledger;
use crate::{Client, Error, Tally, publishable};

/// Publishes payloads as they are: **everybody between here and there reads them**.
///
/// It exists to measure what sealing costs, and for what is meant for everybody. A
/// [`Subscriber`](crate::Subscriber) refuses such messages; a [`Listener`](crate::Listener) takes them.
pub struct PlaintextPublisher {
    commands: mpsc::Sender<Command>,
    ended: Ended,
    messages: Arc<Ledger>,
}

impl Client {
    /// A publisher that does not seal. The name says what it does; nothing else in this library publishes
    /// plaintext.
    #[must_use]
    pub fn plaintext_publisher(&self) -> PlaintextPublisher {
        PlaintextPublisher {
            commands: self.commands(),
            ended: self.ended(),
            messages: Arc::default(),
        }
    }
}

impl PlaintextPublisher {
    /// Publishes. Returns when the message is handed over to the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Topic`], [`Error::ConnectionLost`].
    pub async fn publish(&self, topic: &str, payload: &[u8], qos: QoS) -> Result<(), Error> {
        self.send(publishable(topic)?, payload, qos).await
    }

    async fn send(&self, topic: TopicName, payload: &[u8], qos: QoS) -> Result<(), Error> {
        let place = self
            .commands
            .reserve()
            .await
            .map_err(|_| self.ended.error())?;
        let mut publish = Publish::new(topic, Bytes::copy_from_slice(payload));
        publish.qos = qos;
        place.send(Command::Publish {
            publish,
            entry: self.messages.enter(),
        });
        Ok(())
    }

    /// Waits until every message is acknowledged, refused or lost, and tells how many of each.
    pub async fn flush(&self) -> Tally {
        self.messages.flushed().await
    }
}
