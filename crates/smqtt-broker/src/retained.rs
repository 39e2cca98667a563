//! The retained store: the last retained message of every topic, found by filter.
//!
//! Topics are keys of one ordered map, their levels separated by U+0000, which no topic may
//! contain. A topic's descendants therefore stand directly behind it, and a search goes from match
//! to match by computing the least key that could match next, skipping what lies between. It can
//! be taken up again behind any topic, so a client that subscribes to a million retained messages
//! is served from a position, not from a list.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use smqtt_proto::Message;

/// All retained messages, bounded by count and bytes.
#[derive(Debug)]
pub struct RetainedStore {
    messages: BTreeMap<Box<[u8]>, Arc<Message>>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// When the earliest message may expire.
    next_expiry: Option<Instant>,
}

/// The store is full: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFull;

const SEPARATOR: u8 = 0;
/// Sorts directly behind every key that continues with [`SEPARATOR`].
const BEHIND_SEPARATOR: u8 = 1;

impl RetainedStore {
    /// Changes the bounds. What is there stays, even if it is more than they allow now.
    pub(crate) fn set_limits(&mut self, max_messages: usize, max_bytes: usize) {
        self.max_messages = max_messages;
        self.max_bytes = max_bytes;
    }

    /// An empty store for at most `max_messages` messages of together `max_bytes` bytes.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        RetainedStore {
            messages: BTreeMap::new(),
            bytes: 0,
            max_messages,
            max_bytes,
            next_expiry: None,
        }
    }

    /// Keeps `message` as the retained message of its topic, in place of the one before
    /// `[MQTT-3.3.1-5]`.
    ///
    /// # Errors
    /// [`StoreFull`] when that would exceed a bound; the message before stays.
    pub fn insert(&mut self, message: Arc<Message>) -> Result<(), StoreFull> {
        let key = key_of(message.topic().as_str());
        let before = self.messages.get(&key).map(|old| old.size());
        let count = self.messages.len() + usize::from(before.is_none());
        let bytes = self.bytes - before.unwrap_or(0) + message.size();
        if count > self.max_messages || bytes > self.max_bytes {
            return Err(StoreFull);
        }
        self.bytes = bytes;
        self.next_expiry = self
            .next_expiry
            .into_iter()
            .chain(message.expires_at())
            .min();
        self.messages.insert(key, message);
        Ok(())
    }

    /// The retained message of `topic`.
    pub(crate) fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.messages.get(&key_of(topic))
    }

    /// Forgets the retained message of `topic` `[MQTT-3.3.1-6]`; tells whether there was one.
    pub fn remove(&mut self, topic: &str) -> bool {
        match self.messages.remove(&key_of(topic)) {
            Some(old) => {
                self.bytes -= old.size();
                true
            }
            None => false,
        }
    }

    /// The first retained message behind the topic `after` (or of all) that matches `filter` and
    /// has not expired at `now`.
    ///
    /// A filter that begins with a wildcard does not match topics that begin with `$`
    /// `[MQTT-4.7.2-1]`.
    pub fn next_match(
        &self,
        filter: &str,
        after: Option<&str>,
        now: Instant,
    ) -> Option<&Arc<Message>> {
        let filter: SmallVec<[&str; 16]> = filter.split('/').collect();
        let mut from = after.map(key_of).map_or(Bound::Unbounded, Bound::Excluded);
        if after.is_none() && !matches!(filter[0], "+" | "#") {
            from = Bound::Included(filter[0].as_bytes().into());
        }
        loop {
            let lower = match &from {
                Bound::Included(key) => Bound::Included(&key[..]),
                Bound::Excluded(key) => Bound::Excluded(&key[..]),
                Bound::Unbounded => Bound::Unbounded,
            };
            let (key, message) = self
                .messages
                .range::<[u8], _>((lower, Bound::Unbounded))
                .next()?;
            from = match compare(key, &filter) {
                Step::Match if !message.is_expired(now) => return Some(message),
                Step::Match => Bound::Excluded(key.clone()),
                Step::Seek(next) => Bound::Included(next.into_boxed_slice()),
                Step::End => return None,
            };
        }
    }

    /// Forgets what has expired at `now` and returns how many messages that were. Cheap while
    /// nothing can have expired.
    pub fn remove_expired(&mut self, now: Instant) -> usize {
        self.take_expired(now, |_| {})
    }

    /// As [`remove_expired`](Self::remove_expired), with a look at each message that goes.
    pub(crate) fn take_expired(&mut self, now: Instant, mut gone: impl FnMut(&Message)) -> usize {
        if self.next_expiry.is_none_or(|at| at > now) {
            return 0;
        }
        let before = self.messages.len();
        let (mut next, mut freed) = (None, 0);
        self.messages
            .retain(|_, message| match message.expires_at() {
                Some(at) if at <= now => {
                    freed += message.size();
                    gone(message);
                    false
                }
                expires => {
                    next = [next, expires].into_iter().flatten().min();
                    true
                }
            });
        self.bytes -= freed;
        self.next_expiry = next;
        before - self.messages.len()
    }

    /// When something may expire next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Topics with a retained message.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of all retained messages, as the bound counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

enum Step {
    /// The key matches.
    Match,
    /// It does not, and no key before this one does.
    Seek(Vec<u8>),
    /// No key behind it matches.
    End,
}

/// Compares a key with the levels of a filter.
fn compare(key: &[u8], filter: &[&str]) -> Step {
    // End of the part of the key that the deepest `+` so far has matched.
    let mut last_plus = None;
    let skip = |last_plus: Option<usize>| match last_plus {
        Some(end) => Step::Seek([&key[..end], &[BEHIND_SEPARATOR]].concat()),
        None => Step::End,
    };
    let mut start = 0;
    for (depth, wanted) in filter.iter().enumerate() {
        if start > key.len() {
            // The key ended one level ago: what matches, if anything, are its descendants.
            return match *wanted {
                "#" => Step::Match,
                "+" => Step::Seek([key, &[SEPARATOR]].concat()),
                literal => Step::Seek([key, &[SEPARATOR], literal.as_bytes()].concat()),
            };
        }
        let hidden = depth == 0 && key.first() == Some(&b'$');
        let end = key[start..]
            .iter()
            .position(|b| *b == SEPARATOR)
            .map_or(key.len(), |at| start + at);
        match *wanted {
            "#" | "+" if hidden => return Step::Seek([&key[..end], &[BEHIND_SEPARATOR]].concat()),
            "#" => return Step::Match,
            "+" => last_plus = Some(end),
            literal => match key[start..end].cmp(literal.as_bytes()) {
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Less => {
                    return Step::Seek([&key[..start], literal.as_bytes()].concat());
                }
                std::cmp::Ordering::Greater => return skip(last_plus),
            },
        }
        start = end + 1;
    }
    if start > key.len() {
        Step::Match
    } else {
        skip(last_plus)
    }
}

fn key_of(topic: &str) -> Box<[u8]> {
    let mut key: Box<[u8]> = topic.as_bytes().into();
    for byte in &mut key {
        if *byte == b'/' {
            *byte = SEPARATOR;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use smqtt_proto::packet::Publish;
    use smqtt_proto::{TopicFilter, TopicName};

    use super::*;

    fn message(topic: &str, payload: &'static [u8], lives: Option<(Instant, u32)>) -> Arc<Message> {
        let mut publish = Publish::new(TopicName::new(topic).expect("topic"), payload);
        publish.properties.message_expiry_interval = lives.map(|(_, seconds)| seconds);
        let received = lives.map_or_else(Instant::now, |(received, _)| received);
        Arc::new(Message::new(&publish, received).expect("message"))
    }

    fn found(store: &RetainedStore, filter: &str, now: Instant) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        while let Some(message) = store.next_match(filter, after.as_deref(), now) {
            after = Some(message.topic().as_str().to_owned());
            all.push(message.topic().as_str().to_owned());
        }
        all
    }

    #[test]
    fn searches_agree_with_the_rules_of_single_filters() {
        let parts = ["a", "ab", "b", "", "$x", "\u{1}", "a\u{1}", "z"];
        let mut topics: Vec<String> = Vec::new();
        for (i, x) in parts.iter().enumerate() {
            topics.push((*x).to_owned());
            for (j, y) in parts.iter().enumerate() {
                if (i + j) % 4 != 3 {
                    topics.push(format!("{x}/{y}"));
                }
                for (k, z) in parts.iter().enumerate() {
                    if (i + 2 * j + k) % 3 == 0 {
                        topics.push(format!("{x}/{y}/{z}"));
                    }
                }
            }
        }
        topics.retain(|t| !t.is_empty());
        let mut store = RetainedStore::new(usize::MAX, usize::MAX);
        for topic in &topics {
            store.insert(message(topic, b"x", None)).expect("room");
        }
        let now = Instant::now();
        let levels = ["a", "ab", "", "$x", "+", "\u{1}", "none"];
        let mut filters = vec!["#".to_owned()];
        for x in levels {
            filters.extend([x.to_owned(), format!("{x}/#")]);
            for y in levels {
                filters.extend([format!("{x}/{y}"), format!("{x}/{y}/#")]);
                filters.extend(levels.map(|z| format!("{x}/{y}/{z}")));
            }
        }
        let mut matched = 0;
        for filter in filters.iter().filter(|f| !f.is_empty()) {
            let parsed = TopicFilter::new(filter.clone()).expect("filter");
            let mut expected: Vec<String> = topics
                .iter()
                .filter(|t| parsed.matches(&TopicName::new((*t).clone()).expect("topic")))
                .cloned()
                .collect();
            expected.sort_by_key(|t| key_of(t));
            matched += expected.len();
            assert_eq!(found(&store, filter, now), expected, "{filter:?}");
        }
        assert!(matched > 1_000, "{matched}");
    }

    #[test]
    fn bounds_refuse_what_is_too_much_and_keep_what_was_there() {
        let size = message("a", b"12345", None).size();
        let mut store = RetainedStore::new(2, 2 * size);
        store.insert(message("a", b"12345", None)).expect("first");
        store.insert(message("b", b"12345", None)).expect("second");
        assert_eq!(store.insert(message("c", b"", None)), Err(StoreFull));
        assert_eq!(store.insert(message("a", b"123456", None)), Err(StoreFull));
        store
            .insert(message("a", b"1234", None))
            .expect("smaller in its place");
        assert_eq!((store.len(), store.bytes()), (2, 2 * size - 1));
        assert!(store.remove("b") && !store.remove("b"));
        store.insert(message("c", b"", None)).expect("room again");
        assert!(store.remove("a") && store.remove("c"));
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn expired_messages_are_neither_found_nor_kept() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let mut store = RetainedStore::new(10, 10_000);
        store
            .insert(message("a", b"", Some((now, 10))))
            .expect("room");
        store
            .insert(message("b", b"", Some((now, 11))))
            .expect("room");
        store.insert(message("c", b"", None)).expect("room");
        assert_eq!(found(&store, "#", now), ["a", "b", "c"]);
        assert_eq!(found(&store, "#", later), ["b", "c"]);
        assert_eq!(store.remove_expired(now), 0);
        assert_eq!(store.remove_expired(later), 1);
        assert_eq!(store.next_expiry(), Some(later + Duration::from_secs(1)));
        assert_eq!(store.len(), 2);
    }
}
