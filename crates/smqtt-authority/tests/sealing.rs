//! The secrets on disk: sealed, opened by what they were sealed with, converted, never half.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use site::{Site, csr, mode, program};

const PASSPHRASE: &str = "correct horse battery staple";

/// A private file with this text.
fn private(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn nowhere() -> Site {
    Site::nowhere()
}

#[track_caller]
fn refused(site: &Site, args: &[&str], code: i32, words: &[&str]) {
    let output = site.run(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_sealed_authority_serves_those_who_have_its_passphrase() {
    let site = nowhere();
    let file = private(&site, "passphrase", &format!("{PASSPHRASE}\n"));
    let file = file.to_str().unwrap();
    let output = site.run(&["init", "--passphrase-file", file]);
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("warning"));
    assert_eq!(
        names(&site.path()),
        [
            "authority.toml",
            "ca.crl",
            "ca.crt",
            "issuing.crt",
            "parameters.cbor",
            "register.sqlite",
            "secrets.sealed"
        ]
    );
    assert_eq!(mode(&site.path().join("secrets.sealed")), 0o600);

    let crl = site.dir.path().join("ca.crl");
    let crl = ["crl", "--out", crl.to_str().unwrap()];
    refused(&site, &crl, 3, &["sealed", "--passphrase-file"]);
    let wrong = private(&site, "wrong", "correct horse battery stable");
    refused(
        &site,
        &[&crl[..], &["--passphrase-file", wrong.to_str().unwrap()]].concat(),
        3,
        &["does not open"],
    );
    let open = private(&site, "open", PASSPHRASE);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        &site,
        &[&crl[..], &["--passphrase-file", open.to_str().unwrap()]].concat(),
        4,
        &["chmod 600"],
    );

    let token = site.add("sensor-17", "role = sensor");
    let service = site.serve_with(&["--passphrase-file", file]);
    service.enrol(&token, &csr("sensor-17", 1)).granted();
    assert!(!service.log().contains("unsealed"));
}

#[test]
fn the_key_may_come_from_the_environment_or_from_systemd() {
    let site = nowhere();
    let key = site.dir.path().join("key");
    site.ok(&["init", "--key-file", key.to_str().unwrap()]);
    assert_eq!((mode(&key), fs::read(&key).unwrap().len()), (0o600, 32));
    let checkpoint = || site.command(&["audit", "checkpoint"]);
    assert_eq!(checkpoint().output().unwrap().status.code(), Some(3));
    assert!(
        checkpoint()
            .env("SMQTT_KEY_FILE", &key)
            .output()
            .unwrap()
            .status
            .success()
    );
    let credentials = site.dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(&key, credentials.join("smqtt-authority.key")).unwrap();
    assert!(
        checkpoint()
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .output()
            .unwrap()
            .status
            .success()
    );
    // A passphrase is not what it is sealed with.
    let passphrase = private(&site, "passphrase", PASSPHRASE);
    refused(
        &site,
        &[
            "audit",
            "checkpoint",
            "--passphrase-file",
            passphrase.to_str().unwrap(),
        ],
        3,
        &["--key-file"],
    );
}

#[test]
fn seal_converts_and_changes_the_passphrase() {
    let site = Site::new();
    let token = site.add("sensor-17", "role = sensor");
    assert!(site.serve().log().contains("unsealed"));
    let first = private(&site, "first", PASSPHRASE);
    let first = first.to_str().unwrap();
    refused(&site, &["seal"], 2, &["--new-passphrase-file"]);
    let short = private(&site, "short", "too short");
    refused(
        &site,
        &["seal", "--new-passphrase-file", short.to_str().unwrap()],
        3,
        &["12 characters"],
    );
    site.ok(&["seal", "--new-passphrase-file", first]);
    let left = names(&site.path());
    assert!(left.contains(&"secrets.sealed".to_owned()));
    for gone in ["ca.key", "abe-master.key", "backup.key"] {
        assert!(!left.contains(&gone.to_owned()), "{gone} is still there");
    }
    site.ok(&["audit", "checkpoint", "--passphrase-file", first]);

    let key = site.dir.path().join("key");
    let key = key.to_str().unwrap();
    refused(&site, &["seal", "--new-key-file", key], 3, &["sealed"]);
    site.ok(&["seal", "--passphrase-file", first, "--new-key-file", key]);
    refused(
        &site,
        &["audit", "checkpoint", "--passphrase-file", first],
        3,
        &["--key-file"],
    );
    let service = site.serve_with(&["--key-file", key]);
    service.enrol(&token, &csr("sensor-17", 1)).granted();
    let log = site.ok(&["audit", "list"]);
    assert_eq!(log.matches("  seal ").count(), 2, "{log}");
}

#[test]
fn a_secret_that_is_not_the_sealed_one_is_not_thrown_away() {
    let site = Site::new();
    let foreign = fs::read(Site::new().path().join("ca.key")).unwrap();
    let key = site.dir.path().join("key");
    let key = key.to_str().unwrap();
    site.ok(&["seal", "--new-key-file", key]);
    let placed = private(&site, "authority/ca.key", "");
    fs::write(&placed, foreign).unwrap();
    refused(
        &site,
        &["audit", "checkpoint", "--key-file", key],
        4,
        &["ca.key", "another"],
    );
    assert!(placed.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_service_holds_is_in_no_core_dump() {
    let site = Site::new();
    let service = site.serve();
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
}

#[cfg(target_os = "linux")]
#[test]
fn where_the_limit_is_lifted_the_service_locks_its_memory_and_elsewhere_it_still_serves() {
    let site = Site::new();
    let key = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let unlimited = key(&limits, "Max locked memory").contains("memory unlimited");
    let service = site.serve();
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let locked = key(&status, "VmLck:") != "VmLck: 0 kB";
    assert_eq!(locked, unlimited, "{limits}\n{status}");
}

/// Runs a command and ends it with SIGKILL after a while.
fn kill_after(mut command: Command, micros: u64) {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The moment is the test's subject: it moves through the whole run of the command, round by round.
    std::thread::sleep(std::time::Duration::from_micros(micros));
    let _ = child.kill();
    let _ = child.wait();
}

fn time_of(mut command: Command) -> u64 {
    let started = std::time::Instant::now();
    assert!(command.output().unwrap().status.success());
    u64::try_from(started.elapsed().as_micros()).unwrap()
}

const ROUNDS: u64 = 24;

#[test]
fn a_seal_that_is_killed_has_happened_or_not() {
    let model = Site::new();
    let key = model.dir.path().join("key");
    let key = key.to_str().unwrap().to_owned();
    let whole = time_of(model.command(&["seal", "--new-key-file", &key]));
    let (mut before, mut after) = (0, 0);
    for round in 0..ROUNDS {
        let site = Site::new();
        let seal = site.command(&["seal", "--new-key-file", &key]);
        kill_after(seal, whole * round * 5 / 4 / ROUNDS);
        let sealed = site.path().join("secrets.sealed").exists();
        *(if sealed { &mut after } else { &mut before }) += 1;
        let mut args = vec!["audit", "checkpoint"];
        if sealed {
            args.extend(["--key-file", &key]);
        }
        site.ok(&args);
        site.ok(&["audit", "verify"]);
        // Sealed and opened once, nothing unsealed is left.
        assert_eq!(sealed, !site.path().join("ca.key").exists());
        assert_eq!(sealed, !site.path().join("abe-master.key").exists());
        if !sealed {
            site.ok(&["seal", "--new-key-file", &key]);
        }
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}

#[test]
fn an_init_that_is_killed_has_happened_or_not() {
    let model = nowhere();
    let key = model.dir.path().join("key");
    let key = key.to_str().unwrap().to_owned();
    let whole = time_of(model.command(&["init", "--key-file", &key]));
    for round in 0..ROUNDS {
        let site = nowhere();
        let init = site.command(&["init", "--key-file", &key]);
        kill_after(init, whole * round * 5 / 4 / ROUNDS);
        if site.path().exists() {
            site.ok(&["audit", "checkpoint", "--key-file", &key]);
        } else {
            site.ok(&["init", "--key-file", &key]);
        }
        assert!(site.ok(&["audit", "verify"]).starts_with("1 entries"));
    }
}

/// Runs a command at a terminal of its own, with these lines typed, and returns what was shown.
fn at_terminal(command: &Command, typed: &str) -> (bool, String) {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut child = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &words.join(" "),
            "/dev/null",
        ])
        .env_remove("SMQTT_PASSPHRASE_FILE")
        .env_remove("SMQTT_KEY_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(typed.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), shown)
}

#[test]
fn init_asks_at_a_terminal() {
    let site = nowhere();
    let typed = format!("Plant\nca.example.org 192.0.2.1\n{PASSPHRASE}\n{PASSPHRASE}\n");
    let (done, shown) = at_terminal(&site.command(&["init"]), &typed);
    assert!(done, "{shown}");
    let profile = fs::read_to_string(site.path().join("authority.toml")).unwrap();
    assert!(
        profile.contains("\"Plant\"") && profile.contains("ca.example.org"),
        "{profile}"
    );
    let file = private(&site, "passphrase", PASSPHRASE);
    site.ok(&[
        "audit",
        "checkpoint",
        "--passphrase-file",
        file.to_str().unwrap(),
    ]);
    // Who says how to seal is asked nothing.
    let other = nowhere();
    let (done, shown) = at_terminal(&other.command(&["init", "--unsealed"]), "");
    assert!(done && shown.contains("warning"), "{shown}");
    let help = program().args(["init", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("--unsealed"));
}
