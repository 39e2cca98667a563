//! The documentation's table of rules names tests that exist.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The Rust sources below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_rule_names_tests_that_exist() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&here.join("src"), &mut files);
    sources(&here.join("tests"), &mut files);
    let all: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();

    let rows: Vec<&str> = include_str!("../../../docs/abe.md")
        .lines()
        .skip_while(|line| *line != "## Rules and their tests")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter(|row| !row.starts_with("rule "))
        .collect();
    assert!(rows.len() > 15, "{} rows", rows.len());
    for row in rows {
        let (rule, tests) = row.split_once(" | ").unwrap();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test for: {rule}");
        for name in named {
            // tests/vectors/abe/{cp,kp}-v1.json stands for two files.
            for name in ["cp", "kp"].map(|scheme| name.replace("{cp,kp}", scheme)) {
                if name.contains('/') {
                    let exists = [here, &here.join("../..")].map(|root| root.join(&name).exists());
                    assert!(exists.contains(&true), "{rule}: there is no {name}");
                } else {
                    let function = match name.strip_suffix('…') {
                        Some(beginning) => format!("fn {beginning}"),
                        None => format!("fn {name}("),
                    };
                    assert!(all.contains(&function), "{rule}: there is no test {name}");
                }
            }
        }
    }
}
