//! A hostile broker operator: between a broker and its clients, with the broker's own certificate.
//!
//! Devices connect to the relay over TLS as to a broker; it holds a genuine server certificate of their authority, as
//! whoever took the broker would. It speaks plain MQTT to the broker behind it, sees every packet, and does
//! to the messages towards subscribers what the test wants: the broker gets its acknowledgements from the relay, the
//! subscriber gets packet identifiers of the relay's, as many at a time as its receive maximum allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use smqtt_pki::tls::{ClientAuth, server_config};
use smqtt_pki::{IdentityKey, TrustAnchor, certificates_from_pem};

use smqtt_proto::packet::{Ack, Publish};
use smqtt_proto::{Decoder, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, encode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::fleet::Authority;
use crate::listening::Listening;

/// The largest packet that passes, in bytes.
const MAX_PACKET: u32 = 1 << 20;

/// Messages of QoS 1 that a subscriber may leave unacknowledged: what `smqtt sub` allows, and any other may.
const WINDOW: usize = 1_024;

/// What the operator does to a message on its way to a subscriber: the messages that go on in its place.
pub type Deed = Box<dyn FnMut(Publish) -> Vec<Publish> + Send>;

/// A relay that runs until it is dropped.
pub struct Relay {
    listening: Listening,
}

impl Relay {
    /// Starts a relay in front of the plain broker on `upstream` (a port of 127.0.0.1) that does `deed` to every message
    /// towards any subscriber.
    ///
    /// # Panics
    /// If it cannot come up.
    #[must_use]
    pub fn start(authority: &Authority, upstream: u16, deed: Deed) -> Self {
        let tls = authority.issue_server("relay");
        let read = |name: &str| {
            std::fs::read(tls.join(name)).expect("the server's files were just issued")
        };
        let chain = certificates_from_pem(&read("server.crt")).expect("a chain");
        let key =
            IdentityKey::from_pem(&String::from_utf8_lossy(&read("server.key"))).expect("a key");
        let root = certificates_from_pem(&read("ca.crt"))
            .expect("a root")
            .remove(0);
        let anchor = TrustAnchor::new(root).expect("a trust anchor");
        let config = server_config(
            chain,
            key.to_der().expect("a key encodes"),
            ClientAuth::Required((&anchor).into()),
            &[],
        )
        .expect("a server configuration");

        let acceptor = TlsAcceptor::from(Arc::new(config));
        let deed = Arc::new(Mutex::new(deed));
        Self {
            listening: Listening::start(move |listener| serve(listener, acceptor, upstream, deed)),
        }
    }

    /// Where devices connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.listening.url()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    upstream: u16,
    deed: Arc<Mutex<Deed>>,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, deed) = (acceptor.clone(), Arc::clone(&deed));
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(device) = acceptor.accept(socket).await else {
                return;
            };
            let Ok(broker) = TcpStream::connect(("127.0.0.1", upstream)).await else {
                return;
            };
            let _ = broker.set_nodelay(true);
            let (device_in, device_out) = tokio::io::split(device);
            let (broker_in, broker_out) = broker.into_split();
            let between = Arc::new(Between {
                version: Mutex::new(None),
                broker: tokio::sync::Mutex::new(broker_out),
                window: Semaphore::new(WINDOW),
            });
            tokio::select! {
                () = upwards(device_in, Arc::clone(&between)) => {}
                () = downwards(broker_in, device_out, between, deed) => {}
            }
        });
    }
}

/// What the two directions of a connection share.
struct Between {
    version: Mutex<Option<ProtocolVersion>>,
    broker: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Messages that the device may get before it has acknowledged others.
    window: Semaphore,
}

/// From device to broker: as it is, but for the acknowledgements of what the relay has sent. The CONNECT tells the version for
/// the other direction.
async fn upwards(mut device: impl AsyncRead + Unpin, between: Arc<Between>) {
    let mut decoder = Decoder::for_server(MAX_PACKET);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    while matches!(device.read_buf(&mut input).await, Ok(read) if read > 0) {
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(Packet::PubAck(_))) => between.window.add_permits(1),
                Ok(Some(packet)) => {
                    let known = decoder.version().expect("a CONNECT came first");
                    *between.version.lock().expect("no relay task panics") = Some(known);
                    encode(&packet, known, &mut output).expect("what was decoded can be encoded");
                }
                Ok(None) => break,
                Err(error) => panic!("a device sent what is no MQTT: {error}"),
            }
        }
        let mut broker = between.broker.lock().await;
        if broker.write_all_buf(&mut output).await.is_err() {
            break;
        }
    }
}

/// From broker to device: every message goes through the deed.
async fn downwards(
    mut broker: impl AsyncRead + Unpin,
    mut device: impl AsyncWrite + Unpin,
    between: Arc<Between>,
    deed: Arc<Mutex<Deed>>,
) {
    let mut decoder = None;
    let mut aliases = HashMap::new();
    let mut sent = 0u16;
    let (mut input, mut output, mut answers) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    while matches!(broker.read_buf(&mut input).await, Ok(read) if read > 0) {
        let known = between
            .version
            .lock()
            .expect("no relay task panics")
            .expect("a broker answers a CONNECT");
        let decoder = decoder.get_or_insert_with(|| Decoder::new(known, MAX_PACKET));
        while let Ok(Some(packet)) = decoder.decode(&mut input) {
            let Packet::Publish(mut publish) = packet else {
                encode(&packet, known, &mut output).expect("a packet encodes");
                continue;
            };
            // A deed sees every topic in full: an alias would bind what it moves.
            if let Some(alias) = publish.properties.topic_alias.take() {
                if publish.topic.is_aliased() {
                    publish.topic = aliases
                        .get(&alias)
                        .cloned()
                        .expect("a broker binds before it uses");
                } else {
                    aliases.insert(alias, publish.topic.clone());
                }
            }
            if let Some(id) = publish.packet_id.take() {
                assert_eq!(
                    publish.qos,
                    QoS::AtLeastOnce,
                    "QoS 2 does not pass this relay"
                );
                let answer = Packet::PubAck(Ack::new(id, ReasonCode::Success));
                encode(&answer, known, &mut answers).expect("a packet encodes");
            }
            publish.dup = false;
            let done = (deed.lock().expect("a deed does not panic"))(publish);
            for mut publish in done {
                if publish.qos == QoS::AtLeastOnce {
                    if between.window.available_permits() == 0
                        && device.write_all_buf(&mut output).await.is_err()
                    {
                        return;
                    }
                    let permit = between.window.acquire().await;
                    permit.expect("the window is never closed").forget();
                    sent = sent.checked_add(1).unwrap_or(1);
                    publish.packet_id = PacketId::new(sent);
                }
                encode(&Packet::Publish(publish), known, &mut output).expect("a packet encodes");
            }
        }
        {
            let mut broker = between.broker.lock().await;
            if broker.write_all_buf(&mut answers).await.is_err() {
                break;
            }
        }
        if device.write_all_buf(&mut output).await.is_err() {
            break;
        }
    }
}
