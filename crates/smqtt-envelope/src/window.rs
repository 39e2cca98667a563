//! Which messages of one key and topic have been opened: the replay window.

use smqtt_format::Sequence;

/// The highest sequence number that was opened, and which of the 128 numbers up to it were.
///
/// The window only moves forward. It is asked after a message has been authenticated, so nobody but the publisher moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Highest number opened; 0 before the first.
    highest: u32,
    /// Bit `n` is set if `highest - n` was opened.
    opened: u128,
    /// Whether numbers below the first one opened count as missing.
    from_start: bool,
}

/// What a window says of a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Higher than all before; so many numbers in between have not been opened.
    Next { missing: u32 },
    /// Lower than the highest, but opened for the first time.
    Late,
    /// Opened before.
    Repeated,
    /// So far below the highest that the window does not know whether it was opened before.
    TooLate,
}

impl Window {
    /// An empty window. `from_start` says that the reader was there before the first message, so that a first number
    /// above 1 means that the ones below are missing.
    pub(crate) fn new(from_start: bool) -> Self {
        Self {
            highest: 0,
            opened: 0,
            from_start,
        }
    }

    /// One that lets nothing through.
    pub(crate) fn closed() -> Self {
        Self {
            highest: u32::MAX,
            opened: u128::MAX,
            from_start: false,
        }
    }

    /// The highest number and which of those up to it were opened.
    pub(crate) fn parts(&self) -> (u32, u128) {
        (self.highest, self.opened)
    }

    /// The window with these parts, if there can be one: the highest number was opened, and none below 1.
    pub(crate) fn of_parts(highest: u32, opened: u128) -> Option<Self> {
        let beyond = opened.checked_shr(highest).unwrap_or(0);
        (highest > 0 && opened & 1 == 1 && beyond == 0).then_some(Self {
            highest,
            opened,
            // Counts before the first message only, and there was one.
            from_start: false,
        })
    }

    /// Notes that `sequence` is opened, unless it was before.
    pub(crate) fn note(&mut self, sequence: Sequence) -> Verdict {
        let number = sequence.get();
        if let Some(ahead) = number.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            let counts = self.highest > 0 || self.from_start;
            self.opened = self.opened.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
            return Verdict::Next {
                missing: if counts { ahead - 1 } else { 0 },
            };
        }
        let behind = self.highest - number;
        let Some(bit) = 1u128.checked_shl(behind) else {
            return Verdict::TooLate;
        };
        if self.opened & bit != 0 {
            return Verdict::Repeated;
        }
        self.opened |= bit;
        Verdict::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn note(window: &mut Window, number: u32) -> Verdict {
        window.note(Sequence::new(number).expect("not 0"))
    }

    #[test]
    fn a_gap_is_counted_once_and_may_be_filled_later() {
        let mut window = Window::new(true);
        assert_eq!(note(&mut window, 1), Verdict::Next { missing: 0 });
        assert_eq!(note(&mut window, 5), Verdict::Next { missing: 3 });
        assert_eq!(note(&mut window, 3), Verdict::Late);
        assert_eq!(note(&mut window, 3), Verdict::Repeated);
        assert_eq!(note(&mut window, 6), Verdict::Next { missing: 0 });
    }

    #[test]
    fn who_comes_late_misses_nothing_who_was_there_does() {
        assert_eq!(
            note(&mut Window::new(false), 40),
            Verdict::Next { missing: 0 }
        );
        assert_eq!(
            note(&mut Window::new(true), 40),
            Verdict::Next { missing: 39 }
        );
    }

    #[test]
    fn the_window_is_128_numbers_wide() {
        let mut window = Window::new(false);
        note(&mut window, 1000);
        assert_eq!(note(&mut window, 1000 - 127), Verdict::Late);
        assert_eq!(note(&mut window, 1000 - 127), Verdict::Repeated);
        assert_eq!(note(&mut window, 1000 - 128), Verdict::TooLate);
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let mut window = Window::new(true);
        assert_eq!(note(&mut window, 1), Verdict::Next { missing: 0 });
        assert_eq!(
            note(&mut window, u32::MAX),
            Verdict::Next {
                missing: u32::MAX - 2
            }
        );
        assert_eq!(note(&mut window, u32::MAX), Verdict::Repeated);
        assert_eq!(note(&mut window, u32::MAX - 1), Verdict::Late);
        assert_eq!(note(&mut window, 1), Verdict::TooLate);
    }

    proptest! {
        /// Against a set that remembers everything: nothing is ever opened twice, and within the width nothing is refused.
        #[test]
        fn the_window_agrees_with_a_perfect_memory(numbers in prop::collection::vec(1u32..600, 1..400)) {
            let mut window = Window::new(false);
            let mut opened = BTreeSet::new();
            for number in numbers {
                let highest = opened.last().copied().unwrap_or(0);
                let expected = if number > highest {
                    Verdict::Next { missing: if highest == 0 { 0 } else { number - highest - 1 } }
                } else if highest - number >= 128 {
                    Verdict::TooLate
                } else if opened.contains(&number) {
                    Verdict::Repeated
                } else {
                    Verdict::Late
                };
                prop_assert_eq!(note(&mut window, number), expected);
                if expected != Verdict::TooLate {
                    opened.insert(number);
                }
            }
        }
    }
}
