//! Logging: `tracing` to stderr.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::Error;
use crate::config::{Log, LogFormat};

/// Changes the level of the log of this process.
#[derive(Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

/// Sends the log of this process to stderr.
///
/// # Errors
/// [`Error::Config`] when the level is neither a level nor a filter.
pub fn init(log: &Log) -> Result<Level, Error> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Ok(Level(handle))
}

impl Level {
    /// Checks a level without setting it.
    ///
    /// # Errors
    /// [`Error::Config`] when it is neither a level nor a filter.
    pub fn check(log: &Log) -> Result<(), Error> {
        filter(log).map(drop)
    }

    /// Logs at this level from now on. The format stays.
    ///
    /// # Errors
    /// [`Error::Config`], as [`Level::check`].
    pub fn set(&self, log: &Log) -> Result<(), Error> {
        self.0
            .reload(filter(log)?)
            .map_err(|error| Error::Config(format!("log level \"{}\": {error}", log.level)))
    }
}

fn filter(log: &Log) -> Result<EnvFilter, Error> {
    // Whatever peers do wrong in TLS is logged by the broker, at a limited rate. What rustls has to say of
    // it, without one, is for those who ask.
    let level = match log.level.trim() {
        level @ ("error" | "warn" | "info") => format!("{level},rustls=off"),
        level => level.to_owned(),
    };
    EnvFilter::try_new(level).map_err(|error| {
        Error::Config(format!(
            "log level \"{}\": {error}; use error, warn, info, debug or trace",
            log.level
        ))
    })
}
