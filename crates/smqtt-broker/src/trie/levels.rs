//! Level texts, each kept once and counted by the nodes that use it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::places::Places;

/// An interned level text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LevelId(u32);

impl LevelId {
    pub(super) const PLUS: LevelId = LevelId(u32::MAX);
    /// A level that no filter has.
    pub(super) const UNKNOWN: LevelId = LevelId(u32::MAX - 1);

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug, Default)]
pub(super) struct Levels {
    /// By text; the texts themselves stand in `entries` only.
    ids: HashTable<u32>,
    entries: Places<Entry>,
    hasher: RandomState,
}

/// A text and how many nodes use it; nobody, if the place is free.
#[derive(Debug)]
struct Entry {
    /// Short ones, which is nearly all, lie in place: a lookup follows no pointer to compare them.
    text: SmallVec<[u8; 16]>,
    users: u32,
}

impl Levels {
    /// The level with this text, if any filter has it.
    pub(super) fn find(&self, text: &str) -> Option<LevelId> {
        let hash = self.hasher.hash_one(text);
        self.ids
            .find(hash, |id| *self.entries[*id].text == *text.as_bytes())
            .map(|id| LevelId(*id))
    }

    /// The level with this text, with one more user.
    pub(super) fn acquire(&mut self, text: &str) -> LevelId {
        if let Some(id) = self.find(text) {
            self.entries[id.0].users += 1;
            return id;
        }
        let entry = Entry {
            text: SmallVec::from_slice(text.as_bytes()),
            users: 1,
        };
        let id = self.entries.put(entry);
        let (hasher, entries) = (&self.hasher, &self.entries);
        self.ids.insert_unique(hasher.hash_one(text), id, |id| {
            hash_of(hasher, &entries[*id])
        });
        LevelId(id)
    }

    /// One user less; the last one takes the text along.
    pub(super) fn release(&mut self, id: LevelId) {
        let entry = &mut self.entries[id.0];
        entry.users -= 1;
        if entry.users == 0 {
            let hash = hash_of(&self.hasher, entry);
            entry.text = SmallVec::new();
            if let Ok(found) = self.ids.find_entry(hash, |other| *other == id.0) {
                found.remove();
            }
            self.entries.free(id.0);
        }
    }

    /// A level's text.
    pub(super) fn text(&self, id: LevelId) -> &str {
        // It came in as a str.
        std::str::from_utf8(&self.entries[id.0].text).unwrap_or_default()
    }

    pub(super) fn shrink(&mut self) {
        self.entries.shrink();
        let (hasher, entries) = (&self.hasher, &self.entries);
        self.ids.shrink_to_fit(|id| hash_of(hasher, &entries[*id]));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.ids.capacity().max(self.entries.len())
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }
}

fn hash_of(hasher: &RandomState, entry: &Entry) -> u64 {
    hasher.hash_one(std::str::from_utf8(&entry.text).unwrap_or_default())
}
