//! Seals and opens SMQTT messages: key frames, content keys, sequence windows, and everything a reader remembers.
//!
//! A publisher holds a [`Sealer`] for each of its policies or sets of tags; a reader holds one [`Opener`]. Both are plain state machines: no I/O, no
//! clock, no randomness of their own. The bytes are those of [`smqtt_format`]; `docs/envelope.md` is the normative text.
//!
//! # Invariants
//!
//! - No (key, nonce) pair seals twice, and no message is opened twice (retained ones, marked, excepted).
//! - A pairing and a signature are spent once per key frame; a message costs AES-GCM, and a signature only where the publisher
//!   [signs each](Signing::Each).
//! - Nothing that arrives is an error: it is opened, or [refused](Refusal) for a stated reason and counted, and what comes next
//!   is not affected. Memory stays within stated bounds, whatever arrives.
//!
//! # Example
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use smqtt_envelope::{Event, Opener, OpenerConfig, Sealer, SealerConfig};
//! # use smqtt_pki::{CertificateAuthority, CertificateRequest, DeviceId, IdentityKey, UnixTime, Validity};
//! # use smqtt_policy::{AttributeSet, Epoch, Policy};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut rng = ChaCha20Rng::from_seed([7; 32]);
//! # let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
//! # let days = |n: u64| Validity::starting(now, Duration::from_secs(n * 86_400));
//! # let authority = CertificateAuthority::create("Example", days(3650)?, &mut rng)?;
//! # let id: DeviceId = "sensor-17".parse()?;
//! # let key = IdentityKey::generate(&mut rng);
//! # let request = CertificateRequest::from_pem(&key.csr_pem(&id)?)?;
//! # let issued = authority.issue_device(&request, &id, days(90)?, &mut rng)?;
//! # let identity = Arc::new((key, issued.chain));
//! # let (master, parameters) = smqtt_abe::cp::setup(&mut rng);
//! # let attributes: AttributeSet = "role = technician, site = berlin".parse()?;
//! let epoch = Epoch::new(1);
//! let attribute_key = master.issue(&parameters, &attributes.with_epoch(epoch), &mut rng)?;
//!
//! // The publisher: `identity` is its certificate and key.
//! let policy: Policy = "role = technician and site = berlin".parse()?;
//! let mut sealer = Sealer::new(identity, parameters.clone(), policy, epoch, SealerConfig::default())?;
//! let sealed = sealer.seal("plant/7/temperature", b"21.5", now, &mut rng)?;
//! let announcement = sealed.announce.expect("the first message needs its key frame");
//!
//! // The reader: whatever arrives goes in.
//! let mut opener = Opener::new(authority.trust_anchor().clone(), parameters, attribute_key, OpenerConfig::default())?;
//! opener.handle_publish(&announcement.topic, &announcement.frame, true, now);
//! opener.handle_publish("plant/7/temperature", &sealed.message, false, now);
//!
//! let Some(Event::Opened(message)) = opener.poll_event() else {
//!     panic!("a message");
//! };
//! assert_eq!(message.payload, b"21.5");
//! assert_eq!(message.publisher.as_str(), "sensor-17");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod admission;
mod attempt;
mod config;
mod content_key;
mod error;
mod event;
mod keyring;
mod memory;
mod opener;
mod padding;
mod periods;
mod recipients;
mod refusal;
mod rejected;
mod sealer;
mod waiting;
mod window;

pub use config::{Delivery, OpenerConfig, SealerConfig, Signing};
pub use error::Error;
pub use event::{Access, Arrival, Counters, Event, Message};
pub use memory::WindowRecord;
pub use opener::Opener;
pub use padding::{Padding, Sizes};
pub use refusal::{Refusal, RefusalCounts};
pub use sealer::{Announcement, Sealed, Sealer, Signer};

pub use smqtt_format::{KeyId, Sequence};
