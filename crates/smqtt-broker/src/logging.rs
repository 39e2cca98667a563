//! Logging: `tracing` to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Error;
use crate::config::{Log, LogFormat};

/// Sends the log of this process to stderr.
///
/// # Errors
/// [`Error::Config`] when the level is neither a level nor a filter.
pub fn init(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        Error::Config(format!(
            "log level \"{}\": {error}; use error, warn, info, debug or trace",
            log.level
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
