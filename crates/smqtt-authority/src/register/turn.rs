//! Who writes, one after the other; and the transactions that acts share.
//!
//! What a device asks for is a row or two and then a wait for the disk. Acts that queue behind one another share one transaction
//! and one such wait: who is done leaves the transaction open to the next, and a task that has queued when the first was done
//! commits it for all of them. None is answered before that. What administrators do stands alone.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::database::Kind;
use super::{Register, Terms};
use crate::Error;

/// Whose turn it is to write among the tasks of this process: they wait here, in their order, rather than at the database, where
/// SQLite has them look again after ever longer pauses.
pub(super) type Turns = Arc<Mutex<Turn>>;

/// What who has the turn has found, and leaves to the next.
#[derive(Default)]
pub(super) struct Turn {
    shared: Option<Shared>,
}

/// A transaction that acts share. It holds the register's write lock from its beginning.
struct Shared {
    transaction: Transaction<'static, Any>,
    known: Known,
    members: Members,
}

/// Who waits for the commit. One that is dropped learns that there was none.
type Members = Vec<oneshot::Sender<()>>;

/// What was read inside of a transaction and can change only there.
#[derive(Default)]
pub(super) struct Known {
    /// The number of the audit log's last row, and its chain value.
    pub(super) head: Option<(i64, Vec<u8>)>,
    /// Of acts that share: they change nothing that devices are told.
    pub(super) terms: Option<Arc<Terms>>,
}

/// A transaction that holds the register's write lock. Dropped without commit, it has not happened: neither what this act did in
/// it, nor what those did with whom it is shared.
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    pub(super) known: Known,
    /// `None`: it is not shared.
    members: Option<Members>,
    kind: Kind,
    turns: Turns,
    // Given back after the transaction has ended.
    turn: OwnedMutexGuard<Turn>,
}

impl Register {
    /// Begins a transaction that may write. It waits for others here, at its beginning, and nowhere later.
    pub(crate) async fn write(&self) -> Result<Write, Error> {
        let mut turn = self.turn().await?;
        if let Some(shared) = turn.shared.take() {
            // The others depend on it, and this act may be dropped.
            let committing = tokio::spawn(shared.commit());
            committing.await.map_err(|_| Error::Task)?;
        }
        Ok(Write {
            transaction: self.begin().await?,
            known: Known::default(),
            members: None,
            kind: self.kind,
            turns: self.turns.clone(),
            turn,
        })
    }

    /// As [`write`](Self::write), for what a device asks: the transaction may be one that acts before this one have written in.
    /// All that can be refused is refused before the first change; then [`Write::leave`] lets the others go on.
    pub(crate) async fn join(&self) -> Result<Write, Error> {
        let mut turn = self.turn().await?;
        let shared = match turn.shared.take() {
            Some(shared) => shared,
            None => Shared {
                transaction: self.begin().await?,
                known: Known::default(),
                members: Members::new(),
            },
        };
        Ok(Write {
            transaction: shared.transaction,
            known: shared.known,
            members: Some(shared.members),
            kind: self.kind,
            turns: self.turns.clone(),
            turn,
        })
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<Turn>, Error> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().lock_owned()).await;
        Ok(turn.map_err(|_| sqlx::Error::PoolTimedOut)?)
    }
}

/// How long one writer waits for the others.
const PATIENCE: Duration = Duration::from_secs(30);

impl Shared {
    async fn commit(self) {
        match self.transaction.commit().await {
            Ok(()) => {
                for member in self.members {
                    // Who is gone needs no answer.
                    let _ = member.send(());
                }
            }
            Err(error) => tracing::error!(%error, "a transaction could not be committed"),
        }
    }
}

impl Write {
    /// Ends the transaction; what it did is on the disk when this returns.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self {
            transaction,
            known,
            members,
            turns,
            mut turn,
            ..
        } = self;
        let Some(mut members) = members else {
            return transaction.commit().await;
        };
        let (committed, wait) = oneshot::channel();
        let first = members.is_empty();
        members.push(committed);
        turn.shared = Some(Shared {
            transaction,
            known,
            members,
        });
        drop(turn);
        if first {
            // A task of its own: the others depend on it, and this one may be dropped.
            tokio::spawn(async move {
                let mut turn = turns.lock().await;
                // Who begins meanwhile queues, and then shares the next.
                if let Some(shared) = turn.shared.take() {
                    shared.commit().await;
                }
            });
        }
        wait.await.map_err(|_| {
            sqlx::Error::Protocol("the transaction that it was part of was not committed".into())
        })
    }

    /// Which database it is in.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Gives the turn back where nothing was changed.
    pub(crate) fn leave(self) {
        let Self {
            transaction,
            known,
            members,
            mut turn,
            ..
        } = self;
        if let Some(members) = members.filter(|members| !members.is_empty()) {
            turn.shared = Some(Shared {
                transaction,
                known,
                members,
            });
        }
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinHandle, yield_now};

    use super::*;
    use crate::register::audit::{self, Act, Actor, Verifier};

    async fn register(directory: &tempfile::TempDir) -> Register {
        let path = directory.path().join("register.sqlite");
        std::fs::write(&path, b"").unwrap();
        Register::open(&path).await.unwrap()
    }

    async fn note(transaction: &mut Write) {
        let act = Act {
            action: "test",
            subject: "",
            detail: "",
        };
        let now = crate::clock::now();
        audit::append(transaction, &Actor::service(), &act, "ok", now)
            .await
            .unwrap();
    }

    /// How many rows the log has, all of them chained.
    async fn noted(register: &Register) -> u64 {
        let mut verifier = Verifier::default();
        for (entry, chain) in register.audit_page(1, 1000).await.unwrap() {
            verifier.push(&entry, &chain).unwrap();
        }
        verifier.count()
    }

    enum End {
        Commit,
        Leave,
        Drop,
    }

    /// An act that stands in the queue when this returns.
    async fn queued(register: &Register, end: End) -> JoinHandle<bool> {
        let register = register.clone();
        let task = tokio::spawn(async move {
            let mut write = register.join().await.unwrap();
            match end {
                End::Commit => {
                    note(&mut write).await;
                    write.commit().await.is_ok()
                }
                End::Leave => {
                    write.leave();
                    true
                }
                End::Drop => {
                    note(&mut write).await;
                    false
                }
            }
        });
        for _ in 0..10 {
            yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn acts_that_wait_for_one_another_are_all_committed() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let mut first = register.join().await.unwrap();
        let mut others = Vec::new();
        for end in [End::Commit, End::Leave, End::Commit] {
            others.push(queued(&register, end).await);
        }
        note(&mut first).await;
        first.commit().await.unwrap();
        for other in others {
            assert!(other.await.unwrap());
        }
        assert_eq!(noted(&register).await, 3);
        // What stands alone comes behind those who share, and they behind it.
        let mut shared = register.join().await.unwrap();
        let alone = tokio::spawn({
            let register = register.clone();
            async move {
                let mut alone = register.write().await.unwrap();
                note(&mut alone).await;
                alone.commit().await.is_ok()
            }
        });
        yield_now().await;
        let behind = queued(&register, End::Commit).await;
        note(&mut shared).await;
        shared.commit().await.unwrap();
        assert!(alone.await.unwrap() && behind.await.unwrap());
        assert_eq!(noted(&register).await, 6);
    }

    #[tokio::test]
    async fn an_act_that_breaks_off_takes_with_it_whom_it_shares_with_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let mut first = register.join().await.unwrap();
        let broken = queued(&register, End::Drop).await;
        let next = queued(&register, End::Commit).await;
        note(&mut first).await;
        // It is not told that it was committed: it was not.
        assert!(first.commit().await.is_err());
        assert!(!broken.await.unwrap());
        assert!(next.await.unwrap());
        assert_eq!(noted(&register).await, 1);
    }

    #[tokio::test]
    async fn what_was_left_open_is_committed_though_who_waits_for_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let mut first = register.join().await.unwrap();
        note(&mut first).await;
        let waiting = tokio::spawn(first.commit());
        yield_now().await;
        waiting.abort();
        let _ = waiting.await;
        drop(register.write().await.unwrap());
        assert_eq!(noted(&register).await, 1);
    }
}
