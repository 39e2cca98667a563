//! Backups: what is restored is what was there, for those who hold enough shares and for nobody else.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use site::{Site, csr, program};

fn share(site: &Site, index: u8) -> PathBuf {
    site.dir
        .path()
        .join(format!("shares/share-{index}-of-5.txt"))
}

fn restore(backup: &Path, shares: &[PathBuf], dir: &Path) -> Command {
    let mut command = program();
    command.arg("restore").arg(backup).arg("--dir").arg(dir);
    for share in shares {
        command.arg("--share").arg(share);
    }
    command
}

/// Fails with this code and these words, and leaves nothing behind.
#[track_caller]
fn refused(mut command: Command, code: i32, words: &[&str], dir: &Path) {
    let before = fs::read_dir(dir.parent().unwrap()).unwrap().count();
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    assert!(!dir.exists());
    assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), before);
}

/// An authority with a device enrolled, shares and a backup that was made while it served.
fn backed_up() -> (Site, PathBuf) {
    let site = Site::new();
    let backup = site.dir.path().join("authority.backup");
    let out = backup.to_str().unwrap().to_owned();
    let token = site.add("sensor-17", "role = sensor");
    let service = site.serve();
    service.enrol(&token, &csr("sensor-17", 1)).granted();
    let early = site.run(&["backup", "--out", &out]);
    assert_eq!(early.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&early.stderr).contains("shares make"));
    let shares = site.dir.path().join("shares");
    site.ok(&[
        "shares",
        "make",
        "3-of-5",
        "--out",
        shares.to_str().unwrap(),
    ]);
    site.ok(&["backup", "--out", &out]);
    assert_eq!(site::mode(&backup), 0o600);
    let again = site.run(&["backup", "--out", &out]);
    assert_eq!(again.status.code(), Some(4), "a backup is never replaced");
    (site, backup)
}

#[test]
fn any_three_of_five_restore_the_authority_and_two_do_not() {
    let (site, backup) = backed_up();
    let home = tempfile::tempdir().unwrap();
    let mut restored = 0;
    for mask in 0..32u8 {
        let chosen: Vec<_> = (1..=5)
            .filter(|index| mask >> (index - 1) & 1 == 1)
            .map(|index| share(&site, index))
            .collect();
        let dir = home.path().join(format!("restored-{mask}"));
        match mask.count_ones() {
            // Without any, stdin is read, which is empty here.
            0 => refused(restore(&backup, &chosen, &dir), 3, &["no share"], &dir),
            1 | 2 => {
                let words = ["3 of the 5 shares are needed", "more"];
                refused(restore(&backup, &chosen, &dir), 3, &words, &dir);
            }
            _ => {
                let output = restore(&backup, &chosen, &dir).output().unwrap();
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                let printed = String::from_utf8(output.stdout).unwrap();
                assert_eq!(printed.trim(), site.fingerprint().to_string());
                restored += 1;
            }
        }
    }
    assert_eq!(restored, 16);
}

#[test]
fn what_was_restored_goes_on_where_the_backup_was_made() {
    let (site, backup) = backed_up();
    // Lost with the disk: a device that was added after the backup.
    let _ = site.add("later", "role = sensor");
    let new = Site::nowhere();
    let shares = [share(&site, 5), share(&site, 1), share(&site, 3)];
    let key = new.dir.path().join("key");
    let mut command = restore(&backup, &shares, &new.path());
    if let Some(server) = &new.server {
        command.env("SMQTT_DATABASE", server.url());
    }
    assert!(
        command
            .arg("--key-file")
            .arg(&key)
            .status()
            .unwrap()
            .success()
    );
    let key = key.to_str().unwrap();

    assert!(!new.path().join("ca.key").exists());
    assert_eq!(new.fingerprint(), site.fingerprint());
    assert_eq!(new.device("sensor-17"), site.device("sensor-17"));
    assert_eq!(new.run(&["device", "show", "later"]).status.code(), Some(3));
    let log = new.ok(&["audit", "list"]);
    assert!(
        log.contains("  enrol ") && log.contains("  restore "),
        "{log}"
    );
    new.ok(&["audit", "verify"]);

    let token = new.add("second", "role = sensor");
    let service = new.serve_with(&["--key-file", key]);
    let granted = service.enrol(&token, &csr("second", 2)).granted();
    assert_eq!(granted.device.as_str(), "second");
    // The same key, so the same shares open the next backup.
    let next = new.dir.path().join("next.backup");
    new.ok(&["backup", "--out", next.to_str().unwrap(), "--key-file", key]);
    let third = new.dir.path().join("third");
    assert!(
        restore(&next, &shares, &third)
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn a_backup_that_was_changed_or_cut_is_refused_everywhere() {
    let (site, backup) = backed_up();
    let whole = fs::read(&backup).unwrap();
    let shares = [share(&site, 2), share(&site, 3), share(&site, 4)];
    let changed = site.dir.path().join("changed");
    let dir = site.dir.path().join("restored");
    let mut places: Vec<usize> = (0..40).collect();
    places.extend((40..whole.len()).step_by(whole.len() / 40));
    places.push(whole.len() - 1);
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        let output = restore(&changed, &shares, &dir).output().unwrap();
        assert!(!output.status.success() && !dir.exists(), "byte {at}");
    }
    for length in [0, 10, 33, 1000, whole.len() - 1] {
        fs::write(&changed, &whole[..length]).unwrap();
        let output = restore(&changed, &shares, &dir).output().unwrap();
        assert!(!output.status.success() && !dir.exists(), "cut at {length}");
    }
    // Nothing of what is in it can be read.
    for secret in ["sensor-17", "PRIVATE KEY", "SQLite format"] {
        let found = whole.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{secret} is in the backup");
    }
}

#[test]
fn shares_of_another_key_or_set_are_told_apart() {
    let (site, backup) = backed_up();
    let other = Site::new();
    let shares = other.dir.path().join("shares");
    other.ok(&[
        "shares",
        "make",
        "3-of-5",
        "--out",
        shares.to_str().unwrap(),
    ]);
    let foreign = [share(&other, 1), share(&other, 2), share(&other, 3)];
    let dir = site.dir.path().join("restored");
    refused(
        restore(&backup, &foreign, &dir),
        3,
        &["encrypted with key"],
        &dir,
    );
    let mixed = [share(&site, 1), share(&site, 2), share(&other, 3)];
    refused(restore(&backup, &mixed, &dir), 3, &["made together"], &dir);
    let twice = [share(&site, 1), share(&site, 2), share(&site, 2)];
    refused(restore(&backup, &twice, &dir), 3, &["1 more"], &dir);

    let text = fs::read_to_string(share(&site, 1)).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("smqtt-share:"))
        .unwrap();
    let at = line.len() - 3;
    let letter = if line.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    let mut mistyped = line.to_owned();
    mistyped.replace_range(at..=at, letter);
    let file = site.dir.path().join("mistyped");
    fs::write(&file, mistyped).unwrap();
    let output = program()
        .args(["shares", "check"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mistyped"));

    // Shares of a new key open later backups, the earlier ones open earlier backups.
    let renewed = site.dir.path().join("renewed");
    site.ok(&[
        "shares",
        "make",
        "1-of-1",
        "--new-key",
        "--out",
        renewed.to_str().unwrap(),
    ]);
    let later = site.dir.path().join("later.backup");
    site.ok(&["backup", "--out", later.to_str().unwrap()]);
    let old = [share(&site, 1), share(&site, 2), share(&site, 3)];
    refused(
        restore(&later, &old, &dir),
        3,
        &["encrypted with key"],
        &dir,
    );
    let whole = [renewed.join("share-1-of-1.txt")];
    assert!(
        restore(&later, &whole, &dir)
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn an_authority_from_before_there_were_backups_gets_a_key() {
    let site = Site::new();
    fs::remove_file(site.path().join("backup.key")).unwrap();
    let out = site.dir.path().join("backup");
    let out = out.to_str().unwrap();
    assert_eq!(site.run(&["backup", "--out", out]).status.code(), Some(3));
    site.ok(&["shares", "make", "2-of-2"]);
    assert_eq!(site::mode(&site.path().join("backup.key")), 0o600);
    site.ok(&["backup", "--out", out]);
}

#[test]
fn shares_can_be_piped_in_as_they_were_printed() {
    let site = Site::new();
    let printed = site.ok(&["shares", "make", "2-of-3"]);
    let mut child = program()
        .args(["shares", "check"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), printed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("share 3 of 3"));
}

/// Ends a command with SIGKILL after a while.
fn kill_after(command: &mut Command, micros: u64) {
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

#[test]
fn a_backup_or_a_restore_that_is_killed_has_happened_or_not() {
    let (site, backup) = backed_up();
    let shares = [share(&site, 1), share(&site, 2), share(&site, 3)];
    let home = site.dir.path();
    let micros =
        |started: std::time::Instant| u64::try_from(started.elapsed().as_micros()).unwrap();
    let started = std::time::Instant::now();
    site.ok(&["backup", "--out", home.join("timed").to_str().unwrap()]);
    let backing_up = micros(started);
    let started = std::time::Instant::now();
    let timed = home.join("timed-restore");
    assert!(
        restore(&backup, &shares, &timed)
            .output()
            .unwrap()
            .status
            .success()
    );
    let restoring = micros(started);

    let rounds = 24;
    for round in 0..rounds {
        let out = home.join(format!("backup-{round}"));
        let mut command = site.command(&["backup", "--out", out.to_str().unwrap()]);
        kill_after(&mut command, backing_up * round * 5 / 4 / rounds);
        if !out.exists() {
            site.ok(&["backup", "--out", out.to_str().unwrap()]);
        }
        let dir = home.join(format!("restored-{round}"));
        kill_after(
            &mut restore(&out, &shares, &dir),
            restoring * round * 5 / 4 / rounds,
        );
        if !dir.exists() {
            assert!(
                restore(&out, &shares, &dir)
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
        }
        let mut verify = program();
        verify.args(["audit", "verify", "--dir"]).arg(&dir);
        assert!(verify.output().unwrap().status.success());
        let mut sign = program();
        sign.args(["audit", "checkpoint", "--dir"]).arg(&dir);
        assert!(sign.output().unwrap().status.success());
    }
    site.ok(&["audit", "verify"]);
    assert!(!site.path().join(".register.snapshot").exists());
}
