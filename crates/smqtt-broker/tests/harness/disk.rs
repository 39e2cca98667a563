//! Disks that fail: the system's own faults, put between the broker and its files.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test files, each of which uses its own part"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{Broker, utf8};

/// The broker's command, below a shell that lets it get an error instead of a signal when a file is too
/// large, and below `strace` with these options if there are any. The process is the broker itself.
pub fn command(strace: &[String], args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    if !strace.is_empty() {
        // As its parent's grandchild (-D), so that the broker's process id is the one that is known.
        command.args(["strace", "-D", "-f", "-qqq"]).args(strace);
    }
    command
        .arg(env!("CARGO_BIN_EXE_smqtt-broker"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Makes writes behind this many bytes of a file fail, or be cut short.
pub fn limit_files(broker: &Broker, bytes: Option<u64>) {
    let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("the limit of a child");
}

/// The fault of `strace`: system calls of this kind fail, of the calls that `when` names (its syntax).
pub fn failing(calls: &str, error: &str, when: &str) -> String {
    format!("--inject={calls}:error={error}:when={when}")
}

/// Makes it look at these calls only, without stopping the process for others.
pub fn looking_at(calls: &str, output: &Path) -> Vec<String> {
    vec![
        "--seccomp-bpf".to_owned(),
        format!("--trace={calls}"),
        format!("--output={}", utf8(output)),
    ]
}
