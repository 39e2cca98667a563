//! The SMQTT key authority: it registers devices, and gives each a certificate and an attribute key.
//!
//! - [`Directory`] is the authority on disk: root key and certificate, ABE master key and parameters, register.
//! - [`Authority`] is the register with its acts: add a device, give out a token, list, audit; profiles and the schema.
//! - [`Issuer`] holds the secret keys too: it enrols, renews and revokes devices, advances epochs, issues server certificates.
//! - [`Keeper`] seals the secret keys on disk: a passphrase or a key file, or what else implements it.
//! - [`Share`]s of the backup key open what [`Authority::backup`] writes; [`restore`] makes an authority of it.
//! - [`Checkpoint`] is the authority's signature under its audit log.
//! - [`serve()`] offers enrolment and renewal over HTTPS, and does by itself what is due.
//!
//! **Invariants.** A token is consumed if and only if a certificate is recorded: both happen in one transaction. Every
//! act, also one refused, leaves a row in the audit log, in the transaction of the act itself; each row's chain value
//! covers all rows before it. Of refusals in a flood the log gets their number only. Of a token only its SHA-256 is kept, of an attribute key only the fact of its issue.
//!
//! The commands work on the same register as a running service does, at the same time.
//!
//! ```
//! use smqtt_authority::{Actor, Authority, Directory, InitOptions, NewDevice, TokenTerms, now};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let parent = tempfile::tempdir()?;
//! # let path = parent.path().join("authority");
//! let directory = Directory::init(&path, &InitOptions::default(), None, now()).await?;
//! println!("devices pin {}", directory.fingerprint());
//!
//! let authority = Authority::open(directory).await?;
//! let operator = Actor::operator();
//! let device = NewDevice {
//!     name: "sensor-17".parse()?,
//!     attributes: "role = sensor, site = berlin".into(),
//!     profile: None,
//!     key_policy: None,
//! };
//! let grant = authority.add_device(&device, TokenTerms::default(), &operator, now()).await?;
//! assert_eq!(grant.token.reveal().len(), 32);
//! assert_eq!(authority.devices().await?.len(), 1);
//! authority.close().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod admins;
mod api;
mod authority;
mod backup;
mod checkpoint;
mod clock;
mod devices;
mod directory;
mod effects;
mod enrol;
mod epochs;
mod error;
mod grant;
mod issuer;
mod keeper;
mod limiter;
mod memory;
mod metrics;
mod publish;
mod register;
mod renew;
mod revoke;
mod root;
mod secrets;
mod serve;
#[cfg_attr(not(unix), path = "socket_none.rs")]
mod socket;
mod who;

pub use admins::{AdminRecord, Role};
pub use api::openapi;
pub use authority::Authority;
pub use backup::{Contents, Restored, Share, Split, restore};
pub use checkpoint::{Checkpoint, Verified, read_checkpoints, verify_audit_export};
pub use clock::{now, system_rng};
pub use devices::{Change, Grant, Imported, NewDevice, TokenTerms};
pub use directory::{Directory, INTERMEDIATE_LIFETIME, InitOptions};
pub use effects::Delivered;
pub use enrol::Refusal;
pub use epochs::{Advanced, EpochStatus};
pub use error::Error;
pub use issuer::{Issuer, ServerFiles};
pub use limiter::Limiter;
pub use memory::protect_memory;
pub use register::audit::{Actor, AuditEntry};
pub use register::{BrokerRecord, DeviceRecord, DeviceState, EpochRecord, ProfileRecord, Settings};
pub use revoke::Revoked;
pub use root::{Installed, OfflineRoot, Request, RootAnswer, RootRequest, RootStatus};
pub use secrets::{DataKey, Keeper, KeyFile, Method, Passphrase, Sealing, Secrets};
pub use serve::{ServeOptions, Serving, serve};
pub use who::{DeviceFilter, PolicyDiff};
