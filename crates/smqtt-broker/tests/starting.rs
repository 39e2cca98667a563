//! Starting and stopping the daemon: what is refused, with which words and exit code.

mod harness;

use std::os::unix::fs::PermissionsExt;

use harness::{Broker, Client, Options, TestPki, run, utf8};
use smqtt_broker::Config;
use smqtt_proto::{ProtocolVersion, ReasonCode};

/// Runs the broker, which must not start, and returns its exit code and its one line.
fn refused(args: &[&str]) -> (i32, String) {
    let (code, _, stderr) = run(args);
    let line = stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "{stderr}");
    assert!(line.starts_with("smqtt-broker: "), "{line}");
    (code, line.to_owned())
}

#[test]
fn insecure_listeners_are_refused_unless_said() {
    for (args, words) in [
        (
            &["--listen", "mqtt://0.0.0.0:0", "--allow-anonymous"][..],
            "--allow-plain",
        ),
        (
            &["--listen", "mqtt://[::]:0", "--allow-anonymous"],
            "--allow-plain",
        ),
        (&["--listen", "mqtt://127.0.0.1:0"], "--allow-anonymous"),
        (&["--listen", "mqtts://127.0.0.1:0"], "--tls-cert"),
        (&[], "--listen"),
    ] {
        let (code, line) = refused(args);
        assert_eq!(code, 3, "{line}");
        assert!(line.contains(words), "{line}");
    }
    let broker = Broker::start(&[
        "--listen",
        "mqtt://0.0.0.0:0",
        "--allow-anonymous",
        "--allow-plain",
    ]);
    Client::connect(broker.port(), Options::v5("c")).settle();
}

#[test]
fn the_command_line_is_checked() {
    for args in [
        &["--listen", "nowhere"][..],
        &["--no-such-flag"],
        &["--workers", "many"],
    ] {
        assert_eq!(run(args).0, 2, "{args:?}");
    }
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn the_configuration_file_is_checked() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("broker.toml");
    let path = utf8(&path);
    let (code, line) = refused(&["--config", path]);
    assert_eq!(code, 4);
    assert!(line.contains("--config"), "{line}");
    std::fs::write(path, "[limits]\n\nconections = 5\n").expect("write");
    let (code, line) = refused(&["--config", path, "--check-config"]);
    assert_eq!(code, 3);
    assert!(
        line.contains(
            "broker.toml:3: unknown key `conections`; the nearest known key is `connections`"
        ),
        "{line}"
    );
    std::fs::write(path, "[log]\nlevel = \"no=such=level\"\n[[listener]]\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\n")
        .expect("write");
    assert_eq!(refused(&["--config", path]).0, 3);
    let (code, stdout, _) = run(&["--config", path, "--log", "info", "--check-config"]);
    assert_eq!((code, stdout.as_str()), (0, "configuration is valid\n"));
}

#[test]
fn certificate_files_are_checked() {
    let pki = TestPki::new(1);
    let arguments = pki.arguments();
    let args: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(run(&[&args[..], &["--check-config"]].concat()).0, 0);
    let key = pki.path("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    let (code, line) = refused(&args);
    assert_eq!(code, 4);
    assert!(
        line.contains("server.key") && line.contains("chmod 600"),
        "{line}"
    );
    std::fs::remove_file(&key).expect("remove");
    let (code, line) = refused(&args);
    assert_eq!(code, 4);
    assert!(line.contains("server.key"), "{line}");
    // A key of another certificate.
    std::fs::copy(TestPki::new(2).path("server.key"), &key).expect("copy");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(refused(&args).0, 4);
    std::fs::write(pki.path("ca.crt"), "not a certificate").expect("write");
    let (code, line) = refused(&args);
    assert_eq!(code, 4);
    assert!(line.contains("ca.crt"), "{line}");
}

#[test]
fn an_address_in_use_is_refused() {
    let broker = Broker::open();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let (code, line) = refused(&["--listen", &url, "--allow-anonymous"]);
    assert_eq!(code, 5);
    assert!(line.contains("another program listens there"), "{line}");
}

#[test]
fn a_data_directory_serves_one_broker_at_a_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let data = dir.path().join("data");
    let first = Broker::open_with(&["--data-dir", utf8(&data)]);
    let mode = std::fs::metadata(&data).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let args = [
        "--listen",
        "mqtt://127.0.0.1:0",
        "--allow-anonymous",
        "--data-dir",
        utf8(&data),
    ];
    let (code, line) = refused(&args);
    assert_eq!(code, 4);
    assert!(line.contains("another broker"), "{line}");
    // A broker that was killed leaves no lock behind.
    first.signal("KILL");
    drop(first);
    assert!(
        Broker::open_with(&["--data-dir", utf8(&data)])
            .stop()
            .success()
    );
}

#[test]
fn signals_stop_the_broker_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::open();
        let mut new = Client::connect(broker.port(), Options::v5("new"));
        let mut old = Client::connect(broker.port(), Options::v3("old"));
        let mut silent = Client::raw(broker.port(), ProtocolVersion::V5);
        broker.signal(signal);
        new.expect_disconnect(ReasonCode::ServerShuttingDown);
        old.expect_closed();
        silent.expect_closed();
        assert_eq!(broker.wait().code(), Some(0));
    }
}

#[test]
fn variables_are_read_and_flags_override_them() {
    let mut command = harness::command(&["--workers", "1", "--check-config"]);
    command.env(
        "SMQTT_BROKER_LISTEN",
        "mqtt://127.0.0.1:0,mqtt://127.0.0.1:0",
    );
    let output = command
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(3), "anonymous was not allowed");
    command
        .env("SMQTT_BROKER_ALLOW_ANONYMOUS", "1")
        .env("SMQTT_BROKER_WORKERS", "65");
    assert_eq!(command.status().expect("run").code(), Some(0));
}

#[test]
fn the_example_configuration_is_the_default_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("smqtt-broker.example.toml");
    let text = std::fs::read_to_string(&path).expect("the example is there");
    assert_eq!(
        Config::from_toml(&text, &path).expect("valid"),
        Config::default()
    );
    // With what has no default, by taking the `#` from every line that is a key or a section.
    let is_key = |line: &str| {
        line.starts_with("[[")
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
    };
    let full: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| is_key(rest))
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let full: toml::Table = full.parse().expect("valid TOML");
    let mut config = Config::from_toml(&full.to_string(), &path).expect("valid");
    config.validate().expect("valid");
    // Every key that exists stands in the example.
    assert!(
        config.data_dir.is_some()
            && config.capture.file.is_some()
            && config.tls.client_ca.is_some()
    );
    config.tls.cert.clone().expect("in the example");
    config.tls.key.clone().expect("in the example");
    let known = toml::Table::try_from(&config).expect("serialisable");
    for (section, value) in &known {
        let shown = full
            .get(section)
            .unwrap_or_else(|| panic!("{section} is not in the example"));
        if let (Some(known), Some(shown)) = (value.as_table(), shown.as_table()) {
            for key in known.keys() {
                assert!(
                    shown.contains_key(key),
                    "{section}.{key} is not in the example"
                );
            }
        }
    }
    config.listeners.clear();
}
