//! An MQTT client library that nobody here wrote, over every transport.
//!
//! Its own TLS is off (docs/dependencies.md): over TLS it speaks through a [`Tunnel`].

mod harness;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harness::{Broker, PATIENCE, TestPki, utf8};
use rumqttc::Transport;
use rustls::ClientConfig;
use smqtt_pki::ServerName;

/// What makes TLS of a plain connection, and passes on what comes either way.
struct Tunnel {
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Tunnel {
    fn to(port: u16, config: ClientConfig) -> Tunnel {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let here = listener.local_addr().expect("an address").port();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let name = ServerName::try_from("127.0.0.1").expect("an address");
                    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                    let mut tls = connector.connect(name, socket).await?;
                    tokio::io::copy_bidirectional(&mut plain, &mut tls).await
                });
            }
        });
        Tunnel {
            port: here,
            runtime: Some(runtime),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A way to the broker, and what has to stay while it is used.
struct Road {
    address: String,
    port: u16,
    transport: Transport,
    _broker: Broker,
    _tunnel: Option<Tunnel>,
    _files: Option<(TestPki, tempfile::TempDir)>,
}

impl Road {
    fn plain(scheme: &str) -> Road {
        let url = format!("{scheme}://127.0.0.1:0");
        let broker = Broker::start(&["--listen", &url, "--allow-anonymous", "--workers", "4"]);
        Road::new(scheme, broker.port(), broker, None, None)
    }

    fn secure(scheme: &str, inner: &str) -> Road {
        let mut pki = TestPki::new(61);
        let mut arguments = pki.arguments();
        for argument in &mut arguments {
            if argument.starts_with("mqtts://") {
                *argument = format!("{scheme}://127.0.0.1:0");
            }
        }
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(["--workers", "4"]);
        let broker = Broker::start(&all);
        let tunnel = Tunnel::to(broker.port(), pki.device("rumqttc"));
        let files = tempfile::tempdir().expect("temporary directory");
        Road::new(inner, tunnel.port, broker, Some(tunnel), Some((pki, files)))
    }

    fn unix() -> Road {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path: PathBuf = dir.path().join("mqtt.sock");
        let url = format!("unix://{}", utf8(&path));
        let broker = Broker::start(&["--listen", &url, "--allow-anonymous", "--workers", "4"]);
        Road {
            address: utf8(&path).to_owned(),
            port: 0,
            transport: Transport::Unix,
            _broker: broker,
            _tunnel: None,
            _files: Some((TestPki::new(62), dir)),
        }
    }

    fn new(
        scheme: &str,
        port: u16,
        broker: Broker,
        tunnel: Option<Tunnel>,
        files: Option<(TestPki, tempfile::TempDir)>,
    ) -> Road {
        let (address, transport) = match scheme {
            "ws" => (format!("ws://127.0.0.1:{port}/mqtt"), Transport::Ws),
            _ => ("127.0.0.1".to_owned(), Transport::Tcp),
        };
        Road {
            address,
            port,
            transport,
            _broker: broker,
            _tunnel: tunnel,
            _files: files,
        }
    }
}

/// All QoS, retained messages, and a will, with both protocol versions.
fn passes_messages(road: &Road) {
    v3_1_1::passes_messages(road);
    v5::passes_messages(road);
}

macro_rules! client {
    ($road:expr, $id:expr, $will:expr) => {{
        let mut options = MqttOptions::new($id, $road.address.clone(), $road.port);
        options.set_transport($road.transport.clone());
        options.set_keep_alive(Duration::from_secs(30));
        if let Some(will) = $will {
            options.set_last_will(will);
        }
        Client::new(options, 10)
    }};
}

/// The next PUBLISH, at which everything before has been handled.
macro_rules! next {
    ($connection:expr, $kind:pat => $value:expr) => {
        loop {
            match $connection.recv_timeout(PATIENCE).expect("something comes") {
                Ok(Event::Incoming($kind)) => break $value,
                Ok(_) => {}
                Err(error) => panic!("the connection ended: {error}"),
            }
        }
    };
}

mod v3_1_1 {
    use rumqttc::{Client, Event, LastWill, MqttOptions, Packet, QoS};

    use super::*;

    pub(super) fn passes_messages(road: &Road) {
        let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        let will = LastWill::new("v3/will", "gone", QoS::AtLeastOnce, false);
        let (client, mut connection) = client!(road, "rumqttc-1", Some(will));
        client.subscribe("v3/+", QoS::ExactlyOnce).expect("queued");
        let _ = next!(connection, Packet::SubAck(granted) => granted);
        for qos in all {
            let payload = format!("{qos:?}").repeat(500);
            client
                .publish("v3/1", qos, false, payload.clone())
                .expect("queued");
            let got = next!(connection, Packet::Publish(publish) => publish);
            assert_eq!((got.payload, got.qos), (payload.into(), qos));
        }
        client
            .publish("v3/kept", QoS::AtLeastOnce, true, "kept")
            .expect("queued");
        let got = next!(connection, Packet::Publish(publish) => publish);
        assert_eq!((&got.payload[..], got.retain), (&b"kept"[..], false));
        let (watcher, mut watching) = client!(road, "rumqttc-2", None::<LastWill>);
        watcher.subscribe("v3/+", QoS::AtLeastOnce).expect("queued");
        let got = next!(watching, Packet::Publish(publish) => publish);
        assert_eq!((&got.payload[..], got.retain), (&b"kept"[..], true));
        drop(connection);
        let got = next!(watching, Packet::Publish(publish) => publish);
        assert_eq!((&*got.topic, &got.payload[..]), ("v3/will", &b"gone"[..]));
    }
}

mod v5 {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};

    use super::*;

    pub(super) fn passes_messages(road: &Road) {
        let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        let will = LastWill::new("v5/will", "gone", QoS::AtLeastOnce, false, None);
        let (client, mut connection) = client!(road, "rumqttc-5", Some(will));
        client.subscribe("v5/+", QoS::ExactlyOnce).expect("queued");
        let _ = next!(connection, Packet::SubAck(granted) => granted);
        let properties = PublishProperties {
            content_type: Some("text/plain".into()),
            user_properties: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
            ..PublishProperties::default()
        };
        for qos in all {
            let payload = format!("{qos:?}").repeat(500);
            client
                .publish_with_properties("v5/1", qos, false, payload.clone(), properties.clone())
                .expect("queued");
            let got = next!(connection, Packet::Publish(publish) => publish);
            assert_eq!((got.payload, got.qos), (payload.into(), qos));
            let with = got.properties.expect("properties");
            assert_eq!(with.content_type, properties.content_type);
            assert_eq!(with.user_properties, properties.user_properties);
        }
        client
            .publish("v5/kept", QoS::AtLeastOnce, true, "kept")
            .expect("queued");
        let got = next!(connection, Packet::Publish(publish) => publish);
        assert_eq!((&got.payload[..], got.retain), (&b"kept"[..], false));
        let (watcher, mut watching) = client!(road, "rumqttc-6", None::<LastWill>);
        watcher.subscribe("v5/+", QoS::AtLeastOnce).expect("queued");
        let got = next!(watching, Packet::Publish(publish) => publish);
        assert_eq!((&got.payload[..], got.retain), (&b"kept"[..], true));
        drop(connection);
        let got = next!(watching, Packet::Publish(publish) => publish);
        assert_eq!(
            (&got.topic[..], &got.payload[..]),
            (&b"v5/will"[..], &b"gone"[..])
        );
    }
}

#[test]
fn rumqttc_passes_messages_over_tcp() {
    passes_messages(&Road::plain("mqtt"));
}

#[test]
fn rumqttc_passes_messages_over_websocket() {
    passes_messages(&Road::plain("ws"));
}

#[test]
fn rumqttc_passes_messages_over_tls() {
    passes_messages(&Road::secure("mqtts", "mqtt"));
}

#[test]
fn rumqttc_passes_messages_over_secure_websocket() {
    passes_messages(&Road::secure("wss", "ws"));
}

#[test]
fn rumqttc_passes_messages_over_a_unix_socket() {
    passes_messages(&Road::unix());
}
