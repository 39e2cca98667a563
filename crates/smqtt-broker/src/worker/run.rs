//! The tasks that drive a worker on its thread: one for each listener and connection, one that flushes, one for the timers, and
//! the one that takes the mail.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{Pass, Worker, accept};
use crate::hosts::Resident;
use crate::shared::{Mail, Shared};
use crate::socket::Acceptor;

/// How long a stopping worker waits for sockets to take the last packets.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long it waits for clients to close their side once everything was sent.
const STOP_LINGER: Duration = Duration::from_millis(250);

/// A worker on the thread that runs it, until it leaves.
#[derive(Clone)]
pub(super) struct Handle(Rc<RefCell<Option<Box<Worker>>>>);

impl Handle {
    /// Does something with the worker, if it is still here.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        self.0.borrow_mut().as_deref_mut().map(act)
    }
}

/// How a worker has left its thread.
pub(crate) enum Outcome {
    /// It was told to stop.
    Stopped,
    /// It goes to another thread.
    Moves(usize, Resident),
    /// By a defect.
    Failed,
}

/// Runs a worker on this thread until it is told to stop, or to go to another thread: must be called in a
/// [`tokio::task::LocalSet`].
pub(crate) async fn run(thread: usize, shared: Arc<Shared>, resident: Resident) -> Outcome {
    let Resident {
        worker,
        listeners,
        mut started,
    } = resident;
    let index = worker.index;
    let acceptors = listeners
        .iter()
        .map(|(socket, state)| Ok((Acceptor::attach(socket.try_clone()?)?, state.clone())))
        .collect::<std::io::Result<Vec<_>>>();
    let acceptors = match acceptors {
        Ok(acceptors) => acceptors,
        Err(error) => {
            match started.take() {
                Some(started) => drop(started.send(Err(error))),
                None => tracing::error!(%error, "cannot listen on another thread"),
            }
            return Outcome::Failed;
        }
    };
    let worker = Handle(Rc::new(RefCell::new(Some(worker))));
    if started.is_some() {
        worker.with(|worker| {
            if worker.sessions.places() > 0 {
                let mut pass = Pass::new(&shared);
                worker.judge_again(&mut pass);
            }
        });
    }
    let landed = worker.with(|worker| worker.land(&shared));
    let mut tasks: Vec<_> = acceptors
        .into_iter()
        .map(|(listener, state)| {
            tokio::task::spawn_local(accept::accept_connections(worker.clone(), listener, state))
        })
        .collect();
    let mut flusher = tokio::task::spawn_local(flush_when_touched(worker.clone()));
    let mut timer = tokio::task::spawn_local(keep_time(worker.clone()));
    for slot in landed.into_iter().flatten() {
        spawn_connection(&worker, slot);
    }
    if let Some(started) = started.take() {
        let _ = started.send(Ok(()));
    }
    let mut mail = Vec::new();
    loop {
        tokio::select! {
            () = shared.mailboxes[index].ready() => {}
            // They never end: one of them has panicked, and nothing would move any more.
            _ = &mut flusher => return Outcome::Failed,
            _ = &mut timer => return Outcome::Failed,
        }
        let waiting = shared.mailboxes[index].drain(&mut mail);
        for other in (0..shared.mailboxes.len()).filter(|other| waiting & 1 << other != 0) {
            shared.mailboxes[other].post(&mut vec![Mail::Resume], 0);
        }
        let mut taken_over = Vec::new();
        let ended = worker.with(|worker| {
            let mut pass = Pass::new(&shared);
            for item in mail.drain(..) {
                taken_over.extend(worker.on_mail(item, &mut pass));
            }
            if let Some(done) = worker.quiesced.take() {
                worker.flush_touched();
                drop(done);
            }
            worker.stopped
        });
        if mail.capacity() > KEEP_MAIL {
            mail = Vec::new();
        }
        for slot in taken_over {
            spawn_connection(&worker, slot);
        }
        if ended != Some(false) {
            break;
        }
        let to = worker.with(|worker| worker.moves_to.take().filter(|_| !worker.stopping));
        if let Some(to) = to.flatten().filter(|to| *to != thread) {
            tasks.extend([flusher, timer]);
            for task in tasks {
                task.abort();
            }
            let Some(mut worker) = worker.0.borrow_mut().take() else {
                return Outcome::Failed;
            };
            worker.lift();
            let resident = Resident {
                worker,
                listeners,
                started: None,
            };
            return Outcome::Moves(to, resident);
        }
    }
    for task in tasks {
        task.abort();
    }
    let begin = Instant::now();
    let patience = worker.with(|worker| worker.current.config.shutdown.grace_seconds);
    let patience = Duration::from_secs(patience.unwrap_or(0));
    loop {
        let impatient = begin.elapsed() >= patience || shared.lifecycle.is_halted();
        let left = worker.with(|worker| {
            worker.stop_some(impatient);
            worker.connections_left()
        });
        let (open, unsent) = left.unwrap_or((false, false));
        let grace = match unsent {
            true => patience + STOP_GRACE,
            false => STOP_LINGER,
        };
        if !open || begin.elapsed() >= grace || shared.lifecycle.is_halted() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    flusher.abort();
    timer.abort();
    Outcome::Stopped
}

/// A drained mailbox with more capacity than this is freed.
const KEEP_MAIL: usize = 4_096;

pub(super) fn spawn_connection(worker: &Handle, slot: usize) {
    let handle = worker.clone();
    let task = tokio::task::spawn_local(poll_fn(move |cx| {
        let polled = handle.with(|worker| worker.poll_connection(slot, cx));
        polled.unwrap_or(Poll::Ready(()))
    }));
    worker.with(|worker| {
        if let Some(connection) = worker.connections.get_mut(slot) {
            connection.task = Some(task.abort_handle());
        }
    });
}

async fn flush_when_touched(worker: Handle) {
    poll_fn(|cx| {
        worker.with(|worker| {
            if worker
                .flusher
                .as_ref()
                .is_none_or(|waker| !waker.will_wake(cx.waker()))
            {
                worker.flusher = Some(cx.waker().clone());
            }
            worker.flush_touched();
        });
        Poll::Pending
    })
    .await
}

async fn keep_time(worker: Handle) {
    let Some(changed) = worker.with(|worker| worker.timer_changed.clone()) else {
        return;
    };
    loop {
        let next = worker.with(|worker| worker.timers.next()).flatten();
        match next {
            None => changed.notified().await,
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {
                        worker.with(Worker::on_timers);
                    }
                    () = changed.notified() => {}
                }
            }
        }
    }
}
