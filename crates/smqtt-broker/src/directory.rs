//! Which worker owns which client id, and whose it is.
//!
//! A client id has an entry exactly as long as its session exists. A connection that names a known
//! client id is handed to the worker of its entry, so a session never moves, and a takeover is
//! an affair of one worker.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smqtt_pki::DeviceId;

use crate::session::is_roomy;

/// Who a client has proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody: it showed no certificate and no password, on a listener that admits that.
    Anonymous,
    /// The device of its certificate.
    Device(Arc<DeviceId>),
    /// The user of its password.
    User(Arc<str>),
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("anonymous"),
            Identity::Device(id) => write!(f, "device {id}"),
            Identity::User(user) => write!(f, "user {}", user.escape_debug()),
        }
    }
}

/// What [`Directory::claim`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The session is, or is to be made, on this worker.
    Owner(usize),
    /// The client id belongs to another identity.
    Foreign,
}

/// The client ids of all workers.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    hasher: RandomState,
    shards: [Mutex<HashMap<Arc<str>, Owner>>; SHARDS],
}

#[derive(Debug)]
struct Owner {
    worker: usize,
    identity: Identity,
}

const SHARDS: usize = 16;

impl Directory {
    /// Finds the worker that owns `client_id`, or makes `preferred()` its owner. A client id that
    /// is in use belongs to whoever opened its session.
    pub(crate) fn claim(
        &self,
        client_id: &str,
        identity: &Identity,
        preferred: impl FnOnce() -> usize,
    ) -> Claim {
        match self.shard(client_id).lock().entry(client_id.into()) {
            Entry::Occupied(entry) if entry.get().identity == *identity => {
                Claim::Owner(entry.get().worker)
            }
            Entry::Occupied(_) => Claim::Foreign,
            Entry::Vacant(entry) => {
                let worker = preferred();
                entry.insert(Owner {
                    worker,
                    identity: identity.clone(),
                });
                Claim::Owner(worker)
            }
        }
    }

    /// Forgets `client_id`, whose session has ended on the worker that owned it.
    pub(crate) fn release(&self, client_id: &str) {
        self.shard(client_id).lock().remove(client_id);
    }

    /// Gives back the memory of a crowd that has gone.
    pub(crate) fn shrink(&self) {
        for shard in &self.shards {
            let mut owners = shard.lock();
            if is_roomy(owners.len(), owners.capacity()) {
                owners.shrink_to_fit();
            }
        }
    }

    fn shard(&self, client_id: &str) -> &Mutex<HashMap<Arc<str>, Owner>> {
        &self.shards[self.hasher.hash_one(client_id) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> Identity {
        Identity::Device(Arc::new(name.parse().expect("device id")))
    }

    #[test]
    fn a_client_id_stays_with_its_worker_and_its_identity() {
        let directory = Directory::default();
        assert_eq!(directory.claim("c", &device("a"), || 3), Claim::Owner(3));
        assert_eq!(directory.claim("c", &device("a"), || 5), Claim::Owner(3));
        assert_eq!(directory.claim("c", &device("b"), || 5), Claim::Foreign);
        assert_eq!(
            directory.claim("c", &Identity::Anonymous, || 5),
            Claim::Foreign
        );
        let user = |name: &str| Identity::User(name.into());
        assert_eq!(directory.claim("c", &user("a"), || 5), Claim::Foreign);
        assert_eq!(directory.claim("u", &user("a"), || 1), Claim::Owner(1));
        assert_eq!(directory.claim("u", &user("b"), || 1), Claim::Foreign);
        assert_eq!(directory.claim("u", &device("a"), || 1), Claim::Foreign);
        directory.release("c");
        assert_eq!(
            directory.claim("c", &Identity::Anonymous, || 5),
            Claim::Owner(5)
        );
        assert_eq!(directory.claim("c", &device("a"), || 5), Claim::Foreign);
    }
}
