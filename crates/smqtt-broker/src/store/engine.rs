//! What the store asks of the engine below it: tables of ordered keys, changed in commits.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// The tables. Their names are part of the format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// The number of the last commit, and the version of the format.
    Meta,
    /// Session number → what is known of the session.
    Sessions,
    /// Session number, filter → options.
    Subscriptions,
    /// Session number, place in its queue → which message, how, and how far it has got.
    Queue,
    /// Session number, packet identifier of a QoS 2 message that its client has not released → nothing.
    Incoming,
    /// Message number → message: once, however many queues it stands in.
    Messages,
    /// Topic → its retained message.
    Retained,
}

impl Table {
    /// All of them.
    pub(crate) const ALL: [Table; 7] = [
        Table::Meta,
        Table::Sessions,
        Table::Subscriptions,
        Table::Queue,
        Table::Incoming,
        Table::Messages,
        Table::Retained,
    ];

    /// Its name on disk.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Sessions => "sessions",
            Table::Subscriptions => "subscriptions",
            Table::Queue => "queue",
            Table::Incoming => "incoming",
            Table::Messages => "messages",
            Table::Retained => "retained",
        }
    }
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Bytes,
    /// `None` removes the key.
    pub(crate) value: Option<Bytes>,
}

/// The key in [`Table::Meta`] under which every commit leaves its number and the store's mark, as its
/// first change.
pub(crate) const COMMIT_KEY: &[u8] = b"commit";

/// Random bytes of one store: who does not know them cannot write a payload that looks like a commit.
pub(crate) type Mark = [u8; 16];

/// The value under [`COMMIT_KEY`].
pub(crate) fn commit_value(number: u64, mark: &Mark) -> Bytes {
    [&number.to_be_bytes()[..], mark].concat().into()
}

/// The number of a commit of the store with this mark.
pub(crate) fn commit_number(value: &[u8], mark: &Mark) -> Option<u64> {
    let (number, of) = value.split_at_checked(8)?;
    (of == mark).then_some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Where commits go.
///
/// **Contract.** A commit takes effect whole or not at all, also across a crash. When
/// [`commit`](Engine::commit) returns `Ok` with `sync`, the commit is on the medium; without, it is
/// with the operating system. After an `Err` the engine takes no more commits until
/// [`mend`](Engine::mend) has succeeded.
pub(crate) trait Engine: Send {
    /// Applies these changes as commit number `number`.
    ///
    /// # Errors
    /// Of the system. What of the commit has reached the disk is unknown then.
    fn commit(&mut self, number: u64, changes: &[Change], sync: bool) -> io::Result<()>;

    /// Goes back to the state behind commit number `last`, after a commit failed.
    ///
    /// # Errors
    /// Of the system: to be tried again.
    fn mend(&mut self, last: u64) -> io::Result<()>;

    /// Visits all entries of a table in the order of their keys.
    ///
    /// # Errors
    /// Of the system, or of the visitor.
    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> io::Result<()>;

    /// For reading while commits are made.
    fn reader(&self) -> Arc<dyn Reader>;
}

/// What is done with an entry: its key and its value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// Reads single values; from any thread.
pub(crate) trait Reader: Send + Sync {
    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// Of the system; also while the engine is being mended.
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Bytes>>;
}
