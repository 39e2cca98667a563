//! Attribute-based encryption as a key encapsulation mechanism: FABEO over BLS12-381.
//!
//! A sender encapsulates a fresh 32-byte key under a policy; whoever holds an attribute key that
//! satisfies the policy finds the key again, and nobody else does, however many keys they pool.
//! The crate knows no transport and no file: bytes in, bytes out.
//!
//! **Invariant.** Decapsulation either returns the key that encapsulation returned, or an error that
//! depends on public data alone, or a pseudorandom key. No input makes it panic, and no secret
//! decides a branch or an address.
//!
//! ```
//! use rand::SeedableRng;
//! use smqtt_abe::{Error, cp};
//! use smqtt_policy::{AttributeSet, Epoch, Policy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(7);
//! // The authority; `rng` is a cryptographic generator seeded by the system.
//! let (master, parameters) = cp::setup(&mut rng);
//! let epoch = Epoch::new(1);
//! let doctor: AttributeSet = "role = doctor, dept = icu".parse()?;
//! let visitor: AttributeSet = "role = visitor".parse()?;
//! let doctor = master.issue(&parameters, &doctor.with_epoch(epoch), &mut rng)?;
//! let visitor = master.issue(&parameters, &visitor.with_epoch(epoch), &mut rng)?;
//!
//! // A sender knows the parameters and chooses who may read.
//! let policy: Policy = "role = doctor and (dept = icu or dept = er)".parse()?;
//! let formula = policy.at_epoch(epoch);
//! let (ciphertext, key) = parameters.encapsulate(&formula, &mut rng)?;
//!
//! // A reader finds the same key, or learns that it may not.
//! assert!(doctor.decapsulate(&parameters, &formula, &ciphertext)? == key);
//! assert_eq!(
//!     visitor.decapsulate(&parameters, &formula, &ciphertext).err(),
//!     Some(Error::NotAuthorised)
//! );
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod cp;
pub mod kp;
pub mod limits;

#[cfg(test)]
mod attacks;
mod cache;
mod curve;
mod encoding;
mod error;
mod oracle;
mod setup;
mod share;
mod shared_key;
mod suite;
mod summary;

pub use error::{Error, PointDefect};
pub use shared_key::SharedKey;
pub use suite::Suite;
pub use summary::{Kind, Summary};
