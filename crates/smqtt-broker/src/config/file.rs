//! Reading the TOML file: an unknown key is an error with its line and the nearest known key.

use std::path::Path;

use super::Config;
use crate::Error;

impl Config {
    /// Reads a configuration file over the defaults. [`Config::validate`] is a step of its own, so
    /// that flags can complete what the file leaves open.
    ///
    /// # Errors
    /// [`Error::ConfigFile`] when it cannot be read, [`Error::ConfigSyntax`] for anything in it
    /// that is not a key or value of the configuration.
    pub fn from_file(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::ConfigFile {
            path: path.to_owned(),
            source,
        })?;
        Config::from_toml(&text, path)
    }

    /// Parses configuration text; `path` only names it in errors.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`].
    pub fn from_toml(text: &str, path: &Path) -> Result<Config, Error> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let offset = error.span().map_or(0, |span| span.start.min(text.len()));
            Error::ConfigSyntax {
                path: path.to_owned(),
                line: text.as_bytes()[..offset]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1,
                message: explain(error.message()),
            }
        })
    }
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a sentence with one suggestion;
/// other messages stay, on one line.
fn explain(message: &str) -> String {
    let message = message.replace('\n', " ");
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message;
    };
    let Some((unknown, expected)) = rest.split_once('`') else {
        return message;
    };
    let known = expected.split('`').skip(1).step_by(2);
    match known.min_by_key(|key| distance(unknown, key)) {
        Some(key) => format!("unknown key `{unknown}`; the nearest known key is `{key}`"),
        None => format!("unknown key `{unknown}`; this section has no keys"),
    }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::from_toml(text, Path::new("broker.toml"))
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn unknown_keys_are_errors_with_line_and_nearest_key() {
        assert_eq!(
            error("workers = 2\n\n[limits]\nmax_paket_bytes = 5\n"),
            "broker.toml:4: unknown key `max_paket_bytes`; the nearest known key is `max_packet_bytes`"
        );
        assert_eq!(
            error("[sys]\ninterval = 3\n"),
            "broker.toml:2: unknown key `interval`; the nearest known key is `interval_seconds`"
        );
        assert!(
            error("[[listener]]\nurl = \"mqtt://127.0.0.1:0\"\nallow_plane = true")
                .contains("broker.toml:3: ")
        );
    }

    #[test]
    fn wrong_values_are_errors_with_their_line() {
        assert!(error("workers = \"two\"").starts_with("broker.toml:1: invalid type"));
        assert!(
            error("\n[session]\nqueue_full = \"middle\"")
                .starts_with("broker.toml:3: unknown variant")
        );
        assert!(error("[[listener]]\nurl = \"ftp://x\"").contains("unknown scheme `ftp`"));
        assert!(error("= 3").starts_with("broker.toml:1: "));
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "axc"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
