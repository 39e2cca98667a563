//! The one place where this crate reads the wall clock.

use std::time::{Duration, SystemTime};

use smqtt_pki::UnixTime;

/// Now. A clock before 1970 counts as 1970: certificates will say that it is wrong.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    UnixTime::since_unix_epoch(since)
}

/// Now, in whole seconds since 1970.
#[must_use]
pub fn seconds_now() -> u64 {
    now().as_secs()
}
