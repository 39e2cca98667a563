//! The key periods that a sealer is in: one for all topics under a policy, one for each topic with tags.

use std::collections::HashMap;
use std::sync::Arc;

use smqtt_abe::SharedKey;
use smqtt_format::{KeyId, Sequence, announce};

use crate::Announcement;
use crate::content_key::ContentKey;

/// How many seconds the clock may go back within a key period before the period is ended: readers would take the frame
/// for one from the future.
const CLOCK_BACKSTEP: u64 = 60;

/// A key frame and what was sealed under it.
pub(crate) struct Period {
    pub(crate) kid: KeyId,
    pub(crate) frame: Arc<[u8]>,
    pub(crate) digest: [u8; 32],
    pub(crate) key: SharedKey,
    pub(crate) created: u64,
    pub(crate) ends: u64,
    pub(crate) topics: HashMap<Box<str>, TopicKey>,
}

pub(crate) struct TopicKey {
    pub(crate) key: ContentKey,
    /// The next message's number; `None` when they are used up.
    pub(crate) next: Option<Sequence>,
    pub(crate) announced: bool,
}

impl Period {
    /// Whether its time has come and is not over.
    pub(crate) fn holds(&self, now: u64) -> bool {
        now < self.ends && now.saturating_add(CLOCK_BACKSTEP) >= self.created
    }

    /// The topics of its announcements.
    pub(crate) fn cleared(&self) -> impl Iterator<Item = String> {
        self.announced()
            .map(|topic| announce::topic(topic, &self.kid))
    }

    pub(crate) fn announced(&self) -> impl Iterator<Item = &str> {
        self.topics
            .iter()
            .filter(|(_, state)| state.announced)
            .map(|(topic, _)| &**topic)
    }

    pub(crate) fn announcement(&self, topic: &str, now: u64) -> Announcement {
        let left = self.ends.saturating_sub(now);
        Announcement {
            topic: announce::topic(topic, &self.kid),
            kid: self.kid,
            frame: Arc::clone(&self.frame),
            expires_in: u32::try_from(left).unwrap_or(u32::MAX),
        }
    }
}

/// The current periods, by the topic of a message.
pub(crate) enum Periods {
    /// A frame says no topic.
    ForAllTopics(Option<Box<Period>>),
    /// A frame says its topic.
    ForEachTopic(HashMap<Box<str>, Period>),
}

impl Periods {
    pub(crate) fn for_all_topics() -> Self {
        Self::ForAllTopics(None)
    }

    pub(crate) fn for_each_topic() -> Self {
        Self::ForEachTopic(HashMap::new())
    }

    pub(crate) fn get_mut(&mut self, topic: &str) -> Option<&mut Period> {
        match self {
            Self::ForAllTopics(period) => period.as_deref_mut(),
            Self::ForEachTopic(periods) => periods.get_mut(topic),
        }
    }

    /// Puts a period in the place of the one for `topic`.
    pub(crate) fn insert(&mut self, topic: &str, period: Period) {
        match self {
            Self::ForAllTopics(place) => *place = Some(Box::new(period)),
            Self::ForEachTopic(periods) => {
                periods.insert(topic.into(), period);
            }
        }
    }

    pub(crate) fn remove(&mut self, topic: &str) -> Option<Period> {
        match self {
            Self::ForAllTopics(period) => period.take().map(|period| *period),
            Self::ForEachTopic(periods) => periods.remove(topic),
        }
    }

    /// Takes out the one that has begun first.
    pub(crate) fn remove_oldest(&mut self) -> Option<Period> {
        match self {
            Self::ForAllTopics(period) => period.take().map(|period| *period),
            Self::ForEachTopic(periods) => {
                let oldest = periods.iter().min_by_key(|(_, period)| period.created);
                let topic = oldest.map(|(topic, _)| topic.clone())?;
                periods.remove(&topic)
            }
        }
    }

    /// Takes out all of them.
    pub(crate) fn take(&mut self) -> Vec<Period> {
        match self {
            Self::ForAllTopics(period) => period.take().map(|period| *period).into_iter().collect(),
            Self::ForEachTopic(periods) => periods.drain().map(|(_, period)| period).collect(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Period> {
        let (one, each) = match self {
            Self::ForAllTopics(period) => (period.as_deref(), None),
            Self::ForEachTopic(periods) => (None, Some(periods.values())),
        };
        one.into_iter().chain(each.into_iter().flatten())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::ForAllTopics(period) => usize::from(period.is_some()),
            Self::ForEachTopic(periods) => periods.len(),
        }
    }
}
