//! In the place of the administrators' Unix socket, where there are none.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::Error;
use crate::api::Service;
use crate::metrics::Metrics;

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminSocket {}

/// Of one that there is not.
pub(crate) type Stop = AdminSocket;

impl AdminSocket {
    /// Fails.
    ///
    /// # Errors
    /// [`Error::AdminSocket`].
    pub(crate) fn bind(path: &Path, _group: bool) -> Result<Self, Error> {
        Err(Error::AdminSocket {
            path: path.to_owned(),
            source: io::Error::new(
                io::ErrorKind::Unsupported,
                "this system has no Unix sockets: use the network with an administrator's certificate",
            ),
        })
    }

    pub(crate) fn stop(&self) -> Stop {
        *self
    }

    pub(crate) fn serve(
        &self,
        _service: Arc<Service>,
        _metrics: Arc<Metrics>,
    ) -> Result<JoinHandle<()>, Error> {
        match *self {}
    }

    pub(crate) fn graceful_shutdown(&self, _patience: Option<Duration>) {
        match *self {}
    }
}
