//! The administrators' Unix socket: who can open it, the file system decides.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::Handle;
use tokio::task::JoinHandle;

use crate::Error;
use crate::api::{self, Bounds, LocalAcceptor, Service};
use crate::metrics::Metrics;
use crate::serve::{CONNECTION_LIFETIME, LONGEST_HEAD, PATIENCE};

/// The most connections at a time.
const CONNECTIONS: usize = 32;

/// A socket that listens; its file is removed when this is dropped.
pub(crate) struct AdminSocket {
    path: PathBuf,
    listener: UnixListener,
    stop: Stop,
}

/// Stops its service.
pub(crate) type Stop = Handle<SocketAddr>;

impl AdminSocket {
    /// Listens at a path where nothing is, or the socket of a process that has ended. It appears with its mode, never with a
    /// wider one.
    ///
    /// # Errors
    /// [`Error::AdminSocket`].
    pub(crate) fn bind(path: &Path, group: bool) -> Result<Self, Error> {
        let failed = |source| Error::AdminSocket {
            path: path.to_owned(),
            source,
        };
        make_room(path).map_err(failed)?;
        let listener = bind_with_mode(path, if group { 0o660 } else { 0o600 }).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            stop: Handle::new(),
        })
    }

    /// What stops [`AdminSocket::serve`].
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves administrators until it is stopped.
    ///
    /// # Errors
    /// [`Error::AdminSocket`].
    pub(crate) fn serve(
        &self,
        service: Arc<Service>,
        metrics: Arc<Metrics>,
    ) -> Result<JoinHandle<()>, Error> {
        let failed = |source| Error::AdminSocket {
            path: self.path.clone(),
            source,
        };
        let bounds = Bounds::new(CONNECTIONS, CONNECTIONS, CONNECTION_LIFETIME);
        let listener = self.listener.try_clone().map_err(failed)?;
        let mut server = axum_server::from_unix(listener)
            .map_err(failed)?
            .acceptor(LocalAcceptor::new(bounds, metrics))
            .handle(self.stop())
            .http1_only();
        server
            .http_builder()
            .http1()
            .header_read_timeout(PATIENCE)
            .max_buf_size(LONGEST_HEAD);
        let router = api::local(service);
        Ok(tokio::spawn(async move {
            if let Err(error) = server.serve(router.into_make_service()).await {
                tracing::error!(%error, "the administrators' socket failed");
            }
        }))
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn make_room(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?.file_type(),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is there",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

/// Between bind and chmod a socket has the mode that the umask leaves: meanwhile it is in a directory that nobody else enters.
fn bind_with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let aside = path.with_file_name(format!(".{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&aside)?;
    let made = aside.join("s");
    let bound = UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&made, path)?;
        Ok(listener)
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&made);
    }
    let _ = std::fs::remove_dir(&aside);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_has_its_mode_and_takes_the_place_of_a_dead_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = AdminSocket::bind(&path, false).unwrap();
        assert_eq!(mode(), 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(AdminSocket::bind(&path, false).is_err());
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap()); // its file stays, as after a crash
        let second = AdminSocket::bind(&path, true).unwrap();
        assert_eq!(mode(), 0o660);
        drop(second);

        std::fs::write(&path, "x").unwrap();
        assert!(AdminSocket::bind(&path, false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
