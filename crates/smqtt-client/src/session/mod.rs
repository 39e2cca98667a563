//! A session that outlives the program: the broker keeps what comes meanwhile, this device what it needs to open it.
//!
//! On disk are the session's client id and filters, which messages were opened (replay windows), and the key frames that were
//! announced, as they were announced: no key, no payload. A message is acknowledged to the broker once its window is on the disk.

pub(crate) mod frame;
mod keeper;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use smqtt_envelope::OpenerConfig;
use smqtt_pki::UnixTime;

pub(crate) use keeper::Keeper;
pub(crate) use store::Store;

/// How long a broker keeps a session when nothing else is said: a week.
const EXPIRY: Duration = Duration::from_hours(7 * 24);

/// A session that the broker keeps while the program is away, and what it takes to go on with it.
///
/// A client with one has one [subscription](crate::Client::subscribe), whose messages are acknowledged when
/// [`Subscriber::settle`](crate::Subscriber::settle) says that they are dealt with. What is not comes again: each message is
/// handed out at least once whatever happens, and once only where programs end in order.
///
/// The directory belongs to one device and to one program at a time. It holds no key and no payload; whoever alters it can make
/// this reader take a message twice.
#[derive(Clone, Debug)]
pub struct KeptSession {
    directory: PathBuf,
    expiry: Duration,
}

/// The second before which a key must have ended to be of no use at `now`, by the clock of any reader with the usual tolerance.
pub(crate) fn ended(now: UnixTime) -> u64 {
    let config = OpenerConfig::default();
    let kept = config.max_delay + config.clock_skew * 2;
    now.as_secs().saturating_sub(kept.as_secs())
}

impl KeptSession {
    /// A session that is remembered in this directory, which is made if it is not there.
    #[must_use]
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            expiry: EXPIRY,
        }
    }

    /// For how long the broker is to keep the session after a connection has ended, in whole seconds. A broker may allow less;
    /// with MQTT 3.1.1 it decides alone. Default: a week.
    #[must_use]
    pub fn expiry(mut self, expiry: Duration) -> Self {
        self.expiry = expiry;
        self
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// As MQTT says it.
    pub(crate) fn expiry_interval(&self) -> u32 {
        u32::try_from(self.expiry.as_secs()).unwrap_or(u32::MAX)
    }
}
