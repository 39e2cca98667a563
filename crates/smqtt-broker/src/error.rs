//! What can keep a broker from starting or running, one variant per thing that an operator does
//! something different about.

use std::path::PathBuf;

use crate::config::ListenUrl;

/// Why the broker cannot start, or had to stop.
///
/// Every message is one line that says what is wrong and what to do about it;
/// [`exit_code`](Error::exit_code) gives the process exit code that goes with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("cannot read configuration {}: {source}; check the path given with --config", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file has an unknown key or a value of the wrong type.
    #[error("{}:{line}: {message}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Line of the fault, counted from 1.
        line: usize,
        /// What is wrong there, with the nearest known key for an unknown one.
        message: String,
    },
    /// The settings are well-formed and contradict one another, or are unsafe.
    #[error("{0}")]
    Config(String),
    /// A certificate, key or client CA file is missing, unreadable or does not fit.
    #[error("{0}")]
    TlsFiles(String),
    /// The password file is not there, not well-formed, or not safe from others.
    #[error("password file {}: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The data directory cannot be made, is readable by others, or belongs to a running broker.
    #[error("data directory {}: {reason}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The store in the data directory cannot be used.
    #[error("store {}: {reason}", path.display())]
    Store {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The capture file cannot be opened.
    #[error("cannot write capture file {}: {source}; choose another path for --capture", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {url}: {source}; {hint}")]
    Listen {
        /// The listener.
        url: ListenUrl,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The sockets that systemd has passed and the listeners do not fit together.
    #[error("{0}")]
    Activation(String),
    /// The admin listener's address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address for admin.listen")]
    AdminListen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused a thread, a runtime or a signal handler.
    #[error("cannot start {what}: {source}")]
    System {
        /// What was being started.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker thread ended by a defect of this program.
    #[error("worker {0} ended unexpectedly; please report this with the log")]
    WorkerDied(usize),
}

impl Error {
    /// The exit code of `smqtt-broker` for this error: 1 unexpected, 3 configuration invalid,
    /// 4 a file or directory is unusable, 5 an address cannot be listened on.
    /// (0 is a clean stop and 2 a wrong command line.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ConfigFile { .. }
            | Error::TlsFiles(_)
            | Error::PasswordFile { .. }
            | Error::DataDir { .. }
            | Error::Store { .. }
            | Error::Capture { .. } => 4,
            Error::ConfigSyntax { .. } | Error::Config(_) => 3,
            Error::Listen { .. } | Error::AdminListen { .. } | Error::Activation(_) => 5,
            Error::System { .. } | Error::WorkerDied(_) => 1,
        }
    }
}
