//! Pages of the documentation whose commands are run as they stand.

use std::net::TcpListener;
use std::process::Command;

use crate::programs::{directory, repository, run};

/// The shell blocks of a page's section, in their order.
///
/// # Panics
/// If there are fewer than ten: the page has lost them.
#[must_use]
pub fn blocks(page: &str, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(page)).expect("the page");
    let section = text.split_once(section).expect("the section").1;
    let section = section.split("\n## ").next().expect("its text");
    let blocks: Vec<String> = section
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("its end").to_owned())
        .collect();
    assert!(
        blocks.len() > 10,
        "the page lost its commands: {}",
        blocks.len()
    );
    blocks
}

/// Commands that are run in one shell, in an empty directory.
pub struct Walk<'a> {
    /// What is run.
    pub blocks: Vec<String>,
    /// The ports that they name: free ones take their places.
    pub ports: &'a [&'a str],
    /// How long they may take.
    pub seconds: u32,
    /// Files in the directory that tell what went wrong.
    pub logs: &'a [&'a str],
}

impl Walk<'_> {
    /// Runs them; returns what was written on stdout, on stderr and into the logs.
    ///
    /// # Panics
    /// If a command fails where the page does not say so.
    #[must_use]
    pub fn take(self) -> String {
        let mut commands = self.blocks.join("\n");
        for port in self.ports {
            assert!(commands.contains(port), "{port}");
            commands = commands.replace(port, &free_port().to_string());
        }
        // A command that fails where the page does not say so ends it, with all that it has started.
        let script = format!(
            "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null' EXIT\n{commands}\nkill $(jobs -p) 2> /dev/null || true\ntrap - EXIT\n"
        );
        let tree = tempfile::tempdir().expect("a temporary directory");
        let path = format!(
            "{}:{}",
            directory().display(),
            std::env::var("PATH").expect("a PATH")
        );
        let mut bash = Command::new("timeout");
        bash.args(["--kill-after=5", &self.seconds.to_string()])
            .args(["bash", "-c", &script])
            .current_dir(tree.path())
            .env("PATH", path)
            .env("HOME", tree.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMQTT_")) {
            bash.env_remove(name);
        }
        let done = run(&mut bash);
        let mut all = format!("{}\n--- stderr\n{}", done.text(), done.stderr);
        for name in self.logs {
            let log = std::fs::read_to_string(tree.path().join(name)).unwrap_or_default();
            all.push_str(&format!("\n--- {name}\n{log}"));
        }
        assert_eq!(done.code(), 0, "{all}");
        all
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}
