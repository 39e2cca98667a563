//! Keeps what is secret out of core dumps, out of other processes' sight, and out of swap.

#[cfg(target_os = "linux")]
use rustix::mm::{MlockAllFlags, mlockall};
#[cfg(target_os = "linux")]
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Protects this process' memory, before any secret is in it: no core dump; no reading by other processes of the same user;
/// and, where the limit on locked memory is lifted (`ulimit -l unlimited`, systemd's `LimitMEMLOCK=infinity`), no page of it
/// is ever written to swap. Keys are decoded into numbers that lie in many places: so all of the memory is locked, not a
/// buffer. With a finite limit nothing is locked, since later allocations would fail at it.
///
/// Returns whether the memory is locked.
#[must_use]
pub fn protect_memory() -> bool {
    #[cfg(target_os = "linux")]
    {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let hidden = setrlimit(Resource::Core, none)
            .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
        if let Err(error) = hidden {
            tracing::warn!(%error, "this process' memory may be shown in a core dump");
        }
        if getrlimit(Resource::Memlock).current.is_some() {
            return false;
        }
        // A page is locked when it is first used, so that reserved address space costs nothing.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        mlockall(flags).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}
