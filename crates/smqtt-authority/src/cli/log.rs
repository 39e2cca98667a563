//! Log lines on stderr.

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;

/// Starts logging. `SMQTT_LOG` or `RUST_LOG` chooses what is logged: a level, or directives of tracing's env-filter.
pub(crate) fn start(format: LogFormat) {
    let directives = std::env::var("SMQTT_LOG").or_else(|_| std::env::var("RUST_LOG"));
    // sqlx logs each statement, with nothing secret in it but much of it.
    let filter = EnvFilter::new(directives.unwrap_or_else(|_| "info,sqlx=warn".into()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
