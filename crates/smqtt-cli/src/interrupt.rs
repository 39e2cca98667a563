//! SIGINT and SIGTERM: the first asks the command to end properly, the second ends it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Failure;

/// Becomes ready once when the program is asked to end.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<watch::Sender<bool>>);

impl Interrupt {
    /// Takes the signals over from the operating system's default.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::unexpected(format!("cannot take signals: {error}")))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let asked = Arc::new(watch::Sender::new(false));
        let tell = Arc::clone(&asked);
        tokio::spawn(async move {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            tell.send_replace(true);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Whoever asks twice does not want to wait for a broker any longer.
            std::process::exit(128 + number);
        });
        Ok(Self(asked))
    }

    /// Whether the program was asked to end.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the program is asked to end.
    pub(crate) async fn asked(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as self.
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}
