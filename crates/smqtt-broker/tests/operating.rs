//! What an operator sees and does: the admin listener, draining, stopping, the service manager.

#[path = "harness/admin.rs"]
mod admin;
mod harness;

use std::os::unix::net::UnixDatagram;

use admin::{administered, client_report, get, metric, request};
use harness::{Client, Options, PATIENCE, publish, utf8, wait_for};
use smqtt_proto::packet::Disconnect;
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode};

#[test]
fn counters_of_listeners_prefixes_and_clients_add_up() {
    let (broker, admin) = administered("[metrics]\ntopic_prefixes = [\"plant\", \"plant/7\"]\n");
    assert_eq!(get(&admin, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(&admin, "/readyz"), (200, "ready\n".into()));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("plant/#", QoS::AtMostOnce);
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for topic in ["plant/7/t", "plant/7/t", "plant/8/t", "elsewhere"] {
        publisher.publish(topic, QoS::AtLeastOnce, "12345");
    }
    for _ in 0..3 {
        subscriber.receive_text();
    }
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    for (sample, expected) in [
        (format!("connections{{listener=\"{url}\"}}"), 2),
        (
            format!("connections_accepted_total{{listener=\"{url}\"}}"),
            2,
        ),
        (format!("messages_received_total{{listener=\"{url}\"}}"), 4),
        (format!("messages_sent_total{{listener=\"{url}\"}}"), 3),
        // CONNECT twice, SUBSCRIBE, PUBLISH four times.
        (format!("packets_received_total{{listener=\"{url}\"}}"), 7),
        // CONNACK twice, SUBACK, PUBACK four times, PUBLISH three times.
        (format!("packets_sent_total{{listener=\"{url}\"}}"), 10),
        ("topic_messages_total{prefix=\"plant/7\"}".into(), 2),
        ("topic_messages_total{prefix=\"plant\"}".into(), 1),
        ("topic_payload_bytes_total{prefix=\"plant/7\"}".into(), 10),
        ("topic_deliveries_total{prefix=\"plant\"}".into(), 1),
        ("clients_connected".into(), 2),
        ("sessions".into(), 2),
        ("subscriptions".into(), 1),
        ("dropped_messages_total{cause=\"queue-messages\"}".into(), 0),
    ] {
        let sample = format!("smqtt_broker_{sample}");
        // Packets are counted when they have been written, which their reader may see first.
        wait_for(|| (metric(&admin, &sample) == Some(expected)).then_some(()));
    }
    let report = wait_for(|| {
        Some(client_report(&admin, "pub")).filter(|report| report["messages_received"] == 4)
    });
    assert_eq!(report["connected"], true);
    assert_eq!(report["identity"], "anonymous");
    assert_eq!(report["listener"], url);
    assert_eq!(report["packets_sent"], 5);
    assert_eq!(client_report(&admin, "sub")["subscriptions"], 1);
    assert!(client_report(&admin, "nobody").is_null());
}

#[test]
fn what_a_client_loses_is_counted_by_cause_and_logged() {
    let (mut broker, admin) = administered("[session]\nqueue_messages = 3\n");
    let mut away = Client::connect(broker.port(), Options::v5("away").persistent());
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for _ in 0..5 {
        publisher.publish("t", QoS::AtLeastOnce, "x");
    }
    // The session may be another worker's, which gets the messages when they are acknowledged.
    let report = wait_for(|| {
        Some(client_report(&admin, "away"))
            .filter(|report| report["dropped"]["queue-messages"] == 2)
    });
    assert_eq!(report["connected"], false);
    assert_eq!(report["queued_messages"], 3);
    let sample = "smqtt_broker_dropped_messages_total{cause=\"queue-messages\"}";
    assert_eq!(metric(&admin, sample), Some(2));
    let line = broker.wait_for_line("dropped messages");
    assert!(
        line.contains("queue-messages") && line.contains("away"),
        "{line}"
    );
}

#[test]
fn clients_are_listed_page_by_page() {
    let (broker, admin) = administered("");
    let _clients: Vec<Client> = (0..25)
        .map(|i| Client::connect(broker.port(), Options::v5(&format!("c{i}"))))
        .collect();
    let (mut seen, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let (status, body) = get(&admin, &format!("/clients?limit=10{after}"));
        assert_eq!(status, 200, "{body}");
        let listing: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let clients = listing["clients"].as_array().expect("clients");
        assert!(clients.len() <= 10);
        seen.extend(clients.iter().map(|client| client["client_id"].to_string()));
        pages += 1;
        match listing["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), pages), (25, 3));
    for wrong in ["limit=0", "limit=1001", "after=x", "page=1"] {
        assert_eq!(get(&admin, &format!("/clients?{wrong}")).0, 400, "{wrong}");
    }
}

#[test]
fn the_admin_listener_answers_its_operator_only() {
    let (_broker, admin) = administered("");
    for (headers, status) in [
        ("Origin: https://evil.example\r\n", 403),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost\r\n", 200),
    ] {
        assert_eq!(
            request(&admin, "GET", "/metrics", headers).0,
            status,
            "{headers}"
        );
    }
    assert_eq!(request(&admin, "POST", "/drain", "Origin: null\r\n").0, 403);
    assert_eq!(get(&admin, "/drain").0, 405);
    assert_eq!(request(&admin, "POST", "/metrics", "").0, 405);
    assert_eq!(get(&admin, "/").0, 404);
    assert_eq!(get(&admin, "/readyz").0, 200, "nothing was drained");

    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "a-token-of-some-length\n").expect("write");
    let text = format!("[admin]\ntoken_file = \"{}\"\n", utf8(&file));
    let permit = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    permit(0o644);
    let config = dir.path().join("broker.toml");
    std::fs::write(&config, &text).expect("write");
    let (code, _, stderr) = harness::run(&[
        "--config",
        utf8(&config),
        "--admin",
        "127.0.0.1:0",
        "--listen",
        "mqtt://127.0.0.1:0",
        "--allow-anonymous",
    ]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("chmod 600"), "{stderr}");
    permit(0o600);
    let (_broker, admin) = administered(&text);
    assert_eq!(get(&admin, "/healthz").0, 200);
    for path in ["/metrics", "/clients"] {
        assert_eq!(get(&admin, path).0, 401);
        let token = "Authorization: Bearer a-token-of-some-length\r\n";
        assert_eq!(request(&admin, "GET", path, token).0, 200);
    }
    assert_eq!(request(&admin, "POST", "/drain", "").0, 401);
}

#[test]
fn a_drained_broker_sends_its_clients_elsewhere_and_ends() {
    let (mut broker, admin) = administered(
        "[protocol]\nserver_reference = \"other.example:8883\"\n[shutdown]\ndrain_clients_per_second = 20\n",
    );
    let mut new: Vec<Client> = (0..10)
        .map(|i| Client::connect(broker.port(), Options::v5(&format!("new{i}"))))
        .collect();
    let mut old = Client::connect(broker.port(), Options::v3("old"));
    assert_eq!(
        request(&admin, "POST", "/drain", ""),
        (202, "draining\n".into())
    );
    assert_eq!(get(&admin, "/readyz"), (503, "draining\n".into()));
    assert_eq!(get(&admin, "/healthz").0, 200);
    assert_eq!(metric(&admin, "smqtt_broker_draining"), Some(1));
    let mut late = Client::raw(broker.port(), ProtocolVersion::V5);
    let refusal = late.handshake(Options::v5("late"));
    assert_eq!(refusal.reason, ReasonCode::UseAnotherServer);
    assert_eq!(
        refusal.properties.server_reference.as_deref(),
        Some("other.example:8883")
    );
    for client in &mut new {
        match client.receive() {
            Packet::Disconnect(Disconnect { reason, properties }) => {
                assert_eq!(reason, ReasonCode::UseAnotherServer);
                assert_eq!(
                    properties.server_reference.as_deref(),
                    Some("other.example:8883")
                );
            }
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
    }
    old.expect_closed();
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_drain_by_signal_ends_at_its_deadline_whoever_is_left() {
    let (mut broker, _) =
        administered("[shutdown]\ndrain_clients_per_second = 1\ndrain_deadline_seconds = 1\n");
    let mut clients: Vec<Client> = (0..40)
        .map(|i| Client::connect(broker.port(), Options::v5(&format!("c{i}"))))
        .collect();
    broker.signal("USR1");
    let reasons: Vec<ReasonCode> = clients
        .iter_mut()
        .map(|client| match client.receive() {
            Packet::Disconnect(disconnect) => disconnect.reason,
            other => panic!("expected DISCONNECT, got {other:?}"),
        })
        .collect();
    let late = |reason: &&ReasonCode| **reason == ReasonCode::ServerShuttingDown;
    assert!(reasons.iter().filter(late).count() > 10, "{reasons:?}");
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_stop_publishes_wills_and_sends_what_waits() {
    let (mut broker, _) = administered("[session]\nmax_in_flight = 1\n");
    let mut watcher = Client::connect(broker.port(), Options::v5("watcher"));
    watcher.subscribe("gone/#", QoS::AtLeastOnce);
    watcher.subscribe("t", QoS::AtLeastOnce);
    let will = smqtt_proto::packet::Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: smqtt_proto::TopicName::new("gone/w").expect("topic"),
        payload: "gone".into(),
        properties: Default::default(),
    };
    let mut leaver = Client::connect(broker.port(), Options::v5("leaver").will(will));
    for i in 0..5 {
        leaver.publish("t", QoS::AtLeastOnce, &i.to_string());
    }
    broker.signal("TERM");
    // One at a time, each of the rest as the one before is acknowledged.
    let got: Vec<String> = (0..6).map(|_| watcher.receive_text()).collect();
    assert_eq!(got, ["0", "1", "2", "3", "4", "gone"]);
    watcher.expect_disconnect(ReasonCode::ServerShuttingDown);
    leaver.expect_disconnect(ReasonCode::ServerShuttingDown);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn another_signal_stops_at_once() {
    let (mut broker, _) =
        administered("[session]\nmax_in_flight = 1\n[shutdown]\ngrace_seconds = 3600\n");
    let mut stuck = Client::connect(broker.port(), Options::v5("stuck"));
    stuck.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for _ in 0..3 {
        publisher.publish("t", QoS::AtLeastOnce, "x");
    }
    broker.signal("TERM");
    publisher.expect_disconnect(ReasonCode::ServerShuttingDown);
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn an_address_connects_no_more_often_than_allowed() {
    let (broker, admin) = administered(
        "[limits]\nconnect_rate_per_address = 1\nconnect_burst_per_address = 3\nconnect_rate_exempt = []\n",
    );
    let mut admitted = Vec::new();
    let mut refused = 0;
    for i in 0..8 {
        let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
        if client.try_send(Packet::Connect(Box::new(Options::v5(&format!("c{i}")).0)))
            && client.try_receive().is_some()
        {
            admitted.push(client);
        } else {
            refused += 1;
        }
    }
    assert!(
        admitted.len() >= 3 && refused >= 1,
        "{} {refused}",
        admitted.len()
    );
    let sample = "smqtt_broker_connections_refused_total{cause=\"connect-rate\"}";
    assert_eq!(metric(&admin, sample), Some(refused));
    for client in &mut admitted {
        client.settle();
    }
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut child = harness::command(&["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the broker starts");
    let wait_for_state = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).expect("a message");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    wait_for_state("READY=1");
    wait_for_state("WATCHDOG=1");
    let killed = std::process::Command::new("kill")
        .arg(child.id().to_string())
        .status();
    assert!(killed.expect("kill runs").success());
    wait_for_state("STOPPING=1");
    assert!(wait_for(|| child.try_wait().expect("wait")).success());
}

#[test]
fn a_message_that_waits_is_not_taken_by_a_broker_that_stops() {
    let (mut broker, _) =
        administered("[session]\nmax_in_flight = 1\n[shutdown]\ngrace_seconds = 2\n");
    let mut stuck = Client::connect(broker.port(), Options::v5("stuck"));
    stuck.subscribe("t", QoS::AtLeastOnce);
    for _ in 0..2 {
        let mut once = Client::connect(broker.port(), Options::v5("once"));
        once.publish("t", QoS::AtLeastOnce, "x");
        once.disconnect();
    }
    let mut idle = Client::connect(broker.port(), Options::v5("idle"));
    broker.signal("TERM");
    idle.expect_disconnect(ReasonCode::ServerShuttingDown);
    // The connection is kept for what waits: what its client publishes now is its to keep.
    let mut packet = publish("t", QoS::AtLeastOnce, "late");
    packet.packet_id = Some(stuck.packet_id());
    let id = packet.packet_id;
    stuck.send(Packet::Publish(packet));
    while let Some(packet) = stuck.try_receive() {
        if let Packet::PubAck(ack) = packet {
            assert_ne!(Some(ack.packet_id), id, "acknowledged and lost");
        }
    }
    assert_eq!(broker.wait().code(), Some(0));
}
