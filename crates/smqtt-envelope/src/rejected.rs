//! Key frames that were refused before anybody trustworthy vouched for them.

use std::collections::{HashMap, VecDeque};

use smqtt_format::KeyId;

use crate::Refusal;

/// For how many seconds a refusal that depends on the clock is remembered.
const CLOCK_MEMORY: u64 = 300;

/// A bounded memory of refused frames, apart from the keys: anybody can make such frames in any number, and displaces with
/// them nothing but other refused frames.
pub(crate) struct Rejected {
    frames: HashMap<KeyId, Rejection>,
    /// In order of refusal. May name frames that are forgotten already.
    order: VecDeque<KeyId>,
    limit: usize,
}

struct Rejection {
    digest: [u8; 32],
    reason: Refusal,
    /// After this second the frame is looked at again.
    until: u64,
}

impl Rejected {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            frames: HashMap::new(),
            order: VecDeque::new(),
            limit,
        }
    }

    pub(crate) fn insert(&mut self, digest: [u8; 32], reason: Refusal, now: u64) {
        let until = if reason.depends_on_the_clock() {
            now.saturating_add(CLOCK_MEMORY)
        } else {
            u64::MAX
        };
        let kid = KeyId::of_digest(&digest);
        let rejection = Rejection {
            digest,
            reason,
            until,
        };
        if self.frames.insert(kid, rejection).is_none() {
            self.order.push_back(kid);
        }
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.frames.remove(&oldest);
            }
        }
    }

    /// Why the frame with this digest was refused.
    pub(crate) fn reason_of_frame(&self, digest: &[u8; 32], now: u64) -> Option<&Refusal> {
        self.frames
            .get(&KeyId::of_digest(digest))
            .filter(|rejection| rejection.digest == *digest && now < rejection.until)
            .map(|rejection| &rejection.reason)
    }

    /// Why the frame of this name was refused.
    pub(crate) fn reason(&self, kid: &KeyId, now: u64) -> Option<&Refusal> {
        self.frames
            .get(kid)
            .filter(|rejection| now < rejection.until)
            .map(|rejection| &rejection.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> [u8; 32] {
        [n; 32]
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut rejected = Rejected::new(2);
        for n in 1..=3 {
            rejected.insert(digest(n), Refusal::BadSignature, 0);
        }
        assert_eq!(rejected.reason_of_frame(&digest(1), 0), None);
        assert!(rejected.reason_of_frame(&digest(2), 0).is_some());
        assert!(rejected.reason(&KeyId([3; 8]), u64::MAX - 1).is_some());
        assert_eq!(rejected.frames.len(), 2);
    }

    #[test]
    fn what_the_clock_decided_is_decided_again_later() {
        let mut rejected = Rejected::new(2);
        rejected.insert(digest(1), Refusal::Expired { seconds: 1 }, 1000);
        assert!(rejected.reason_of_frame(&digest(1), 1299).is_some());
        assert_eq!(rejected.reason_of_frame(&digest(1), 1300), None);
        rejected.insert(digest(1), Refusal::Expired { seconds: 301 }, 1300);
        assert_eq!(rejected.order.len(), 1);
    }

    #[test]
    fn another_frame_of_the_same_name_is_not_refused_unseen() {
        let mut rejected = Rejected::new(2);
        rejected.insert(digest(1), Refusal::BadSignature, 0);
        let mut other = digest(1);
        other[31] = 9;
        assert_eq!(rejected.reason_of_frame(&other, 0), None);
    }
}
