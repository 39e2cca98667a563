//! What the commands print that talk to an authority and a broker, to the letter; `[..]` stands for what no two runs have in
//! common. (`crates/smqtt-cli/tests/golden.rs` has those that need no network.)
//!
//! `TRYCMD=overwrite cargo nextest run --workspace --test golden` writes what is printed now into the files; put the `[..]` back,
//! and read the difference before you keep it.

use std::fs;
use std::path::Path;

use smqtt_format::Envelope;
use smqtt_tests::fleet::{Authority, Fleet, broker, publish, publish_tagged, subscribe};
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
    for name in ["sensor", "anna", "visitor", "pump", "screen", "meter"] {
        text.push_str(&format!(
            "[profiles.{name}]\nidentity = \"../../{name}\"\n\n"
        ));
    }
    let configuration = home.join("smqtt");
    fs::create_dir_all(&configuration).expect("a directory");
    fs::write(configuration.join("config.toml"), text).expect("written");
}

/// Payloads as the broker relays them, in files of `root`: one under a policy and one with tags, each with its key frame in front,
/// and the parts of the first.
fn capture(root: &Path) {
    let [sensor, anna] = ["sensor", "anna"].map(|name| root.join(name));
    let captured = |file: &str, topic: &str, mut publish: std::process::Command| {
        let raw = subscribe(&anna, topic, &["--raw", "-C", "1"]);
        let _ = run(&mut publish).success();
        let payload = raw.wait().success().stdout;
        fs::write(root.join(file), &payload).expect("written");
        payload
    };
    let message = ["-m", "21.5 degrees"];
    let policy = "role = technician or type = pump";
    let sealed = publish(&sensor, "plant/3", policy, &message);
    let sealed = captured("policy.bin", "plant/3", sealed);
    let tagged = publish_tagged(&sensor, "plant/4", "role = visitor, type = pump", &message);
    let _ = captured("tags.bin", "plant/4", tagged);
    let Ok(Envelope::Inline { frame, sealed }) = Envelope::parse(&sealed) else {
        panic!("not inline");
    };
    fs::write(root.join("frame.bin"), frame.as_bytes()).expect("written");
    fs::write(root.join("sealed.bin"), sealed.as_bytes()).expect("written");
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
    for (name, key_policy) in [
        ("screen", "type = pump and topic matches plant/#"),
        (
            "meter",
            "type = pump and (role = auditor or role = technician)",
        ),
    ] {
        let _ = fleet.enrol_with_key_policy(name, "role = visitor", key_policy);
    }
    let home = root.join("home");
    profiles(&home);
    capture(&root);
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
