//! The step-by-step set-up of `docs/operations.md`, every command of it, as an operator runs it in a shell.

use std::net::TcpListener;
use std::process::Command;

use smqtt_tests::programs::{directory, repository, run};

const SECTION: &str = "## A hardened broker, step by step";

/// The shell blocks of the section, in their order.
fn blocks() -> Vec<String> {
    let page = std::fs::read_to_string(repository().join("docs/operations.md")).expect("the page");
    let section = page.split_once(SECTION).expect("the section").1;
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

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[test]
fn with_mosquitto_with_openssl_with_curl_the_hardened_set_up_does_what_its_page_says() {
    let mut blocks = blocks();
    // The programs are built already.
    let install = blocks.remove(0);
    assert!(install.starts_with("# install\n"), "{install}");
    let mut commands = blocks.join("\n");
    for port in ["8443", "8883", "9883"] {
        assert!(commands.contains(port), "{port}");
        commands = commands.replace(port, &free_port().to_string());
    }
    // A command that fails where the page does not say so ends it, with all that it has started.
    let script = format!(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null' EXIT\n{commands}\ntrap - EXIT\n"
    );
    let tree = tempfile::tempdir().expect("a temporary directory");
    let path = format!(
        "{}:{}",
        directory().display(),
        std::env::var("PATH").expect("a PATH")
    );
    let mut bash = Command::new("timeout");
    bash.args(["--kill-after=5", "50", "bash", "-c", &script])
        .current_dir(tree.path())
        .env("PATH", path)
        .env("HOME", tree.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMQTT_")) {
        bash.env_remove(name);
    }
    let done = run(&mut bash);
    let log = |name: &str| std::fs::read_to_string(tree.path().join(name)).unwrap_or_default();
    let all = format!(
        "{}\n--- stderr\n{}\n--- broker.log\n{}\n--- authority.log\n{}",
        done.text(),
        done.stderr,
        log("broker.log"),
        log("authority.log")
    );
    assert_eq!(done.code(), 0, "{all}");

    let mut rest = all.as_str();
    for part in [
        "device sensor-17 may publish plant/sensor-17/temperature\n",
        "  sealed topic: payloads other than the device's envelopes are refused\n",
        "device sensor-17 may not publish plant/sensor-18/temperature\n",
        "exit code 6: denied\n",
        "ready\n",
        "plant/sensor-17/temperature 21.5\n",
        "exit code 7: refused by the broker\n",
        "smqtt_broker_topic_messages_total{prefix=\"plant\"} 1\n",
        "smqtt_broker_rules_unsealed_total{outcome=\"refused\"} 1\n",
        "smqtt_broker_rules_denied_total 1\n",
        "the dashboard's connection stayed\n",
        ": not admitted any more\n",
        "stopped cleanly\n",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("no {part:?} at its place in\n{all}"));
        rest = after;
    }
    // mosquitto_pub names an address as the server's name, which rustls would tell at each connection.
    assert!(!all.contains("rustls::"), "{all}");
    let serials: Vec<&str> = all
        .lines()
        .filter(|line| line.starts_with("serial="))
        .collect();
    assert_eq!(serials.len(), 2, "{all}");
    assert_eq!(serials[0], serials[1], "the new certificate is not shown");
    assert!(
        all.contains("its certificate is revoked")
            || all.contains("the authority has taken it back"),
        "{all}"
    );
}
