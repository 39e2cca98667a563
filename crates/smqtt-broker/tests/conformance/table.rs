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
    // A row of its own for each way: what it says instead of its tests or its reason, and what is found.
    let helper = "`v3_connect::closed_without_connack`";
    let ways = [
        ("3.1.0-2", "", "has neither"),
        ("3.1.2-1", "seen by somebody", "has neither"),
        ("3.1.2-2", "`v3_connect::nothing`", "nothing is no test"),
        ("3.1.2-3", "`v3_nowhere::nothing`", "is in a module that"),
        (
            "3.1.2-4",
            "`smqtt-nobody::nowhere::nothing`",
            "is in no test target",
        ),
        // A function that helps tests is none.
        ("3.1.2-5", helper, "closed_without_connack is no test"),
        (
            "3.8.3-2",
            "not applicable:",
            "is not applicable for no reason",
        ),
    ];
    let mut broken = section.to_owned();
    let mut change = |id: &str, to: &dyn Fn(&str) -> String| {
        let start = format!("| [MQTT-{id}] |");
        let row = section.lines().find(|line| line.starts_with(&start));
        let row = row.expect("a row");
        broken = broken.replacen(row, &to(row), 1);
    };
    for (id, shown, _) in ways {
        change(id, &|row| {
            let asked = row.rsplit_once(" | ").expect("three cells").0;
            format!("{asked} | {shown} |")
        });
    }
    change("3.1.2-6", &|_| String::new());
    change("3.1.2-7", &|row| format!("{row}\n{row}"));
    change("3.1.2-8", &|row| row.replace("3.1.2-8", "3.1.2-99"));
    let mut findings: Vec<String> = ways
        .iter()
        .map(|(id, _, finding)| format!("MQTT-{id}: {finding}"))
        .collect();
    findings.extend(
        [
            "MQTT-3.1.2-6: is missing",
            "MQTT-3.1.2-7: stands there twice",
            "MQTT-3.1.2-8: is missing",
            "MQTT-3.1.2-99: is unknown",
        ]
        .map(str::to_owned),
    );
    let found = |said: &str, finding: &str| {
        let (id, what) = finding.split_once(": ").expect("a statement");
        said.lines().any(|line| {
            let line = line.strip_prefix("MQTT 3.1.1: ").unwrap_or_default();
            line.strip_prefix(id)
                .is_some_and(|rest| rest.starts_with([' ', ':']) && rest.contains(what))
        })
    };
    let whole = check(&table);
    let said = check(&format!("{before}\n## MQTT 3.1.1\n{broken}"));
    for finding in findings {
        assert!(
            !found(&whole, &finding),
            "{finding}: found in the table as it is\n{whole}"
        );
        assert!(found(&said, &finding), "{finding}: not found in\n{said}");
    }
}
