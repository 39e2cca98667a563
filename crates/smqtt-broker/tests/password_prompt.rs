//! `smqtt-broker passwd` at a terminal: asks twice, shows nothing of what is typed.

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use harness::{run, utf8, wait_for};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// A program at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn passwd(file: &Path, user: &str) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("granted");
        unlockpt(&keyboard).expect("unlocked");
        let name = ptsname(&keyboard, Vec::new()).expect("its name");
        let end: OwnedFd = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .expect("its end");
        // The password is asked for at the controlling terminal, which `setsid` makes of its stdin.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_smqtt-broker")])
            .args(["passwd", utf8(file), user])
            .stdin(end.try_clone().expect("clone"))
            .stdout(end.try_clone().expect("clone"))
            .stderr(Stdio::from(end))
            .spawn()
            .expect("setsid runs");
        let keyboard = File::from(keyboard);
        let mut screen = keyboard.try_clone().expect("clone");
        let shown = Arc::new(Mutex::new(String::new()));
        let to = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            // It ends with an error once nobody has the other end.
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                to.lock()
                    .expect("unpoisoned")
                    .push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Terminal {
            child,
            keyboard,
            shown,
        }
    }

    /// Types a line as soon as it is asked for with `prompt` and the terminal does not echo.
    fn answer(&mut self, prompt: &str, line: &str) {
        wait_for(|| {
            let modes = tcgetattr(&self.keyboard).expect("a terminal").local_modes;
            (self.shown().ends_with(prompt) && !modes.contains(LocalModes::ECHO)).then_some(())
        });
        writeln!(self.keyboard, "{line}").expect("typed");
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("unpoisoned").clone()
    }

    /// How it ended, and all that was shown once `last` was.
    fn end(mut self, last: &str) -> (ExitStatus, String) {
        let status = wait_for(|| self.child.try_wait().expect("wait"));
        wait_for(|| self.shown().contains(last).then_some(()));
        (status, self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("passwords");
    let mut terminal = Terminal::passwd(&file, "alice");
    terminal.answer("Password for alice: ", "correct horse");
    terminal.answer("Again: ", "correct horse");
    let (status, shown) = terminal.end("added alice");
    assert!(status.success(), "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
    let (_, users, _) = run(&["passwd", utf8(&file), "--list"]);
    assert_eq!(users, "alice\n");
}

#[test]
fn two_passwords_that_differ_change_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("passwords");
    let mut terminal = Terminal::passwd(&file, "alice");
    terminal.answer("Password for alice: ", "correct horse");
    terminal.answer("Again: ", "correct house");
    let (status, shown) = terminal.end("the two passwords differ; nothing was changed");
    assert!(!status.success(), "{shown}");
    assert!(
        !shown.contains("horse") && !shown.contains("house"),
        "{shown}"
    );
    assert!(!file.exists());
}
