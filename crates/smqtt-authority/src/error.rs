//! The one error type of this crate.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use smqtt_pki::DeviceId;
use smqtt_policy::ParseError;

use crate::Method;

/// What can go wrong at an authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate, a key or a file of the authority's directory.
    #[error(transparent)]
    Pki(#[from] smqtt_pki::Error),
    /// An attribute key could not be issued, or key material on disk is no ABE key.
    #[error("attribute keys: {0}")]
    Abe(#[from] smqtt_abe::Error),
    /// The attributes do not parse. [`ParseError::render`] on `text` shows the place.
    #[error("the attributes can not be read: {error}")]
    Attributes {
        /// What was given.
        text: String,
        /// What is wrong with it, and where.
        error: ParseError,
    },
    /// A policy does not parse, or asks for what the schema does not have. [`ParseError::render`] on `text` shows the place.
    #[error("the policy can not be read: {error}")]
    Policy {
        /// What was given.
        text: String,
        /// What is wrong with it, and where.
        error: ParseError,
    },
    /// Attributes that the schema does not have, or a schema that is none.
    #[error("schema: {0}")]
    Schema(String),
    /// A schema under which devices or profiles would not keep their attributes.
    #[error(
        "the schema would take attributes that are given out:\n  {}\nadd what is missing, or change those devices first",
        .0.join("\n  ")
    )]
    SchemaRefuses(Vec<String>),
    /// A name that no profile can have.
    #[error("{0:?} is not a name for a profile: use 1 to 64 letters, digits, '.', '_' or '-'")]
    ProfileName(String),
    /// No profile of this name.
    #[error("there is no profile {0}: `smqtt-authority profile list` shows those that there are")]
    NoSuchProfile(String),
    /// A profile that devices have.
    #[error(
        "{devices} devices have the profile {name}: give them another with `smqtt-authority device set NAME --profile ...`"
    )]
    ProfileInUse {
        /// The profile.
        name: String,
        /// How many devices have it.
        devices: usize,
    },
    /// A name that is the authority's own.
    #[error("{0} is the authority's own name towards brokers: choose another")]
    ReservedName(DeviceId),
    /// A device was to be registered without any attribute.
    #[error("a device needs an attribute: give some, such as --attributes \"role = sensor\"")]
    NoAttributes,
    /// A device of this name is registered already.
    #[error(
        "{0} is registered already: choose another name, or get a new token for it with `smqtt-authority device token {0}`"
    )]
    DeviceExists(DeviceId),
    /// No device of this name is registered.
    #[error(
        "there is no device {0}: `smqtt-authority device list` shows those that are registered"
    )]
    NoSuchDevice(DeviceId),
    /// No administrator of this name.
    #[error(
        "there is no administrator {0}: `smqtt-authority admin list` shows those that there are"
    )]
    NoSuchAdmin(smqtt_pki::AdminName),
    /// A token was asked for a device that is enrolled.
    #[error(
        "{0} is enrolled already: add --re-enrol if it lost its identity and shall enrol once more"
    )]
    AlreadyEnrolled(DeviceId),
    /// A token was asked for a device that was revoked.
    #[error(
        "{0} was revoked: add --re-enrol if it shall be admitted again, with a new certificate"
    )]
    DeviceRevoked(DeviceId),
    /// What is done to enrolled devices only.
    #[error(
        "{0} is not enrolled: there is nothing to suspend; `smqtt-authority device remove {0}` forgets it"
    )]
    NotEnrolled(DeviceId),
    /// A device is suspended.
    #[error("{0} is suspended: `smqtt-authority device reinstate {0}` ends that")]
    DeviceSuspended(DeviceId),
    /// A device is not suspended.
    #[error("{0} is not suspended")]
    NotSuspended(DeviceId),
    /// A token for no use or for very many.
    #[error("a token can be used 1 to 100 times: give another --uses")]
    TokenUses,
    /// A token with a lifetime of less than a second, or beyond a year.
    #[error("a token's lifetime is between 1s and 365d: give another --token-expires")]
    TokenLifetime,
    /// A setting that makes no sense.
    #[error("the {what} can not be that: {reason}")]
    Setting {
        /// Which.
        what: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The directory holds no authority.
    #[error(
        "{path} holds no authority: make one with `smqtt-authority init --dir {path}`, or give its --dir"
    )]
    NoAuthority {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds an authority already.
    #[error("{path} holds an authority already: choose another --dir for a new one")]
    AuthorityExists {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by a newer program.
    #[error("{path} has format version {found}, this program reads up to {supported}: update it")]
    FormatVersion {
        /// The file that says so.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// A file of the authority's directory is not what belongs there.
    #[error("{path} is damaged: {reason}; restore the directory from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked of the root can not be done.
    #[error("{0}")]
    Root(String),
    /// Another process has put another intermediate in place while this one served.
    #[error("another intermediate was put in place: start the service again")]
    Replaced,
    /// The secrets are sealed, and nothing that opens them was given.
    #[error("the authority's secrets are sealed: {}", open_with(*method))]
    Sealed {
        /// By what they are sealed.
        method: Method,
    },
    /// What was given does not open the sealed secrets.
    #[error(
        "this {} does not open the authority's secrets: give the right one, or restore secrets.sealed if it was damaged",
        noun(*.0)
    )]
    WrongKey(Method),
    /// A passphrase that is too short to seal anything with.
    #[error(
        "the passphrase is too short: take {least} characters or more, best several random words"
    )]
    WeakPassphrase {
        /// The least number of characters.
        least: usize,
    },
    /// The keeper of the secrets can not do its work.
    #[error("the secrets can not be sealed or opened: {0}")]
    Keeper(String),
    /// The register can not be read or written.
    #[error("the register can not be used: {0}")]
    Register(#[from] sqlx::Error),
    /// The database that was given for the register is none, or can not take it.
    #[error(
        "the database can not hold the register: {reason}; give --database postgres://USER@HOST/NAME, of a database that is empty"
    )]
    Database {
        /// What is wrong.
        reason: String,
    },
    /// The database is another authority's.
    #[error(
        "the database holds the register of the authority with fingerprint {found}: correct the URL in {path}"
    )]
    ForeignRegister {
        /// The fingerprint.
        found: String,
        /// The file with the URL.
        path: PathBuf,
    },
    /// The register's tables can not be brought up to date.
    #[error(
        "the register's tables do not fit this program: {0}; update the program or restore a backup"
    )]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The audit log was tampered with, or damaged.
    #[error("the audit log is broken at entry {sequence}: {reason}; compare it with a backup")]
    AuditBroken {
        /// The first entry that does not fit.
        sequence: u64,
        /// Why it does not fit.
        reason: &'static str,
    },
    /// A checkpoint that the authority did not sign, or that the audit log does not agree with.
    #[error("an audit checkpoint does not hold: {0}")]
    Checkpoint(String),
    /// An export can not be written or read.
    #[error("the export can not be used: {0}")]
    Export(#[source] io::Error),
    /// Shares of a backup key that can not be made, or do not give it.
    #[error("{0}")]
    Shares(String),
    /// There is no backup key, or nobody has shares of it.
    #[error(
        "nobody could open a backup yet: make shares of its key first, such as `smqtt-authority shares make 3-of-5`"
    )]
    NoShares,
    /// A backup can not be written or restored.
    #[error("the backup {path} can not be used: {reason}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A URL that can not be what it is given for.
    #[error("{given:?} is not {expected}")]
    Url {
        /// What was given.
        given: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A host name that no certificate can carry.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// The service can not listen at its address.
    #[error("can not listen on {address}: {source}; choose another --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The administrators' socket can not be made.
    #[error("can not listen on {path}: {source}; choose another --admin-socket")]
    AdminSocket {
        /// Where it should be.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The service failed.
    #[error("the service failed: {0}")]
    Serve(#[source] io::Error),
    /// A part of the program stopped unexpectedly.
    #[error("internal: a task ended before its work was done")]
    Task,
}

fn noun(method: Method) -> &'static str {
    match method {
        Method::Passphrase => "passphrase",
        Method::KeyFile => "key file",
    }
}

fn open_with(method: Method) -> &'static str {
    match method {
        Method::Passphrase => {
            "give the file with the passphrase as --passphrase-file, or run this at a terminal to be asked for it"
        }
        Method::KeyFile => "give the key file as --key-file",
    }
}
