//! What a local client publishes, on its way to the broker.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smqtt_envelope::Delivery as Frames;
use smqtt_format::{MEDIA_TYPE, MEDIA_TYPE_INLINE};
use smqtt_proto::packet::{MessageProperties, Publish};
use smqtt_proto::{
    Delivery, InFlight, Message, MqttString, PacketId, PublishError, QoS, ReasonCode, client,
};

use super::rules::{Retained, Sealing};
use super::seals::{Announced, Seals};
use crate::Error;

/// Messages that wait before no more of QoS 0 are taken.
const MAX_WAITING: usize = 256;
/// Their bytes.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// Bytes that wait for the broker's socket before nothing more is sealed.
const HIGH_WATER: usize = 256 * 1024;

/// Whom to tell what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The identifier that the local client gave it; none with QoS 0.
    pub(super) packet_id: Option<PacketId>,
    pub(super) qos: QoS,
    /// The local connection on which it came.
    pub(super) connection: u64,
}

/// What became of a message.
pub(super) struct Settled {
    pub(super) origin: Origin,
    pub(super) reason: ReasonCode,
    /// Why not, in words, where the reason code does not say it.
    pub(super) detail: Option<String>,
}

/// A message that is not sealed yet.
struct Waiting {
    rule: usize,
    inline: bool,
    publish: Publish,
    origin: Origin,
    /// From when its message expiry interval counts.
    received: Instant,
}

/// A message that is ready for the broker, but for its key frame.
struct Ready {
    message: Arc<Message>,
    delivery: Delivery,
    /// None for a companion whose fate nobody asks for.
    origin: Option<Origin>,
    frame: Option<Announced>,
}

/// The messages of one local client, from being taken to being settled.
#[derive(Default)]
pub(super) struct Upward {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    ready: VecDeque<Ready>,
    in_flight: HashMap<PacketId, Option<Origin>>,
}

impl Upward {
    /// Whether one more message of QoS 0 should be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.ready.len() < MAX_WAITING && self.bytes < MAX_WAITING_BYTES
    }

    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty() && self.in_flight.is_empty()
    }

    /// Messages that are not settled.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.ready.len() + self.in_flight.len()
    }

    /// Takes a message that rule number `rule` allows.
    pub(super) fn push(
        &mut self,
        rule: usize,
        sealing: &Sealing,
        mut publish: Publish,
        origin: Origin,
    ) {
        if sealing.retained == Retained::Clear {
            publish.retain = false;
        }
        let properties = std::mem::take(&mut publish.properties).into_message();
        publish.properties = outward(properties, sealing.properties).into();
        // Kept for a while: not at the cost of the whole read buffer.
        publish.topic = publish.topic.detach();
        publish.payload = Bytes::copy_from_slice(&publish.payload);
        self.bytes += publish.payload.len();
        self.waiting.push_back(Waiting {
            rule,
            inline: publish.retain || sealing.frames == Frames::Inline,
            publish,
            origin,
            received: Instant::now(),
        });
    }

    /// What has to be acknowledged before anything more can be sent.
    pub(super) fn waits_for(&self) -> Option<Announced> {
        let first = self.ready.front()?;
        let frame = first.frame.as_ref()?;
        frame.borrow().is_none().then(|| frame.clone())
    }

    /// Seals and sends as much as the broker takes. What is settled by that goes to `settled`.
    pub(super) fn pump(
        &mut self,
        seals: &Seals,
        mqtt: &mut client::Connection,
        settled: &mut Vec<Settled>,
    ) {
        loop {
            if self.ready.is_empty() {
                if mqtt.outbox().len() >= HIGH_WATER {
                    return;
                }
                let needs_room = |waiting: &Waiting| waiting.publish.qos != QoS::AtMostOnce;
                if mqtt.room() == 0 && self.waiting.front().is_some_and(needs_room) {
                    return;
                }
                let Some(waiting) = self.waiting.pop_front() else {
                    return;
                };
                self.bytes -= waiting.publish.payload.len();
                let origin = waiting.origin;
                if let Err(error) = self.seal(seals, waiting) {
                    settled.push(Settled {
                        origin,
                        reason: ReasonCode::UnspecifiedError,
                        detail: Some(error.to_string()),
                    });
                }
                continue;
            }
            if !self.send_first(mqtt, settled) {
                return;
            }
        }
    }

    /// Sends the first message that is ready. False if it has to wait.
    fn send_first(&mut self, mqtt: &mut client::Connection, settled: &mut Vec<Settled>) -> bool {
        let Some(first) = self.ready.front() else {
            return false;
        };
        if let Some(frame) = &first.frame {
            let refusal = match &*frame.borrow() {
                // Whoever should have told has gone.
                None if frame.has_changed().is_err() => Some("the connection has ended".into()),
                None => return false,
                Some(Ok(())) => None,
                Some(Err(reason)) => Some(Arc::clone(reason)),
            };
            if let Some(reason) = refusal {
                let first = self.ready.pop_front();
                settled.extend(first.and_then(|first| first.origin).map(|origin| Settled {
                    origin,
                    reason: ReasonCode::NotAuthorized,
                    detail: Some(format!("the broker did not take its key frame: {reason}")),
                }));
                return true;
            }
        }
        let (message, delivery) = (&first.message, first.delivery.clone());
        let sent = mqtt.publish(Instant::now(), message, delivery);
        if matches!(sent, Err(PublishError::WindowFull | PublishError::NotOpen)) {
            return false;
        }
        let origin = self.ready.pop_front().and_then(|first| first.origin);
        match (sent, origin) {
            (Ok(Some(packet_id)), origin) => {
                self.in_flight.insert(packet_id, origin);
            }
            (Ok(None), Some(origin)) => settled.push(Settled {
                origin,
                reason: ReasonCode::Success,
                detail: None,
            }),
            (Err(error), Some(origin)) => settled.push(Settled {
                origin,
                reason: match error {
                    PublishError::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
                    PublishError::QoSNotSupported { .. } => ReasonCode::QoSNotSupported,
                    _ => ReasonCode::ImplementationSpecificError,
                },
                detail: Some(error.to_string()),
            }),
            (_, None) => {}
        }
        true
    }

    fn seal(&mut self, seals: &Seals, waiting: Waiting) -> Result<(), Error> {
        let Waiting {
            rule,
            inline,
            publish,
            origin,
            received,
        } = waiting;
        let clears = publish.retain && publish.payload.is_empty();
        let sealed = seals.seal(rule, publish.topic.as_str(), &publish.payload, inline)?;
        let mut envelope = publish.clone();
        envelope.payload = sealed.payload.into();
        let media_type = if inline {
            MEDIA_TYPE_INLINE
        } else {
            MEDIA_TYPE
        };
        if envelope.properties.content_type.is_none() {
            envelope.properties.content_type =
                MqttString::from_bytes(Bytes::from_static(media_type.as_bytes())).ok();
            envelope.properties.payload_is_utf8 = Some(false);
        }
        // The broker forgets what it retains on seeing an empty payload. Readers learn it from a sealed one
        // in front, because anybody can send them an empty one.
        envelope.retain &= !clears;
        self.ready.push_back(ready(
            received,
            &envelope,
            (!clears).then_some(origin),
            sealed.frame,
        )?);
        if clears {
            self.ready
                .push_back(ready(received, &publish, Some(origin), None)?);
        }
        Ok(())
    }

    /// The broker has answered. True if somebody may be told.
    pub(super) fn settle(&mut self, packet_id: PacketId, reason: ReasonCode) -> Option<Settled> {
        let origin = self.in_flight.remove(&packet_id)??;
        Some(Settled {
            origin,
            reason,
            detail: None,
        })
    }

    /// What the broker has forgotten goes out anew, ahead of everything else and as it was sealed: a
    /// reader that has it drops it by its number.
    pub(super) fn send_again(
        &mut self,
        forgotten: Vec<(PacketId, InFlight)>,
        settled: &mut Vec<Settled>,
    ) {
        let mut again = VecDeque::new();
        for (packet_id, state) in forgotten {
            let origin = self.in_flight.remove(&packet_id).flatten();
            match state {
                InFlight::Published { message, delivery } => again.push_back(Ready {
                    message,
                    delivery,
                    origin,
                    frame: None,
                }),
                // The broker has had it: only the end of the handshake is missing.
                InFlight::Released => settled.extend(origin.map(|origin| Settled {
                    origin,
                    reason: ReasonCode::Success,
                    detail: None,
                })),
            }
        }
        again.append(&mut self.ready);
        self.ready = again;
    }

    /// Forgets everything. Returns how many messages that were.
    pub(super) fn give_up(&mut self) -> usize {
        let count = self.len();
        *self = Self::default();
        count
    }
}

fn ready(
    received: Instant,
    publish: &Publish,
    origin: Option<Origin>,
    frame: Option<Announced>,
) -> Result<Ready, Error> {
    let message = Message::new(publish, received)
        .map_err(|error| Error::Option(format!("the message has no valid form: {error}")))?;
    Ok(Ready {
        message: Arc::new(message),
        delivery: Delivery {
            retain: publish.retain,
            ..Delivery::new(publish.qos)
        },
        origin,
        frame,
    })
}

/// The properties that go along in the clear: what request and response and the broker need, and the
/// rest only if the rule says so.
fn outward(properties: MessageProperties, all: bool) -> MessageProperties {
    if all {
        return properties;
    }
    MessageProperties {
        message_expiry_interval: properties.message_expiry_interval,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        ..MessageProperties::NONE
    }
}
