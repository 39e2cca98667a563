//! The commands of `docs/authority.md` as an operator types them: the production set-up, every command of it, and the API's.

use std::process::Command;

use serde_json::Value;
use smqtt_tests::fleet::{Authority, Service};
use smqtt_tests::programs::{directory, repository, run};
use smqtt_tests::walk::{Walk, blocks};

#[test]
fn the_production_set_up_with_an_offline_root_does_what_its_page_says() {
    let all = Walk {
        blocks: blocks("docs/authority.md", "## From zero to a production set-up"),
        ports: &["8443", "8883"],
        seconds: 55,
        logs: &["broker.log", "authority.log", "restored.log", "renewed.log"],
    }
    .take();
    let mut rest = all.as_str();
    for part in [
        "sha256:",
        "root key      not here\n",
        "these shares give the backup key\n",
        "sensor-17",
        "anna  enrolled",
        "\n21.5\n",
        "epoch 2:",
        "sensor-17 is out\n",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("no {part:?} at its place in\n{all}"));
        rest = after;
    }
    for said in [
        "the root's key is no more in authority",
        "issues, until",
        "authority \"Example plant\" restored into authority",
        "enrolled sensor-18",
        "mqtts://127.0.0.1:",
        "has the authority's state",
    ] {
        assert!(all.contains(said), "no {said:?} in\n{all}");
    }
}

#[test]
fn with_curl_the_api_answers_as_its_page_says() {
    let authority = Authority::init();
    let socket = authority.root().join("authority.sock");
    let mut serve = authority.command(&["serve", "--listen", "127.0.0.1:0"]);
    let service = Service::start(serve.arg("--admin-socket").arg(&socket), "https://");
    let _token = authority.register("sensor-17", "role = sensor");
    let page = std::fs::read_to_string(repository().join("docs/authority.md")).expect("the page");
    let sections = page
        .split_once("### Administrators")
        .expect("the section")
        .1;
    let typed = |start: &str| {
        let line = sections.lines().find(|line| line.trim().starts_with(start));
        line.unwrap_or_else(|| panic!("the page has lost {start:?}"))
            .trim()
            .replace("127.0.0.1:8443", &format!("127.0.0.1:{}", service.port()))
            .replace("/run/smqtt/authority.sock", &socket.display().to_string())
    };
    let shell = |line: &str| {
        let path = format!(
            "{}:{}",
            directory().display(),
            std::env::var("PATH").expect("a PATH")
        );
        let mut bash = Command::new("bash");
        bash.args(["-ec", line]).current_dir(authority.root());
        run(bash.env("PATH", path)).success().text()
    };
    let json = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let _ = shell(&typed("smqtt-authority admin add anna"));
    let devices = json(&shell(&format!("{} -sS", typed("curl --cacert anna"))));
    assert_eq!(devices["devices"][0]["name"], "sensor-17", "{devices}");
    let epoch = json(&shell(&format!("{} -sS", typed("curl --unix-socket"))));
    assert_eq!(epoch["epoch"], 1, "{epoch}");

    // Prometheus: with the files that its configuration names, every metric that the page names.
    let _ = shell("smqtt-authority admin add prom --role auditor --out prom");
    let configuration = typed("tls_config:");
    let [ca, certificate, key] = ["ca_file: ", "cert_file: ", "key_file: "].map(|name| {
        let value = configuration.split_once(name).expect(name).1;
        value.split([',', ' ']).next().expect("a file")
    });
    let url = format!("https://127.0.0.1:{}/metrics", service.port());
    let metrics = shell(&format!(
        "curl -sS --cacert {ca} --cert {certificate} --key {key} {url}"
    ));
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let named = sections.split_once("### Metrics").expect("the section").1;
    let named = named.split_once("scrape_configs").expect("its end").0;
    let names: Vec<&str> = named
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains(['_', '{']) || *name == "epoch")
        // Those that count by a cause or a limit are there from the first time on.
        .filter(|name| !name.contains("{cause}") && !name.contains("{limit}"))
        .filter(|name| *name != "smqtt_authority_")
        .map(|name| name.split('{').next().expect("a name"))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let family = name.trim_end_matches("_total");
        let line = format!("# TYPE smqtt_authority_{family} ");
        assert!(metrics.contains(&line), "no {name} in\n{metrics}");
    }
}
