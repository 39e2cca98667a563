//! Extended authentication (MQTT 5.0 §4.12).

use smqtt_proto::packet::{AuthProperties, ConnAckProperties, Connect};
use smqtt_proto::{
    Closed, Credential, MqttString, Packet, ProtocolVersion, ReasonCode, Session, Violation,
    client, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn with_method() -> client::Options {
    let mut options = options(V5);
    options.connect.properties.authentication_method =
        Some(MqttString::new("M").expect("a string"));
    options
}

fn data(text: &'static str) -> AuthProperties {
    AuthProperties {
        authentication_data: Some(Credential::new(text)),
        ..AuthProperties::default()
    }
}

/// Bytes of the client reach the server, and the other way round, without anybody deciding.
fn exchange(client: &mut client::Connection, alone: &mut Alone) {
    let mut wire = bytes::BytesMut::new();
    bytes::BufMut::put(&mut wire, client.outbox());
    alone.feed(&wire);
}

#[test]
fn a_handshake_of_several_steps_and_a_second_authentication() {
    let mut alone = Alone::new(server::Config::default());
    let mut client =
        client::Connection::new(with_method(), Session::new(), alone.now).expect("encodes");
    exchange(&mut client, &mut alone);
    assert!(matches!(alone.events()[..], [server::Event::Connect(_)]));

    alone
        .server
        .authenticate(ReasonCode::ContinueAuthentication, data("challenge"));
    client.handle_input(alone.now, &mut alone.written()[..].into());
    let Some(client::Event::Auth(auth)) = client.poll_event() else {
        panic!("a challenge")
    };
    assert_eq!(
        auth.properties.authentication_data,
        Some(Credential::new("challenge"))
    );
    assert_eq!(
        auth.properties.authentication_method,
        with_method().connect.properties.authentication_method
    );

    client.authenticate(ReasonCode::ContinueAuthentication, data("response"));
    exchange(&mut client, &mut alone);
    let [server::Event::Auth(auth)] = &alone.events()[..] else {
        panic!("a response")
    };
    assert_eq!(
        auth.properties.authentication_data,
        Some(Credential::new("response"))
    );

    alone.server.accept(
        alone.now,
        Session::new(),
        false,
        ConnAckProperties::default(),
    );
    client.handle_input(alone.now, &mut alone.written()[..].into());
    let Some(client::Event::Connected { connack, .. }) = client.poll_event() else {
        panic!("connected")
    };
    // [MQTT-4.12.0-5]
    assert_eq!(
        connack.properties.authentication_method,
        auth.properties.authentication_method
    );

    client.authenticate(ReasonCode::ReAuthenticate, data("again"));
    exchange(&mut client, &mut alone);
    assert!(
        matches!(&alone.events()[..], [server::Event::Auth(auth)] if auth.reason == ReasonCode::ReAuthenticate)
    );
    alone
        .server
        .authenticate(ReasonCode::Success, AuthProperties::default());
    client.handle_input(alone.now, &mut alone.written()[..].into());
    assert!(
        matches!(client.poll_event(), Some(client::Event::Auth(auth)) if auth.reason == ReasonCode::Success)
    );
}

fn connect_then(connect: Connect, wire: &[u8]) -> Alone {
    let mut alone = Alone::new(server::Config::default());
    alone.feed(&bytes(&Packet::Connect(Box::new(connect)), V5));
    alone.feed(wire);
    alone
}

/// [MQTT-3.1.2-30]
#[test]
fn before_the_connack_only_auth_and_disconnect_may_follow() {
    let mut alone = connect_then(with_method().connect, b"\xC0\x00");
    let events = alone.events();
    assert!(matches!(
        &events[1],
        server::Event::Closed(Closed::Violation(Violation::UnexpectedPacket { .. }))
    ));
    assert_eq!(&alone.written()[..4], b"\x20\x03\x00\x82");
    let mut alone = connect_then(with_method().connect, b"\xE0\x00");
    assert!(matches!(
        &alone.events()[1],
        server::Event::Closed(Closed::Disconnected(_))
    ));
}

/// [MQTT-4.12.0-5], [MQTT-4.12.0-7]
#[test]
fn the_method_can_not_change() {
    let other = b"\xF0\x06\x18\x04\x15\x00\x01N";
    let mut alone = connect_then(with_method().connect, other);
    let violation = Closed::Violation(Violation::AuthenticationMethod);
    assert_eq!(alone.events()[1], server::Event::Closed(violation.clone()));
    // Without a method there is no AUTH.
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(other);
    assert_eq!(alone.events(), [server::Event::Closed(violation.clone())]);
    // [MQTT-4.12.0-6]: the server sends none either.
    let mut alone = Alone::open(V5, server::Config::default());
    alone
        .server
        .authenticate(ReasonCode::ContinueAuthentication, data("x"));
    assert!(alone.written().is_empty());
    // The client refuses one that it did not ask for.
    let mut pair = Pair::connected(V5);
    pair.client.handle_input(pair.now, &mut other[..].into());
    pair.drain_client();
    assert_eq!(pair.client_events, [client::Event::Closed(violation)]);
}
