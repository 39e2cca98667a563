//! The law check catches what it is there to catch.

use std::fs;
use std::path::Path;
use std::process::Command;

use smqtt_tests::programs::{Finished, repository, run};

/// A copy of what the check looks at: manifests, lock file, sources, the list of dependencies.
fn copy_of_the_workspace() -> tempfile::TempDir {
    let copy = tempfile::Builder::new()
        .prefix("smqtt-laws-")
        .tempdir()
        .expect("a temporary directory");
    for file in ["Cargo.toml", "Cargo.lock", "docs/dependencies.md"] {
        copy_file(&repository().join(file), &copy.path().join(file));
    }
    for tree in ["crates", "tests"] {
        copy_tree(&repository().join(tree), &copy.path().join(tree));
    }
    copy
}

fn copy_file(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a file stands in a directory")).expect("a directory");
    fs::copy(from, to).unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory of the workspace") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir()
            && name != "target"
            && name != "data"
            && name != "vectors"
            && name != "fuzz"
        {
            copy_tree(&entry.path(), &to.join(&name));
        } else if kind.is_file()
            && entry
                .path()
                .extension()
                .is_some_and(|ext| ext == "rs" || ext == "toml")
        {
            copy_file(&entry.path(), &to.join(&name));
        }
    }
}

fn check(workspace: &Path) -> Finished {
    run(Command::new("bash")
        .arg(repository().join("scripts/check-laws.sh"))
        .arg(workspace))
}

fn edit(file: &Path, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(file).expect("a file of the copy");
    fs::write(file, change(&text)).expect("a file of the copy");
}

/// Adds `line` to the manifest's `[dependencies]`.
fn depend(workspace: &Path, krate: &str, line: &str) {
    edit(
        &workspace.join(format!("crates/{krate}/Cargo.toml")),
        |text| {
            assert!(
                text.contains("[dependencies]\n"),
                "{krate} has dependencies"
            );
            text.replacen("[dependencies]\n", &format!("[dependencies]\n{line}\n"), 1)
        },
    );
}

#[test]
fn this_workspace_keeps_all_laws() {
    let finished = check(&repository());
    assert_eq!(finished.code(), 0, "{}{}", finished.text(), finished.stderr);
}

#[test]
fn a_broker_that_links_abe_is_caught() {
    let copy = copy_of_the_workspace();
    assert_eq!(check(copy.path()).code(), 0, "the copy itself is lawful");
    depend(copy.path(), "smqtt-broker", "smqtt-abe.workspace = true");
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished.text().contains("smqtt-broker links smqtt-abe"),
        "{}",
        finished.text()
    );
}

#[test]
fn a_broker_whose_tests_link_the_cipher_is_caught() {
    let copy = copy_of_the_workspace();
    edit(
        &copy.path().join("crates/smqtt-broker/Cargo.toml"),
        |text| format!("{text}\n[dev-dependencies.smqtt-envelope]\nworkspace = true\n"),
    );
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished
            .text()
            .contains("smqtt-broker links smqtt-envelope"),
        "{}",
        finished.text()
    );
}

#[test]
fn an_arrow_that_points_sideways_is_caught() {
    let copy = copy_of_the_workspace();
    depend(copy.path(), "smqtt-format", "smqtt-policy.workspace = true");
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished
            .text()
            .contains("smqtt-format (floor 0) depends on smqtt-policy (floor 0)"),
        "{}",
        finished.text()
    );
}

#[test]
fn a_runtime_under_floor_three_is_caught() {
    let copy = copy_of_the_workspace();
    depend(copy.path(), "smqtt-envelope", "tokio.workspace = true");
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished
            .text()
            .contains("smqtt-envelope (floor 2) links tokio"),
        "{}",
        finished.text()
    );
}

#[test]
fn a_clock_under_floor_three_is_caught() {
    let copy = copy_of_the_workspace();
    edit(&copy.path().join("crates/smqtt-proto/src/lib.rs"), |text| {
        format!("{text}\nfn now() -> std::time::Instant {{\n    std::time::Instant::now()\n}}\n")
    });
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished.text().contains("handed their clock"),
        "{}",
        finished.text()
    );
}

#[test]
fn a_dependency_that_nobody_explained_is_caught() {
    let copy = copy_of_the_workspace();
    edit(&copy.path().join("docs/dependencies.md"), |text| {
        text.replace("| `blst` |", "| blst |")
    });
    let finished = check(copy.path());
    assert_eq!(finished.code(), 1, "{}{}", finished.text(), finished.stderr);
    assert!(
        finished.text().contains("does not say what `blst` is for"),
        "{}",
        finished.text()
    );
}
