//! What the broker sends, on its way to a local client.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smqtt_envelope::Message as Opened;
use smqtt_format::{Envelope, KeyId, Sequence};
use smqtt_proto::packet::{Publish, SubscriptionIds};
use smqtt_proto::{Delivery, Message, PacketId, PublishError, QoS, TopicName, server};

use crate::inbox::Receipt;

/// Messages, and bytes of them, that wait for a local client before the broker is not read any more.
const FULL: usize = 256;
const FULL_BYTES: usize = 1024 * 1024;
/// Bytes that wait for a local client's socket before nothing more is put there.
const HIGH_WATER: usize = 64 * 1024;
/// Messages that wait for their key frames.
pub(super) const MAX_SEALED: usize = 4096;

/// By what a sealed message is known again when the broker sends it once more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    topic: TopicName,
    kid: KeyId,
    sequence: Sequence,
}

/// A message that the opener has.
struct Sealed {
    topic: TopicName,
    name: Option<(KeyId, Sequence)>,
    /// The PUBLISH without its payload.
    publish: Publish,
    receipt: Option<Receipt>,
}

/// A message for the local client.
struct Ready {
    message: Arc<Message>,
    delivery: Delivery,
    name: Option<Name>,
    receipts: Vec<Receipt>,
}

/// A message that the local client has not acknowledged.
struct Flight {
    name: Option<Name>,
    receipts: Vec<Receipt>,
}

/// What follows from a message that was refused.
pub(super) struct Refused {
    /// What is owed to the broker now: nothing for a message that the local client is still to acknowledge and
    /// that the broker has sent once more.
    pub(super) owed: Option<Receipt>,
    /// The broker says itself that it sends it once more.
    pub(super) repeated: bool,
}

/// The messages for one local client, from the broker's PUBLISH to the client's acknowledgement.
#[derive(Default)]
pub(super) struct Downward {
    sealed: VecDeque<Sealed>,
    queue: VecDeque<Ready>,
    bytes: usize,
    in_flight: HashMap<PacketId, Flight>,
}

impl Downward {
    /// Whether so much waits that nothing more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= FULL || self.bytes >= FULL_BYTES
    }

    /// Notes a message that the opener gets.
    pub(super) fn note(&mut self, publish: &Publish, receipt: Option<Receipt>) {
        let name = match Envelope::parse(&publish.payload) {
            Ok(Envelope::Sealed(sealed) | Envelope::Inline { sealed, .. }) => {
                Some((sealed.kid(), sealed.sequence()))
            }
            Ok(Envelope::KeyFrame(_)) | Err(_) => None,
        };
        let topic = publish.topic.detach();
        self.sealed.push_back(Sealed {
            publish: Publish {
                topic: topic.clone(),
                payload: Bytes::new(),
                ..publish.clone()
            },
            topic,
            name,
            receipt,
        });
    }

    /// A message was opened: it goes to the local client. False if it was dropped.
    pub(super) fn opened(&mut self, opened: Opened) -> bool {
        let index = self.sealed.iter().position(|sealed| {
            sealed.topic.as_str() == &*opened.topic
                && sealed.name == Some((opened.kid, opened.sequence))
        });
        let Some(sealed) = index.and_then(|index| self.sealed.remove(index)) else {
            return false;
        };
        let mut publish = sealed.publish;
        publish.payload = opened.payload.into();
        // They spoke of the envelope.
        if publish
            .properties
            .content_type
            .as_ref()
            .is_some_and(|kind| {
                matches!(
                    kind.as_str(),
                    smqtt_format::MEDIA_TYPE | smqtt_format::MEDIA_TYPE_INLINE
                )
            })
        {
            publish.properties.content_type = None;
            publish.properties.payload_is_utf8 = None;
        }
        let name = Name {
            topic: sealed.topic,
            kid: opened.kid,
            sequence: opened.sequence,
        };
        self.enqueue(publish, Some(name), sealed.receipt)
    }

    /// A message that was not sealed passes. False if it was dropped.
    pub(super) fn pass(&mut self, mut publish: Publish, receipt: Option<Receipt>) -> bool {
        publish.topic = publish.topic.detach();
        publish.payload = Bytes::copy_from_slice(&publish.payload);
        self.enqueue(publish, None, receipt)
    }

    fn enqueue(
        &mut self,
        mut publish: Publish,
        name: Option<Name>,
        receipt: Option<Receipt>,
    ) -> bool {
        let subscription_ids: SubscriptionIds = if publish.properties.subscription_ids.is_empty() {
            SubscriptionIds::new()
        } else {
            std::mem::take(&mut publish.properties.subscription_ids)
        };
        let Ok(message) = Message::new(&publish, Instant::now()) else {
            return false;
        };
        self.bytes += message.size();
        self.queue.push_back(Ready {
            message: Arc::new(message),
            delivery: Delivery {
                qos: publish.qos,
                retain: publish.retain,
                subscription_ids,
            },
            name,
            receipts: receipt.into_iter().collect(),
        });
        true
    }

    /// A message was refused by the opener.
    pub(super) fn refused(&mut self, topic: &str, kid: Option<KeyId>, replay: bool) -> Refused {
        let index = match kid {
            // What is no envelope never waits: it is the last that was noted.
            None => self.sealed.len().checked_sub(1),
            Some(kid) => self.sealed.iter().position(|sealed| {
                sealed.topic.as_str() == topic && sealed.name.is_some_and(|(of, _)| of == kid)
            }),
        };
        let Some(sealed) = index.and_then(|index| self.sealed.remove(index)) else {
            return Refused {
                owed: None,
                repeated: false,
            };
        };
        let mut owed = sealed.receipt;
        if replay && let Some((kid, sequence)) = sealed.name {
            let name = Some(Name {
                topic: sealed.topic,
                kid,
                sequence,
            });
            let mut queued = self
                .queue
                .iter_mut()
                .map(|ready| (&ready.name, &mut ready.receipts));
            let mut flying = self
                .in_flight
                .values_mut()
                .map(|flight| (&flight.name, &mut flight.receipts));
            let unsettled = queued
                .find(|(of, _)| **of == name)
                .or_else(|| flying.find(|(of, _)| **of == name));
            if let Some((_, receipts)) = unsettled {
                receipts.extend(owed.take());
            }
        }
        Refused {
            owed,
            repeated: replay && sealed.publish.dup,
        }
    }

    /// Sends as much as the local client takes. Receipts for what it will never acknowledge go to `owed`;
    /// the result is how many messages were sent.
    pub(super) fn pump(&mut self, mqtt: &mut server::Connection, owed: &mut Vec<Receipt>) -> u64 {
        let mut sent = 0;
        while mqtt.outbox().len() < HIGH_WATER {
            let Some(first) = self.queue.front() else {
                break;
            };
            let result = mqtt.publish(Instant::now(), &first.message, first.delivery.clone());
            if matches!(
                result,
                Err(PublishError::WindowFull | PublishError::NotOpen)
            ) {
                break;
            }
            let Some(first) = self.queue.pop_front() else {
                break;
            };
            self.bytes -= first.message.size();
            match result {
                Ok(Some(packet_id)) => {
                    let Ready { name, receipts, .. } = first;
                    self.in_flight.insert(packet_id, Flight { name, receipts });
                    sent += 1;
                }
                Ok(None) => {
                    owed.extend(first.receipts);
                    sent += 1;
                }
                // Too large for it, or expired.
                Err(_) => owed.extend(first.receipts),
            }
        }
        sent
    }

    /// The local client has a message of QoS 2 (PUBREC): the broker is told so.
    pub(super) fn received(&mut self, packet_id: PacketId, owed: &mut Vec<Receipt>) {
        if let Some(flight) = self.in_flight.get_mut(&packet_id) {
            owed.append(&mut flight.receipts);
        }
    }

    /// The local client has settled a message.
    pub(super) fn acknowledged(&mut self, packet_id: PacketId, owed: &mut Vec<Receipt>) {
        if let Some(flight) = self.in_flight.remove(&packet_id) {
            owed.extend(flight.receipts);
        }
    }

    /// The local client has gone: QoS 0 is forgotten. Returns how many messages that were.
    pub(super) fn forget_qos0(&mut self) -> usize {
        let before = self.queue.len();
        self.queue
            .retain(|ready| ready.delivery.qos != QoS::AtMostOnce);
        self.bytes = self.queue.iter().map(|ready| ready.message.size()).sum();
        before - self.queue.len()
    }

    /// The local client's session has ended.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
