//! The pages of metrics, as Prometheus's own parser reads them.

use std::ffi::OsStr;
use std::process::Command;

use smqtt_tests::fleet::{Authority, Fleet, Service, broker_command, publish, subscribe};
use smqtt_tests::programs::{program, repository, run};

/// The families of a page, each its type and its name without the prefix.
fn families<A: AsRef<OsStr>>(prefix: &str, arguments: &[A]) -> Vec<(String, String)> {
    let python =
        std::env::var_os("SMQTT_TEST_PYTHON").expect("scripts/test.sh sets SMQTT_TEST_PYTHON");
    let mut command = Command::new(python);
    command
        .arg(repository().join("tests/tests/metrics_page.py"))
        .arg(prefix)
        .args(arguments);
    let page = run(&mut command).success().text();
    let family = |line: &str| {
        let (kind, name) = line.split_once(' ').expect("a type and a name");
        (kind.to_owned(), name.to_owned())
    };
    page.lines().map(family).collect()
}

/// Checks that these families are there, and that a page of the documentation names every one.
fn documented(page: &str, families: &[(String, String)], some: &[(&str, &str)]) {
    let text = std::fs::read_to_string(repository().join(page)).expect("a page");
    for (kind, name) in families {
        let shown = match kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        };
        let named = [format!("`{shown}`"), format!("`{shown}{{")];
        assert!(
            named.iter().any(|named| text.contains(named)),
            "{page} does not name {shown}"
        );
    }
    for (kind, name) in some {
        let wanted = ((*kind).to_owned(), (*name).to_owned());
        assert!(families.contains(&wanted), "{name}: {families:?}");
    }
}

#[test]
fn with_prometheus_the_brokers_page_is_read_strictly() {
    let authority = Authority::init();
    let mut command = broker_command(&authority, "mqtts://");
    // A prefix that has to be escaped in a label.
    let config =
        "[admin]\nlisten = \"127.0.0.1:0\"\n[metrics]\ntopic_prefixes = [\"plant\", 'odd\"\\']\n";
    let path = authority.root().join("metrics.toml");
    std::fs::write(&path, config).expect("a file can be written");
    let broker = Service::start(command.arg("--config").arg(&path), "mqtts://");
    let line = broker.running().wait_for_stderr("admin on http://");
    let admin = line.split_whitespace().last().expect("its address");
    let page = format!("{admin}/metrics");
    let fleet = Fleet::with_broker(authority, broker);
    let sensor = fleet.enrol("sensor", "role = sensor");
    let reader = fleet.enrol("reader", "role = reader");
    let session = subscribe(&reader, "plant/#", &[]);
    let _ = run(&mut publish(
        &sensor,
        "plant/1",
        "role = reader",
        &["-m", "21.5"],
    ))
    .success();
    session.wait_for_stdout("21.5");
    let some = [
        ("gauge", "connections"),
        ("counter", "messages_received"),
        ("counter", "topic_messages"),
        ("counter", "store_commit_seconds"),
        ("counter", "dropped_messages"),
    ];
    documented(
        "docs/operations.md",
        &families("smqtt_broker_", &[page]),
        &some,
    );
}

#[test]
fn with_prometheus_the_authoritys_page_is_read_strictly() {
    let fleet = Fleet::start();
    let sensor = fleet.enrol("sensor", "role = sensor");
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(&sensor)).success();
    // What is refused is counted, too.
    let refused = fleet.enrol_command(&"A".repeat(32), &fleet.authority.root().join("nobody"));
    assert_ne!(run(&mut { refused }).code(), 0);
    let out = fleet.authority.root().join("prom");
    let mut admin = fleet
        .authority
        .command(&["admin", "add", "prom", "--role", "auditor"]);
    let _ = run(admin.arg("--out").arg(&out)).success();
    let page = format!("{}/metrics", fleet.service.url());
    let arguments = [OsStr::new(&page), out.as_os_str()];
    let some = [
        ("counter", "enrolled"),
        ("counter", "renewed"),
        ("counter", "refused"),
        ("counter", "requests"),
        ("histogram", "request_duration_seconds"),
        ("gauge", "devices"),
    ];
    documented(
        "docs/authority.md",
        &families("smqtt_authority_", &arguments),
        &some,
    );
}
