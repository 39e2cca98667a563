//! The one place that reads the clock and the operating system's randomness.

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use smqtt_pki::UnixTime;

/// The machine's time. The acts of this library take the time as a parameter; programs pass this.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::now()
}

/// The operating system's randomness, for keys, serial numbers and tokens.
///
/// Without it nothing can be issued securely: where the operating system fails to give it, the program stops.
#[must_use]
pub fn system_rng() -> impl CryptoRng {
    UnwrapErr(SysRng)
}
