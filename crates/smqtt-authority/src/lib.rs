//! The SMQTT key authority: it registers devices, and gives each a certificate and an attribute key.
//!
//! - [`Directory`] is the authority on disk: root key and certificate, ABE master key and parameters, register.
//! - [`Authority`] is the register with its acts: add a device, give out a token, list, audit.
//! - [`Issuer`] holds the secret keys too: it enrols devices and issues server certificates.
//! - [`serve()`] offers enrolment over HTTPS.
//!
//! **Invariants.** A token is consumed if and only if a certificate is recorded: both happen in one transaction. Every
//! act, also one refused, leaves a row in the audit log, in the transaction of the act itself; each row's chain value
//! covers all rows before it. Of refusals in a flood the log gets their number only. Of a token only its SHA-256 is kept, of an attribute key only the fact of its issue.
//!
//! The commands work on the same register as a running service does, at the same time.
//!
//! ```
//! use std::time::Duration;
//! use smqtt_authority::{Actor, Authority, Directory, InitOptions, now};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let parent = tempfile::tempdir()?;
//! # let path = parent.path().join("authority");
//! let directory = Directory::init(&path, &InitOptions::default(), now()).await?;
//! println!("devices pin {}", directory.fingerprint());
//!
//! let authority = Authority::open(directory).await?;
//! let operator = Actor::operator();
//! let (device, attributes) = ("sensor-17".parse()?, "role = sensor, site = berlin");
//! let grant = authority.add_device(&device, attributes, Duration::from_secs(3600), &operator, now()).await?;
//! assert_eq!(grant.token.reveal().len(), 32);
//! assert_eq!(authority.devices().await?.len(), 1);
//! authority.close().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod authority;
mod bounded;
mod clock;
mod directory;
mod enrol;
mod error;
mod http;
mod issuer;
mod limiter;
mod register;
mod serve;

pub use authority::{Authority, Grant};
pub use clock::now;
pub use directory::{Directory, InitOptions};
pub use enrol::Refusal;
pub use error::Error;
pub use issuer::{Issuer, ServerFiles};
pub use limiter::Limiter;
pub use register::audit::{Actor, AuditEntry};
pub use register::{DeviceRecord, DeviceState};
pub use serve::{ServeOptions, Serving, serve};
