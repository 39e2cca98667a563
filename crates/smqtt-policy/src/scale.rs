//! Numbers, dates and times: how they are written, and the integers that they stand for.

use std::fmt;

use crate::Error;

/// What a number counts. Numbers of different scales are never equal and never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scale {
    /// A whole number of 64 bits: `3`, `-20`.
    Integer,
    /// A calendar date, `YYYY-MM-DD`, of the years 0001 to 9999, in days since 1970-01-01.
    Date,
    /// A time of day, `HH:MM` or `HH:MM:SS`, in seconds since midnight.
    TimeOfDay,
    /// A moment in UTC, `YYYY-MM-DDTHH:MM[:SS]Z`, in seconds since 1970-01-01T00:00:00Z.
    Instant,
}

const SECONDS_PER_DAY: i64 = 86_400;

impl Scale {
    /// All scales, in the order of their ids.
    pub const ALL: [Self; 4] = [Self::Integer, Self::Date, Self::TimeOfDay, Self::Instant];

    /// The number by which encodings name this scale.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Integer => 0,
            Self::Date => 1,
            Self::TimeOfDay => 2,
            Self::Instant => 3,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The scale's name, as a schema and messages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Date => "date",
            Self::TimeOfDay => "time",
            Self::Instant => "instant",
        }
    }

    /// The least number that can be written on this scale.
    #[must_use]
    pub const fn least(self) -> i64 {
        match self {
            Self::Integer => i64::MIN,
            Self::Date => days_from_civil(1, 1, 1),
            Self::TimeOfDay => 0,
            Self::Instant => days_from_civil(1, 1, 1) * SECONDS_PER_DAY,
        }
    }

    /// The greatest number that can be written on this scale.
    #[must_use]
    pub const fn greatest(self) -> i64 {
        match self {
            Self::Integer => i64::MAX,
            Self::Date => days_from_civil(9999, 12, 31),
            Self::TimeOfDay => SECONDS_PER_DAY - 1,
            Self::Instant => days_from_civil(9999, 12, 31) * SECONDS_PER_DAY + SECONDS_PER_DAY - 1,
        }
    }

    /// Whether a value of this scale may have this number.
    #[must_use]
    pub const fn holds(self, number: i64) -> bool {
        self.least() <= number && number <= self.greatest()
    }

    /// Reads a word that has the form of a number, date or time. `Ok(None)` is a word of no such form.
    pub(crate) fn read(word: &str) -> Result<Option<(Self, i64)>, Error> {
        let Some(scale) = Self::form_of(word) else {
            return Ok(None);
        };
        let number = match scale {
            Self::Integer => word.parse().ok(),
            Self::Date => read_date(word),
            Self::TimeOfDay => read_time(word),
            Self::Instant => word.strip_suffix('Z').and_then(|utc| {
                let (date, time) = utc.split_once('T')?;
                Some(read_date(date)? * SECONDS_PER_DAY + read_time(time)?)
            }),
        };
        match number {
            Some(number) if scale.holds(number) => Ok(Some((scale, number))),
            _ => Err(Error::NumberOutOfRange { scale }),
        }
    }

    /// Whether `word`, unquoted, would be read as a number, date or time (or refused as a bad one).
    pub(crate) fn claims(word: &str) -> bool {
        Self::form_of(word).is_some()
    }

    fn form_of(word: &str) -> Option<Self> {
        let digits = word.strip_prefix('-').unwrap_or(word);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            // `007` is a text: a number has one way to be written. So is `-0`.
            let plain = (digits == "0" && digits == word) || !digits.starts_with('0');
            return plain.then_some(Self::Integer);
        }
        let mut form = [0u8; 20];
        let form = form.get_mut(..word.len())?;
        for (shape, byte) in form.iter_mut().zip(word.bytes()) {
            *shape = if byte.is_ascii_digit() { b'9' } else { byte };
        }
        match &*form {
            b"9999-99-99" => Some(Self::Date),
            b"99:99" | b"99:99:99" => Some(Self::TimeOfDay),
            b"9999-99-99T99:99Z" | b"9999-99-99T99:99:99Z" => Some(Self::Instant),
            _ => None,
        }
    }

    /// Writes `number` as the canonical form does: seconds only where they are not zero.
    pub(crate) fn write(self, number: i64, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Integer => write!(f, "{number}"),
            // Ends of derived intervals may lie outside what can be written as a date.
            _ if !self.holds(number) => write!(f, "({} {number})", self.name()),
            Self::Date => write_date(number, f),
            Self::TimeOfDay => write_time(number, f),
            Self::Instant => {
                write_date(number.div_euclid(SECONDS_PER_DAY), f)?;
                f.write_char('T')?;
                write_time(number.rem_euclid(SECONDS_PER_DAY), f)?;
                f.write_char('Z')
            }
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn write_date(days: i64, f: &mut impl fmt::Write) -> fmt::Result {
    let (year, month, day) = civil_from_days(days);
    write!(f, "{year:04}-{month:02}-{day:02}")
}

fn write_time(seconds: i64, f: &mut impl fmt::Write) -> fmt::Result {
    write!(f, "{:02}:{:02}", seconds / 3600, seconds / 60 % 60)?;
    match seconds % 60 {
        0 => Ok(()),
        rest => write!(f, ":{rest:02}"),
    }
}

/// `YYYY-MM-DD`, already of that form, to days since 1970-01-01.
fn read_date(text: &str) -> Option<i64> {
    let year: i64 = text.get(0..4)?.parse().ok()?;
    let month: i64 = text.get(5..7)?.parse().ok()?;
    let day: i64 = text.get(8..10)?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that its month does not have comes back as another one.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// `HH:MM` or `HH:MM:SS`, already of that form, to seconds since midnight.
fn read_time(text: &str) -> Option<i64> {
    let hour: i64 = text.get(0..2)?.parse().ok()?;
    let minute: i64 = text.get(3..5)?.parse().ok()?;
    let second: i64 = text.get(6..8).unwrap_or("00").parse().ok()?;
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
///
/// Years run from March so that the leap day is a year's last; 400 of them are 146,097 days.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}
