//! Durations as people write them.

use std::time::Duration;

/// Reads `90s`, `30m`, `24h`, `7d`, or several of them as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refusal = || "not a time such as 90s, 30m, 24h or 7d".to_owned();
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| refusal())?;
        let unit = match rest.as_bytes().get(digits) {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            _ => return Err(refusal()),
        };
        total = number
            .checked_mul(unit)
            .and_then(|n| total.checked_add(n))
            .ok_or_else(refusal)?;
        rest = &rest[digits + 1..];
    }
    if total == 0 {
        Err(refusal())
    } else {
        Ok(Duration::from_secs(total))
    }
}

/// As [`parse_duration`], and `0s` for none.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        other => parse_duration(other),
    }
}

/// A span as people write it, in the largest unit that fits without a rest.
pub(crate) fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units
        .iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    match fits {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1h30m", 5400),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0s", "90s", "30m", "25h", "7d"] {
            assert_eq!(words(parse_span(text).unwrap()), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0s",
            "5",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "1hé",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
