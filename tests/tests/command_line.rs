//! `smqtt pub` and `smqtt sub` as one link of a pipeline: formats, files, properties, repetition, and ends that nobody
//! planned.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use smqtt_tests::fleet::{Authority, Fleet, publish, subscribe};
use smqtt_tests::mosquitto;
use smqtt_tests::programs::{Running, directory, program, run, run_with_input};

const POLICY: &str = "role = reader";

struct Site {
    fleet: Fleet,
    sensor: std::path::PathBuf,
    reader: std::path::PathBuf,
}

fn site() -> Site {
    on(Fleet::start())
}

fn on(fleet: Fleet) -> Site {
    let sensor = fleet.enrol("sensor", "type = thermometer");
    let reader = fleet.enrol("reader", "role = reader");
    Site {
        fleet,
        sensor,
        reader,
    }
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// `smqtt sub` in a shell pipeline, once it is subscribed.
fn pipeline(identity: &Path, filter: &str, rest: &str) -> Running {
    let script = format!(
        "set -o pipefail; {} sub -i {} -t '{filter}' {rest}",
        directory().join("smqtt").display(),
        identity.display(),
    );
    let mut command = Command::new("bash");
    command.arg("-c").arg(script);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SMQTT_") {
            command.env_remove(name);
        }
    }
    let running = Running::start(command.env("XDG_CONFIG_HOME", "/nonexistent"));
    running.wait_for_stderr("subscribed to");
    running
}

#[test]
fn properties_go_along_and_come_out_in_every_form() {
    properties(&site());
}

#[test]
fn with_mosquitto_properties_go_along_and_come_out_in_every_form() {
    let authority = Authority::init();
    let broker = mosquitto::broker(&authority);
    properties(&on(Fleet::with_broker(authority, broker)));
}

fn properties(site: &Site) {
    let format = r"%t|%p|%x|%X|%l|%q|%r|%C|%R|%D|%u|%d|%s|%P|%%\t%J";
    let formatted = subscribe(&site.reader, "plant/#", &["-C", "1", "-F", format]);
    let json = subscribe(&site.reader, "plant/#", &["-C", "1", "--json"]);
    let _ = run(&mut publish(
        &site.sensor,
        "plant/7",
        POLICY,
        &[
            "-m",
            "[1]",
            "--property",
            "unit=celsius",
            "--property",
            "unit=k=2",
            "--content-type",
            "application/json",
            "--response-topic",
            "plant/answers",
            "--correlation-data",
            "q1",
            "--expiry",
            "3600",
        ],
    ))
    .success();

    let line = formatted.wait().success().text();
    let (fields, object) = line.split_once('\t').expect("a tab");
    assert_eq!(
        fields,
        "plant/7|[1]|5b315d|5B315D|3|1|0|application/json|plant/answers|q1|unit:celsius unit:k=2|sensor|1|role = reader|%"
    );
    let object: serde_json::Value = serde_json::from_str(object).expect("JSON");
    assert_eq!(object["payload"], serde_json::json!([1]));

    let lines = json_lines(&json.wait().success().text());
    let [message, summary] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(message["type"], "message");
    assert_eq!(message["payload"], "[1]");
    assert_eq!(message["policy"], POLICY);
    assert_eq!(message["qos"], 1);
    let properties = &message["properties"];
    assert_eq!(properties["content_type"], "application/json");
    assert_eq!(properties["response_topic"], "plant/answers");
    assert_eq!(properties["correlation_data"], "q1");
    assert!(
        properties["expiry"]
            .as_u64()
            .is_some_and(|left| left <= 3600)
    );
    assert_eq!(
        properties["user"],
        serde_json::json!([["unit", "celsius"], ["unit", "k=2"]])
    );
    assert_eq!(summary["read"], 1);
}

#[test]
fn several_filters_give_one_stream() {
    let site = site();
    let reader = subscribe(&site.reader, "a/+", &["-t", "b/#", "-C", "2", "-v"]);
    for topic in ["a/1", "c/1", "b/1/2"] {
        let _ = run(&mut publish(&site.sensor, topic, POLICY, &["-m", "x"])).success();
    }
    assert_eq!(reader.wait().success().text(), "a/1 x\nb/1/2 x\n");
}

#[test]
fn a_reader_takes_what_it_demands_and_counts_the_rest() {
    let site = site();
    let other = site.fleet.enrol("other", "type = thermometer");
    let demands = ["--from", "sensor", "--max-age", "3600", "--json", "-C", "1"];
    let reader = subscribe(&site.reader, "a", &demands);
    for (device, text) in [(&other, "no"), (&site.sensor, "yes")] {
        let _ = run(&mut publish(device, "a", POLICY, &["-m", text])).success();
    }
    let lines = json_lines(&reader.wait().success().text());
    let message = lines.iter().find(|line| line["type"] == "message");
    assert_eq!(message.expect("one message")["payload"], "yes");
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["refused"]["unwanted-publisher"], 1, "{summary}");
}

#[test]
fn a_message_is_repeated_as_often_as_asked_under_one_key_frame() {
    let site = site();
    let reader = subscribe(&site.reader, "alive", &["-C", "5", "-F", "%s %k %l"]);
    let published = run(&mut publish(
        &site.sensor,
        "alive",
        POLICY,
        &["-n", "--repeat", "5", "--interval", "0", "--json"],
    ))
    .success();
    assert_eq!(json_lines(&published.text())[0]["acknowledged"], 5);
    let text = reader.wait().success().text();
    let kid = text.split_whitespace().nth(1).expect("a key id");
    let expected: String = (1..=5)
        .map(|number| format!("{number} {kid} 0\n"))
        .collect();
    assert_eq!(text, expected);
}

#[test]
fn a_retained_message_is_taken_back() {
    let site = site();
    let retained = ["-m", "state", "-r"];
    let _ = run(&mut publish(&site.sensor, "state", POLICY, &retained)).success();
    let before = subscribe(&site.reader, "state", &["-C", "1", "-F", "%p %r"]);
    assert_eq!(before.wait().success().text(), "state 1\n");
    let _ = run(&mut publish(&site.sensor, "state", POLICY, &["-n", "-r"])).success();
    let after = subscribe(&site.reader, "state", &["-C", "1", "-F", "%p %r"]);
    let _ = run(&mut publish(
        &site.sensor,
        "state",
        POLICY,
        &["-m", "event"],
    ))
    .success();
    let after = after.wait().success();
    assert_eq!(after.text(), "event 0\n", "{}", after.stderr);
}

#[test]
fn every_message_gets_a_file_that_is_its_owner_s_alone_and_inside_the_directory() {
    let site = site();
    let out = site.fleet.authority.root().join("messages");
    let out_dir = out.to_str().expect("a path in UTF-8");
    let reader = subscribe(&site.reader, "#", &["-C", "3", "--out-dir", out_dir, "-N"]);
    for (topic, text) in [("../../up", "1"), ("/etc/x", "2"), (".hidden/ä", "3")] {
        let _ = run(&mut publish(&site.sensor, topic, POLICY, &["-m", text])).success();
    }
    let named = reader.wait().success().text();
    let mut files: Vec<_> = fs::read_dir(&out)
        .expect("the directory is made")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut contents = Vec::new();
    for file in &files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        assert!(named.contains(name), "{name} is not in {named}");
        assert!(!name.starts_with('.'), "{name} hides");
        let mode = fs::metadata(file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        contents.push(fs::read_to_string(file).expect("text"));
    }
    contents.sort();
    assert_eq!(contents, ["1", "2", "3"]);
}

#[test]
fn json_lines_go_through_jq() {
    let site = site();
    let jq = r#"--json -C 3 | jq -r 'select(.type == "message") | "\(.sequence) \(.payload | tonumber * 2)"'"#;
    let piped = pipeline(&site.reader, "n", jq);
    let mut publishing = publish(&site.sensor, "n", POLICY, &["-l"]);
    let _ = run_with_input(&mut publishing, b"1\n2\n3\n").success();
    assert_eq!(piped.wait().success().text(), "1 2\n2 4\n3 6\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_cleanly() {
    let site = site();
    for form in ["", "-v", "--json", "-F %p"] {
        let piped = pipeline(&site.reader, "n", &format!("{form} | head -n 1"));
        let numbers: String = (0..20_000).map(|number| format!("{number}\n")).collect();
        let mut publishing = publish(&site.sensor, "n", POLICY, &["-l"]);
        let _ = run_with_input(&mut publishing, numbers.as_bytes()).success();
        let piped = piped.wait().success();
        assert_eq!(piped.text().lines().count(), 1, "{form}");
        assert!(!piped.stderr.contains("panicked"), "{}", piped.stderr);
        assert!(!piped.stderr.contains("error"), "{}", piped.stderr);
    }
}

#[test]
fn help_into_a_pipe_that_closes_is_no_panic() {
    for arguments in [&["--help"][..], &["completions", "bash"], &["man"]] {
        let script = format!(
            "{} {} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
            directory().join("smqtt").display(),
            arguments.join(" ")
        );
        let finished = run(Command::new("bash").arg("-c").arg(script));
        assert_eq!(finished.code(), 0, "{arguments:?}: {}", finished.stderr);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
}

#[test]
fn ctrl_c_ends_both_sides_with_their_accounts() {
    let site = site();
    let reader = subscribe(&site.reader, "n", &["--json"]);
    let mut publishing = publish(&site.sensor, "n", POLICY, &["-l", "--json"]);
    let mut publisher = Running::start(&mut publishing);
    publisher.write(b"1\n2\n");
    reader.wait_for_stdout(r#""payload":"2""#);

    let published = publisher.interrupt().success();
    assert_eq!(json_lines(&published.text())[0]["acknowledged"], 2);
    let read = reader.interrupt().success();
    let summary = json_lines(&read.text()).pop().expect("a summary");
    assert_eq!(
        (&summary["type"], &summary["read"]),
        (&"summary".into(), &2.into())
    );
}

#[test]
fn a_profile_spares_options_and_gives_way_to_the_environment_and_to_options() {
    let site = site();
    let home = site.fleet.authority.root().join("home");
    let configuration = home.join("smqtt");
    fs::create_dir_all(&configuration).expect("a directory");
    let text = format!(
        "profile = 'sensor'\n\
         [profiles.sensor]\nidentity = '{}'\npolicy = '{POLICY}'\nqos = 0\n\
         [profiles.reader]\nidentity = '../../reader'\n",
        site.sensor.display()
    );
    fs::write(configuration.join("config.toml"), text).expect("written");
    let smqtt = |arguments: &[&str]| {
        let mut command = program("smqtt");
        command.args(arguments).env("XDG_CONFIG_HOME", &home);
        command
    };
    let reading = [
        "sub",
        "--profile",
        "reader",
        "-t",
        "a",
        "-C",
        "3",
        "-F",
        "%p %q %P",
    ];
    let reader = Running::start(&mut smqtt(&reading));
    reader.wait_for_stderr("subscribed to");
    let _ = run(&mut smqtt(&["pub", "-t", "a", "-m", "1"])).success();
    let environment = "role = reader or role = other";
    let mut command = smqtt(&["pub", "-t", "a", "-m", "2"]);
    let _ = run(command.env("SMQTT_POLICY", environment)).success();
    let option = "role = reader or role = third";
    let mut command = smqtt(&["pub", "-t", "a", "-m", "3", "-q", "1", "-p", option]);
    let _ = run(command.env("SMQTT_POLICY", environment)).success();
    assert_eq!(
        reader.wait().success().text(),
        format!("1 0 {POLICY}\n2 0 role = other or role = reader\n3 1 {option}\n")
    );
}

#[test]
fn with_mosquitto_a_refused_message_has_the_exit_code_of_a_refusal() {
    let authority = Authority::init();
    let rules = authority.root().join("acl.txt");
    fs::write(
        &rules,
        "pattern read #\npattern write smqtt/keys/#\npattern write open/#\n",
    )
    .expect("written");
    let broker = mosquitto::broker_with(&authority, &format!("acl_file {}\n", rules.display()));
    let site = on(Fleet::with_broker(authority, broker));
    let open = run(&mut publish(&site.sensor, "open/a", POLICY, &["-m", "1"]));
    assert_eq!(open.code(), 0, "{}", open.stderr);
    let closed = run(&mut publish(&site.sensor, "closed/a", POLICY, &["-m", "1"]));
    assert_eq!(closed.code(), 7, "{}", closed.stderr);
    assert!(
        closed.stderr.contains("refused 1 of 1"),
        "{}",
        closed.stderr
    );
}
