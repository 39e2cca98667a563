//! The README's own example, every command as it is printed there, in two terminals.

use std::net::TcpListener;
use std::process::Command;

use smqtt_tests::programs::{Running, directory, repository, run};

/// The commands of the README's console block, each with its continuation lines.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("the README");
    let block = readme.split_once("```console\n").expect("a block").1;
    let block = block.split_once("```").expect("its end").0;
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        if goes_on {
            let command = commands.last_mut().expect("its beginning");
            command.push('\n');
            command.push_str(line);
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line:?}");
        }
        goes_on = line.ends_with('\\');
    }
    commands
}

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[test]
fn the_readme_leads_to_the_first_own_encrypted_message() {
    let mut commands = commands();
    for port in ["8883", "8443"] {
        let free = free_port().to_string();
        assert!(commands.iter().any(|command| command.contains(port)));
        for command in &mut commands {
            *command = command.replace(port, &free);
        }
    }
    let of = |start: &str| {
        let mut found = commands.iter().filter(|command| command.starts_with(start));
        let command = found.next().expect("there is one").clone();
        assert_eq!(found.next(), None, "one {start}");
        command
    };
    let (reading, speaking) = (of("smqtt sub"), of("smqtt pub"));
    let setting_up: Vec<&str> = commands
        .iter()
        .filter(|command| ![&reading, &speaking].contains(command))
        .map(String::as_str)
        .collect();
    assert!(setting_up.len() >= 9, "{setting_up:?}");

    let tree = tempfile::tempdir().expect("a directory");
    let path = format!(
        "{}:{}",
        directory().display(),
        std::env::var("PATH").expect("a PATH")
    );
    let terminal = |script: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", script])
            .current_dir(tree.path())
            .env("PATH", &path)
            .env("HOME", tree.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMQTT_")) {
            bash.env_remove(name);
        }
        bash
    };
    // The services stay until the terminal is closed. A person types slower than they start; a script has to wait.
    let patient = setting_up
        .iter()
        .map(|command| match command.strip_suffix('&') {
            Some(service) => {
                let log = service.rsplit_once("2>").expect("its log").1.trim();
                format!("{command}\nuntil grep -q 'listening on' {log}; do sleep 0.05; done")
            }
            None => (*command).to_owned(),
        });
    let script = format!(
        "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{}\necho enrolled\nread -r _\n",
        patient.collect::<Vec<_>>().join("\n")
    );
    let first = Running::start(&mut terminal(&script));
    first.wait_for_stdout("enrolled anna");
    first.wait_for_stdout("enrolled\n".trim_end());

    let second = Running::start(&mut terminal(&format!("exec {reading}")));
    second.wait_for_stderr("subscribed to building/#");
    let _ = run(&mut terminal(&speaking)).success();
    second.wait_for_stdout("building/7/temperature 21.5");
    let _ = second.interrupt().success();
    let _ = first.wait();
}
