//! What a well-formed packet of a client may still not ask for.

use super::Connection;
use crate::packet::{Disconnect, Publish, Subscribe};
use crate::{ReasonCode, Violation};

impl Connection {
    pub(super) fn check_publish(&self, publish: &Publish) -> Result<(), Violation> {
        if publish.qos > self.config.maximum_qos {
            return Err(Violation::QoSNotSupported { qos: publish.qos });
        }
        if publish.retain && !self.config.retain_available {
            return Err(Violation::RetainNotSupported);
        }
        if !publish.properties.subscription_ids.is_empty() {
            return Err(Violation::SubscriptionIdInPublish);
        }
        Ok(())
    }

    /// MQTT 3.1.1 has no way to say what is not supported beforehand: there the SUBACK refuses it.
    pub(super) fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), Violation> {
        if !self.flow.terms.version.is_v5() {
            return Ok(());
        }
        let config = &self.config;
        if subscribe.properties.subscription_id.is_some() && !config.subscription_identifiers {
            return Err(Violation::SubscriptionIdsNotSupported);
        }
        for subscription in &subscribe.subscriptions {
            if subscription.filter.is_shared() && !config.shared_subscriptions {
                return Err(Violation::SharedSubscriptionsNotSupported);
            }
            if subscription.filter.has_wildcards() && !config.wildcard_subscriptions {
                return Err(Violation::WildcardSubscriptionsNotSupported);
            }
        }
        Ok(())
    }

    pub(super) fn check_disconnect(&self, disconnect: &Disconnect) -> Result<(), Violation> {
        use ReasonCode as R;
        let reason = disconnect.reason;
        if !matches!(
            reason,
            R::Success
                | R::DisconnectWithWill
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::TopicNameInvalid
                | R::ReceiveMaximumExceeded
                | R::TopicAliasInvalid
                | R::PacketTooLarge
                | R::MessageRateTooHigh
                | R::QuotaExceeded
                | R::AdministrativeAction
                | R::PayloadFormatInvalid
        ) {
            return Err(Violation::ForeignDisconnectReason { reason });
        }
        let expiry = disconnect.properties.session_expiry_interval.unwrap_or(0);
        if expiry > 0 && self.terms.session_expiry == 0 {
            return Err(Violation::SessionExpiryAfterZero);
        }
        Ok(())
    }
}
