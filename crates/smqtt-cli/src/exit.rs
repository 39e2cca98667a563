//! The exit codes, in one place: the help, the guide and the programs agree because they share it.

use smqtt_client::ErrorKind;

/// What the program tells its caller when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Something that this program did not expect.
    Unexpected = 1,
    /// A policy, topic, address, file or other input is invalid. (2, wrong usage, is clap's.)
    Input = 3,
    /// The identity directory is missing, incomplete or readable by others.
    Identity = 4,
    /// The broker or authority cannot be reached.
    Unreachable = 5,
    /// The peer's certificate or fingerprint is not the expected one.
    Untrusted = 6,
    /// The peer refused: a token, a connection, a subscription, a message.
    Refused = 7,
    /// Not everything was acknowledged, or the connection was lost.
    Lost = 8,
    /// Time ran out.
    TimedOut = 9,
}

/// The table for `--help`; `docs/guide.md` has the same rows, which a test compares.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  everything asked for was done
  1  something unexpected: please report it
  2  wrong usage: an unknown or missing option
  3  invalid input: a policy, topic, address or file
  4  the identity directory is missing, incomplete or readable by others
  5  the broker or authority cannot be reached
  6  the peer is not trusted: its certificate or fingerprint is not the expected one
  7  refused by the peer: a token, a connection, a subscription or a message
  8  not everything was acknowledged, or the connection was lost
  9  time ran out";

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Input => Self::Input,
            ErrorKind::Identity => Self::Identity,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Untrusted => Self::Untrusted,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Lost => Self::Lost,
            ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Unexpected,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_table_of_the_help() {
        let guide = include_str!("../../../docs/guide.md");
        let rows: Vec<String> = guide
            .lines()
            .skip_while(|line| *line != "## Exit codes")
            .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
            .filter(|row| row.starts_with(|first: char| first.is_ascii_digit()))
            .map(|row| format!("  {}", row.replacen(" | ", "  ", 1)))
            .collect();
        let help: Vec<&str> = TABLE.lines().skip(1).collect();
        assert_eq!(rows, help);
    }
}
