//! A bounded memory of what was hashed to the curve.

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// A map that forgets what was not asked for lately: two generations, of which the older is dropped
/// when the younger is full. It holds at most twice its capacity.
pub(crate) struct Cache<K, V> {
    capacity: usize,
    generations: Mutex<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, Arc<V>>,
    old: HashMap<K, Arc<V>>,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty cache with this many entries a generation.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }

    /// The value of `key`, made now if it is not remembered. The lock is not held meanwhile.
    pub(crate) fn get(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(found) = self.find(key) {
            return found;
        }
        let made = Arc::new(make());
        self.keep(key.clone(), Arc::clone(&made));
        made
    }

    fn find(&self, key: &K) -> Option<Arc<V>> {
        let mut generations = self.lock();
        if let Some(found) = generations.young.get(key) {
            return Some(Arc::clone(found));
        }
        let (key, found) = generations.old.remove_entry(key)?;
        self.insert(&mut generations, key, Arc::clone(&found));
        Some(found)
    }

    fn keep(&self, key: K, value: Arc<V>) {
        let mut generations = self.lock();
        self.insert(&mut generations, key, value);
    }

    fn insert(&self, generations: &mut Generations<K, V>, key: K, value: Arc<V>) {
        if generations.young.len() >= self.capacity {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(key, value);
    }

    /// A panic while the lock is held can only be one for want of memory, and leaves a usable map.
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations<K, V>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn remembers_what_is_asked_for_and_stays_bounded() {
        let cache = Cache::new(4);
        let made = Cell::new(0);
        let get = |key: u32| {
            *cache.get(&key, || {
                made.set(made.get() + 1);
                key * 10
            })
        };
        for round in 0..20 {
            // 7 is asked for in every round, the others never again.
            assert_eq!(get(7), 70);
            assert_eq!(get(100 + round), 1000 + round * 10);
        }
        assert_eq!(made.get(), 21);
        let generations = cache.lock();
        assert!(generations.young.len() + generations.old.len() <= 8);
    }
}
