//! What was decided for a connection, topic by topic, so that it is decided once.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smqtt_format::KeyId;

use super::Verdict;

/// A connection's verdicts. Those of other rules than today's are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    generation: u64,
    by_topic: HashMap<Box<str>, Known, RandomState>,
    /// Bytes of all topics.
    weight: usize,
}

/// What is known of one topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) verdict: Verdict,
    /// The key of sealed messages there that was found to be the client's last.
    pub(crate) key: Option<KeyId>,
}

/// Topics, and bytes of them, remembered at most; then all are forgotten.
const MAX_TOPICS: usize = 256;
const MAX_WEIGHT: usize = 16 * 1024;

impl Verdicts {
    /// What is known of `topic` under the rules of this generation, decided now if nothing is.
    pub(crate) fn of(
        &mut self,
        generation: u64,
        topic: &str,
        decide: impl FnOnce() -> Verdict,
    ) -> Known {
        if self.generation != generation {
            self.forget();
            self.generation = generation;
        }
        if let Some(known) = self.by_topic.get(topic) {
            return *known;
        }
        let known = Known {
            verdict: decide(),
            key: None,
        };
        if self.by_topic.len() >= MAX_TOPICS || self.weight + topic.len() > MAX_WEIGHT {
            self.forget();
        }
        if topic.len() <= MAX_WEIGHT {
            self.weight += topic.len();
            self.by_topic.insert(topic.into(), known);
        }
        known
    }

    /// Remembers the key of the client's messages at `topic`.
    pub(crate) fn note_key(&mut self, topic: &str, key: KeyId) {
        if let Some(known) = self.by_topic.get_mut(topic) {
            known.key = Some(key);
        }
    }

    fn forget(&mut self) {
        self.by_topic.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SealedMode;

    const VERDICT: Verdict = Verdict {
        publish: true,
        retain: false,
        sealed: SealedMode::Off,
    };

    #[test]
    fn a_topic_is_decided_once_under_the_same_rules() {
        let mut verdicts = Verdicts::default();
        assert_eq!(verdicts.of(1, "a", || VERDICT).verdict, VERDICT);
        verdicts.of(1, "a", || panic!("it was decided"));
        verdicts.note_key("a", KeyId([1; 8]));
        assert_eq!(verdicts.of(1, "a", || panic!()).key, Some(KeyId([1; 8])));
        let mut asked = false;
        let known = verdicts.of(2, "a", || {
            asked = true;
            VERDICT
        });
        assert!(asked && known.key.is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut verdicts = Verdicts::default();
        for i in 0..10_000 {
            verdicts.of(1, &format!("topic/{i}"), || VERDICT);
            assert!(verdicts.by_topic.len() <= MAX_TOPICS && verdicts.weight <= MAX_WEIGHT);
        }
        verdicts.of(1, &"x".repeat(MAX_WEIGHT + 1), || VERDICT);
        assert!(verdicts.weight <= MAX_WEIGHT);
    }
}
