//! The commands: what they print, what they leave on disk, and how they fail.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::fs;

use serde_json::Value;
use site::{Site, mode, program};
use smqtt_pki::{TrustAnchor, files};

/// Fails with this code, and with one line on stderr that holds these words.
#[track_caller]
fn fails(site: &Site, args: &[&str], code: i32, words: &[&str]) {
    let output = site.run(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?} printed something");
    assert!(
        text.starts_with("error: ") && text.trim_end().lines().count() == 1,
        "{text}"
    );
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn an_authority_is_its_owners_alone() {
    let site = Site::new();
    assert_eq!(mode(&site.path()), 0o700);
    let register = ["register.sqlite", "database.url"][usize::from(Site::ON_POSTGRES)];
    for secret in ["ca.key", "abe-master.key", register] {
        assert_eq!(mode(&site.path().join(secret)), 0o600, "{secret}");
    }
    if Site::ON_POSTGRES {
        assert!(!site.path().join("register.sqlite").exists());
        return;
    }
    let service = site.serve();
    for companion in ["register.sqlite-wal", "register.sqlite-shm"] {
        assert_eq!(mode(&site.path().join(companion)), 0o600, "{companion}");
    }
    drop(service);
}

#[test]
fn init_prints_the_fingerprint_and_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("my plant");
    let output = program()
        .arg("init")
        .arg("--dir")
        .arg(&at)
        .args(["--name", "Plant"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let root = TrustAnchor::from_pem(&fs::read(at.join("ca.crt")).unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}\n", root.fingerprint())
    );
    let next = String::from_utf8(output.stderr).unwrap();
    for word in [
        "smqtt-authority serve",
        "smqtt-authority device add",
        "smqtt-authority broker issue",
        "my plant'",
    ] {
        assert!(next.contains(word), "{word:?} is not in {next}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn init_never_replaces_anything() {
    let site = Site::new();
    let before = fs::read(site.path().join("ca.key")).unwrap();
    fails(
        &site,
        &["init"],
        4,
        &["holds an authority already", "--dir"],
    );
    assert_eq!(fs::read(site.path().join("ca.key")).unwrap(), before);

    let other = Site::nowhere();
    fs::create_dir(other.path()).unwrap();
    fs::write(other.path().join("precious"), "x").unwrap();
    fails(&other, &["init"], 4, &["exists already"]);
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(other.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_without_an_authority_is_refused_with_the_next_step() {
    let site = Site::nowhere();
    let commands: [&[&str]; 5] = [
        &["fingerprint"],
        &["device", "list"],
        &["serve"],
        &["audit", "verify"],
        &["device", "token", "x"],
    ];
    for args in commands {
        fails(
            &site,
            args,
            4,
            &["holds no authority", "smqtt-authority init --dir"],
        );
    }
}

#[test]
fn a_secret_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    for secret in ["ca.key", "abe-master.key"] {
        let site = Site::new();
        fs::set_permissions(site.path().join(secret), fs::Permissions::from_mode(0o644)).unwrap();
        fails(
            &site,
            &["serve", "--listen", "127.0.0.1:0"],
            4,
            &[secret, "chmod 600"],
        );
    }
}

#[test]
fn a_damaged_or_foreign_file_is_named() {
    let others = Site::new();
    for file in [
        "ca.key",
        "abe-master.key",
        "parameters.cbor",
        "ca.crt",
        "authority.toml",
    ] {
        let site = Site::new();
        fs::copy(others.path().join(file), site.path().join(file)).unwrap();
        let named = if file == "authority.toml" {
            "ca.crt"
        } else {
            file
        };
        let named = if file == "abe-master.key" {
            "parameters.cbor"
        } else {
            named
        };
        fails(&site, &["serve", "--listen", "127.0.0.1:0"], 4, &[named]);

        let site = Site::new();
        fs::write(site.path().join(file), "garbage").unwrap();
        fails(&site, &["serve", "--listen", "127.0.0.1:0"], 4, &[file]);
    }
    if Site::ON_POSTGRES {
        return;
    }
    // The service has the database check itself.
    let site = Site::new();
    site.execute(
        "PRAGMA foreign_keys = OFF; INSERT INTO attribute_key (device, epoch, attributes, serial, issued)
         VALUES ('gone', 1, '', 'gone', 0)",
    )
    .unwrap();
    fails(
        &site,
        &["serve", "--listen", "127.0.0.1:0"],
        4,
        &["register.sqlite", "attribute_key"],
    );
    let site = Site::new();
    fs::remove_file(site.path().join("register.sqlite")).unwrap();
    fails(&site, &["device", "list"], 4, &["register.sqlite"]);
    fs::write(
        site.path().join("register.sqlite"),
        "garbage that is no database at all",
    )
    .unwrap();
    fails(&site, &["device", "list"], 4, &["register"]);
}

#[test]
fn an_address_in_use_is_told() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(
        &site,
        &["serve", "--listen", &address],
        5,
        &[&address, "--listen"],
    );
}

#[test]
fn the_token_alone_is_on_stdout_and_the_next_command_on_stderr() {
    let site = Site::new();
    let output = site.run(&[
        "device",
        "add",
        "sensor-17",
        "--attributes",
        "role = sensor, site=berlin",
    ]);
    assert!(output.status.success());
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.trim_end().len(), 32);
    let next = String::from_utf8(output.stderr).unwrap();
    let command = format!(
        "smqtt enroll --authority https://HOST:PORT --ca-fingerprint {} --token {} --out sensor-17",
        site.fingerprint(),
        token.trim_end()
    );
    assert!(next.contains(&command), "{next}");
    // Nothing on disk holds the token: neither as text nor as bytes.
    let bytes = data_encoding::BASE32_NOPAD_NOCASE
        .decode(token.trim_end().as_bytes())
        .unwrap();
    for entry in fs::read_dir(site.path()).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        assert!(
            !content.windows(bytes.len()).any(|w| w == bytes),
            "the token is on the disk"
        );
        assert!(
            !content
                .windows(32)
                .any(|w| w == token.trim_end().as_bytes()),
            "the token is on the disk"
        );
    }
}

#[test]
fn json_holds_what_a_script_needs() {
    let site = Site::new();
    let service = site.serve();
    let text = site.ok(&[
        "device",
        "add",
        "sensor-17",
        "--attributes",
        "role = sensor",
        "--json",
    ]);
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["device"], "sensor-17");
    assert_eq!(object["attributes"], "role = sensor");
    assert_eq!(object["token"].as_str().unwrap().len(), 32);
    assert_eq!(object["authority"], format!("https://{}", service.address));
    assert_eq!(object["ca_fingerprint"], site.fingerprint().to_string());
    assert!(
        object["command"]
            .as_str()
            .unwrap()
            .starts_with("smqtt enroll --authority https://127.0.0.1:")
    );
    assert!(object["expires"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn devices_are_listed_in_columns_by_name() {
    let site = Site::new();
    let none = site.run(&["device", "list"]);
    assert!(none.status.success() && none.stdout.is_empty());
    assert_eq!(site.ok(&["device", "list", "--json"]), "[]\n");
    let _ = site.add("zeta", "role = auditor");
    let _ = site.add("alpha", "site=berlin,role=technician");
    let text = site.ok(&["device", "list"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with("NAME   STATE       ATTRIBUTES"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("alpha  registered  role = technician, site = berlin  -"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("zeta   registered  role = auditor"),
        "{text}"
    );
    let column = |line: &str, word: &str| line.find(word).unwrap();
    assert_eq!(column(lines[0], "ATTRIBUTES"), column(lines[2], "role"));
}

#[test]
fn input_that_is_not_valid_is_told_where_and_changes_nothing() {
    let site = Site::new();
    let _ = site.add("sensor-17", "role = sensor");
    fails(
        &site,
        &["device", "add", "sensor-17", "--attributes", "role = x"],
        3,
        &["registered already"],
    );
    fails(
        &site,
        &[
            "device",
            "add",
            "x",
            "--attributes",
            "",
            "--token-expires",
            "1h",
        ],
        3,
        &["attribute"],
    );
    fails(
        &site,
        &["device", "show", "nobody"],
        3,
        &["nobody", "device list"],
    );
    fails(
        &site,
        &["device", "token", "nobody"],
        3,
        &["nobody", "device list"],
    );
    fails(
        &site,
        &[
            "device",
            "add",
            "x",
            "--attributes",
            "a = b",
            "--token-expires",
            "366d",
        ],
        3,
        &["365d"],
    );

    let output = site.run(&["device", "add", "x", "--attributes", "role = = sensor"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let source = lines
        .iter()
        .position(|line| line.contains("role = = sensor"))
        .unwrap();
    let second = lines[source].find("= sensor").unwrap();
    assert_eq!(lines[source + 1].find('^'), Some(second), "{text}");

    for usage in [
        &["device", "add", "a b", "--attributes", "x = y"][..],
        &["device", "add", "x"],
        &["serve", "--broker", "http://x"],
        &["nonsense"],
    ] {
        assert_eq!(site.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert_eq!(site.ok(&["device", "list"]).lines().count(), 2);
}

#[test]
fn a_broker_gets_files_that_belong_together() {
    let site = Site::new();
    let out = site.dir.path().join("new/broker");
    let out_text = out.to_str().unwrap();
    let issue = [
        "broker",
        "issue",
        "--host",
        "127.0.0.1",
        "--host",
        "localhost",
        "--out",
        out_text,
    ];
    site.ok(&issue);
    assert_eq!(mode(&out.join("server.key")), 0o600);
    let chain = files::read_certificates(&out.join("server.crt")).unwrap();
    let root = TrustAnchor::from_pem(&fs::read(out.join("ca.crt")).unwrap()).unwrap();
    assert_eq!(root.fingerprint(), site.fingerprint());
    assert_eq!(chain.last(), Some(root.root()));
    let key = files::read_private_key(&out.join("server.key")).unwrap();
    // rustls takes key and certificate for a pair only if they are one.
    smqtt_pki::tls::server_config(
        chain,
        key,
        smqtt_pki::tls::ClientAuth::Required((&root).into()),
        &[],
    )
    .unwrap();

    fails(&site, &issue, 4, &["exists already"]);
    assert_eq!(
        site.run(&["broker", "issue", "--out", out_text])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn every_act_is_in_the_audit_log_and_a_changed_row_is_found() {
    let site = Site::new();
    let _ = site.add("sensor-17", "role = sensor");
    site.ok(&["device", "token", "sensor-17"]);
    let _ = site.run(&["device", "add", "sensor-17", "--attributes", "role = x"]);
    let rows: Vec<Value> = site
        .ok(&["audit", "list", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["sequence"].as_u64().unwrap(),
                row["action"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "init", "ok"),
            (2, "device-add", "ok"),
            (3, "device-token", "ok"),
            (4, "device-add", "device-exists")
        ]
    );
    assert!(
        rows.iter()
            .all(|row| row["actor"].as_str().unwrap().starts_with("uid:"))
    );
    assert!(site.ok(&["audit", "verify"]).starts_with("4 entries"));

    site.execute("UPDATE audit SET actor = 'uid:7' WHERE sequence = 2")
        .unwrap_err();
    site.execute("DELETE FROM audit WHERE sequence = 2")
        .unwrap_err();
    // Who has the file can drop the guards; the chain still tells.
    site.drop_guards();
    site.execute("UPDATE audit SET actor = 'uid:7' WHERE sequence = 2")
        .unwrap();
    fails(
        &site,
        &["audit", "verify"],
        4,
        &["broken at entry 2", "changed"],
    );
    site.execute("DELETE FROM audit WHERE sequence = 2")
        .unwrap();
    fails(
        &site,
        &["audit", "verify"],
        4,
        &["broken at entry 2", "missing"],
    );
}

#[test]
fn a_register_of_a_newer_program_is_refused() {
    let site = Site::new();
    site.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'future', TRUE, '', 0)",
    )
    .unwrap();
    fails(&site, &["device", "list"], 4, &["update the program"]);
}

#[test]
fn help_tells_how_and_knows_every_command() {
    let site = Site::nowhere();
    let help = site.ok(&["--help"]);
    for word in [
        "init",
        "serve",
        "fingerprint",
        "device",
        "broker",
        "audit",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
}
