//! What is to be published, what is in flight, and what has to be published again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use smqtt_proto::packet::Publish;
use smqtt_proto::{Delivery, InFlight, Message, PacketId, PublishError, QoS, TopicName};

use crate::ledger::{Entry, Outcome};

/// One message to send.
pub(super) struct Waiting {
    pub(super) message: Arc<Message>,
    pub(super) delivery: Delivery,
    /// Whom to tell. Nobody for a key frame that is only repeated.
    entry: Option<Entry>,
}

/// A message that the broker has not settled.
struct Flight {
    qos: QoS,
    entry: Option<Entry>,
}

/// What to do next.
pub(super) enum Next {
    Nothing,
    Send(Waiting),
}

/// The messages of a client, from being handed over to being settled.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Waiting>,
    in_flight: HashMap<PacketId, Flight>,
    /// Those of QoS 2 among them.
    exactly_once: usize,
    /// Messages of QoS 0 that are not written to the socket yet.
    unwritten: Vec<Entry>,
    /// Key frames that stand, by the topic at which they are announced.
    standing: BTreeMap<TopicName, Arc<Message>>,
}

impl Outgoing {
    pub(super) fn publish(&mut self, publish: &Publish, entry: Entry) {
        self.enqueue(publish, entry);
    }

    /// As `publish`, and remembers the key frame.
    pub(super) fn announce(&mut self, publish: &Publish, entry: Entry) {
        if let Some(message) = self.enqueue(publish, entry) {
            self.standing.insert(publish.topic.clone(), message);
        }
    }

    /// Clears a key frame.
    pub(super) fn retract(&mut self, topic: TopicName, entry: Entry) {
        self.standing.remove(&topic);
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            retain: true,
            ..Publish::new(topic, Vec::new())
        };
        self.enqueue(&publish, entry);
    }

    fn enqueue(&mut self, publish: &Publish, entry: Entry) -> Option<Arc<Message>> {
        match Message::new(publish, Instant::now()) {
            Ok(message) => {
                let message = Arc::new(message);
                self.waiting.push_back(Waiting {
                    message: Arc::clone(&message),
                    delivery: Delivery {
                        retain: publish.retain,
                        ..Delivery::new(publish.qos)
                    },
                    entry: Some(entry),
                });
                Some(message)
            }
            Err(error) => {
                entry.settle(Outcome::Refused(error.to_string()));
                None
            }
        }
    }

    /// The next message that may be sent with so much room in the window, and at most so many of QoS 2
    /// in flight. In the order in which they were handed over: one that has to wait holds those
    /// behind it.
    pub(super) fn next(&mut self, room: usize, exactly_once: usize) -> Next {
        let may_go = self
            .waiting
            .front()
            .is_some_and(|first| match first.delivery.qos {
                QoS::AtMostOnce => true,
                QoS::AtLeastOnce => room > 0,
                QoS::ExactlyOnce => room > 0 && self.exactly_once < exactly_once,
            });
        if !may_go {
            return Next::Nothing;
        }
        self.waiting.pop_front().map_or(Next::Nothing, Next::Send)
    }

    /// Notes how sending went.
    pub(super) fn sent(
        &mut self,
        result: Result<Option<PacketId>, PublishError>,
        mut message: Waiting,
    ) {
        match result {
            Ok(Some(packet_id)) => {
                let qos = message.delivery.qos;
                let entry = message.entry.take();
                self.exactly_once += usize::from(qos == QoS::ExactlyOnce);
                self.in_flight.insert(packet_id, Flight { qos, entry });
            }
            Ok(None) => self.unwritten.extend(message.entry.take()),
            Err(PublishError::WindowFull | PublishError::NotOpen) => {
                self.waiting.push_front(message);
            }
            Err(error) => {
                if let Some(entry) = message.entry.take() {
                    entry.settle(Outcome::Refused(error.to_string()));
                }
            }
        }
    }

    /// The broker has answered.
    pub(super) fn settle(&mut self, packet_id: PacketId, outcome: Outcome) {
        if let Some(entry) = self.land(packet_id) {
            entry.settle(outcome);
        }
    }

    fn land(&mut self, packet_id: PacketId) -> Option<Entry> {
        let flight = self.in_flight.remove(&packet_id)?;
        self.exactly_once -= usize::from(flight.qos == QoS::ExactlyOnce);
        flight.entry
    }

    /// Everything that was sent has left for the socket.
    pub(super) fn written(&mut self) {
        for entry in self.unwritten.drain(..) {
            entry.settle(Outcome::Acknowledged);
        }
    }

    /// A new connection stands. What the broker has forgotten goes out anew, ahead of everything
    /// else: first the key frames that stand, then the messages that were in flight, in their order. A
    /// reader that has one of them already drops it by its sequence number.
    pub(super) fn send_again(
        &mut self,
        forgotten: Vec<(PacketId, InFlight)>,
        session_present: bool,
    ) {
        let mut again = VecDeque::new();
        if !session_present {
            again.extend(self.standing.values().map(|message| Waiting {
                message: Arc::clone(message),
                delivery: Delivery {
                    retain: true,
                    ..Delivery::new(QoS::AtLeastOnce)
                },
                entry: None,
            }));
        }
        for (packet_id, state) in forgotten {
            let entry = self.land(packet_id);
            match state {
                InFlight::Published { message, delivery } => again.push_back(Waiting {
                    message,
                    delivery,
                    entry,
                }),
                // The broker has had it: only the end of the handshake is missing.
                InFlight::Released => {
                    if let Some(entry) = entry {
                        entry.settle(Outcome::Acknowledged);
                    }
                }
            }
        }
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether nothing waits and nothing is in flight.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.unwritten.is_empty()
    }
}
