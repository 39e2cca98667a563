//! An authority, its devices and its readers, repeatable from a seed; and what a hostile relay does to what they send.
// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::Sha256;
use smqtt_abe::cp::{self, AttributeKey, MasterKey, PublicParameters};
use smqtt_envelope::{
    Announcement, Event, KeyId, Message, Opener, OpenerConfig, Refusal, Sealed, Sealer,
    SealerConfig, Signer,
};
use smqtt_format::{
    KeyFrame, KeyFrameContent, SealedMessage, Sequence, UnsignedKeyFrame, announce,
};
use smqtt_pki::{
    CertificateAuthority, CertificateDer, CertificateRequest, IdentityKey, Serial, UnixTime,
    Validity,
};
use smqtt_policy::{AttributeSet, Epoch};

/// When the tests take place.
pub const NOW: u64 = 1_790_000_000;

/// The epoch of everything that says no other.
pub const EPOCH: Epoch = Epoch::new(7);

/// The policy of everything that says no other, in canonical form.
pub const POLICY: &str = "role = technician and site = berlin";

/// Attributes that satisfy [`POLICY`].
pub const TECHNICIAN: &str = "role = technician, site = berlin";

pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub type Device = Arc<(IdentityKey, Vec<CertificateDer<'static>>)>;

pub struct World {
    pub rng: ChaCha20Rng,
    pub authority: CertificateAuthority,
    pub master: MasterKey,
    pub parameters: PublicParameters,
}

impl World {
    pub fn new() -> Self {
        Self::from_seed(1)
    }

    pub fn from_seed(seed: u8) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let validity = Validity::starting(at(NOW - DAY), Duration::from_secs(3650 * DAY));
        let authority =
            CertificateAuthority::create("Test", validity.expect("valid"), &mut rng).expect("made");
        let (master, parameters) = cp::setup(&mut rng);
        Self {
            rng,
            authority,
            master,
            parameters,
        }
    }

    /// A registered device, and its certificate's serial number.
    pub fn device_and_serial(&mut self, name: &str) -> (Device, Serial) {
        self.device_valid_from(name, NOW - HOUR)
    }

    pub fn device(&mut self, name: &str) -> Device {
        self.device_and_serial(name).0
    }

    pub fn device_valid_from(&mut self, name: &str, from: u64) -> (Device, Serial) {
        let id = name.parse().expect("a device name");
        let key = IdentityKey::generate(&mut self.rng);
        let request = CertificateRequest::from_pem(&key.csr_pem(&id).expect("made")).expect("read");
        let validity = Validity::starting(at(from), Duration::from_secs(90 * DAY)).expect("valid");
        let issued = self
            .authority
            .issue_device(&request, &id, validity, &mut self.rng)
            .expect("issued");
        (Arc::new((key, issued.chain)), issued.serial)
    }

    pub fn attribute_key(&mut self, attributes: &str, epoch: Epoch) -> AttributeKey {
        let attributes: AttributeSet = attributes.parse().expect("attributes");
        self.master
            .issue(
                &self.parameters,
                &attributes.with_epoch(epoch),
                &mut self.rng,
            )
            .expect("issued")
    }

    pub fn sealer(&self, device: &Device) -> Sealer {
        self.sealer_with(device, POLICY, SealerConfig::default())
    }

    pub fn sealer_with(&self, device: &Device, policy: &str, config: SealerConfig) -> Sealer {
        let signer: Arc<dyn Signer> = Arc::clone(device) as _;
        let policy = policy.parse().expect("a policy");
        Sealer::new(signer, self.parameters.clone(), policy, EPOCH, config).expect("valid")
    }

    /// A reader that satisfies [`POLICY`].
    pub fn opener(&mut self) -> Opener {
        self.opener_with(TECHNICIAN, OpenerConfig::default())
    }

    pub fn opener_with(&mut self, attributes: &str, config: OpenerConfig) -> Opener {
        let key = self.attribute_key(attributes, EPOCH);
        let anchor = self.authority.trust_anchor().clone();
        Opener::new(anchor, self.parameters.clone(), key, config).expect("valid")
    }

    pub fn seal(&mut self, sealer: &mut Sealer, topic: &str, payload: &[u8]) -> Sealed {
        sealer
            .seal(topic, payload, at(NOW), &mut self.rng)
            .expect("sealed")
    }

    pub fn seal_inline(&mut self, sealer: &mut Sealer, topic: &str, payload: &[u8]) -> Sealed {
        sealer
            .seal_inline(topic, payload, at(NOW), &mut self.rng)
            .expect("sealed")
    }

    /// A publisher's first message: its announcement, and the payload.
    pub fn first(
        &mut self,
        device: &Device,
        topic: &str,
        payload: &[u8],
    ) -> (Announcement, Vec<u8>) {
        let mut sealer = self.sealer(device);
        let sealed = self.seal(&mut sealer, topic, payload);
        (sealed.announce.expect("the first message"), sealed.message)
    }

    /// A frame that says what `change` makes of `frame`, signed by `device`.
    pub fn signed_anew(
        &self,
        frame: &[u8],
        device: &Device,
        change: impl FnOnce(&mut KeyFrameContent<'_>),
    ) -> Vec<u8> {
        let frame = KeyFrame::parse(frame).expect("a frame");
        let mut content = *frame.content();
        change(&mut content);
        let chain: Vec<&[u8]> = device.1.iter().map(AsRef::as_ref).collect();
        let unsigned = UnsignedKeyFrame::new(frame.algorithm(), &chain, &content).expect("valid");
        let signature = device.0.sign(&unsigned.to_be_signed());
        unsigned.finish(&signature).expect("not too long")
    }
}

pub trait Reader {
    /// Takes a publish now; what came of it.
    fn take(&mut self, topic: &str, payload: &[u8]) -> Vec<Event>;
    /// Takes a publish from the broker's store.
    fn take_retained(&mut self, topic: &str, payload: &[u8]) -> Vec<Event>;
    fn take_at(&mut self, topic: &str, payload: &[u8], retained: bool, seconds: u64) -> Vec<Event>;
    /// Takes an announced frame, live.
    fn announce(&mut self, announcement: &Announcement) -> Vec<Event>;
    /// Takes a frame as announced for `topic` under its own name.
    fn announce_frame(&mut self, topic: &str, frame: &[u8]) -> Vec<Event>;
    fn drain(&mut self) -> Vec<Event>;
}

impl Reader for Opener {
    fn take(&mut self, topic: &str, payload: &[u8]) -> Vec<Event> {
        self.take_at(topic, payload, false, NOW)
    }

    fn take_retained(&mut self, topic: &str, payload: &[u8]) -> Vec<Event> {
        self.take_at(topic, payload, true, NOW)
    }

    fn take_at(&mut self, topic: &str, payload: &[u8], retained: bool, seconds: u64) -> Vec<Event> {
        self.handle_publish(topic, payload, retained, at(seconds));
        self.drain()
    }

    fn announce(&mut self, announcement: &Announcement) -> Vec<Event> {
        self.take(&announcement.topic, &announcement.frame)
    }

    fn announce_frame(&mut self, topic: &str, frame: &[u8]) -> Vec<Event> {
        self.take(&announce::topic(topic, &KeyId::of(frame)), frame)
    }

    fn drain(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.poll_event()).collect()
    }
}

/// The one message that was opened.
#[track_caller]
pub fn opened(events: Vec<Event>) -> Message {
    match <[Event; 1]>::try_from(events) {
        Ok([Event::Opened(message)]) => message,
        other => panic!("expected one opened message, found {other:?}"),
    }
}

/// Why the one message was refused.
#[track_caller]
pub fn refused(events: Vec<Event>) -> Refusal {
    match <[Event; 1]>::try_from(events) {
        Ok([Event::Refused { reason, .. }]) => reason,
        other => panic!("expected one refused message, found {other:?}"),
    }
}

/// Why the one key frame was refused.
#[track_caller]
pub fn key_refused(events: Vec<Event>) -> Refusal {
    match <[Event; 1]>::try_from(events) {
        Ok([Event::KeyRefused { reason, .. }]) => reason,
        other => panic!("expected one refused key frame, found {other:?}"),
    }
}

#[track_caller]
pub fn nothing(events: Vec<Event>) {
    assert!(events.is_empty(), "expected no event, found {events:?}");
}

/// What any reader of a policy can do: it holds the key of the frame, and seals what it likes under it.
pub struct Insider {
    cipher: Aes256Gcm,
    iv: [u8; 12],
    topic: String,
    kid: KeyId,
    digest: [u8; 32],
}

impl World {
    pub fn insider(&mut self, frame: &[u8], topic: &str) -> Insider {
        let key = self.attribute_key(TECHNICIAN, EPOCH);
        let content = *KeyFrame::parse(frame).expect("a frame").content();
        let smqtt_format::Access::Policy(policy) = content.access else {
            panic!("a policy");
        };
        let policy = smqtt_policy::Policy::from_canonical(policy).expect("canonical");
        let shared = key
            .decapsulate(
                &self.parameters,
                &policy.at_epoch(EPOCH),
                content.ciphertext,
            )
            .expect("it may");
        let digest = smqtt_format::frame_digest(frame);
        let mut okm = [0; 44];
        Hkdf::<Sha256>::new(Some(&digest), shared.as_bytes())
            .expand_multi_info(&[b"smqtt/1 content", topic.as_bytes()], &mut okm)
            .expect("short");
        let (key, iv) = okm.split_at(32);
        Insider {
            cipher: Aes256Gcm::new_from_slice(key).expect("32 bytes"),
            iv: iv.try_into().expect("12 bytes"),
            topic: topic.to_owned(),
            kid: KeyId::of_digest(&digest),
            digest,
        }
    }
}

impl Insider {
    /// Seals a plaintext as it is, signed by `device` if there is one.
    pub fn seal(&self, sequence: Sequence, plaintext: &[u8], device: Option<&Device>) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[8..].iter_mut().zip(sequence.get().to_be_bytes()) {
            *byte ^= number;
        }
        let mut ciphertext = plaintext.to_vec();
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &Nonce::from(nonce),
                &smqtt_format::enc_structure(&self.topic),
                ciphertext.as_mut_slice().into(),
            )
            .expect("short");
        ciphertext.extend_from_slice(&tag);
        let mut out = Vec::new();
        match device {
            None => SealedMessage::write_head(&mut out, &self.kid, sequence, plaintext.len()),
            Some(device) => {
                let place = SealedMessage::write_signed_head(
                    &mut out,
                    &self.kid,
                    sequence,
                    plaintext.len(),
                );
                let signed = smqtt_format::countersign_structure(
                    &self.topic,
                    &self.digest,
                    sequence,
                    &ciphertext,
                );
                out[place].copy_from_slice(&device.0.sign(&signed));
            }
        }
        out.extend_from_slice(&ciphertext);
        out
    }
}

/// A message with its own signature taken away, as anybody on the way can.
pub fn stripped(message: &[u8]) -> Vec<u8> {
    let sealed = SealedMessage::parse(message).expect("a message");
    let mut out = Vec::new();
    SealedMessage::write_head(
        &mut out,
        &sealed.kid(),
        sealed.sequence(),
        sealed.payload_len(),
    );
    out.extend_from_slice(sealed.ciphertext());
    out
}
