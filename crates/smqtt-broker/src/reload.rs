//! When to reload, and what comes of it: for a daemon around a [`Broker`].
//!
//! A reload is asked for by a signal, or by a change of the configuration file or of a file that it
//! names. Files are looked at four times a second; a change counts once nothing has changed between two
//! looks, so that a file that is still being written, or the second of two that belong together, is
//! waited for. A configuration that is refused is not tried again before something changes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Cli, Config};
use crate::logging::Level;
use crate::{Broker, Error};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Keeps a broker at what its command line and files say.
#[derive(Debug)]
pub struct Reloader {
    cli: Cli,
    level: Level,
    watching: bool,
    /// The watched files as they were when the configuration was last read.
    read: Stamps,
    /// The watched files at the last look.
    seen: Stamps,
}

/// What tells one content of a file from another without reading it; none for a file that is not
/// there. A file that was renamed into place is another inode.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Reloader {
    /// For a broker that is about to be started with `config`, which `cli` has led to. To be made
    /// before the files are read, so that no change is missed.
    pub fn new(cli: Cli, config: &Config, level: Level) -> Self {
        let read = stamps(files(&cli, config));
        Reloader {
            cli,
            level,
            watching: config.reload.watch,
            seen: read.clone(),
            read,
        }
    }

    /// Waits until a file has changed. Never returns if the configuration says not to watch.
    pub async fn changed(&mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if !self.watching {
                continue;
            }
            let now = stamps(self.read.keys().cloned());
            let quiet = now == self.seen;
            self.seen = now;
            if quiet && self.seen != self.read {
                return;
            }
        }
    }

    /// Reads everything again and puts it in force, all of it or nothing. Says in the log what came
    /// of it, and tells whether it is in force.
    pub fn reload(&mut self, broker: &Broker, cause: &str) -> bool {
        let before = self.read.clone();
        self.read = stamps(before.keys().cloned());
        self.seen.clone_from(&self.read);
        match self.try_reload(broker) {
            Ok(needs_restart) => {
                tracing::info!(cause, "reloaded the configuration");
                if !needs_restart.is_empty() {
                    tracing::warn!(
                        keys = needs_restart.join(", "),
                        "the new values of these keys need a restart"
                    );
                }
                true
            }
            Err(error) => {
                broker.count_refused_reload();
                tracing::error!(
                    cause,
                    "did not reload: {error}; what was in force stays in force"
                );
                false
            }
        }
    }

    fn try_reload(&mut self, broker: &Broker) -> Result<Vec<&'static str>, Error> {
        let config = self.cli.configuration()?;
        Level::check(&config.log)?;
        // Files that were not named before are watched from here on, also if they are refused.
        for (path, stamp) in stamps(files(&self.cli, &config)) {
            self.read.entry(path).or_insert(stamp);
        }
        self.seen.clone_from(&self.read);
        let log = config.log.clone();
        let named = files(&self.cli, &config);
        let watching = config.reload.watch;
        let reloaded = broker.reload(config)?;
        self.level.set(&log)?;
        self.watching = watching;
        self.read.retain(|path, _| named.contains(path));
        self.seen.clone_from(&self.read);
        Ok(reloaded.needs_restart)
    }
}

/// The configuration file and all that it names.
fn files(cli: &Cli, config: &Config) -> Vec<PathBuf> {
    let mut files = config.files();
    files.extend(cli.config.clone());
    files
}

fn stamps(paths: impl IntoIterator<Item = PathBuf>) -> Stamps {
    paths
        .into_iter()
        .map(|path| {
            let stamp = std::fs::metadata(&path).ok().map(|file| Stamp {
                device: file.dev(),
                inode: file.ino(),
                size: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            });
            (path, stamp)
        })
        .collect()
}
