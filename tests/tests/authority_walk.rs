//! The production set-up of `docs/authority.md`, every command of it, as an operator runs it in a shell.

use smqtt_tests::walk::{Walk, blocks};

#[test]
fn the_production_set_up_with_an_offline_root_does_what_its_page_says() {
    let all = Walk {
        blocks: blocks("docs/authority.md", "## From zero to a production set-up"),
        ports: &["8443", "8883"],
        seconds: 55,
        logs: &["broker.log", "authority.log", "restored.log", "renewed.log"],
    }
    .take();
    let mut rest = all.as_str();
    for part in [
        "sha256:",
        "root key      not here\n",
        "these shares give the backup key\n",
        "sensor-17",
        "anna  enrolled",
        "\n21.5\n",
        "epoch 2:",
        "sensor-17 is out\n",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("no {part:?} at its place in\n{all}"));
        rest = after;
    }
    for said in [
        "the root's key is no more in authority",
        "issues, until",
        "authority \"Example plant\" restored into authority",
        "enrolled sensor-18",
        "mqtts://127.0.0.1:",
        "has the authority's state",
    ] {
        assert!(all.contains(said), "no {said:?} in\n{all}");
    }
}
