//! One session's interest in one filter, as the trie keeps it.

use smqtt_proto::QoS;

use crate::session::SessionRef;

/// A subscription: who, and with which options. 16 bytes, because there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The session that subscribed.
    pub session: SessionRef,
    /// The subscription identifier, 1 to 268,435,455, or 0 for none.
    identifier: u32,
    options: u8,
}

const QOS: u8 = 0b0011;
const NO_LOCAL: u8 = 0b0100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

impl Subscription {
    /// A subscription with the options of MQTT 3.1.1: maximum `qos` and nothing else.
    pub fn new(session: SessionRef, qos: QoS) -> Self {
        Subscription {
            session,
            identifier: 0,
            options: qos as u8,
        }
    }

    /// With the MQTT 5 options No Local and Retain As Published.
    pub fn with_options(mut self, no_local: bool, retain_as_published: bool) -> Self {
        self.options = self.options & QOS
            | if no_local { NO_LOCAL } else { 0 }
            | if retain_as_published {
                RETAIN_AS_PUBLISHED
            } else {
                0
            };
        self
    }

    /// With a subscription identifier.
    pub fn with_identifier(mut self, identifier: Option<u32>) -> Self {
        self.identifier = identifier.unwrap_or(0);
        self
    }

    /// The maximum QoS granted.
    pub fn qos(&self) -> QoS {
        QoS::from_u8(self.options & QOS).expect("made from a QoS")
    }

    /// Whether the session does not want what it published itself `[MQTT-3.8.3-3]`.
    pub fn no_local(&self) -> bool {
        self.options & NO_LOCAL != 0
    }

    /// Whether the retain flag is forwarded as it was published `[MQTT-3.3.1-12]`.
    pub fn retain_as_published(&self) -> bool {
        self.options & RETAIN_AS_PUBLISHED != 0
    }

    /// The subscription identifier.
    pub fn identifier(&self) -> Option<u32> {
        (self.identifier != 0).then_some(self.identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_kept_in_sixteen_bytes() {
        assert_eq!(size_of::<Subscription>(), 16);
        let session = SessionRef::new(3, 70_000, 9);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (no_local, rap) in [(false, false), (true, false), (false, true), (true, true)] {
                let s = Subscription::new(session, qos)
                    .with_options(no_local, rap)
                    .with_identifier(Some(268_435_455));
                assert_eq!(
                    (s.qos(), s.no_local(), s.retain_as_published()),
                    (qos, no_local, rap)
                );
                assert_eq!((s.session, s.identifier()), (session, Some(268_435_455)));
            }
        }
        assert_eq!(
            Subscription::new(session, QoS::AtMostOnce).identifier(),
            None
        );
    }
}
