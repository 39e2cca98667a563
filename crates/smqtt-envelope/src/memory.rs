//! What a reader keeps beyond its own life, so that the next one opens nothing again.

use std::collections::HashMap;
use std::sync::Arc;

use smqtt_format::KeyId;

use crate::Opener;
use crate::keyring::State;
use crate::window::Window;

/// Which messages of one key and topic were opened: what a reader keeps where it is to outlive the program.
///
/// It is no secret. Whoever alters it can make a reader take a message twice, or refuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRecord {
    window: Window,
    ends: u64,
}

impl WindowRecord {
    /// Its length in bytes.
    pub const LEN: usize = 28;

    /// It refuses every message: for a window that was forgotten.
    #[must_use]
    pub fn closed(ends: u64) -> Self {
        Self {
            window: Window::closed(),
            ends,
        }
    }

    /// When publishers stop sealing under the key, in seconds since 1970. Once the permitted delay and twice the clock skew have
    /// passed as well, the key is refused and the record not needed.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends
    }

    /// As bytes: the key's end (8 bytes), the highest number (4), the numbers below it that were opened (16), big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let (highest, opened) = self.window.parts();
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.ends.to_be_bytes());
        bytes[8..12].copy_from_slice(&highest.to_be_bytes());
        bytes[12..].copy_from_slice(&opened.to_be_bytes());
        bytes
    }

    /// The record that these bytes are; `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ends, rest) = bytes.split_first_chunk()?;
        let (highest, rest) = rest.split_first_chunk()?;
        let opened = <[u8; 16]>::try_from(rest).ok()?;
        let window = Window::of_parts(u32::from_be_bytes(*highest), u128::from_be_bytes(opened))?;
        Some(Self {
            window,
            ends: u64::from_be_bytes(*ends),
        })
    }
}

/// Windows of an earlier reader whose keys have not been used here.
#[derive(Default)]
pub(crate) struct Recalled(HashMap<KeyId, Vec<(Arc<str>, Window)>>);

impl Recalled {
    pub(crate) fn take(&mut self, kid: &KeyId, topic: &str) -> Option<Window> {
        let topics = self.0.get_mut(kid)?;
        let index = topics.iter().position(|(of, _)| **of == *topic)?;
        let (_, window) = topics.swap_remove(index);
        if topics.is_empty() {
            self.0.remove(kid);
        }
        Some(window)
    }

    pub(crate) fn insert(&mut self, kid: KeyId, topic: &str, window: Window) {
        self.take(&kid, topic);
        let topics = self.0.entry(kid).or_default();
        topics.push((topic.into(), window));
    }
}

impl Opener {
    /// Whether the key frame of this name is known and its messages can be opened, now or after a renewal.
    #[must_use]
    pub fn knows(&self, kid: &KeyId) -> bool {
        self.ring
            .get(kid)
            .is_some_and(|entry| matches!(entry.state, State::Open(_) | State::Ahead(_)))
    }

    /// What was opened under a key at a topic, to be kept; `None` before the first message, and for a key that was
    /// forgotten.
    #[must_use]
    pub fn window(&self, kid: &KeyId, topic: &str) -> Option<WindowRecord> {
        let entry = self.ring.get(kid)?;
        Some(WindowRecord {
            window: entry.topic(topic)?.window,
            ends: entry.ends,
        })
    }

    /// Goes on where an earlier reader was. To be called before the first message under this key at this topic; it stays until that
    /// message, so call it for what arrives and not for all that was ever kept.
    pub fn recall(&mut self, kid: KeyId, topic: &str, record: &WindowRecord) {
        if self.window(&kid, topic).is_none() {
            self.recalled.insert(kid, topic, record.window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smqtt_format::Sequence;

    proptest! {
        #[test]
        fn a_record_gives_back_its_window(numbers in prop::collection::vec(1u32..400, 1..100), ends: u64) {
            let mut window = Window::new(false);
            for number in numbers {
                window.note(Sequence::new(number).expect("not 0"));
            }
            let record = WindowRecord { window, ends };
            prop_assert_eq!(WindowRecord::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn what_is_no_window_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(record) = WindowRecord::from_bytes(&bytes) {
                prop_assert_eq!(&record.to_bytes()[..], &bytes[..]);
                prop_assert!(record.window.parts().0 > 0);
            }
        }
    }

    #[test]
    fn a_window_that_never_was_is_refused() {
        let mut bytes = WindowRecord::closed(7).to_bytes();
        assert!(WindowRecord::from_bytes(&bytes).is_some());
        // The highest number has been opened, by its name.
        bytes[27] &= 0xfe;
        assert_eq!(WindowRecord::from_bytes(&bytes), None);
        // Below 1 there is no number.
        let mut bytes = [0; WindowRecord::LEN];
        bytes[11] = 2;
        bytes[27] = 0b111;
        assert_eq!(WindowRecord::from_bytes(&bytes), None);
        bytes[27] = 0b11;
        assert!(WindowRecord::from_bytes(&bytes).is_some());
        assert_eq!(WindowRecord::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn a_closed_window_opens_nothing_but_the_last_numbers_never() {
        let mut window = WindowRecord::closed(7).window;
        for number in [1, 1000, u32::MAX - 1, u32::MAX] {
            let verdict = window.note(Sequence::new(number).expect("not 0"));
            assert!(
                matches!(
                    verdict,
                    crate::window::Verdict::Repeated | crate::window::Verdict::TooLate
                ),
                "{number}"
            );
        }
    }
}
