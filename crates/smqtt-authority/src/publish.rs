//! Publishing the signed state to a broker: MQTT 5, retained, QoS 1.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::RngExt as _;
use rustls::ClientConfig;
use smqtt_format::STATE_TOPIC;
use smqtt_pki::{AUTHORITY_DEVICE, ServerName};
use smqtt_proto::client::{Connection, Event, Options};
use smqtt_proto::packet::{DisconnectProperties, Publish};
use smqtt_proto::{
    Closed, Delivery, Message, MqttString, ProtocolVersion, QoS, ReasonCode, Session, TopicName,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Why the broker has not got it.
enum Failed {
    /// A broker that lets each device connect under its own name only.
    ClientId,
    Other(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Publishes a state and waits for the acknowledgement.
pub(crate) async fn publish_state(
    url: &str,
    tls: &Arc<ClientConfig>,
    state: Vec<u8>,
    patience: Duration,
) -> Result<(), String> {
    let state = Bytes::from(state);
    let attempts = async {
        // A name of its own for each connection, so that none takes over another's.
        let name = format!("{AUTHORITY_DEVICE}-{:08x}", rand::rng().random::<u32>());
        match attempt(url, tls, &name, state.clone()).await {
            Err(Failed::ClientId) => attempt(url, tls, AUTHORITY_DEVICE, state).await,
            other => other,
        }
    };
    match tokio::time::timeout(patience, attempts).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failed::Other(reason))) => Err(reason),
        Ok(Err(Failed::ClientId)) => Err(format!("it refuses the client id {AUTHORITY_DEVICE}")),
        Err(_) => Err("it did not answer in time".into()),
    }
}

async fn attempt(
    url: &str,
    tls: &Arc<ClientConfig>,
    client_id: &str,
    state: Bytes,
) -> Result<(), Failed> {
    let other = |error: &dyn std::fmt::Display| Failed::Other(error.to_string());
    let url = Url::parse(url).map_err(|e| other(&e))?;
    let (host, name) = match url.host() {
        Some(Host::Ipv4(ip)) => (ip.to_string(), ServerName::from(std::net::IpAddr::from(ip))),
        Some(Host::Ipv6(ip)) => (ip.to_string(), ServerName::from(std::net::IpAddr::from(ip))),
        Some(Host::Domain(domain)) => (
            domain.to_owned(),
            ServerName::try_from(domain.to_owned()).map_err(|e| other(&e))?,
        ),
        None => return Err(Failed::Other("its URL has no host".into())),
    };
    let secure = url.scheme() == "mqtts";
    let port = url.port().unwrap_or(if secure { 8883 } else { 1883 });
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    if secure {
        let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
        exchange(stream, client_id, state).await
    } else {
        exchange(tcp, client_id, state).await
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    client_id: &str,
    state: Bytes,
) -> Result<(), Failed> {
    let other = |error: &dyn std::fmt::Display| Failed::Other(error.to_string());
    let client_id = MqttString::new(client_id).map_err(|e| other(&e))?;
    let options = Options::new(ProtocolVersion::V5, client_id);
    let mut mqtt =
        Connection::new(options, Session::new(), Instant::now()).map_err(|e| other(&e))?;
    let mut input = BytesMut::new();
    loop {
        while let Some(event) = mqtt.poll_event() {
            match event {
                Event::Connected { .. } => {
                    let topic = TopicName::new(STATE_TOPIC).map_err(|e| other(&e))?;
                    let now = Instant::now();
                    let publish = Publish::new(topic, state.clone());
                    let message = Arc::new(Message::new(&publish, now).map_err(|e| other(&e))?);
                    let mut delivery = Delivery::new(QoS::AtLeastOnce);
                    delivery.retain = true;
                    mqtt.publish(now, &message, delivery)
                        .map_err(|e| other(&e))?;
                }
                Event::Acknowledged { reason, .. } if reason.is_error() => {
                    return Err(Failed::Other(format!(
                        "it refuses the state: {reason}; grant publish and retain for {STATE_TOPIC} to device:{AUTHORITY_DEVICE}"
                    )));
                }
                Event::Acknowledged { .. } => {
                    mqtt.disconnect(ReasonCode::Success, DisconnectProperties::default());
                    stream.write_all_buf(mqtt.outbox()).await?;
                    // It has the state: how the connection ends does not matter any more.
                    let _ = stream.shutdown().await;
                    return Ok(());
                }
                Event::Closed(closed) => return Err(refusal(&closed)),
                _ => {}
            }
        }
        stream.write_all_buf(mqtt.outbox()).await?;
        stream.flush().await?;
        if stream.read_buf(&mut input).await? == 0 {
            mqtt.handle_end_of_stream();
        } else {
            mqtt.handle_input(Instant::now(), &mut input);
        }
    }
}

fn refusal(closed: &Closed) -> Failed {
    match closed {
        Closed::Refused(connack) if connack.reason == ReasonCode::ClientIdentifierNotValid => {
            Failed::ClientId
        }
        Closed::Refused(connack) => Failed::Other(format!("it refuses us: {}", connack.reason)),
        other => Failed::Other(other.to_string()),
    }
}
