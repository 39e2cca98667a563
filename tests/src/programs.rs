//! The built programs: where they are, and how a test starts, watches and stops them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Generous, because machines are busy; nothing
/// is asserted about how long it took.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the repository")
        .to_path_buf()
}

/// The directory of the built programs: `SMQTT_BIN_DIR`, or the one in which this test was built.
///
/// # Panics
/// If a program is missing there: a test must not pass for want of what it tests.
#[must_use]
pub fn directory() -> PathBuf {
    let directory = std::env::var_os("SMQTT_BIN_DIR").map_or_else(
        || {
            let mut exe = std::env::current_exe().expect("a test knows its own path");
            exe.pop();
            if exe.ends_with("deps") {
                exe.pop();
            }
            exe
        },
        PathBuf::from,
    );
    for name in ["smqtt", "smqtt-broker", "smqtt-authority"] {
        assert!(
            directory.join(name).is_file(),
            "{name} is not in {}: run `cargo build --workspace` first",
            directory.display()
        );
    }
    directory
}

/// A command for one of the built programs, free of `SMQTT_*` variables of whoever runs the tests.
#[must_use]
pub fn program(name: &str) -> Command {
    let mut command = Command::new(directory().join(name));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("SMQTT_") {
            command.env_remove(key);
        }
    }
    // Nor of their profiles.
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 after a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// This, if the program succeeded.
    ///
    /// # Panics
    /// If it did not, with what it said.
    #[must_use]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.text(),
            self.stderr
        );
        self
    }
}

/// Runs `command` to its end, at most for [`PATIENCE`].
pub fn run(command: &mut Command) -> Finished {
    Running::start(command).wait()
}

/// Runs `command` to its end with `input` on its standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let mut running = Running::start(command);
    running.write(input);
    running.wait()
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
}

/// One output stream, collected by a thread of its own so that the program never blocks on a full pipe.
#[derive(Clone, Default)]
struct Stream(Arc<(Mutex<Output>, Condvar)>);

impl Stream {
    fn collect(reader: impl Read + Send + 'static) -> Self {
        let stream = Self::default();
        let shared = stream.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            loop {
                let read = reader.fill_buf().map_or(0, |chunk| {
                    shared.lock().bytes.extend_from_slice(chunk);
                    chunk.len()
                });
                reader.consume(read);
                if read == 0 {
                    shared.lock().ended = true;
                }
                shared.0.1.notify_all();
                if read == 0 {
                    break;
                }
            }
        });
        stream
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Output> {
        // A test that panics with the lock in hand has left what was collected as it is.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `found` finds something in the complete lines that have come so far, or the stream has ended, or `deadline`.
    fn wait_until<T>(
        &self,
        deadline: Instant,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let mut output = self.lock();
        loop {
            let complete = output
                .bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            if let Some(value) = found(&String::from_utf8_lossy(&output.bytes[..complete])) {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if output.ended || left.is_zero() {
                return None;
            }
            output = self
                .0
                .1
                .wait_timeout(output, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn whole(&self, deadline: Instant) -> Vec<u8> {
        let _: Option<()> = self.wait_until(deadline, |_| None);
        self.lock().bytes.clone()
    }
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
    what: String,
}

impl Running {
    /// Starts `command` with pipes on all three standard streams.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let what = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let stdout = Stream::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Stream::collect(child.stderr.take().expect("stderr is piped"));
        Self {
            child,
            stdout,
            stderr,
            what,
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes `input` to standard input and leaves it open. A program that has gone is no error here.
    pub fn write(&mut self, input: &[u8]) {
        if let Some(stdin) = self.child.stdin.as_mut() {
            let _ = stdin.write_all(input).and_then(|()| stdin.flush());
        }
    }

    /// The first line of standard error that contains `needle`, once it is there.
    ///
    /// # Panics
    /// If the program ends, or [`PATIENCE`] does, before that.
    pub fn wait_for_stderr(&self, needle: &str) -> String {
        self.wait_for(&self.stderr, needle)
    }

    /// The first line of standard output that contains `needle`, once it is there.
    ///
    /// # Panics
    /// If the program ends, or [`PATIENCE`] does, before that.
    pub fn wait_for_stdout(&self, needle: &str) -> String {
        self.wait_for(&self.stdout, needle)
    }

    fn wait_for(&self, stream: &Stream, needle: &str) -> String {
        let line = stream.wait_until(Instant::now() + PATIENCE, |text| {
            text.lines()
                .find(|line| line.contains(needle))
                .map(str::to_owned)
        });
        line.unwrap_or_else(|| {
            panic!(
                "{} never said {needle:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.what,
                String::from_utf8_lossy(&self.stdout.lock().bytes),
                String::from_utf8_lossy(&self.stderr.lock().bytes)
            )
        })
    }

    /// What `found` finds in the complete lines of standard output, once it finds something; `None` if the program
    /// ends, or [`PATIENCE`] does, before that.
    pub fn watch_stdout<T>(&self, found: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.stdout.wait_until(Instant::now() + PATIENCE, found)
    }

    /// What it has printed on standard output so far.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().bytes).into_owned()
    }

    /// What it has printed on standard error so far.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().bytes).into_owned()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends the signal of that name (`INT`, `TERM`, `KILL`).
    ///
    /// # Panics
    /// If there is no `kill` program.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.id().to_string())
            .stderr(Stdio::null())
            .status();
        status.expect("kill can be started");
    }

    /// Interrupts it as Ctrl-C does and waits for its end.
    pub fn interrupt(self) -> Finished {
        self.signal("INT");
        self.wait()
    }

    /// Closes its standard input and waits for its end, at most for [`PATIENCE`].
    ///
    /// # Panics
    /// If it does not end by itself.
    pub fn wait(mut self) -> Finished {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() >= deadline {
                let stderr = self.stderr_so_far();
                let _ = self.child.kill();
                panic!("{} did not end\n--- stderr\n{stderr}", self.what);
            }
            thread::sleep(Duration::from_millis(5));
        };
        // The pipes may outlive the program where it left a child behind: bounded, too.
        let stdout = self.stdout.whole(deadline);
        let stderr = String::from_utf8_lossy(&self.stderr.whole(deadline)).into_owned();
        Finished {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something accepts connections on `port` of 127.0.0.1; false if `running` ends before that.
pub fn wait_for_port(port: u16, running: &mut Running) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && !running.has_ended() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Where the program `name` is: looked for on `PATH` and where Debian puts daemons.
pub fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(name.as_ref()))
        .find(|candidate| candidate.is_file())
}
