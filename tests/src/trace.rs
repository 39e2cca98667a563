//! The system calls of a program, as `strace` saw them.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// A system call that has returned.
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments: paths beside descriptors, buffers as hexadecimal escapes.
    pub arguments: String,
    /// What it returned; -1 for an error.
    pub result: i64,
}

/// `command` below `strace`, which writes the calls of these names to `output`. Signals reach the program: it keeps the process id
/// that it is started with.
#[must_use]
pub fn traced(command: &Command, calls: &str, output: &Path) -> Command {
    let mut traced = Command::new("strace");
    // As its parent's grandchild (-D). It tells of the end (not -qq).
    traced
        .args(["-D", "-f", "-q", "--seccomp-bpf"])
        .args(["-yy", "-xx", "--string-limit=1000000"])
        .arg(format!("--trace={calls}"))
        .arg("-o")
        .arg(output)
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(key, value),
            None => traced.env_remove(key),
        };
    }
    traced
}

/// The calls in the order in which they returned. `strace` writes two lines for a call during which another thread did something.
///
/// # Panics
/// If that is no trace.
#[must_use]
pub fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut all = Vec::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').expect("a thread and a call");
        let rest = rest.trim_start();
        let whole = if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, call.to_owned());
            continue;
        } else if let Some(rest) = rest.strip_prefix("<... ") {
            let (_, end) = rest.split_once(" resumed>").expect("the end of a call");
            begun.remove(thread).expect("its beginning") + end
        } else {
            rest.to_owned()
        };
        // What is no call: a signal, or an end.
        let Some((call, result)) = whole.rsplit_once(" = ") else {
            continue;
        };
        let (name, arguments) = call.split_once('(').expect("a call");
        let result = result.split([' ', '<']).next();
        all.push(Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            result: result.and_then(|number| number.parse().ok()).unwrap_or(-1),
        });
    }
    all
}

impl Call {
    /// All bytes of its buffers, one behind the other, as far as they were moved.
    ///
    /// # Panics
    /// If a buffer is not written as hexadecimal escapes.
    #[must_use]
    pub fn moved(&self) -> Vec<u8> {
        // The first quotation mark opens a buffer, the next one closes it.
        let buffers = self.arguments.split('"').skip(1).step_by(2);
        let hex: String = buffers.map(|text| text.replace("\\x", "")).collect();
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        let count = usize::try_from(self.result).unwrap_or(0);
        (0..hex.len() / 2)
            .map(|n| digit(2 * n))
            .take(count)
            .collect()
    }
}
