//! Shares of the backup key: any `threshold` of them open every backup, fewer tell nothing at all.

use rand::CryptoRng;
use sha2::{Digest, Sha256};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::Error;
use crate::secrets::{DataKey, backup_key_id};

/// One of several shares of a backup key, as a line of text that can be printed and typed again.
///
/// 52 bytes in base32, in groups of four: format version, threshold, number of shares, index of this one (a byte each), 4
/// bytes of the set, 8 bytes that identify the key, 32 bytes of the share, 4 bytes of checksum (SHA-256 over all before).
pub struct Share {
    threshold: u8,
    count: u8,
    index: u8,
    set: [u8; 4],
    key_id: [u8; 8],
    value: Zeroizing<[u8; 32]>,
}

const VERSION: u8 = 1;
const LENGTH: usize = 4 + 4 + 8 + 32;
const CHECKSUM: usize = 4;
/// What a line with a share begins with.
const PREFIX: &str = "smqtt-share:";

impl Share {
    /// The most shares that a key is split into.
    pub const MAX: u8 = 64;

    /// Splits a key into `count` shares, any `threshold` of which give it back. One of one is the key itself.
    ///
    /// # Errors
    /// [`Error::Shares`] unless `1 ≤ threshold ≤ count ≤ 64`, and a threshold of 1 with a count of 1 only.
    pub fn split<R: CryptoRng + ?Sized>(
        key: &DataKey,
        threshold: u8,
        count: u8,
        rng: &mut R,
    ) -> Result<Vec<Self>, Error> {
        let sensible = (2..=count).contains(&threshold) || (threshold, count) == (1, 1);
        if !sensible || count > Self::MAX {
            return Err(Error::Shares(format!(
                "{threshold}-of-{count} is not possible: take 2-of-2 up to {0}-of-{0}, or 1-of-1 for the whole key",
                Self::MAX
            )));
        }
        let mut set = [0; 4];
        rng.fill_bytes(&mut set);
        let key_id = backup_key_id(key.as_bytes());
        let values = if count == 1 {
            vec![[&[1], &key.as_bytes()[..]].concat()]
        } else {
            Gf256::split_bytes(threshold.into(), count.into(), key.as_bytes(), rng)
                .map_err(|e| Error::Shares(e.to_string()))?
        };
        values
            .into_iter()
            .map(Zeroizing::new)
            .map(|value| {
                let (index, value) = value.split_first().ok_or_else(odd)?;
                Ok(Self {
                    threshold,
                    count,
                    index: *index,
                    set,
                    key_id,
                    value: Zeroizing::new(value.try_into().map_err(|_| odd())?),
                })
            })
            .collect()
    }

    /// Reads all shares of a text: lines that begin with `smqtt-share:`. Other lines are for people.
    ///
    /// # Errors
    /// [`Error::Shares`] if one has a typing error or is of a newer format.
    pub fn read_all(text: &str) -> Result<Vec<Self>, Error> {
        let lines = text.lines().map(str::trim_start);
        let shares = lines.filter(|line| {
            line.get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        });
        shares.map(Self::read).collect()
    }

    /// Reads one share, with or without `smqtt-share:` before it. Case, spaces and hyphens do not count.
    ///
    /// # Errors
    /// [`Error::Shares`].
    pub fn read(line: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Shares(
                "a share is not as it was printed: look for a letter that was mistyped or left out"
                    .into(),
            )
        };
        let line = line.trim();
        let code = match line.get(..PREFIX.len()) {
            Some(start) if start.eq_ignore_ascii_case(PREFIX) => &line[PREFIX.len()..],
            _ => line,
        };
        let code = Zeroizing::new(
            code.chars()
                .filter(|c| !c.is_whitespace() && *c != '-')
                .map(|c| c.to_ascii_uppercase())
                .collect::<String>(),
        );
        let bytes = Zeroizing::new(
            data_encoding::BASE32_NOPAD
                .decode(code.as_bytes())
                .map_err(|_| wrong())?,
        );
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(wrong)?;
        if checksum(body) != *sum {
            return Err(wrong());
        }
        let body: &[u8; LENGTH] = body.try_into().map_err(|_| wrong())?;
        let [version, threshold, count, index, ..] = *body;
        if version != VERSION {
            return Err(Error::Shares(format!(
                "a share has format version {version}, this program reads {VERSION}: update it"
            )));
        }
        let mut share = Self {
            threshold,
            count,
            index,
            set: [0; 4],
            key_id: [0; 8],
            value: Zeroizing::new([0; 32]),
        };
        share.set.copy_from_slice(&body[4..8]);
        share.key_id.copy_from_slice(&body[8..16]);
        share.value.copy_from_slice(&body[16..]);
        if index == 0 || index > count || threshold == 0 || threshold > count {
            return Err(wrong());
        }
        Ok(share)
    }

    /// The share as a line of text.
    #[must_use]
    pub fn to_line(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH + CHECKSUM));
        bytes.extend_from_slice(&[VERSION, self.threshold, self.count, self.index]);
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&self.key_id);
        bytes.extend_from_slice(&*self.value);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let code = Zeroizing::new(data_encoding::BASE32_NOPAD.encode(&bytes));
        let mut line = Zeroizing::new(String::with_capacity(PREFIX.len() + code.len() * 5 / 4));
        line.push_str(PREFIX);
        for (number, letter) in code.chars().enumerate() {
            if number > 0 && number % 4 == 0 {
                line.push('-');
            }
            line.push(letter);
        }
        line
    }

    /// How many open a backup.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Which one this is, from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Identifies the split; shares of two do not go together.
    #[must_use]
    pub fn set(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.set)
    }

    /// Identifies the key.
    #[must_use]
    pub fn key_id(&self) -> [u8; 8] {
        self.key_id
    }

    /// Gives the key back.
    ///
    /// # Errors
    /// [`Error::Shares`]: too few, or not all of one set.
    pub fn combine(shares: &[Self]) -> Result<DataKey, Error> {
        let Some(first) = shares.first() else {
            return Err(Error::Shares("no share was given".into()));
        };
        let same = |share: &&Self| {
            (share.set, share.key_id, share.threshold, share.count)
                == (first.set, first.key_id, first.threshold, first.count)
        };
        if let Some(other) = shares.iter().find(|share| !same(share)) {
            return Err(Error::Shares(format!(
                "share {} is of set {}, share {} of set {}: only shares that were made together go together",
                first.index,
                first.set(),
                other.index,
                other.set()
            )));
        }
        let mut different: Vec<&Self> = Vec::new();
        for share in shares {
            if different.iter().all(|other| other.index != share.index) {
                different.push(share);
            }
        }
        let needed = usize::from(first.threshold);
        if different.len() < needed {
            let given: Vec<_> = different.iter().map(|s| s.index.to_string()).collect();
            return Err(Error::Shares(format!(
                "{needed} of the {} shares are needed, those given are number {}: {} more",
                first.count,
                given.join(", "),
                needed - different.len(),
            )));
        }
        let key = if needed == 1 {
            Zeroizing::new(first.value.to_vec())
        } else {
            let parts: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
                different
                    .iter()
                    .take(needed)
                    .map(|share| [&[share.index], &share.value[..]].concat())
                    .collect(),
            );
            Zeroizing::new(Gf256::combine_bytes(&*parts).map_err(|e| Error::Shares(e.to_string()))?)
        };
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| odd())?;
        if backup_key_id(key) != first.key_id {
            return Err(Error::Shares(
                "the shares do not give the key that they are of: one of them was altered".into(),
            ));
        }
        Ok(DataKey::from_bytes(key))
    }
}

fn odd() -> Error {
    Error::Shares("a share of an unexpected size was made".into())
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Sha256::new();
    hash.update(b"smqtt share");
    hash.update(body);
    let digest: [u8; 32] = hash.finalize().into();
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest[..CHECKSUM]);
    sum
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn shares(threshold: u8, count: u8, seed: u64) -> Vec<Share> {
        let key = DataKey::from_bytes(&[9; 32]);
        Share::split(&key, threshold, count, &mut StdRng::seed_from_u64(seed)).unwrap()
    }

    fn pick(all: &[Share], mask: u32) -> Vec<Share> {
        let chosen = |(i, share): (usize, &Share)| {
            (mask >> i & 1 == 1).then(|| Share::read(&share.to_line()).unwrap())
        };
        all.iter().enumerate().filter_map(chosen).collect()
    }

    #[test]
    fn every_three_of_five_give_the_key_and_no_two_do() {
        let all = shares(3, 5, 1);
        for mask in 0..32u32 {
            let combined = Share::combine(&pick(&all, mask));
            if mask.count_ones() >= 3 {
                assert_eq!(combined.unwrap().as_bytes(), &[9; 32]);
            } else {
                assert!(matches!(combined, Err(Error::Shares(_))), "{mask:05b}");
            }
        }
    }

    #[test]
    fn one_share_twice_counts_once() {
        let all = shares(2, 3, 1);
        let twice: Vec<_> = pick(&all, 1).into_iter().chain(pick(&all, 1)).collect();
        let error = Share::combine(&twice).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("2 of the 3 shares are needed") && error.contains("1 more"),
            "{error}"
        );
    }

    #[test]
    fn sets_do_not_mix() {
        let (one, other) = (pick(&shares(2, 3, 1), 1), pick(&shares(2, 3, 2), 2));
        let mixed: Vec<_> = one.into_iter().chain(other).collect();
        let error = Share::combine(&mixed).map(drop).unwrap_err().to_string();
        assert!(error.contains("made together"), "{error}");
    }

    #[test]
    fn every_mistyped_letter_is_found() {
        let share = &shares(2, 3, 1)[0];
        let line = share.to_line();
        assert_eq!(line.len(), PREFIX.len() + 84 + 20);
        let code = line[PREFIX.len()..].to_lowercase().replace('-', " ");
        let read = Share::read(&code).unwrap();
        assert_eq!((read.index(), read.threshold(), read.count()), (1, 2, 3));
        for at in PREFIX.len()..line.len() {
            let letter = line.as_bytes()[at];
            if letter == b'-' {
                continue;
            }
            let other = if letter == b'A' { "B" } else { "A" };
            let mut wrong = line.to_string();
            wrong.replace_range(at..=at, other);
            assert!(Share::read(&wrong).is_err(), "letter {at}");
        }
    }

    #[test]
    fn one_of_one_is_the_key_and_senseless_numbers_are_refused() {
        let whole = shares(1, 1, 1);
        assert_eq!(Share::combine(&whole).unwrap().as_bytes(), &[9; 32]);
        let key = DataKey::from_bytes(&[9; 32]);
        for (threshold, count) in [(0, 0), (0, 3), (1, 3), (4, 3), (2, 65), (255, 255)] {
            let rng = &mut StdRng::seed_from_u64(1);
            assert!(Share::split(&key, threshold, count, rng).is_err());
        }
    }
}
