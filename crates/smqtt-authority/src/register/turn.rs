//! Who writes, one after the other; and the transactions that acts share.
//!
//! What a device asks for is a row or two and then a wait for the disk. Acts that queue behind one another share one transaction
//! and one such wait: who is done leaves the transaction open to the next, and a task that has queued when the first was done
//! commits it for all of them. None is answered before that. What administrators do stands alone.
//!
//! A transaction that one of them breaks off has not happened for any of them. Each is then done once more, alone: only that
//! fails which fails by itself. Savepoints would come to the same, but each act would pay for its own, on PostgreSQL with a way
//! there and back, and they would not help where the connection is lost or the commit fails.

use std::future::Future;
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
    kind: Kind,
    // Given back after the transaction has ended.
    turn: OwnedMutexGuard<Turn>,
}

/// An act that may share its transaction with others.
pub(crate) trait SharedAct: Sync {
    /// What it comes to.
    type Outcome: Send;

    /// Does it; [`Register::share`] may have it done twice, of which one has then not happened. All that can be refused is
    /// refused before the first change: an error undoes what the others have done, who then have to begin anew.
    fn perform(
        &self,
        transaction: &mut Write,
    ) -> impl Future<Output = Result<Done<Self::Outcome>, Error>> + Send;
}

/// What such an act comes to.
pub(crate) enum Done<T> {
    /// It has changed something.
    Changed(T),
    /// It has not, and does not need a commit.
    Unchanged(T),
}

impl<T> Done<T> {
    fn into_inner(self) -> T {
        match self {
            Self::Changed(outcome) | Self::Unchanged(outcome) => outcome,
        }
    }
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
            kind: self.kind,
            turn,
        })
    }

    /// Does what a device asks, in a transaction that may be shared, and returns when it is on the disk. Where that transaction
    /// comes to nothing, the act is done once more in one of its own: the first time has then not happened.
    pub(crate) async fn share<A: SharedAct>(&self, act: &A) -> Result<A::Outcome, Error> {
        if let Some(outcome) = self.in_company(act).await? {
            return Ok(outcome);
        }
        let mut write = self.write().await?;
        let done = act.perform(&mut write).await?;
        if let Done::Changed(_) = done {
            write.commit().await?;
        }
        Ok(done.into_inner())
    }

    /// Does an act in the transaction that acts before it have left open; `None` if it has not happened, which may be another's
    /// fault.
    async fn in_company<A: SharedAct>(&self, act: &A) -> Result<Option<A::Outcome>, Error> {
        let mut turn = self.turn().await?;
        let (transaction, known, mut members) = match turn.shared.take() {
            Some(shared) => (shared.transaction, shared.known, shared.members),
            None => (self.begin().await?, Known::default(), Members::new()),
        };
        let first = members.is_empty();
        let mut write = Write {
            transaction,
            known,
            kind: self.kind,
            turn,
        };
        let outcome = match act.perform(&mut write).await {
            Ok(Done::Unchanged(outcome)) if first => return Ok(Some(outcome)),
            // One that has changed nothing waits too: what it has seen may be what others have done.
            Ok(done) => done.into_inner(),
            Err(error) if first => return Err(error),
            Err(error) => {
                tracing::warn!(%error, others = members.len(), "a shared transaction is broken off: each act is done alone");
                return Ok(None);
            }
        };
        let (committed, wait) = oneshot::channel();
        members.push(committed);
        write.leave(members);
        if first {
            // A task of its own: the others depend on it, and this one may be dropped.
            let turns = self.turns.clone();
            tokio::spawn(async move {
                let mut turn = turns.lock().await;
                // Who begins meanwhile queues, and then shares the next.
                if let Some(shared) = turn.shared.take() {
                    shared.commit().await;
                }
            });
        }
        Ok(wait.await.ok().map(|()| outcome))
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
        // The turn is given back behind it.
        self.transaction.commit().await
    }

    /// Which database it is in.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Leaves the transaction open to the next act, with those who wait for its commit.
    fn leave(mut self, members: Members) {
        self.turn.shared = Some(Shared {
            transaction: self.transaction,
            known: self.known,
            members,
        });
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;
    use crate::register::audit::{self, Act, Actor, Verifier};

    async fn register(directory: &tempfile::TempDir) -> Register {
        let path = directory.path().join("register.sqlite");
        std::fs::write(&path, b"").unwrap();
        Register::open(&path).await.unwrap()
    }

    async fn note(transaction: &mut Write) -> Result<(), Error> {
        let act = Act {
            action: "test",
            subject: "",
            detail: "",
        };
        let now = crate::clock::now();
        audit::append(transaction, &Actor::service(), &act, "ok", now).await
    }

    /// How many rows the log has, all of them chained.
    async fn noted(register: &Register) -> u64 {
        let mut verifier = Verifier::default();
        for (entry, chain) in register.audit_page(1, 1000).await.unwrap() {
            verifier.push(&entry, &chain).unwrap();
        }
        verifier.count()
    }

    /// What an act does.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Note,
        Nothing,
        /// A note, and then it fails.
        Fail,
        /// Fails too, but not when it is done again.
        FailOnce,
        /// What the database refuses when the transaction ends.
        Dangle,
    }

    struct Tried {
        does: Does,
        /// It waits for this after what it does.
        gate: Semaphore,
        tries: AtomicU64,
    }

    impl SharedAct for Tried {
        type Outcome = u64;

        async fn perform(&self, transaction: &mut Write) -> Result<Done<u64>, Error> {
            let tried = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
            if self.does != Does::Nothing {
                note(transaction).await?;
            }
            if self.does == Does::Dangle {
                for sql in [
                    "PRAGMA defer_foreign_keys = ON",
                    "INSERT INTO revocation VALUES ('none', 0, 'unspecified')",
                ] {
                    sqlx::query(sql).execute(&mut **transaction).await?;
                }
            }
            let _ = self.gate.acquire().await.map_err(|_| Error::Task)?;
            match self.does {
                Does::Fail => Err(Error::Task),
                Does::FailOnce if tried == 1 => Err(Error::Task),
                Does::Nothing => Ok(Done::Unchanged(tried)),
                _ => Ok(Done::Changed(tried)),
            }
        }
    }

    /// An act that has the turn or stands in the queue for it.
    struct Queued {
        task: JoinHandle<Result<u64, Error>>,
        act: Arc<Tried>,
    }

    impl Queued {
        async fn new(register: &Register, does: Does) -> Self {
            let act = Arc::new(Tried {
                does,
                gate: Semaphore::new(0),
                tries: AtomicU64::new(0),
            });
            let task = tokio::spawn({
                let (register, act) = (register.clone(), act.clone());
                async move { register.share(&*act).await }
            });
            for _ in 0..10 {
                yield_now().await;
            }
            Self { task, act }
        }

        fn open(&self) {
            self.act.gate.add_permits(1);
        }

        /// How often it was done until it was granted; `None` if it failed.
        async fn granted(self) -> Option<u64> {
            self.task.await.unwrap().ok()
        }
    }

    /// Acts, each in the queue behind the one before it, that then go on.
    async fn company(register: &Register, acts: &[Does]) -> Vec<Option<u64>> {
        let mut queued = Vec::new();
        for does in acts {
            queued.push(Queued::new(register, *does).await);
        }
        queued.iter().for_each(Queued::open);
        let mut granted = Vec::new();
        for act in queued {
            granted.push(act.granted().await);
        }
        granted
    }

    #[tokio::test]
    async fn acts_that_wait_for_one_another_are_all_committed() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let acts = [Does::Note, Does::Note, Does::Nothing, Does::Note];
        assert_eq!(company(&register, &acts).await, [Some(1); 4]);
        assert_eq!(noted(&register).await, 3);
        // What stands alone comes behind those who share, and they behind it.
        let shared = Queued::new(&register, Does::Note).await;
        let alone = tokio::spawn({
            let register = register.clone();
            async move {
                let mut alone = register.write().await.unwrap();
                note(&mut alone).await.unwrap();
                alone.commit().await.is_ok()
            }
        });
        yield_now().await;
        let behind = Queued::new(&register, Does::Note).await;
        shared.open();
        behind.open();
        assert_eq!(shared.granted().await, Some(1));
        assert!(alone.await.unwrap());
        assert_eq!(behind.granted().await, Some(1));
        assert_eq!(noted(&register).await, 6);
    }

    #[tokio::test]
    async fn of_acts_that_share_only_the_one_that_fails_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let acts = [Does::Note, Does::Note, Does::Fail, Does::Note];
        let granted = company(&register, &acts).await;
        // Those before it are done again; the one behind it had not begun.
        assert_eq!(granted, [Some(2), Some(2), None, Some(1)]);
        assert_eq!(noted(&register).await, 3);
        // It need not have been its fault.
        let granted = company(&register, &[Does::Note, Does::FailOnce]).await;
        assert_eq!(granted, [Some(2), Some(2)]);
        assert_eq!(noted(&register).await, 5);
        // One that is in nobody's company fails at once.
        let lone = Queued::new(&register, Does::Fail).await;
        let act = lone.act.clone();
        lone.open();
        assert_eq!(lone.granted().await, None);
        assert_eq!(act.tries.load(Ordering::Relaxed), 1);
        assert_eq!(noted(&register).await, 5);
    }

    #[tokio::test]
    async fn of_acts_that_share_only_the_one_that_cannot_be_committed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let granted = company(&register, &[Does::Note, Does::Dangle, Does::Note]).await;
        assert_eq!(granted, [Some(2), None, Some(2)]);
        assert_eq!(noted(&register).await, 2);
    }

    #[tokio::test]
    async fn an_act_that_vanishes_takes_nobody_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let first = Queued::new(&register, Does::Note).await;
        let vanishing = Queued::new(&register, Does::Note).await;
        let next = Queued::new(&register, Does::Note).await;
        first.open();
        next.open();
        while vanishing.act.tries.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
        vanishing.task.abort();
        first.open();
        assert_eq!(first.granted().await, Some(2));
        assert_eq!(next.granted().await, Some(1));
        assert_eq!(noted(&register).await, 2);
    }

    #[tokio::test]
    async fn what_was_left_open_is_committed_though_who_waits_for_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let register = register(&directory).await;
        let first = Queued::new(&register, Does::Note).await;
        let next = Queued::new(&register, Does::Note).await;
        first.open();
        while next.act.tries.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
        // It waits for the commit by now.
        first.task.abort();
        next.open();
        assert_eq!(next.granted().await, Some(1));
        assert_eq!(noted(&register).await, 2);
    }
}
