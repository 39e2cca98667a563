//! The threads, and which workers each of them runs: all workers on the first thread while there is little to do, each on
//! its own when there is much.
//!
//! A message that goes from one thread to another wakes the other: at 5,000 messages a second that costs as much again as
//! everything else, and most of the delay. One thread that runs all workers wakes nobody. When it is busy for most
//! of a moment, the workers spread over the threads, with their connections and sessions; after a second in which one thread would have been
//! enough, they come back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::shared::{ListenerState, Mail, Shared};
use crate::socket::ListenSocket;
use crate::worker::{Outcome, Worker, run};

/// How long the first thread is watched before the workers spread.
const MOMENT: Duration = Duration::from_millis(25);
/// They spread when it was busy for more than this part of a moment, in percent,
const BUSY: u64 = 60;
/// and come back when all threads together were busy for less than this part of a second.
const IDLE: u64 = 30;

/// A worker with its listeners, between two threads or about to start.
pub(crate) struct Resident {
    pub(crate) worker: Box<Worker>,
    pub(crate) listeners: Vec<(ListenSocket, Arc<ListenerState>)>,
    /// Who waits for its start.
    pub(crate) started: Option<std::sync::mpsc::Sender<std::io::Result<()>>>,
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").finish_non_exhaustive()
    }
}

/// All threads.
#[derive(Debug)]
pub(crate) struct Hosts {
    threads: Vec<Host>,
    /// Times are nanoseconds since then.
    base: Instant,
    spread: AtomicBool,
    /// When they last spread.
    spread_at: AtomicU64,
    /// Workers that have not stopped.
    running: AtomicUsize,
    /// No more will start.
    ending: AtomicBool,
    /// Workers that were sent to another thread.
    moves: AtomicU64,
    moment: Window,
    second: Mutex<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Host {
    /// Where workers arrive; none once all workers have stopped.
    inbox: Mutex<Option<UnboundedSender<Resident>>>,
    /// How long the thread has slept, without the sleep that it is in.
    slept: AtomicU64,
    /// Since when it sleeps; 0 while it does not.
    sleeps_since: AtomicU64,
}

/// When a look at the first thread began, and how long that had slept then.
#[derive(Debug, Default)]
struct Window {
    began: AtomicU64,
    slept: AtomicU64,
}

impl Hosts {
    pub(crate) fn new(threads: usize) -> Self {
        Hosts {
            threads: (0..threads).map(|_| Host::default()).collect(),
            base: Instant::now(),
            spread: AtomicBool::new(false),
            spread_at: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            moment: Window::default(),
            second: Mutex::default(),
        }
    }

    /// The end at which workers arrive on a thread.
    pub(crate) fn open(&self, thread: usize) -> UnboundedReceiver<Resident> {
        let (inbox, arriving) = unbounded_channel();
        *self.threads[thread].inbox.lock() = Some(inbox);
        arriving
    }

    /// Sends a worker to a thread; `false` if that does not run any more.
    pub(crate) fn send(&self, thread: usize, resident: Resident) -> bool {
        let inbox = self.threads[thread].inbox.lock();
        inbox
            .as_ref()
            .is_some_and(|inbox| inbox.send(resident).is_ok())
    }

    /// Starts a worker on the first thread; `false` if that does not run any more.
    pub(crate) fn start(&self, resident: Resident) -> bool {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.send(0, resident)
    }

    /// How many workers have gone to another thread.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// One worker less; the last one ends the threads.
    fn stopped(&self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) == 1 && self.ending.load(Ordering::SeqCst) {
            self.close();
        }
    }

    /// All workers were told to stop, and no more will start.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            self.close();
        }
    }

    /// Nobody arrives any more: threads without workers end.
    fn close(&self) {
        for host in &self.threads {
            host.inbox.lock().take();
        }
    }

    /// A thread falls asleep.
    pub(crate) fn sleeps(&self, thread: usize) {
        let now = self.nanoseconds(Instant::now());
        self.threads[thread]
            .sleeps_since
            .store(now.max(1), Ordering::Relaxed);
    }

    /// A thread has woken up.
    pub(crate) fn wakes(&self, thread: usize) {
        let host = &self.threads[thread];
        let since = host.sleeps_since.swap(0, Ordering::Relaxed);
        if since != 0 {
            let now = self.nanoseconds(Instant::now());
            let slept = host.slept.load(Ordering::Relaxed) + now.saturating_sub(since);
            host.slept.store(slept, Ordering::Relaxed);
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base)
            .as_nanos()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// How long a thread has slept altogether.
    fn slept(&self, thread: usize, now: u64) -> u64 {
        let host = &self.threads[thread];
        let since = host.sleeps_since.load(Ordering::Relaxed);
        let sleeping = if since == 0 {
            0
        } else {
            now.saturating_sub(since)
        };
        host.slept.load(Ordering::Relaxed) + sleeping
    }

    /// Tells whether the workers are to spread now. Called by the first thread, often.
    pub(crate) fn has_too_much(&self, now: Instant) -> bool {
        if self.threads.len() < 2 || self.spread.load(Ordering::Relaxed) {
            return false;
        }
        let now = self.nanoseconds(now);
        let elapsed = now.saturating_sub(self.moment.began.load(Ordering::Relaxed));
        let moment = MOMENT.as_nanos() as u64;
        if elapsed < moment {
            return false;
        }
        self.moment.began.store(now, Ordering::Relaxed);
        let slept = self.slept(0, now);
        let slept = slept.saturating_sub(self.moment.slept.swap(slept, Ordering::Relaxed));
        // Nobody looked for long: nobody had anything to do.
        let busy = elapsed < 4 * moment && elapsed.saturating_sub(slept) * 100 > elapsed * BUSY;
        if busy {
            self.spread_at.store(now, Ordering::Relaxed);
            self.spread.store(true, Ordering::Relaxed);
        }
        busy
    }

    /// Tells whether the workers are to come back to the first thread. Called once a second.
    pub(crate) fn have_too_little(&self, now: Instant) -> bool {
        let now = self.nanoseconds(now);
        let slept: u64 = (0..self.threads.len())
            .map(|thread| self.slept(thread, now))
            .sum();
        let (began, before) = std::mem::replace(&mut *self.second.lock(), (now, slept));
        let elapsed = now.saturating_sub(began);
        let awake =
            (elapsed * self.threads.len() as u64).saturating_sub(slept.saturating_sub(before));
        // A second in which they spread says nothing about what came then.
        began >= self.spread_at.load(Ordering::Relaxed)
            && awake * 100 < elapsed * IDLE
            && self.spread.swap(false, Ordering::Relaxed)
    }
}

/// Has every worker but the first move: to its own thread, or to the first one.
pub(crate) fn move_workers(shared: &Shared, spread: bool) {
    for (index, mailbox) in shared.mailboxes.iter().enumerate().skip(1) {
        let to = if spread { index } else { 0 };
        mailbox.post(&mut vec![Mail::MoveTo(to)], 0);
    }
}

/// Runs the workers that arrive on this thread until all workers of the broker have stopped: must be called in a
/// [`tokio::task::LocalSet`]. `false` when one has ended by a defect.
pub(crate) async fn host(
    thread: usize,
    shared: Arc<Shared>,
    mut arriving: UnboundedReceiver<Resident>,
) -> bool {
    let mut residents = JoinSet::new();
    let mut open = true;
    while open || !residents.is_empty() {
        tokio::select! {
            resident = arriving.recv(), if open => match resident {
                Some(resident) => {
                    residents.spawn_local(run(thread, shared.clone(), resident));
                }
                None => open = false,
            },
            Some(ended) = residents.join_next() => match ended {
                Ok(Outcome::Stopped) => shared.hosts.stopped(),
                Ok(Outcome::Moves(to, resident)) => {
                    if !shared.hosts.send(to, resident) {
                        break;
                    }
                    shared.hosts.moves.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Outcome::Failed) | Err(_) => break,
            },
        }
    }
    let well = !open && residents.is_empty();
    // What is left with the others can still end; nobody waits for who was lost here.
    shared.hosts.close();
    well
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hosts: &Hosts, milliseconds: u64) -> Instant {
        hosts.base + Duration::from_millis(milliseconds)
    }

    /// Has a thread sleep from one time to another.
    fn sleep(hosts: &Hosts, thread: usize, milliseconds: u64) {
        let slept = &hosts.threads[thread].slept;
        slept.fetch_add(milliseconds * 1_000_000, Ordering::Relaxed);
    }

    #[test]
    fn workers_spread_when_one_thread_is_busy_and_come_back_when_one_would_do() {
        let hosts = Hosts::new(2);
        assert!(!hosts.has_too_much(at(&hosts, 110)), "nobody looked");
        sleep(&hosts, 0, 20);
        assert!(!hosts.has_too_much(at(&hosts, 140)), "a third of the time");
        assert!(!hosts.has_too_much(at(&hosts, 150)), "a moment is not over");
        assert!(!hosts.has_too_much(at(&hosts, 1_000)), "nobody looked");
        assert!(hosts.has_too_much(at(&hosts, 1_030)), "all the time");
        assert!(!hosts.has_too_much(at(&hosts, 1_060)), "they have spread");
        sleep(&hosts, 0, 900);
        sleep(&hosts, 1, 2_000);
        assert!(!hosts.have_too_little(at(&hosts, 2_000)), "in that second");
        sleep(&hosts, 0, 900);
        sleep(&hosts, 1, 700);
        assert!(!hosts.have_too_little(at(&hosts, 3_000)), "two fifths");
        sleep(&hosts, 0, 900);
        sleep(&hosts, 1, 900);
        assert!(hosts.have_too_little(at(&hosts, 4_000)), "a fifth");
        assert!(!hosts.have_too_little(at(&hosts, 5_000)), "they are back");
    }

    #[test]
    fn a_single_thread_keeps_its_worker() {
        let hosts = Hosts::new(1);
        hosts.has_too_much(at(&hosts, 30));
        assert!(!hosts.has_too_much(at(&hosts, 60)));
    }
}
