//! What a payload looks like from outside: envelopes under sealed topics, and announced keys. Nothing
//! here could open one.

use smqtt_format::{Envelope, KeyFrame, KeyId, announce};
use smqtt_pki::DeviceId;

use crate::directory::Identity;

/// Why a payload is not accepted at a sealed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsealed {
    #[error("the payload is no SMQTT envelope")]
    NotAnEnvelope,
    #[error("the payload is not a well-formed SMQTT envelope")]
    Malformed,
    #[error("its publisher has shown no certificate that an envelope could match")]
    NoDevice,
    #[error("the envelope's key was signed by another device than its publisher")]
    AnotherDevice,
}

/// Checks that `payload` is an envelope that `publisher` may have made. `is_anothers` tells whether a key
/// was announced by another device than this.
///
/// # Errors
/// Why not. A key that was never announced here is no reason: its readers have no use for it either.
pub(crate) fn check_sealed(
    publisher: &Identity,
    payload: &[u8],
    is_anothers: impl FnOnce(&KeyId, &DeviceId) -> bool,
) -> Result<(), Unsealed> {
    let (frame, key) = match Envelope::parse(payload) {
        Ok(Envelope::KeyFrame(frame)) => (Some(frame), None),
        Ok(Envelope::Sealed(sealed)) => (None, Some(sealed.kid())),
        Ok(Envelope::Inline { frame, sealed }) => (Some(frame), Some(sealed.kid())),
        Err(smqtt_format::Error::NotAnEnvelope) => return Err(Unsealed::NotAnEnvelope),
        Err(_) => return Err(Unsealed::Malformed),
    };
    let Identity::Device(publisher) = publisher else {
        return Err(Unsealed::NoDevice);
    };
    let others = match (&frame, &key) {
        (Some(frame), Some(key)) if frame.kid() != *key => return Err(Unsealed::Malformed),
        (Some(frame), _) => signer(frame).ok_or(Unsealed::Malformed)? != **publisher,
        (None, Some(key)) => is_anothers(key, publisher),
        (None, None) => false,
    };
    match others {
        true => Err(Unsealed::AnotherDevice),
        false => Ok(()),
    }
}

/// Whether `payload` may be published at a topic below `smqtt/keys/`: only a key frame, at its own
/// topic, of the device itself if it is one. An empty payload clears what is `retained` there, which
/// only the device that has signed it may.
///
/// # Errors
/// Why not.
pub(crate) fn check_announcement(
    publisher: &Identity,
    topic: &str,
    payload: &[u8],
    retained: impl FnOnce() -> Option<DeviceId>,
) -> Result<(), &'static str> {
    let Some((_, key)) = announce::parse(topic) else {
        return Err("topics below smqtt/keys/ end in a key id");
    };
    if payload.is_empty() {
        return match (retained(), publisher) {
            (None, _) => Ok(()),
            (Some(signer), Identity::Device(device)) if signer == **device => Ok(()),
            _ => Err("only the device that has announced a key may withdraw it"),
        };
    }
    let frame = KeyFrame::parse(payload).map_err(|_| "it is no key frame")?;
    if frame.kid() != key {
        return Err("the key frame has another key id than the topic");
    }
    match (signer(&frame), publisher) {
        (None, _) => Err("the key frame's certificate is not a device's"),
        (Some(signer), Identity::Device(device)) if signer != **device => {
            Err("the key frame was signed by another device")
        }
        _ => Ok(()),
    }
}

/// The device whose certificate a frame shows. Readers verify that, and its signature.
fn signer(frame: &KeyFrame<'_>) -> Option<DeviceId> {
    smqtt_pki::named_device(frame.certificates().first()?).ok()
}

/// The device that a retained announcement is of.
pub(crate) fn announcer(payload: &[u8]) -> Option<DeviceId> {
    signer(&KeyFrame::parse(payload).ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smqtt_format::{SealedMessage, Sequence};

    use super::*;

    fn device(name: &str) -> Identity {
        Identity::Device(Arc::new(name.parse().expect("device id")))
    }

    fn sealed() -> Vec<u8> {
        let mut payload = Vec::new();
        SealedMessage::write_head(&mut payload, &KeyId([7; 8]), Sequence::FIRST, 3);
        payload.extend_from_slice(&[0; 3 + SealedMessage::TAG_LEN]);
        payload
    }

    #[test]
    fn only_envelopes_of_their_publisher_are_sealed() {
        let check = |identity: &Identity, payload: &[u8], announced: Option<&str>| {
            check_sealed(identity, payload, |key, publisher| {
                assert_eq!(*key, KeyId([7; 8]));
                announced.is_some_and(|name| name != publisher.as_str())
            })
        };
        let sealed = sealed();
        assert_eq!(check(&device("a"), &sealed, Some("a")), Ok(()));
        assert_eq!(check(&device("a"), &sealed, None), Ok(()));
        assert_eq!(
            check(&device("a"), &sealed, Some("b")),
            Err(Unsealed::AnotherDevice)
        );
        assert_eq!(
            check(&Identity::Anonymous, &sealed, None),
            Err(Unsealed::NoDevice)
        );
        assert_eq!(
            check(&device("a"), b"21.5", None),
            Err(Unsealed::NotAnEnvelope)
        );
        assert_eq!(check(&device("a"), b"", None), Err(Unsealed::NotAnEnvelope));
        let short = &sealed[..sealed.len() - 20];
        assert_eq!(check(&device("a"), short, None), Err(Unsealed::Malformed));
    }

    #[test]
    fn announcements_are_key_frames_and_withdrawn_by_their_device_only() {
        let topic = "smqtt/keys/a/0707070707070707";
        let by = |name: &str| name.parse::<DeviceId>().expect("device id");
        assert!(check_announcement(&device("a"), topic, b"", || Some(by("a"))).is_ok());
        assert!(check_announcement(&device("b"), topic, b"", || Some(by("a"))).is_err());
        assert!(check_announcement(&Identity::Anonymous, topic, b"", || Some(by("a"))).is_err());
        assert!(check_announcement(&device("b"), topic, b"", || None).is_ok());
        assert!(check_announcement(&device("a"), topic, b"plain", || None).is_err());
        assert!(check_announcement(&device("a"), "smqtt/keys/a", b"", || None).is_err());
    }
}
