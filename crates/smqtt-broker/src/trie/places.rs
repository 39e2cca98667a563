//! Numbered places for what the trie is made of.

use std::ops::{Index, IndexMut};

/// Places numbered from 0, in pages, so that growing copies nothing and leaves nothing behind: at a million filters,
/// doubling one array would take as much memory again for a while. A free place is used before a new one is made.
#[derive(Debug)]
pub(super) struct Places<T> {
    pages: Vec<Vec<T>>,
    free: Vec<u32>,
}

/// Entries of a page; a power of two.
const PAGE: usize = 512;

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places {
            pages: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Places<T> {
    /// Puts a value in a free place. There are fewer than 2^31.
    pub(super) fn put(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self[place] = value;
            return place;
        }
        let place = u32::try_from(self.len())
            .ok()
            .filter(|place| *place < 1 << 31)
            .expect("fewer than 2^31 of them fit in memory");
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(value),
            first => {
                // The only page starts small: most brokers have few subscriptions.
                let mut page = Vec::with_capacity(if first.is_some() { PAGE } else { 1 });
                page.push(value);
                self.pages.push(page);
            }
        }
        place
    }

    /// Frees a place. What is in it stays there until it is used again.
    pub(super) fn free(&mut self, place: u32) {
        self.free.push(place);
    }

    /// Places, free ones included.
    pub(super) fn len(&self) -> usize {
        match self.pages.split_last() {
            Some((last, full)) => full.len() * PAGE + last.len(),
            None => 0,
        }
    }

    /// Places in use.
    pub(super) fn used(&self) -> usize {
        self.len() - self.free.len()
    }

    /// Gives back the memory of the free places at the end.
    pub(super) fn shrink(&mut self) {
        self.free.sort_unstable();
        while let Some(last) = self.free.last()
            && *last as usize + 1 == self.len()
        {
            self.free.pop();
            if let Some(page) = self.pages.last_mut() {
                page.pop();
                if page.is_empty() {
                    self.pages.pop();
                }
            }
        }
        if let Some(page) = self.pages.last_mut() {
            page.shrink_to_fit();
        }
        self.pages.shrink_to_fit();
        self.free.shrink_to_fit();
    }
}

impl<T> Index<u32> for Places<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        &self.pages[place as usize / PAGE][place as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Places<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.pages[place as usize / PAGE][place as usize % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_numbers_and_are_used_again() {
        let mut places = Places::default();
        for value in 0..2_000 {
            assert_eq!(places.put(value), value);
        }
        assert_eq!((places.len(), places.used()), (2_000, 2_000));
        for place in (3..2_000).rev() {
            places.free(place);
        }
        assert_eq!((places.len(), places.used()), (2_000, 3));
        places.shrink();
        assert_eq!((places.len(), places.pages.len()), (3, 1));
        assert_eq!((places[0], places[2]), (0, 2));
        places.free(1);
        assert_eq!(places.put(9), 1);
        assert_eq!(places.put(8), 3);
        assert_eq!((places[1], places[3]), (9, 8));
    }
}
