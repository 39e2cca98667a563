//! Getting in: what is checked before any network, and what a peer can say.

#![allow(clippy::unwrap_used)]

mod site;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smqtt_client::{Client, Error, ErrorKind, Options, ProtocolVersion, Timeouts};
use smqtt_proto::ReasonCode;
use smqtt_proto::packet::{ConnAckProperties, Connect};
use smqtt_proto::server::Event;

use site::scripted::{Scripted, Then, accept, is_goodbye, obliging};
use site::{Site, within};

async fn refused(reason: ReasonCode) -> Error {
    let site = Site::new();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        if let Event::Connect(_) = event {
            connection.reject(reason, ConnAckProperties::default());
        }
        Then::GoOn
    }))
    .await;
    let options = Options::new(site.device("sensor", "role = sensor")).unwrap();
    let connecting = Client::connect(options.broker(broker.address()));
    within(connecting).await.err().expect("it is refused")
}

#[tokio::test]
async fn a_refusal_says_the_brokers_reason() {
    let error = refused(ReasonCode::NotAuthorized).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("not authorized"), "{error}");
}

#[tokio::test]
async fn a_broker_that_is_busy_is_no_refusal() {
    let error = refused(ReasonCode::ServerBusy).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(matches!(error, Error::Busy { .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_names_the_address() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = Options::new(site.device("sensor", "role = sensor"))
        .unwrap()
        .broker(format!("mqtts://127.0.0.1:{port}").parse().unwrap());
    let error = within(Client::connect(options)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_times_out() {
    let site = Site::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let short = Duration::from_millis(100);
    for scheme in ["mqtt", "mqtts"] {
        let options = Options::new(site.device(scheme, "role = sensor"))
            .unwrap()
            .broker(format!("{scheme}://127.0.0.1:{port}").parse().unwrap())
            .timeouts(Timeouts {
                tls: short,
                mqtt: short,
                ..Timeouts::default()
            });
        let error = within(Client::connect(options)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_told_from_one_that_is_not_there() {
    let site = Site::new();
    let broker = Scripted::start(Box::new(|_, _, _| Then::Cut)).await;
    let options = Options::new(site.device("sensor", "role = sensor")).unwrap();
    let connecting = Client::connect(options.broker(broker.address()));
    let error = within(connecting).await.err().unwrap();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
}

#[tokio::test]
async fn plain_transport_leaves_this_machine_only_if_that_is_meant() {
    let site = Site::new();
    // 192.0.2.0/24 is for documentation: nobody is there (RFC 5737).
    let options = Options::new(site.device("sensor", "role = sensor"))
        .unwrap()
        .broker("mqtt://192.0.2.1".parse().unwrap())
        .timeouts(Timeouts {
            connect: Duration::from_millis(50),
            ..Timeouts::default()
        });
    let refused = within(Client::connect(options.clone()))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::InsecureTransport(_)), "{refused}");
    let allowed = within(Client::connect(options.allow_plain_transport(true)));
    let tried = allowed.await.err().unwrap();
    assert!(!matches!(tried, Error::InsecureTransport(_)), "{tried}");
}

#[tokio::test]
async fn an_identity_that_names_no_broker_needs_one() {
    let site = Site::new();
    let options = Options::new(site.device("sensor", "role = sensor")).unwrap();
    let error = within(Client::connect(options)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[tokio::test]
async fn connect_says_who_connects_and_disconnect_ends_the_session() {
    for version in [ProtocolVersion::V5, ProtocolVersion::V3_1_1] {
        let site = Site::new();
        let seen: Arc<Mutex<Vec<Connect>>> = Arc::default();
        let written = Arc::clone(&seen);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let broker = Scripted::start(Box::new(move |_, connection, event| {
            if let Event::Connect(connect) = &event {
                written.lock().push((**connect).clone());
                accept(connection);
            } else {
                if is_goodbye(&event) {
                    tell.send(()).unwrap();
                }
                obliging(connection, &event);
            }
            Then::GoOn
        }))
        .await;
        let options = Options::new(site.device("sensor", "role = sensor"))
            .unwrap()
            .broker(broker.address())
            .protocol(version)
            .credentials("name", Some(b"secret".to_vec()));
        for options in [options.clone(), options.client_id("mine")] {
            let client = within(Client::connect(options)).await.unwrap();
            within(client.disconnect()).await.unwrap();
            assert_eq!(within(told.recv()).await, Some(()));
        }
        let seen = seen.lock();
        assert_eq!(seen[0].version, version);
        assert!(seen[0].clean_start);
        assert!(seen[0].client_id.as_str().starts_with("sensor-"));
        assert_eq!(seen[0].username.as_ref().unwrap().as_str(), "name");
        assert_eq!(seen[0].password.as_ref().unwrap().expose(), b"secret");
        assert_eq!(seen[1].client_id.as_str(), "mine");
    }
}
