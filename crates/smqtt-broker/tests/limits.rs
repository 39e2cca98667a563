//! What happens at the bounds of the whole broker: sessions and memory.

#[path = "harness/admin.rs"]
mod admin;
mod harness;

use admin::{administered, metric};
use harness::{Broker, Client, Options, wait_for};
use smqtt_proto::packet::ConnAck;
use smqtt_proto::{QoS, ReasonCode};

fn connect(port: u16, options: Options) -> (Client, ConnAck) {
    let mut client = Client::raw(port, options.0.version);
    let connack = client.handshake(options);
    (client, connack)
}

#[test]
fn a_client_beyond_the_sessions_is_refused_and_one_that_has_a_session_is_not() {
    let broker = Broker::configured("[limits]\nsessions = 2\n");
    let port = broker.port();
    let mut away = Client::connect(port, Options::v5("away").persistent());
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let here = Client::connect(port, Options::v5("here"));
    let (_, connack) = connect(port, Options::v5("new"));
    assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
    let (_, connack) = connect(port, Options::v3("old"));
    // Return code 3: the only one of MQTT 3.1.1 that asks to come again.
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
    // A session that exists is resumed, or taken over, whatever the number.
    let (back, connack) = connect(port, Options::v5("away").persistent());
    assert_eq!(
        (connack.reason, connack.session_present),
        (ReasonCode::Success, true)
    );
    let (again, connack) = connect(port, Options::v5("here"));
    assert_eq!(connack.reason, ReasonCode::Success);
    drop(here);
    // One that ends makes room.
    again.disconnect();
    wait_for(|| {
        let (_, connack) = connect(port, Options::v5("new"));
        (connack.reason == ReasonCode::Success).then_some(())
    });
    drop(back);
}

#[test]
fn a_full_memory_budget_refuses_what_would_be_kept_and_passes_the_rest_on() {
    let (mut broker, admin) =
        administered("[limits]\nmemory_bytes = 1048576\n[session]\nqueue_bytes = 16777216\n");
    let port = broker.port();
    let mut live = Client::connect(port, Options::v5("live"));
    live.subscribe("live", QoS::AtMostOnce);
    let mut away = Client::connect(port, Options::v5("away").persistent());
    away.subscribe("kept/#", QoS::AtLeastOnce);
    away.disconnect();
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let payload = "x".repeat(20_000);
    // From four fifths on nothing new is retained; the messages still wait for the session.
    let mut taken = 0;
    let refused = loop {
        let topic = format!("kept/{taken}");
        match publisher.publish(&topic, QoS::AtLeastOnce, &payload) {
            reason if reason.is_error() => break reason,
            _ => taken += 1,
        }
        assert!(taken < 100, "2 MB are kept in a budget of one");
        // Workers look at the sum of their accounts every 10 ms.
        std::thread::sleep(std::time::Duration::from_millis(15));
    };
    assert_eq!(refused, ReasonCode::QuotaExceeded);
    assert!(taken > 30, "refused after {taken} messages of 20 kB");
    broker.wait_for_line("memory budget: publications that would be kept");
    let used = metric(&admin, "smqtt_broker_memory_used_bytes").expect("a number");
    assert!((950_000..1_048_576).contains(&used), "{used}");
    assert_eq!(
        metric(&admin, "smqtt_broker_memory_budget_bytes"),
        Some(1_048_576)
    );
    // What nobody has to keep still flows; a subscription would be kept.
    publisher.publish("live", QoS::AtMostOnce, "still here");
    assert_eq!(live.receive_text(), "still here");
    assert_eq!(
        publisher.subscribe("more", QoS::AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    let (_, connack) = connect(port, Options::v5("late"));
    assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
    let (_, connack) = connect(port, Options::v3("late"));
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
    // Who comes back for what waits is let in: nothing that was acknowledged is lost.
    let (mut away, connack) = connect(port, Options::v5("away").persistent());
    assert_eq!(
        (connack.reason, connack.session_present),
        (ReasonCode::Success, true)
    );
    for _ in 0..taken {
        assert_eq!(away.receive_text(), payload);
    }
    // And there is room again.
    broker.wait_for_line("memory budget: there is room again");
    wait_for(|| {
        let (mut late, connack) = connect(port, Options::v5("late"));
        (connack.reason == ReasonCode::Success
            && !late
                .publish("kept/more", QoS::AtLeastOnce, &payload)
                .is_error())
        .then_some(())
    });
    assert_eq!(away.receive_text(), payload);
}

#[test]
fn what_waits_on_disk_is_charged_for_its_place_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = format!(
        "data_dir = {:?}\n[store]\ndurability = \"os\"\n[limits]\nmemory_bytes = 1048576\n[session]\nqueue_messages = 100000\n",
        dir.path().join("data")
    );
    let (mut broker, admin) = administered(&config);
    let away = || Options::v5("away").persistent();
    let mut client = Client::connect(broker.port(), away());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut taken = 0_u64;
    while !publisher.publish("t", QoS::AtLeastOnce, "x").is_error() {
        taken += 1;
        assert!(taken < 20_000, "nothing is charged");
    }
    let used = |admin: &str| metric(admin, "smqtt_broker_memory_used_bytes");
    let before = used(&admin).expect("a number");
    assert!(before > taken * 150, "{before} bytes for {taken} messages");
    broker.signal("KILL");
    broker.wait();
    let (broker, admin) = administered(&config);
    let after = used(&admin).expect("a number");
    assert!(after > taken * 150, "{after} bytes for {taken} messages");
    // Who comes for them is let in, and there is room again.
    let mut client = Client::connect(broker.port(), away());
    for _ in 0..taken {
        assert_eq!(client.receive_text(), "x");
    }
    client.disconnect();
    wait_for(|| (used(&admin)? < before / 4).then_some(()));
}
