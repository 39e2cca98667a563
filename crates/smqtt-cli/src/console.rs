//! What goes to stderr: errors, notices, progress. Colours only where a terminal reads them.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTICE: Style = AnsiColor::Yellow.on_default();

/// Starts logging, if it was asked for. A filter that does not parse is reported and ignored:
/// logging must not keep the program from working.
pub(crate) fn log(filter: Option<&str>) {
    let Some(filter) = filter.filter(|filter| !filter.is_empty()) else {
        return;
    };
    match tracing_subscriber::EnvFilter::try_new(filter) {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        Err(error) => notice(&format!("--log {filter} is ignored: {error}")),
    }
}

/// `error: ...` on a line of its own.
pub(crate) fn error(message: &str) {
    // A stderr that nobody reads is no reason to fail.
    let _ = writeln!(anstream::stderr(), "{ERROR}error:{ERROR:#} {message}");
}

/// A notice that the reader should see.
pub(crate) fn notice(message: &str) {
    let _ = writeln!(anstream::stderr(), "{NOTICE}{message}{NOTICE:#}");
}

/// A line of information.
pub(crate) fn say(message: &str) {
    let _ = writeln!(anstream::stderr(), "{message}");
}

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Text that is safe to print: what came from the network must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escape = character.is_control();
            let escaped = escape.then(|| character.escape_default());
            let plain = (!escape).then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// One line on a terminal that is rewritten as things go on, from the second second.
pub(crate) struct Progress {
    started: Instant,
    drawn: Option<Instant>,
    terminal: bool,
    bar: ProgressBar,
}

impl Progress {
    const FIRST: Duration = Duration::from_secs(1);
    /// How often it is worth looking.
    pub(crate) const EVERY: Duration = Duration::from_millis(100);

    /// Shown only if `wanted` and standard error is a terminal; a bar if the `total` is known.
    pub(crate) fn new(wanted: bool, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let style = match total {
            Some(_) => "{wide_bar} {pos}/{len} {msg}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self {
            started: Instant::now(),
            drawn: None,
            terminal: wanted && std::io::stderr().is_terminal(),
            bar,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Draws the line if it is time to.
    pub(crate) fn tick(&mut self, done: u64, line: impl FnOnce(Duration) -> String) {
        if !self.terminal {
            return;
        }
        let now = Instant::now();
        let since = now - self.drawn.unwrap_or(self.started);
        match self.drawn {
            None if since < Self::FIRST => return,
            Some(_) if since < Self::EVERY => return,
            None => self.bar.set_draw_target(ProgressDrawTarget::stderr()),
            Some(_) => {}
        }
        self.drawn = Some(now);
        self.bar.set_position(done);
        self.bar.set_message(line(self.elapsed()));
        self.bar.tick();
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Lets a kind of notice through a few times at once and then once a second, with the count of what
/// was held back.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    shown: u32,
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    const AT_ONCE: u32 = 5;
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether to show a notice now: `Some(n)` yes, and `n` like it were held back since the last.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let due = self.last.is_none_or(|last| now - last >= Self::EVERY);
        if self.shown >= Self::AT_ONCE && !due {
            self.held_back += 1;
            return None;
        }
        self.shown = self.shown.saturating_add(1);
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_notices_becomes_one_a_second_with_a_count() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let at_once = (0..1_000).filter_map(|_| throttle.admit(start)).count();
        assert_eq!(at_once, 5);
        assert_eq!(throttle.admit(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(1)), Some(996));
        assert_eq!(throttle.admit(start + Duration::from_millis(1_500)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(60)), Some(1));
    }

    #[test]
    fn what_came_from_the_network_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}ü"), "a\\u{1b}[2Jb\\n\\u{9b}ü");
    }
}
