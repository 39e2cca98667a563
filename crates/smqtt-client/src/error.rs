//! What can go wrong, and what a caller can do about it.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a client operation failed.
///
/// Messages say what is wrong and what to do. [`Error::kind`] sorts the variants by who has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A broker or authority address that cannot be used.
    #[error("the address `{address}` is not usable: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Plain MQTT to another machine was asked for without saying that this is meant.
    #[error(
        "refusing to connect to {0} without TLS, because it is not this machine: use mqtts://, or allow plain transport explicitly"
    )]
    InsecureTransport(crate::BrokerAddress),
    /// An option has a value that cannot work.
    #[error("{0}")]
    Option(String),
    /// A topic name or filter that MQTT or SMQTT does not allow.
    #[error("the topic `{topic}` cannot be used: {reason}")]
    Topic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity directory, or a part of it, is missing or unusable.
    #[error(transparent)]
    Identity(#[from] smqtt_pki::Error),
    /// A file of the identity is not what belongs there.
    #[error("{} is damaged: {reason}; restore it or enrol the device again", .file.display())]
    DamagedIdentity {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The policy asks for something that no device can have.
    #[error(
        "the policy `{policy}` is not one of this authority: {reason}; if it is new there, `smqtt renew` fetches the schema"
    )]
    Policy {
        /// The policy in its canonical form.
        policy: String,
        /// What the schema says.
        reason: smqtt_policy::Error,
    },
    /// The tags are not ones that the authority's schema has: no key policy could ask for them.
    #[error(
        "the tags `{tags}` are not ones of this authority: {reason}; if they are new there, `smqtt renew` fetches the schema"
    )]
    Tags {
        /// The tags in their canonical form.
        tags: String,
        /// What the schema says.
        reason: smqtt_policy::Error,
    },
    /// The authority has given no parameters for key policies.
    #[error(
        "this identity cannot seal with tags: its authority had no parameters for key policies when it enrolled; if it has now, `smqtt renew` fetches them"
    )]
    NoKeyPolicies,
    /// Sealing failed.
    #[error("the message cannot be sealed: {0}")]
    Seal(smqtt_envelope::Error),
    /// The identity cannot open anything.
    #[error("this identity cannot open messages: {0}")]
    Open(smqtt_envelope::Error),
    /// The queue for what cannot be sent yet is full.
    #[error(
        "the queue is full: it holds {messages} messages or {bytes} bytes; raise its limits, let it wait or drop the oldest, or connect"
    )]
    QueueFull {
        /// The most messages that it holds.
        messages: u64,
        /// The most bytes that it holds.
        bytes: u64,
    },
    /// The queue on disk can not be used.
    #[error("the queue in {directory} can not be used: {reason}")]
    Queue {
        /// Where it is.
        directory: String,
        /// What is wrong.
        reason: String,
    },
    /// What is remembered of a session can not be used.
    #[error("the session in {directory} can not be used: {reason}")]
    Session {
        /// Where it is.
        directory: String,
        /// What is wrong.
        reason: String,
    },
    /// No connection could be made.
    #[error("cannot reach {peer}: {}", in_words(source))]
    Unreachable {
        /// The address that was tried.
        peer: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The peer took the connection and ended it before it was of any use.
    #[error("{peer} ended the connection while {doing}: {}", in_words(source))]
    Broken {
        /// The address that was tried.
        peer: String,
        /// What was being waited for.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The peer did not answer in time.
    #[error("{peer} did not answer within {} s while {doing}", .after.as_secs_f32())]
    TimedOut {
        /// The address that was tried.
        peer: String,
        /// What was being waited for.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// The peer's certificate is not the one to trust.
    #[error("{peer} is not trusted: {reason}")]
    Untrusted {
        /// The address that was tried.
        peer: String,
        /// Which check failed.
        reason: String,
    },
    /// TLS failed for a reason other than trust.
    #[error("no TLS connection to {peer}: {reason}")]
    Tls {
        /// The address that was tried.
        peer: String,
        /// What rustls reported.
        reason: String,
    },
    /// The peer refused this device: by a TLS alert, a CONNACK or a DISCONNECT.
    #[error("{peer} refused the connection: {reason}")]
    Refused {
        /// The address that was tried.
        peer: String,
        /// The reason that it gave.
        reason: String,
    },
    /// The broker takes no connections for now.
    #[error("{peer} takes no connections for now: {reason}; try again later")]
    Busy {
        /// The address that was tried.
        peer: String,
        /// The reason that it gave.
        reason: String,
    },
    /// The broker refused a subscription.
    #[error("the broker refused the subscription to `{filter}`: {reason}")]
    SubscriptionRefused {
        /// The filter as it was sent.
        filter: String,
        /// The broker's reason.
        reason: String,
    },
    /// The broker refused a message.
    #[error("the broker refused the message: {reason}")]
    PublishRefused {
        /// The broker's reason.
        reason: String,
    },
    /// The connection ended before the operation was complete.
    #[error("the connection to the broker was lost: {0}")]
    ConnectionLost(Loss),
    /// The broker broke the MQTT protocol.
    #[error("the broker does not speak MQTT as it should: {0}")]
    Protocol(String),
    /// The authority refused the enrolment.
    #[error("the authority refused: {detail}")]
    EnrolmentRefused {
        /// HTTP status code.
        status: u16,
        /// The problem type's last path segment, for programs; may be empty.
        code: String,
        /// The authority's words.
        detail: String,
    },
    /// The authority answered with something that no authority answers.
    #[error("the authority's answer is not usable: {0}")]
    AuthorityAnswer(String),
}

/// Who has to act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's input: an address, a topic, an option, a policy.
    Input,
    /// The identity directory.
    Identity,
    /// The peer cannot be reached.
    Unreachable,
    /// The peer's certificate is not the expected one.
    Untrusted,
    /// The peer refused.
    Refused,
    /// The connection was lost, or something was not acknowledged.
    Lost,
    /// Time ran out.
    TimedOut,
    /// The peer broke its protocol.
    Unexpected,
}

impl Error {
    /// Who has to act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::InsecureTransport(_)
            | Self::Option(_)
            | Self::Topic { .. }
            | Self::Policy { .. }
            | Self::Tags { .. }
            | Self::NoKeyPolicies
            | Self::Queue { .. }
            | Self::Session { .. }
            | Self::Seal(_) => ErrorKind::Input,
            Self::Identity(_) | Self::DamagedIdentity { .. } | Self::Open(_) => ErrorKind::Identity,
            Self::Unreachable { .. } | Self::Broken { .. } => ErrorKind::Unreachable,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Untrusted { .. } => ErrorKind::Untrusted,
            Self::Refused { .. }
            | Self::SubscriptionRefused { .. }
            | Self::PublishRefused { .. }
            | Self::EnrolmentRefused { .. } => ErrorKind::Refused,
            Self::ConnectionLost(loss) => loss.kind(),
            Self::QueueFull { .. } => ErrorKind::Lost,
            Self::Busy { .. } => ErrorKind::Unreachable,
            Self::Tls { .. } | Self::Protocol(_) | Self::AuthorityAnswer(_) => {
                ErrorKind::Unexpected
            }
        }
    }

    /// Whether the same attempt to connect may succeed later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::Lost
        )
    }
}

/// Why a connection ended. Cheap to clone: everyone who waits on the connection gets one.
#[derive(Clone, PartialEq, Eq)]
pub struct Loss {
    reason: std::sync::Arc<str>,
    kind: ErrorKind,
    /// Another certificate of this device may be accepted.
    of_certificate: bool,
}

impl Loss {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string().into(),
            kind: ErrorKind::Lost,
            of_certificate: false,
        }
    }

    /// The broker ended the connection and said why.
    pub(crate) fn refused(reason: impl fmt::Display) -> Self {
        Self {
            kind: ErrorKind::Refused,
            ..Self::new(reason)
        }
    }

    /// The broker's operator ended the connection, maybe because of this device's certificate.
    pub(crate) fn dismissed(reason: impl fmt::Display) -> Self {
        Self {
            of_certificate: true,
            ..Self::refused(reason)
        }
    }

    /// This error ended the attempts to come back.
    pub(crate) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            of_certificate: matches!(error, Error::Refused { .. }),
            ..Self::new(error)
        }
    }

    /// The stream to the broker failed.
    pub(crate) fn of_stream(peer: &crate::BrokerAddress, error: io::Error) -> Self {
        match crate::transport::tls_error(&peer.to_string(), "connected", error) {
            Error::Broken { source, .. } => Self::new(in_words(&source)),
            error => Self::of(&error),
        }
    }

    /// This side ended the connection.
    pub(crate) fn closed() -> Self {
        Self::new("the client was closed")
    }

    /// The reason in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Who has to act: [`ErrorKind::Lost`] if the connection broke, [`ErrorKind::Refused`] if the broker
    /// ended it with a reason of its own, or what kept a new connection from being made.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again with another certificate may be of use, where it is not as before.
    pub(crate) fn is_of_certificate(&self) -> bool {
        self.of_certificate
    }

    /// Whether trying again as before is pointless.
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind != ErrorKind::Lost
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.reason, f)
    }
}

/// The operating system's words for an error, without its number.
pub(crate) fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
