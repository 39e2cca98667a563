//! Levels of filters. A short one, which is nearly every one, is its text: whoever looks for it finds the node that has it
//! and follows no pointer. Long ones are kept once and counted by the nodes that use them.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::places::Places;

/// A level, equal to another exactly if their texts are.
///
/// A text and its length in the last byte; or [`Level::LONG`] there and in front the number under which [`Levels`] has the
/// text; or [`Level::PLUS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level([u8; SHORT + 1]);

/// Bytes of the longest text that lies in place. An EUI-64 in hexadecimal with `0x` has 18.
const SHORT: usize = 19;

impl Level {
    /// The level `+`.
    pub(super) const PLUS: Level = Level::marked(u8::MAX);
    const LONG: u8 = u8::MAX - 1;

    const fn marked(mark: u8) -> Level {
        let mut bytes = [0; SHORT + 1];
        bytes[SHORT] = mark;
        Level(bytes)
    }

    /// A text that fits in place.
    fn short(text: &str) -> Option<Level> {
        let text = text.as_bytes();
        if text.len() > SHORT {
            return None;
        }
        let mut level = Level::marked(u8::try_from(text.len()).ok()?);
        for (eight, at) in level.0.chunks_mut(8).zip((0..text.len()).step_by(8)) {
            // Words rather than a copy of some length, which would be a call.
            let word = word(&text[at..]).to_le_bytes();
            match eight {
                [..] if at < 16 => eight.copy_from_slice(&word),
                _ => eight[..SHORT - 16].copy_from_slice(&word[..SHORT - 16]),
            }
        }
        Some(level)
    }

    fn long(number: u32) -> Level {
        let mut level = Level::marked(Level::LONG);
        level.0[..4].copy_from_slice(&number.to_le_bytes());
        level
    }

    /// The number of a long one.
    fn number(self) -> Option<u32> {
        let [a, b, c, d, .., mark] = self.0;
        (mark == Level::LONG).then_some(u32::from_le_bytes([a, b, c, d]))
    }
}

impl Hash for Level {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for eight in self.0.chunks(8) {
            state.write_u64(word(eight));
        }
    }
}

/// The first eight bytes, or all there are, and zeros.
fn word(bytes: &[u8]) -> u64 {
    let quarter = |at: usize| match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => 0,
    };
    let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
    match bytes.len() {
        0 => 0,
        length @ 1..4 => byte(0) | byte(length / 2) | byte(length - 1),
        length => {
            let last = length.min(8) - 4;
            quarter(0) | quarter(last) << (8 * last)
        }
    }
}

/// The texts of the long levels.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// By text; the texts themselves stand in `entries` only.
    numbers: HashTable<u32>,
    entries: Places<Entry>,
    hasher: RandomState,
}

/// A text and how many nodes use it; nobody, if the place is free.
#[derive(Debug)]
struct Entry {
    text: Box<str>,
    users: u32,
}

impl Levels {
    /// The level with this text; none if it is a long one that no filter has.
    pub(super) fn find(&self, text: &str) -> Option<Level> {
        Level::short(text).or_else(|| self.find_long(text).map(Level::long))
    }

    fn find_long(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let found = self
            .numbers
            .find(hash, |number| *self.entries[*number].text == *text);
        found.copied()
    }

    /// The level with this text, with one more user.
    pub(super) fn acquire(&mut self, text: &str) -> Level {
        if let Some(level) = self.find(text) {
            if let Some(number) = level.number() {
                self.entries[number].users += 1;
            }
            return level;
        }
        let entry = Entry {
            text: text.into(),
            users: 1,
        };
        let number = self.entries.put(entry);
        let (hasher, entries) = (&self.hasher, &self.entries);
        self.numbers
            .insert_unique(hasher.hash_one(text), number, |number| {
                hasher.hash_one(&*entries[*number].text)
            });
        Level::long(number)
    }

    /// One user less; the last one takes the text along.
    pub(super) fn release(&mut self, level: Level) {
        let Some(number) = level.number() else {
            return;
        };
        let entry = &mut self.entries[number];
        entry.users -= 1;
        if entry.users == 0 {
            let text = std::mem::take(&mut entry.text);
            let hash = self.hasher.hash_one(&*text);
            if let Ok(found) = self.numbers.find_entry(hash, |other| *other == number) {
                found.remove();
            }
            self.entries.free(number);
        }
    }

    /// A level's text.
    pub(super) fn text<'a>(&'a self, level: &'a Level) -> &'a str {
        match level.number() {
            Some(number) => &self.entries[number].text,
            None if *level == Level::PLUS => "+",
            None => {
                let text = &level.0[..usize::from(level.0[SHORT])];
                // It came in as a str.
                std::str::from_utf8(text).unwrap_or_default()
            }
        }
    }

    pub(super) fn shrink(&mut self) {
        self.entries.shrink();
        let (hasher, entries) = (&self.hasher, &self.entries);
        self.numbers
            .shrink_to_fit(|number| hasher.hash_one(&*entries[*number].text));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    #[cfg(test)]
    pub(super) fn room_for_texts(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.numbers.capacity().max(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_equal_exactly_if_their_texts_are_and_long_ones_are_kept_as_long_as_used() {
        let mut texts: Vec<String> = ["", "+x", "a", "a\u{1}", "ab", "$x"].map(Into::into).into();
        texts.extend((SHORT - 1..SHORT + 3).map(|length| "l".repeat(length)));
        texts.extend((SHORT - 1..SHORT + 3).map(|length| "m".repeat(length)));
        let mut levels = Levels::default();
        for round in 0..2 {
            for text in &texts {
                let found = levels.find(text).is_some();
                assert_eq!(found, text.len() <= SHORT || round == 1, "{text}");
                levels.acquire(text);
            }
        }
        assert_eq!(levels.len(), 4);
        let all: Vec<Level> = texts.iter().filter_map(|text| levels.find(text)).collect();
        assert_eq!(all.len(), texts.len());
        for (i, level) in all.iter().enumerate() {
            assert_eq!(levels.text(level), texts[i]);
            for (j, other) in all.iter().enumerate() {
                assert_eq!(i == j, level == other, "{} {}", texts[i], texts[j]);
            }
        }
        for left in [4, 0] {
            all.iter().for_each(|level| levels.release(*level));
            assert_eq!(levels.len(), left);
        }
        assert_eq!(levels.text(&Level::PLUS), "+");
    }
}
