//! Messages of the peer: handed over once, acknowledged in their order.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use super::{Flow, FlowEvent, Owed, wrong_acknowledgement};
use crate::packet::{Ack, Publish};
use crate::{PacketId, PacketType, QoS, ReasonCode, Violation};

impl Flow {
    /// Takes a PUBLISH of the peer. `None`: the message has been handed over before.
    pub(crate) fn receive(&mut self, mut publish: Publish) -> Result<Option<Publish>, Violation> {
        if let Some(alias) = publish.properties.topic_alias {
            self.resolve_alias(alias, &mut publish)?;
        }
        let Some(packet_id) = publish.packet_id else {
            return Ok(Some(publish));
        };
        let qos = publish.qos;
        if qos == QoS::ExactlyOnce && self.receive_again(packet_id)? {
            return Ok(None);
        }
        self.count_received()?;
        if qos == QoS::ExactlyOnce {
            self.session.incoming.begin(packet_id);
        }
        self.owed.push_back(Owed {
            packet_id,
            qos,
            reply: None,
        });
        Ok(Some(publish))
    }

    /// Whether the peer repeats a QoS 2 message that was handed over already (`[MQTT-4.3.3-10]`): then it is
    /// acknowledged again, now or, if the owner has not decided yet, by its decision.
    fn receive_again(&mut self, packet_id: PacketId) -> Result<bool, Violation> {
        let Some(entry) = self.session.incoming.get_mut(packet_id) else {
            return Ok(false);
        };
        let (accepted, counted) = (entry.accepted, entry.counted);
        entry.counted = true;
        if !counted {
            self.count_received()?;
        }
        let qos = QoS::ExactlyOnce;
        if accepted {
            self.owed.push_back(Owed {
                packet_id,
                qos,
                reply: Some(ReasonCode::Success),
            });
            self.settle();
        } else if !self.owed.iter().any(|owed| owed.packet_id == packet_id) {
            self.owed.push_back(Owed {
                packet_id,
                qos,
                reply: None,
            });
        }
        Ok(true)
    }

    fn count_received(&mut self) -> Result<(), Violation> {
        let limit = self.terms.receive_maximum;
        if self.terms.version.is_v5() && self.received >= limit {
            return Err(Violation::ReceiveMaximumExceeded { limit });
        }
        self.received = self.received.saturating_add(1);
        Ok(())
    }

    fn resolve_alias(&mut self, alias: NonZeroU16, publish: &mut Publish) -> Result<(), Violation> {
        let (alias, maximum) = (alias.get(), self.terms.incoming_aliases);
        if alias > maximum {
            return Err(Violation::TopicAliasAboveMaximum { alias, maximum });
        }
        let index = usize::from(alias) - 1;
        if publish.topic.is_aliased() {
            let known = self.incoming_aliases.get(index).and_then(Option::as_ref);
            publish.topic = known.ok_or(Violation::UnknownTopicAlias { alias })?.clone();
        } else {
            if self.incoming_aliases.len() <= index {
                self.incoming_aliases.resize(index + 1, None);
            }
            // A copy: it lives as long as the connection and must not keep the read buffer.
            self.incoming_aliases[index] = Some(publish.topic.detach());
        }
        publish.properties.topic_alias = None;
        Ok(())
    }

    /// The owner's answer to a message that [`Flow::receive`] gave it. Answers leave in the order of the messages,
    /// in whichever order they are given.
    #[inline]
    pub(crate) fn acknowledge(&mut self, packet_id: PacketId, reason: ReasonCode) {
        let waiting = self
            .owed
            .iter_mut()
            .find(|owed| owed.packet_id == packet_id && owed.reply.is_none());
        match waiting {
            Some(owed) => {
                let qos = owed.qos;
                owed.reply = Some(reason);
                if qos == QoS::ExactlyOnce && !reason.is_error() {
                    self.session.incoming.accept(packet_id);
                }
                self.settle();
            }
            // Handed over on an earlier connection and not repeated yet.
            None if reason.is_error() => {
                self.session.incoming.end(packet_id);
            }
            None => self.session.incoming.accept(packet_id),
        }
    }

    /// The owner has refused a message without a word, and closes: when the peer sends it again it is new.
    pub(crate) fn withdraw(&mut self, packet_id: PacketId) {
        self.owed
            .retain(|owed| owed.packet_id != packet_id || owed.reply.is_some());
        self.end_incoming(packet_id);
    }

    /// Sends the answers that are due.
    fn settle(&mut self) {
        while let Some(&Owed {
            packet_id,
            qos,
            reply: Some(reason),
        }) = self.owed.front()
        {
            self.owed.pop_front();
            if qos == QoS::ExactlyOnce {
                self.put_ack(PacketType::PubRec, packet_id, reason);
                // [MQTT-4.3.3-9]: a refused message is over.
                if reason.is_error() {
                    self.end_incoming(packet_id);
                }
            } else {
                self.put_ack(PacketType::PubAck, packet_id, reason);
                self.received = self.received.saturating_sub(1);
            }
        }
        if self.owed.is_empty() && self.owed.capacity() > 64 {
            self.owed = VecDeque::new();
        }
    }

    fn end_incoming(&mut self, packet_id: PacketId) -> bool {
        let entry = self.session.incoming.end(packet_id);
        if entry.is_some_and(|entry| entry.counted) {
            self.received = self.received.saturating_sub(1);
        }
        entry.is_some()
    }

    pub(crate) fn pubrel(&mut self, ack: &Ack) -> Result<Option<FlowEvent>, Violation> {
        let packet_id = ack.packet_id;
        if self
            .session
            .incoming
            .get_mut(packet_id)
            .is_some_and(|entry| !entry.accepted)
        {
            return wrong_acknowledgement(PacketType::PubRel, packet_id);
        }
        if self.held {
            return Ok(Some(FlowEvent::Released { packet_id }));
        }
        let released = self.complete_release(packet_id);
        Ok(released.then_some(FlowEvent::Released { packet_id }))
    }

    /// Forgets a received message whose PUBREL came, and sends PUBCOMP; tells whether it was known.
    pub(crate) fn complete_release(&mut self, packet_id: PacketId) -> bool {
        let known = self.end_incoming(packet_id);
        let reason = match known {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        self.put_ack(PacketType::PubComp, packet_id, reason);
        known
    }
}
