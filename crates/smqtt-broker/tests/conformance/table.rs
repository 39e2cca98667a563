//! The check of docs/conformance.md finds what it is there to find.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the check says about the workspace with this table.
fn check(table: &str) -> String {
    let copy = tempfile::tempdir().expect("temporary directory");
    for dir in ["docs", "scripts"] {
        std::fs::create_dir(copy.path().join(dir)).expect("a directory");
    }
    for link in ["crates", "tests", "scripts/conformance"] {
        symlink(repository().join(link), copy.path().join(link)).expect("a link");
    }
    std::fs::write(copy.path().join("docs/conformance.md"), table).expect("the table");
    let output = Command::new("bash")
        .arg(repository().join("scripts/check-conformance"))
        .arg(copy.path())
        .output()
        .expect("bash runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_way_to_have_no_test_is_found_by_the_check() {
    let table = std::fs::read_to_string(repository().join("docs/conformance.md"))
        .expect("docs/conformance.md");
    let (before, section) = table.split_once("\n## MQTT 3.1.1\n").expect("a section");
    let row = |id: &str| {
        let start = format!("| [{id}] |");
        let row = section.lines().find(|line| line.starts_with(&start));
        row.expect("a row").to_owned()
    };
    let shown = row("MQTT-3.1.0-2");
    let asked = shown.rsplit_once(" | ").expect("three cells").0;
    let absent = row("MQTT-3.8.3-2");
    let excused = absent.rsplit_once(" | ").expect("three cells").0;
    let cases = [
        (&shown, String::new(), "MQTT 3.1.1: MQTT-3.1.0-2 is missing"),
        (
            &shown,
            format!("{asked} | |"),
            "MQTT 3.1.1: MQTT-3.1.0-2 has neither",
        ),
        (
            &shown,
            format!("{asked} | seen by somebody |"),
            "MQTT 3.1.1: MQTT-3.1.0-2 has neither",
        ),
        (
            &shown,
            format!("{asked} | `v3_connect::nothing` |"),
            "MQTT 3.1.1: MQTT-3.1.0-2: v3_connect::nothing is no test",
        ),
        (
            &shown,
            format!("{asked} | `v3_nowhere::nothing` |"),
            "v3_nowhere::nothing is in a module",
        ),
        // A function that helps tests is none.
        (
            &shown,
            format!("{asked} | `v3_connect::closed_without_connack` |"),
            "MQTT 3.1.1: MQTT-3.1.0-2: v3_connect::closed_without_connack is no test",
        ),
        (
            &shown,
            format!("{shown}\n{shown}"),
            "MQTT 3.1.1: MQTT-3.1.0-2 stands there twice",
        ),
        (
            &shown,
            shown.replace("3.1.0-2", "3.1.0-99"),
            "MQTT 3.1.1: MQTT-3.1.0-99 is unknown",
        ),
        (
            &absent,
            format!("{excused} | not applicable: |"),
            "MQTT 3.1.1: MQTT-3.8.3-2 is not applicable for no reason",
        ),
    ];
    // What is there before is no finding, or nothing would be shown.
    let whole = check(&table);
    for (old, new, finding) in cases {
        assert!(!whole.contains(finding), "{whole}");
        let broken = section.replacen(old.as_str(), &new, 1);
        let said = check(&format!("{before}\n## MQTT 3.1.1\n{broken}"));
        assert!(said.contains(finding), "{finding}: not found in\n{said}");
    }
}
