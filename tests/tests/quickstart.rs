//! The README's first command, as a person runs it, on the programs that were just built.

use std::process::Command;

use smqtt_tests::programs::{Finished, directory, repository, run};

/// The script works on `keys/quickstart/` of the tree that it stands in, so it runs in a copy: a person's own
/// quickstart may be up.
fn quickstart(data: impl Fn(String) -> String) -> (tempfile::TempDir, Finished) {
    let tree = tempfile::Builder::new()
        .prefix("smqtt-quickstart-")
        .tempdir()
        .expect("a temporary directory");
    let csv = "tests/data/ambient_temperature_system_failure.csv";
    for directory in ["scripts", "keys", "tests/data"] {
        std::fs::create_dir_all(tree.path().join(directory)).expect("a directory");
    }
    std::fs::copy(
        repository().join("scripts/quickstart.sh"),
        tree.path().join("scripts/quickstart.sh"),
    )
    .expect("the script is copied");
    let readings =
        std::fs::read_to_string(repository().join(csv)).expect("the readings are in the tree");
    std::fs::write(tree.path().join(csv), data(readings)).expect("the readings are copied");

    let mut command = Command::new("bash");
    command
        .arg(tree.path().join("scripts/quickstart.sh"))
        .env("SMQTT_BIN_DIR", directory());
    let finished = run(&mut command);
    (tree, finished)
}

/// The processes whose command line names `tree`.
fn left_running(tree: &std::path::Path) -> Vec<String> {
    let found = run(Command::new("ps").args(["-eo", "args="]));
    let tree = tree.to_string_lossy().into_owned();
    found
        .text()
        .lines()
        .filter(|line| line.contains(&tree))
        .map(str::to_owned)
        .collect()
}

#[test]
fn quickstart_reads_7267_of_7267_twice_and_none_for_the_visitor() {
    let (tree, finished) = quickstart(|readings| readings);
    let finished = finished.success();
    let text = finished.text();
    let figure = |label: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(label));
        line.unwrap_or_else(|| panic!("no line {label:?} in\n{text}"))
            .trim_start()[label.len()..]
            .split_whitespace()
            .next()
            .map(str::to_owned)
    };
    assert_eq!(figure("published by the sensor").as_deref(), Some("7267"));
    assert_eq!(figure("read by the technician").as_deref(), Some("7267"));
    assert_eq!(figure("read by the auditor").as_deref(), Some("7267"));
    assert_eq!(figure("read by the visitor").as_deref(), Some("0"));
    assert_eq!(figure("refused to the visitor").as_deref(), Some("7267"));
    assert_eq!(
        figure("bytes of plaintext among them").as_deref(),
        Some("0")
    );
    assert_eq!(left_running(tree.path()), Vec::<String>::new());
}

#[test]
fn quickstart_fails_when_a_number_is_wrong() {
    // One reading fewer than it has to count: the run itself is fine, its number is not.
    let (tree, finished) = quickstart(|readings| {
        let shorter: Vec<&str> = readings.lines().take(7267).collect();
        shorter.join("\n") + "\n"
    });
    assert_eq!(
        finished.code(),
        1,
        "{}\n{}",
        finished.text(),
        finished.stderr
    );
    assert!(
        finished.text().contains("✗ the data holds 7,267 readings"),
        "{}",
        finished.text()
    );
    assert_eq!(left_running(tree.path()), Vec::<String>::new());
}

#[test]
fn quickstart_says_what_it_does_not_know() {
    let finished = run(Command::new("bash")
        .arg(repository().join("scripts/quickstart.sh"))
        .arg("--frobnicate"));
    assert_eq!(finished.code(), 2);
    assert!(
        finished.stderr.contains("unknown argument '--frobnicate'"),
        "{}",
        finished.stderr
    );
}
