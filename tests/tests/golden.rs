//! What the commands print that talk to an authority and a broker, to the letter; `[..]` stands for what no two runs have in
//! common. (`crates/smqtt-cli/tests/golden.rs` has those that need no network.)
//!
//! `TRYCMD=overwrite cargo nextest run --workspace --test golden` writes what is printed now into the files; put the `[..]` back,
//! and read the difference before you keep it.

use std::fs;
use std::path::Path;

use smqtt_tests::fleet::{Authority, Fleet, broker};
use smqtt_tests::programs::{Running, directory, program, repository, run};

const SCHEMA: &str = "\
[attributes.role]
type = \"text\"
values = [\"technician\", \"auditor\", \"visitor\"]

[attributes.type]
type = \"text\"
values = [\"thermometer\", \"pump\"]
";

/// Profiles instead of paths, which are others in every run.
fn profiles(home: &Path) {
    let mut text = String::new();
    for name in ["sensor", "anna", "visitor", "pump"] {
        text.push_str(&format!(
            "[profiles.{name}]\nidentity = \"../../{name}\"\n\n"
        ));
    }
    let configuration = home.join("smqtt");
    fs::create_dir_all(&configuration).expect("a directory");
    fs::write(configuration.join("config.toml"), text).expect("written");
}

#[test]
fn networked_commands_print_what_is_recorded() {
    let authority = Authority::init();
    let root = authority.root().to_path_buf();
    let schema = root.join("schema.toml");
    fs::write(&schema, SCHEMA).expect("written");
    let file = schema.to_str().expect("a path of the test's own");
    let _ = run(&mut authority.command(&["schema", "edit", "--file", file])).success();
    let broker = broker(&authority);
    let fleet = Fleet::with_broker(authority, broker);
    for (name, attributes) in [
        ("sensor", "type = thermometer"),
        ("anna", "role = technician"),
        ("visitor", "role = visitor"),
        ("pump", "type = pump"),
    ] {
        let _ = fleet.enrol(name, attributes);
    }
    let home = root.join("home");
    profiles(&home);
    for (name, policy) in [
        ("gateway.toml", "role = technician"),
        ("gateway-misfit.toml", "rol = technician"),
    ] {
        let rules = format!("[[publish]]\ntopic = \"house/#\"\npolicy = \"{policy}\"\n");
        fs::write(root.join(name), rules).expect("written");
    }

    let mut answering = program("smqtt");
    answering
        .args(["rr", "-t", "plant/ask", "-p", "role = technician"])
        .arg("-i")
        .arg(root.join("pump"))
        .args(["--serve", "--", "cat"]);
    let answering = Running::start(&mut answering);
    answering.wait_for_stderr("answering at plant/ask");

    // The commands' own directory, in which they name files.
    std::env::set_current_dir(&root).expect("it is there");
    let token = fleet.authority.register("ben", "role = auditor");
    trycmd::TestCases::new()
        .register_bin("smqtt", directory().join("smqtt").as_path())
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .env("XDG_CONFIG_HOME", home.display().to_string())
        .env("SMQTT_AUTHORITY", fleet.service.url())
        .env("SMQTT_CA_FINGERPRINT", fleet.authority.fingerprint())
        .env("SMQTT_TOKEN", token)
        .case(repository().join("tests/golden/*.trycmd"))
        .run();
}
