//! The topic aliases that one side gives away (MQTT 5.0 §3.3.2.3.4).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU16;

use crate::TopicName;

/// Which topics the peer knows by alias.
///
/// The first topics of a connection get aliases as long as there are any. From then on a topic that
/// comes again takes the alias of one that has not been used for long: a hand goes round the
/// aliases, one step for each such topic, and takes what was not used since it came by last. So
/// topics in use keep theirs, and topics that come once cost nothing.
#[derive(Debug, Default)]
pub(crate) struct OutgoingAliases {
    by_topic: HashMap<TopicName, NonZeroU16>,
    /// Alias `n` is at `n - 1`.
    given: Vec<Given>,
    hand: usize,
    /// Hashes of topics without alias that came lately, each at a place that follows from it.
    /// Empty before they are needed.
    lately: Vec<u64>,
}

#[derive(Debug)]
struct Given {
    topic: TopicName,
    /// Since the hand came by.
    used: bool,
}

/// How to send a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alias {
    /// By this alias alone.
    Known(NonZeroU16),
    /// In full, with this alias: [`OutgoingAliases::learn`] when it was sent.
    New(NonZeroU16),
}

const LATELY: usize = 64;

impl OutgoingAliases {
    /// How to send `topic`, with aliases up to `maximum`; `None` is in full and without alias.
    #[inline]
    pub(crate) fn find(&mut self, topic: &TopicName, maximum: u16) -> Option<Alias> {
        if maximum == 0 {
            return None;
        }
        match self.by_topic.get(topic) {
            Some(&alias) => {
                self.given[usize::from(alias.get()) - 1].used = true;
                Some(Alias::Known(alias))
            }
            None if self.given.len() < usize::from(maximum) => alias(self.given.len()),
            None => self.take(topic),
        }
    }

    /// An alias that has not been used for long, for a topic that came before.
    fn take(&mut self, topic: &TopicName) -> Option<Alias> {
        self.lately.resize(LATELY, 0);
        let hash = self.by_topic.hasher().hash_one(topic);
        let seen = &mut self.lately[hash as usize % LATELY];
        if std::mem::replace(seen, hash) != hash {
            return None;
        }
        let here = self.hand;
        self.hand = (here + 1) % self.given.len();
        if std::mem::take(&mut self.given[here].used) {
            return None;
        }
        alias(here)
    }

    /// Notes that the peer was told what a new alias stands for.
    pub(crate) fn learn(&mut self, topic: &TopicName, alias: NonZeroU16) {
        // A copy: it lives as long as the connection and must not keep the read buffer.
        let topic = topic.detach();
        let given = Given {
            topic: topic.clone(),
            used: true,
        };
        match self.given.get_mut(usize::from(alias.get()) - 1) {
            Some(place) => {
                let before = std::mem::replace(place, given);
                self.by_topic.remove(&before.topic);
            }
            None => self.given.push(given),
        }
        self.by_topic.insert(topic, alias);
    }
}

fn alias(index: usize) -> Option<Alias> {
    let alias = NonZeroU16::new(u16::try_from(index + 1).ok()?)?;
    Some(Alias::New(alias))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the topics in turn, `rounds` times; how often each was sent by alias alone, and how
    /// many aliases were given.
    fn send(
        aliases: &mut OutgoingAliases,
        maximum: u16,
        topics: &[String],
        rounds: usize,
    ) -> (Vec<usize>, usize) {
        let mut known = vec![0; topics.len()];
        let mut new = 0;
        for _ in 0..rounds {
            for (topic, known) in topics.iter().zip(&mut known) {
                let topic = TopicName::new(topic.clone()).expect("topic");
                match aliases.find(&topic, maximum) {
                    Some(Alias::Known(_)) => *known += 1,
                    Some(Alias::New(alias)) => {
                        assert!(alias.get() <= maximum);
                        aliases.learn(&topic, alias);
                        new += 1;
                    }
                    None => {}
                }
                assert_eq!(aliases.by_topic.len(), aliases.given.len());
            }
        }
        (known, new)
    }

    fn topics(names: std::ops::Range<usize>) -> Vec<String> {
        names.map(|name| format!("t/{name}")).collect()
    }

    #[test]
    fn topics_in_use_keep_their_aliases() {
        let mut aliases = OutgoingAliases::default();
        let (known, new) = send(&mut aliases, 8, &topics(0..10), 100);
        assert_eq!(new, 8);
        assert_eq!(known, [99, 99, 99, 99, 99, 99, 99, 99, 0, 0]);
    }

    #[test]
    fn topics_that_are_not_used_any_more_make_place() {
        let mut aliases = OutgoingAliases::default();
        send(&mut aliases, 8, &topics(0..8), 10);
        // Each twice in a row, so that topics which share a place in `lately` are seen as well.
        let again: Vec<String> = topics(8..16)
            .into_iter()
            .flat_map(|topic| [topic.clone(), topic])
            .collect();
        let (known, new) = send(&mut aliases, 8, &again, 10);
        assert_eq!(new, 8);
        assert!(known.iter().all(|count| *count >= 5), "{known:?}");
    }

    #[test]
    fn topics_that_come_once_take_nothing() {
        let mut aliases = OutgoingAliases::default();
        send(&mut aliases, 8, &topics(0..8), 2);
        let (_, new) = send(&mut aliases, 8, &topics(100..10_000), 1);
        assert_eq!(new, 0);
        assert_eq!(send(&mut aliases, 8, &topics(0..8), 1).0, [1; 8]);
    }

    #[test]
    fn without_aliases_topics_go_in_full() {
        let mut aliases = OutgoingAliases::default();
        assert_eq!(send(&mut aliases, 0, &topics(0..3), 3), (vec![0; 3], 0));
    }
}
