//! The step-by-step set-up of `docs/operations.md`, every command of it, as an operator runs it in a shell.

use smqtt_tests::walk::{Walk, blocks};

const SECTION: &str = "## A hardened broker, step by step";

#[test]
fn with_mosquitto_with_openssl_with_curl_the_hardened_set_up_does_what_its_page_says() {
    let mut blocks = blocks("docs/operations.md", SECTION);
    // The programs are built already.
    let install = blocks.remove(0);
    assert!(install.starts_with("# install\n"), "{install}");
    let all = Walk {
        blocks,
        ports: &["8443", "8883", "9883"],
        seconds: 50,
        logs: &["broker.log", "authority.log"],
    }
    .take();

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
