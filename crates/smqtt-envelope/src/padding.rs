//! Padding to size classes: what a broker sees of a payload's length is its class.
//!
//! A padded payload is followed by `80` and as many `00` as its class asks for (ISO/IEC 7816-4), and sealed as a whole. Whether
//! payloads are padded is said by the key frame, which the content key is made of: it can be neither added nor taken away.

use std::fmt;
use std::str::FromStr;

/// The smallest class of [`Padding::PowersOfTwo`], in bytes.
const LEAST: usize = 16;
/// How many classes a list may have.
const MAX_SIZES: usize = 64;
/// The mark between payload and zeros.
const MARK: u8 = 0x80;

/// To which lengths payloads are padded before they are sealed.
///
/// ```
/// use smqtt_envelope::Padding;
///
/// let padding: Padding = "64,256,1024".parse()?;
/// assert_eq!(padding.padded_len(4), 64);
/// assert_eq!(padding.padded_len(64), 256); // one byte is the mark's
/// assert_eq!(padding.padded_len(2_000), 2_048); // beyond the last: multiples of it
/// assert_eq!("pow2".parse::<Padding>()?.padded_len(21), 32);
/// # Ok::<(), smqtt_envelope::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Not at all: a payload is as long as it is.
    #[default]
    Off,
    /// To the next power of two, 16 at least: a payload at most doubles, and tells one of a few classes.
    PowersOfTwo,
    /// To the smallest of these lengths that is large enough; beyond the largest, to a multiple of it.
    Sizes(Sizes),
}

/// Lengths to pad to: 1 to 64 of them, ascending, each at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Box<[usize]>);

impl Sizes {
    /// The lengths in bytes; `None` if there are none, too many, or they do not ascend from 1.
    #[must_use]
    pub fn new(sizes: &[u32]) -> Option<Self> {
        let ascending = sizes.first().is_some_and(|first| *first > 0)
            && sizes.windows(2).all(|pair| pair[0] < pair[1]);
        (ascending && sizes.len() <= MAX_SIZES)
            .then(|| Self(sizes.iter().map(|size| *size as usize).collect()))
    }
}

impl Padding {
    /// Whether there is any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// How long a payload of `length` bytes is when it is sealed, in bytes, without the authentication tag.
    #[must_use]
    pub fn padded_len(&self, length: usize) -> usize {
        let needed = length.saturating_add(1);
        match self {
            Self::Off => length,
            Self::PowersOfTwo => needed
                .checked_next_power_of_two()
                .unwrap_or(needed)
                .max(LEAST),
            Self::Sizes(Sizes(sizes)) => {
                let fits = sizes.iter().copied().find(|size| *size >= needed);
                let largest = sizes.last().copied().unwrap_or(1);
                fits.unwrap_or_else(|| needed.checked_next_multiple_of(largest).unwrap_or(needed))
            }
        }
    }
}

/// Appends `payload` and its padding to `length` bytes, which are more than the payload's.
pub(crate) fn pad(payload: &[u8], length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.extend_from_slice(payload);
    out.push(MARK);
    out.resize(end, 0);
}

/// Takes the padding off; false if there is none as it has to be. What it looks at is authenticated already: only who holds the
/// content key gets this far, and learns nothing from the answer that it does not know.
pub(crate) fn unpad(payload: &mut Vec<u8>) -> bool {
    let end = payload.iter().rposition(|byte| *byte != 0);
    match end {
        Some(end) if payload[end] == MARK => {
            payload.truncate(end);
            true
        }
        _ => false,
    }
}

impl FromStr for Padding {
    type Err = crate::Error;

    /// Reads `off`, `pow2`, or lengths in bytes with commas between them.
    fn from_str(text: &str) -> Result<Self, crate::Error> {
        match text {
            "off" => return Ok(Self::Off),
            "pow2" => return Ok(Self::PowersOfTwo),
            _ => {}
        }
        let sizes: Option<Vec<u32>> = text
            .split(',')
            .map(|size| size.trim().parse().ok())
            .collect();
        sizes
            .and_then(|sizes| Sizes::new(&sizes))
            .map(Self::Sizes)
            .ok_or(crate::Error::Config {
                field: "padding",
                allowed: "off, pow2, or up to 64 ascending lengths in bytes such as 64,256,1024",
            })
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::PowersOfTwo => f.write_str("pow2"),
            Self::Sizes(Sizes(sizes)) => {
                let texts: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_padding_is_refused() {
        for text in ["", "0", "64,32", "64,64", "pow3", "64,", "-1", "1,2,x"] {
            assert!(text.parse::<Padding>().is_err(), "{text}");
        }
        for text in ["off", "pow2", "1", "64,256"] {
            assert_eq!(text.parse::<Padding>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bytes_that_are_no_padding_are_not_taken_off() {
        for bytes in [&b""[..], b"\0\0", b"21.5", b"21.5\x80\x01", b"\x81\0"] {
            assert!(!unpad(&mut bytes.to_vec()), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_padded_is_of_its_class_and_comes_off_as_it_was(
            payload in proptest::collection::vec(any::<u8>(), 0..600),
            padding in prop_oneof![Just("pow2"), Just("1"), Just("7"), Just("64,256,300")],
        ) {
            let padding: Padding = padding.parse().unwrap();
            let length = padding.padded_len(payload.len());
            prop_assert!(length > payload.len());
            let mut padded = Vec::new();
            pad(&payload, length, &mut padded);
            prop_assert_eq!(padded.len(), length);
            prop_assert!(unpad(&mut padded));
            prop_assert_eq!(padded, payload);
        }
    }
}
