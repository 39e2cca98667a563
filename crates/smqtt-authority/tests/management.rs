//! Many devices: import, profiles, filters, the schema, who can read what.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use serde_json::Value;
use site::{Site, csr, mode};
use smqtt_pki::enrolment::ProblemCode;

fn json(site: &Site, args: &[&str]) -> Value {
    serde_json::from_str(&site.ok(args)).unwrap()
}

fn names(site: &Site, args: &[&str]) -> Vec<String> {
    let mut all = vec!["device", "list", "--json"];
    all.extend(args);
    json(site, &all)
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A command that must fail with this code; what it says on stderr.
fn fails(site: &Site, code: i32, args: &[&str]) -> String {
    let output = site.run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    stderr
}

fn file(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_import_is_all_or_nothing_and_reports_every_bad_line() {
    let site = Site::new();
    site.add("taken", "role = sensor");
    let bad = file(
        &site,
        "bad.csv",
        "name,attributes\n\
         good-1,\"role = sensor, site = berlin\"\n\
         -bad name,role = sensor\n\
         taken,role = sensor\n\
         odd,role = = x\n\
         few\n\
         good-2,role = sensor\n\
         good-1,role = sensor\n",
    );
    let stderr = fails(&site, 3, &["device", "import", &bad]);
    for line in ["line 3:", "line 4:", "line 5:", "line 6:", "line 8:"] {
        assert!(stderr.contains(line), "{line} in {stderr}");
    }
    assert!(stderr.contains("nothing is registered"), "{stderr}");
    assert_eq!(names(&site, &[]), ["taken"]);

    // With --partly the good ones are taken.
    let tokens = site.dir.path().join("tokens.csv");
    fails(
        &site,
        3,
        &[
            "device",
            "import",
            &bad,
            "--partly",
            "--tokens-out",
            tokens.to_str().unwrap(),
        ],
    );
    assert_eq!(names(&site, &[]), ["good-1", "good-2", "taken"]);
    assert_eq!(mode(&tokens), 0o600);
    let tokens = std::fs::read_to_string(tokens).unwrap();
    assert_eq!(tokens.lines().count(), 3, "{tokens}");
    // And such a token works.
    let token = tokens.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    let service = site.serve();
    let granted = service.enrol(token, &csr("good-1", 1)).granted();
    assert_eq!(granted.attributes, "role = sensor, site = berlin");
}

#[test]
fn a_dry_run_changes_nothing_and_a_thousand_devices_are_one_act() {
    let site = Site::new();
    let mut text = String::from("name,attributes,profile\n");
    for number in 0..1000 {
        text.push_str(&format!("sensor-{number:04},line = {number},sensor\n"));
    }
    let list = file(&site, "fleet.csv", &text);
    let refused = fails(&site, 3, &["device", "import", &list, "--dry-run"]);
    assert!(refused.contains("no profile sensor"), "{refused}");
    site.ok(&["profile", "set", "sensor", "--attributes", "role = sensor"]);
    site.ok(&["device", "import", &list, "--dry-run"]);
    assert_eq!(names(&site, &[]), [""; 0]);
    let report = json(&site, &["device", "import", &list, "--json"]);
    assert_eq!(report["registered"], 1000);
    assert_eq!(report["errors"].as_array().unwrap().len(), 0);
    let first = &report["devices"][0];
    assert_eq!(first["token"].as_str().unwrap().len(), 32);
    assert_eq!(
        site.device("sensor-0007")["attributes"],
        "line = 7, role = sensor"
    );
    site.ok(&["audit", "verify"]);
}

#[test]
fn a_profile_is_shared_and_its_change_reaches_its_devices() {
    let site = Site::new();
    site.ok(&["profile", "set", "nurse", "-a", "role = nurse, ward = a"]);
    site.ok(&["device", "add", "n1", "--profile", "nurse"]);
    site.ok(&[
        "device",
        "add",
        "n2",
        "--profile",
        "nurse",
        "-a",
        "ward = b",
    ]);
    assert_eq!(site.device("n1")["attributes"], "role = nurse, ward = a");
    // Its own replaces the profile's of the same name.
    assert_eq!(site.device("n2")["attributes"], "role = nurse, ward = b");
    site.ok(&[
        "profile",
        "set",
        "nurse",
        "-a",
        "role = nurse, ward = c, shift",
    ]);
    assert_eq!(
        site.device("n1")["attributes"],
        "role = nurse, shift, ward = c"
    );
    assert_eq!(
        site.device("n2")["attributes"],
        "role = nurse, shift, ward = b"
    );
    assert_eq!(names(&site, &["--profile", "nurse"]), ["n1", "n2"]);
    let refused = fails(&site, 3, &["profile", "remove", "nurse"]);
    assert!(refused.contains("2 devices"), "{refused}");
    site.ok(&["device", "set", "n1", "--no-profile", "-a", "role = clerk"]);
    site.ok(&["device", "remove", "n2"]);
    site.ok(&["profile", "remove", "nurse"]);
    fails(&site, 3, &["device", "add", "n3", "--profile", "nurse"]);
    assert_eq!(site.device("n1")["attributes"], "role = clerk");
}

#[test]
fn devices_are_found_by_what_they_are() {
    let site = Site::new();
    let service = site.serve();
    for (seed, name) in ["a-1", "a-2", "b-1"].into_iter().enumerate() {
        let token = site.add(name, &format!("role = sensor, line = {seed}"));
        if name != "b-1" {
            service.enrol(&token, &csr(name, seed as u64)).granted();
        }
    }
    site.ok(&["device", "suspend", "a-2"]);
    assert_eq!(names(&site, &["--prefix", "a-"]), ["a-1", "a-2"]);
    assert_eq!(names(&site, &["--state", "registered"]), ["b-1"]);
    assert_eq!(names(&site, &["--state", "suspended"]), ["a-2"]);
    assert_eq!(names(&site, &["--where", "line >= 1"]), ["a-2", "b-1"]);
    assert_eq!(names(&site, &["--expires-within", "30d"]), [""; 0]);
    assert_eq!(names(&site, &["--expires-within", "91d"]), ["a-1", "a-2"]);
    site.ok(&["epoch", "advance", "--overlap", "0s"]);
    assert_eq!(names(&site, &["--behind"]), ["a-1", "a-2"]);
    assert_eq!(site.ok(&["epoch", "status", "--behind"]), "a-1\n");
    fails(&site, 3, &["device", "list", "--where", "line >"]);
}

#[test]
fn a_removed_device_is_out_and_its_name_is_free() {
    let site = Site::new();
    let service = site.serve();
    let token = site.add("sensor-1", "role = sensor");
    service.enrol(&token, &csr("sensor-1", 1)).granted();
    site.ok(&["device", "remove", "sensor-1"]);
    fails(&site, 3, &["device", "show", "sensor-1"]);
    assert_eq!(names(&site, &[]), [""; 0]);
    service
        .enrol(&token, &csr("sensor-1", 1))
        .refused(ProblemCode::InvalidToken);
    let token = site.add("sensor-1", "role = operator");
    let granted = service.enrol(&token, &csr("sensor-1", 2)).granted();
    assert_eq!(granted.attributes, "role = operator");
    assert_eq!(site.device("sensor-1")["state"], "enrolled");
    // The authority's own name is nobody's.
    let refused = fails(&site, 3, &["device", "add", "smqtt-authority", "-a", "x"]);
    assert!(refused.contains("own name"), "{refused}");
}

#[test]
fn a_token_can_be_used_as_often_as_it_says() {
    let site = Site::new();
    let service = site.serve();
    let token = site.ok(&[
        "device",
        "add",
        "kiosk",
        "-a",
        "role = kiosk",
        "--uses",
        "2",
    ]);
    for seed in 1..=2 {
        service.enrol(token.trim(), &csr("kiosk", seed)).granted();
    }
    service
        .enrol(token.trim(), &csr("kiosk", 3))
        .refused(ProblemCode::TokenUsed);
}

#[test]
fn a_token_is_shown_as_a_qr_code() {
    let site = Site::new();
    let output = site.run(&["device", "add", "d", "-a", "x", "--qr"]);
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let rows: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains('█') || line.contains('▀') || line.contains('▄'))
        .collect();
    assert!(rows.len() > 15, "{stderr}");
    let width = rows[0].chars().count();
    assert!(rows.iter().all(|row| row.chars().count() == width));
}

const SCHEMA: &str = r#"
[attributes.role]
type = "text"
values = ["sensor", "operator"]

[attributes.line]
type = "integer"
min = 0
max = 9
"#;

#[test]
fn the_schema_holds_for_devices_profiles_and_policies_and_only_grows() {
    let site = Site::new();
    let path = file(&site, "schema.toml", SCHEMA);
    site.ok(&["device", "add", "s1", "-a", "role = sensor, line = 3"]);
    site.ok(&["schema", "check", &path]);
    assert_eq!(json(&site, &["schema", "show", "--json"]), Value::Null);
    site.ok(&["schema", "edit", "--file", &path]);
    assert_eq!(site.ok(&["schema", "show"]).trim(), SCHEMA.trim());
    let refused = fails(&site, 3, &["device", "add", "s2", "-a", "rôle = sensor"]);
    assert!(refused.contains("no attribute"), "{refused}");
    let refused = fails(&site, 3, &["device", "add", "s2", "-a", "role = sensr"]);
    assert!(
        refused.contains("sensor"),
        "it names the nearest: {refused}"
    );
    fails(&site, 3, &["device", "set", "s1", "-a", "line = 10"]);
    fails(&site, 3, &["profile", "set", "p", "-a", "role = pilot"]);
    fails(&site, 3, &["policy", "who", "rolle = sensor"]);
    let list = file(&site, "l.csv", "name,attributes\nx,role = pilot\n");
    fails(&site, 3, &["device", "import", &list]);
    // What is in use can not be taken away, and the message says whose it is.
    let smaller = file(
        &site,
        "smaller.toml",
        "[attributes.role]\ntype = \"text\"\nvalues = [\"operator\"]\n",
    );
    let refused = fails(&site, 3, &["schema", "edit", "--file", &smaller]);
    assert!(refused.contains("device s1"), "{refused}");
    // A value more is fine, and what was issued stays.
    let larger = file(
        &site,
        "larger.toml",
        &SCHEMA.replace("\"sensor\",", "\"sensor\", \"pilot\","),
    );
    let service = site.serve();
    let token = site.ok(&["device", "token", "s1"]);
    service.enrol(token.trim(), &csr("s1", 1)).granted();
    site.ok(&["schema", "edit", "--file", &larger]);
    site.ok(&["device", "add", "s2", "-a", "role = pilot"]);
    assert_eq!(site.device("s1")["state"], "enrolled");
    assert_eq!(json(&site, &["schema", "show", "--json"])["version"], 2);
    // In an editor.
    let mut command = site.command(&["schema", "edit"]);
    command.env("EDITOR", "sed -i s/9/99/").env_remove("VISUAL");
    assert!(command.status().unwrap().success());
    site.ok(&["device", "set", "s1", "-a", "role = sensor, line = 42"]);
}

#[test]
fn who_can_read_this_is_answered_from_the_register() {
    let site = Site::new();
    site.add("doc", "role = doctor, dept = icu");
    site.add("nurse", "role = nurse, dept = icu");
    site.add("clerk", "role = clerk");
    let who = |policy: &str| -> Vec<String> {
        json(&site, &["policy", "who", policy, "--json"])
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(who("dept = icu"), ["doc", "nurse"]);
    assert_eq!(who("role = clerk or role = doctor"), ["clerk", "doc"]);
    let output = site.run(&["policy", "who", "role = pilot"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning"));
    fails(&site, 3, &["policy", "who", "role = pilot", "--strict"]);

    let diff = json(
        &site,
        &[
            "policy",
            "diff",
            "dept = icu",
            "role = doctor or role = clerk",
            "--json",
        ],
    );
    assert_eq!(diff["gains"], serde_json::json!(["clerk"]));
    assert_eq!(diff["loses"], serde_json::json!(["nurse"]));
    assert_eq!(diff["both"], 1);
    let text = site.ok(&["policy", "diff", "dept = icu", "role = doctor"]);
    assert_eq!(text, "- nurse\n");
    fails(&site, 3, &["policy", "diff", "dept = icu", "x", "--strict"]);
}
