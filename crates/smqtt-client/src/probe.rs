//! Asking a broker whether this device may publish, without saying anything.

use std::sync::Arc;

use bytes::Bytes;
use rand::RngExt as _;
use smqtt_format::{KeyId, MEDIA_TYPE, SealedMessage, Sequence, announce};
use smqtt_proto::QoS;
use smqtt_proto::packet::Publish;

use crate::command::Command;
use crate::ledger::Ledger;
use crate::publisher::{announcement_topic, properties};
use crate::{Client, Error, publishable};

/// What a broker has said to [`Client::may_publish`]: of each, nothing or its reason for a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MayPublish {
    /// Why no message may be published there.
    pub message: Option<String>,
    /// Why no key frame may be announced for messages there.
    pub announcement: Option<String>,
}

impl Client {
    /// Asks the broker whether this device may publish at `topic` and announce key frames for it.
    ///
    /// There is no other way to ask than to do it: what is published, with QoS 1, has the form of a sealed message and nothing in
    /// it, under a key that does not exist, so that readers refuse it as of an unknown key; and the announcement of that key is
    /// cleared, which nobody has made. MQTT 3.1.1 has no word for a refusal, and a broker need not use that of MQTT 5.
    ///
    /// # Errors
    ///
    /// [`Error::Topic`], [`Error::ConnectionLost`], also for a broker that ends the connection instead of an answer.
    pub async fn may_publish(&self, topic: &str) -> Result<MayPublish, Error> {
        let checked = publishable(topic)?;
        let kid = KeyId(rand::rng().random());
        let mut payload = Vec::new();
        SealedMessage::write_head(&mut payload, &kid, Sequence::FIRST, 0);
        payload.extend(rand::rng().random::<[u8; SealedMessage::TAG_LEN]>());
        let announced = announcement_topic(&announce::topic(topic, &kid))?;
        let messages = Arc::new(Ledger::default());
        let mut publish = Publish::new(checked, Bytes::from(payload));
        publish.qos = QoS::AtLeastOnce;
        publish.properties = properties(MEDIA_TYPE, None);
        let mut message = messages.enter();
        let mut retraction = messages.enter();
        let receipts = [message.receipt(), retraction.receipt()];
        let commands = [
            Command::Publish {
                publish,
                entry: message,
            },
            Command::Retract {
                topic: announced,
                entry: retraction,
            },
        ];
        for command in commands {
            let sent = self.commands().send(command).await;
            sent.map_err(|_| self.ended().error())?;
        }
        let mut reasons = [None, None];
        for (place, receipt) in receipts.into_iter().enumerate() {
            match receipt.acknowledged().await {
                Ok(()) => {}
                Err(Error::PublishRefused { reason }) => reasons[place] = Some(reason),
                // Some brokers end the connection behind the first refusal.
                Err(_) if reasons[0].is_some() => break,
                Err(_) => return Err(self.ended().error()),
            }
        }
        let [message, announcement] = reasons;
        Ok(MayPublish {
            message,
            announcement,
        })
    }
}
