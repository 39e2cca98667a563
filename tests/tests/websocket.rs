//! `smqtt` over WebSocket, with and without TLS.

use smqtt_tests::fleet::{Authority, Service, broker, broker_at, publish, subscribe};
use smqtt_tests::programs::{Running, program, run};

/// Devices that enrolled at a broker over TLS, without WebSocket.
struct Site {
    authority: Authority,
    service: Service,
    broker: Service,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::init();
        let broker = broker(&authority);
        let service = authority.serve(broker.url());
        Self {
            authority,
            service,
            broker,
        }
    }

    /// Streams lines, some of them longer than a WebSocket frame of this client, from one device to another by `address`.
    fn stream(self, address: &str) {
        let fleet = smqtt_tests::fleet::Fleet {
            authority: self.authority,
            service: self.service,
            broker: self.broker,
        };
        let sensor = fleet.enrol("sensor", "role = sensor");
        let anna = fleet.enrol("anna", "role = operator");
        for version in ["5", "3.1.1"] {
            let over = ["--broker", address, "--mqtt", version];
            let reader = subscribe(&anna, "plant/#", &over);
            let mut lines: Vec<String> = (0..2_000).map(|n| format!("message {n}.")).collect();
            lines.extend((0..3).map(|n| format!("{n}{}.", "long ".repeat(60_000))));
            let mut arguments = vec!["-l", "-q", "2"];
            arguments.extend(over);
            let mut publisher = Running::start(&mut publish(
                &sensor,
                "plant/1",
                "role = operator",
                &arguments,
            ));
            publisher.write(format!("{}\n", lines.join("\n")).as_bytes());
            let _ = publisher.wait().success();
            reader.wait_for_stdout(&lines[2_002]);
            let read = reader.interrupt().success();
            let expected = format!("{}\n", lines.join("\n"));
            assert!(read.text() == expected, "each once, in order ({version})");
        }
    }
}

#[test]
fn messages_pass_over_websocket_with_tls() {
    let site = Site::new();
    let broker = broker_at(&site.authority, "wss://");
    site.stream(&format!("{}/mqtt", broker.url()));
}

#[test]
fn messages_pass_over_websocket_without_tls() {
    let site = Site::new();
    let mut command = program("smqtt-broker");
    command
        .args([
            "--listen",
            "ws://127.0.0.1:0",
            "--allow-anonymous",
            "--data-dir",
        ])
        .arg(site.authority.root().join("plain-data"));
    let broker = Service::start(&mut command, "ws://");
    site.stream(broker.url());
}

#[test]
fn what_is_no_websocket_is_named() {
    let site = Site::new();
    let broker = broker_at(&site.authority, "wss://");
    let elsewhere = format!("{}/elsewhere", broker.url());
    let mqtts = site.broker.url().replace("mqtts://", "wss://");
    let fleet = smqtt_tests::fleet::Fleet {
        authority: site.authority,
        service: site.service,
        broker: site.broker,
    };
    let sensor = fleet.enrol("sensor", "role = sensor");
    let attempt = |address: &str| {
        run(&mut publish(
            &sensor,
            "plant/1",
            "role = operator",
            &["-m", "x", "--broker", address],
        ))
    };
    let wrong_path = attempt(&elsewhere);
    assert_eq!(wrong_path.code(), 7, "{}", wrong_path.stderr);
    assert!(wrong_path.stderr.contains("404"), "{}", wrong_path.stderr);
    let no_websocket = attempt(&mqtts);
    assert_ne!(no_websocket.code(), 0, "{}", no_websocket.stderr);
    assert!(
        no_websocket.stderr.starts_with("error: "),
        "{}",
        no_websocket.stderr
    );
    let remote = attempt("ws://broker.example");
    assert_eq!(remote.code(), 3, "{}", remote.stderr);
    assert!(remote.stderr.contains("TLS"), "{}", remote.stderr);
}
