//! Why a captured payload can be read, or not, without any network.

use smqtt_envelope::{Event, Message, Opener, OpenerConfig, Refusal};
use smqtt_format::{Access, Envelope, KeyId, announce};
use smqtt_pki::{DeviceId, Identity, UnixTime};
use smqtt_policy::{AttributeSet, Explanation, Policy};

use crate::Error;
use crate::keys::{Keys, add_keys, decoded};

/// A payload as somebody captured it.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// The payload of a PUBLISH: a sealed message, one with its key frame in front, or a key frame alone.
    pub payload: &'a [u8],
    /// The topic of the PUBLISH; `None`: the one that the key frame names.
    pub topic: Option<&'a str>,
    /// The key frame that was announced for it, if it is not in the payload.
    pub frame: Option<&'a [u8]>,
}

/// What an identity makes of a captured payload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Findings {
    /// The opened message, or why it cannot be read. `None` for a key frame alone that opens messages.
    pub outcome: Result<Option<Message>, Refusal>,
    /// The key frame that it names.
    pub kid: Option<KeyId>,
    /// Who signed the key frame, if that was verified.
    pub publisher: Option<DeviceId>,
    /// The topic for which it was looked at.
    pub topic: Option<String>,
    /// The policy, as the key frame has it, verified or not.
    pub policy: Option<String>,
    /// The tags, as the key frame has them, verified or not, without topic and epoch.
    pub tags: Option<String>,
    /// What of the policy this identity holds and lacks; what of this identity's key policy the tags have and lack.
    pub explanation: Option<Explanation>,
    /// The epoch of the key frame.
    pub epoch: Option<u64>,
}

impl Capture<'_> {
    /// Looks at the payload as a reader with this identity does at `now`, and nothing leaves this device.
    ///
    /// # Errors
    ///
    /// [`Error::DamagedIdentity`]. What is wrong with the payload is a finding, not an error.
    pub fn examine(&self, identity: &Identity, now: UnixTime) -> Result<Findings, Error> {
        let keys = Keys::of(identity)?;
        let held = keys.attribute_key.attributes().without_epoch();
        let (frame, sealed) = match Envelope::parse(self.payload) {
            Ok(Envelope::KeyFrame(frame)) => (Some(frame), None),
            Ok(Envelope::Inline { frame, sealed }) => (Some(frame), Some(sealed)),
            Ok(Envelope::Sealed(sealed)) => {
                let frame = self.frame.and_then(|frame| match Envelope::parse(frame) {
                    Ok(Envelope::KeyFrame(frame)) => Some(frame),
                    _ => None,
                });
                (frame, Some(sealed))
            }
            Err(_) => (None, None),
        };
        let content = frame.as_ref().map(smqtt_format::KeyFrame::content);
        let policy = content.and_then(|content| match content.access {
            Access::Policy(text) => Some(text.to_owned()),
            Access::Attributes(_) => None,
        });
        let label = content.and_then(|content| match content.access {
            Access::Policy(_) => None,
            Access::Attributes(encoded) => AttributeSet::decode(encoded).ok(),
        });
        let topic = self
            .topic
            .or(content.map(|content| content.topic))
            .map(str::to_owned);
        let kid = sealed
            .as_ref()
            .map(smqtt_format::SealedMessage::kid)
            .or(frame.as_ref().map(smqtt_format::KeyFrame::kid));
        let explanation = policy
            .as_deref()
            .and_then(|text| Policy::from_canonical(text).ok())
            .map(|policy| policy.explain(&held))
            .or(label
                .as_ref()
                .zip(crate::key_policy(identity)?)
                .map(|(label, policy)| policy.explain(label)));

        let config = OpenerConfig {
            wait: std::time::Duration::ZERO,
            renewal_wait: std::time::Duration::ZERO,
            ..OpenerConfig::default()
        };
        let mut opener = Opener::new(
            identity.trust_anchor().clone(),
            keys.parameters.clone(),
            decoded(identity, &keys.parameters)?,
            config,
        )
        .map_err(Error::Open)?;
        add_keys(&mut opener, identity, &keys.parameters, now)?;
        // Without any topic the message cannot be opened, but everything else can be said.
        let at = topic.as_deref().unwrap_or("unknown");
        if let (Some(frame), Some(kid)) = (&frame, &kid) {
            let announced = announce::topic(at, kid);
            opener.handle_publish(&announced, frame.as_bytes(), true, now);
        }
        if sealed.is_some() || frame.is_none() {
            opener.handle_publish(at, self.payload, true, now);
        }
        opener.handle_timeout(now);

        let mut findings = Findings {
            outcome: Ok(None),
            kid,
            publisher: None,
            topic,
            policy,
            tags: label.map(|label| label.without_topic().without_epoch().to_string()),
            explanation,
            epoch: content.map(|content| content.epoch),
        };
        while let Some(event) = opener.poll_event() {
            match event {
                Event::Opened(message) => {
                    findings.publisher = Some((*message.publisher).clone());
                    findings.outcome = Ok(Some(message));
                }
                Event::Refused {
                    publisher, reason, ..
                }
                | Event::KeyRefused {
                    publisher, reason, ..
                    // A message that is refused with its key frame has that one's reason.
                } if findings.outcome.is_ok() => {
                    findings.publisher = publisher.as_deref().cloned();
                    findings.outcome = Err(reason);
                }
                Event::EpochAhead { epoch, held } => {
                    findings.outcome = Err(Refusal::EpochAhead { epoch, held });
                }
                _ => {}
            }
        }
        Ok(findings)
    }
}
