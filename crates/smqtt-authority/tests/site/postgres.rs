//! A PostgreSQL server in a directory that vanishes, on a Unix socket there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server, with one user and one empty database; stopped when dropped.
pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts one.
    ///
    /// Debian's package `postgresql` has the programs. The server refuses to run as root, so root runs it as that package's user.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, `name=value`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        // In memory, where there is such a directory: the machine does not fail in a test.
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new()
            .prefix("smqtt-pg-")
            .tempdir_in(home)
            .unwrap();
        own(dir.path());
        let data = dir.path().join("data");
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([&model(), &data])
                .status()
                .unwrap()
                .success()
        );
        let mut command = unprivileged("postgres");
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses="]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let log = File::create(dir.path().join("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = server.log();
            if log.contains("database system is ready to accept connections") {
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "PostgreSQL does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Where it keeps everything.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of its database.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://smqtt@localhost/postgres?host={}",
            self.dir.path().display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "QUIT", &pid]).status();
        let _ = self.child.wait();
    }
}

/// Where a program of the package is.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    places.extend(versions.flatten().map(|version| version.path().join("bin")));
    places
        .iter()
        .map(|place| place.join(name))
        .find(|program| program.exists())
        .unwrap_or_else(|| panic!("{name} is not there: install Debian's package postgresql, or leave the tests out with --skip with_postgres"))
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// A program of the package as a user that has no rights; it ends with this thread.
fn unprivileged(name: &str) -> Command {
    let program = program(name);
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig=QUIT", "--"]).arg(program);
    command.current_dir("/");
    command
}

/// Gives a file or directory to the user that the server runs as.
pub(crate) fn own(directory: &Path) {
    if is_root() {
        let done = Command::new("chown")
            .arg("postgres")
            .arg(directory)
            .status();
        assert!(done.unwrap().success());
    }
}

/// An empty database that all servers begin with: made once, as that takes a second.
fn model() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let model = home.join("postgres-model");
    let lock = File::create(home.join("postgres-model.lock")).unwrap();
    lock.lock().unwrap();
    if !model.exists() {
        let made = tempfile::tempdir().unwrap();
        own(made.path());
        let data = made.path().join("data");
        let output = unprivileged("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "smqtt", "-A", "trust", "-E", "UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let staged = home.join("postgres-model.new");
        let _ = fs::remove_dir_all(&staged);
        let copied = Command::new("cp").arg("-a").args([&data, &staged]).status();
        assert!(copied.unwrap().success());
        fs::rename(&staged, &model).unwrap();
    }
    model
}
