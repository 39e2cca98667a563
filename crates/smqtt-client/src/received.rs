//! An opened message with how it was delivered.

use std::collections::HashMap;
use std::ops::Deref;

use smqtt_envelope::{Arrival, Message};
use smqtt_proto::QoS;
use smqtt_proto::packet::Publish;

use crate::Properties;

/// A verified and opened message. It is, by `Deref`, a [`Message`]: topic, payload, publisher, policy,
/// sequence number; besides it says how MQTT delivered it, which nobody vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// What was opened.
    pub message: Message,
    /// The quality of service of the delivery. Not authenticated.
    pub qos: QoS,
    /// The packet identifier of the delivery; 0 with QoS 0.
    pub packet_id: u16,
    properties: Option<Box<Properties>>,
}

impl Received {
    /// The properties of MQTT 5; empty where there were none. Not authenticated, and not sealed.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        static NONE: Properties = Properties::NONE;
        self.properties.as_deref().unwrap_or(&NONE)
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// What is known of messages while the opener has them: its tag says QoS and packet identifier, and
/// names the properties of those that have any. A message that waits for its key frame keeps its place.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    last: u64,
    properties: HashMap<u64, Box<Properties>>,
}

/// Bits of a tag: 2 for the QoS, 16 for the packet identifier, the rest counts.
const COUNT: u32 = 18;

impl Deliveries {
    /// Notes a publish that goes to the opener.
    pub(crate) fn arrive(&mut self, publish: &Publish) -> Arrival {
        let packet_id = publish.packet_id.map_or(0, |id| u64::from(id.get()));
        self.last += 1;
        let tag = self.last << COUNT | packet_id << 2 | publish.qos as u64;
        let mut kept = 0;
        // Of what the opener takes for itself no tag comes back.
        if !smqtt_format::announce::is_reserved(publish.topic.as_str())
            && let Some(properties) = Properties::of(&publish.properties)
        {
            kept = properties.size();
            self.properties.insert(tag, Box::new(properties));
        }
        Arrival {
            retained: publish.retain,
            tag,
            kept,
        }
    }

    /// The number of an arrival, counted from 1.
    #[cfg(feature = "session")]
    pub(crate) fn number(tag: u64) -> u64 {
        tag >> COUNT
    }

    /// A message was refused: what was known of it goes.
    pub(crate) fn forget(&mut self, tag: u64) {
        if !self.properties.is_empty() {
            self.properties.remove(&tag);
        }
    }

    /// A message was opened.
    pub(crate) fn received(&mut self, message: Message) -> Received {
        let tag = message.tag;
        Received {
            qos: match tag & 3 {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            packet_id: u16::try_from(tag >> 2 & 0xffff).unwrap_or_default(),
            properties: if self.properties.is_empty() {
                None
            } else {
                self.properties.remove(&tag)
            },
            message,
        }
    }
}
