//! A broker that does what a test tells it, one connection at a time.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use smqtt_client::{BrokerAddress, QoS};
use smqtt_proto::packet::{
    AckProperties, ConnAckProperties, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe,
};
use smqtt_proto::server::{Config, Connection, Event};
use smqtt_proto::{Closed, PacketId, ReasonCode, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What to do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    /// Closes the stream without a word.
    Cut,
}

/// Reacts to what a client does. The number counts connections from 1.
pub(crate) type Script = Box<dyn FnMut(usize, &mut Connection, Event) -> Then + Send>;

type Deed = Box<dyn FnOnce(&mut Connection) + Send>;

/// A broker on a port of its own; it ends with the test's runtime.
pub(crate) struct Scripted {
    address: BrokerAddress,
    deeds: mpsc::UnboundedSender<Deed>,
}

impl Scripted {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (deeds, orders) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, script, orders));
        Self {
            address: format!("mqtt://127.0.0.1:{port}").parse().unwrap(),
            deeds,
        }
    }

    pub(crate) fn address(&self) -> BrokerAddress {
        self.address.clone()
    }

    /// Does something to the connection that is there, or to the next.
    pub(crate) fn make(&self, deed: impl FnOnce(&mut Connection) + Send + 'static) {
        let _ = self.deeds.send(Box::new(deed));
    }
}

async fn serve(
    listener: TcpListener,
    mut script: Script,
    mut deeds: mpsc::UnboundedReceiver<Deed>,
) {
    for number in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        converse(stream, number, &mut script, &mut deeds).await;
    }
}

async fn converse(
    mut stream: TcpStream,
    number: usize,
    script: &mut Script,
    deeds: &mut mpsc::UnboundedReceiver<Deed>,
) {
    let mut connection = Connection::new(Arc::new(Config::default()), Instant::now());
    let mut input = BytesMut::new();
    loop {
        let mut over = false;
        while let Some(event) = connection.poll_event() {
            over |= matches!(event, Event::Closed(_));
            if script(number, &mut connection, event) == Then::Cut {
                return;
            }
        }
        let outbox = connection.outbox();
        let bytes = outbox.copy_to_bytes(outbox.remaining());
        if stream.write_all(&bytes).await.is_err() || over {
            return;
        }
        tokio::select! {
            read = stream.read_buf(&mut input) => match read {
                Ok(1..) => connection.handle_input(Instant::now(), &mut input),
                _ => connection.handle_end_of_stream(),
            },
            Some(deed) = deeds.recv() => deed(&mut connection),
        }
    }
}

/// Lets a client in, with no session.
pub(crate) fn accept(connection: &mut Connection) {
    let properties = ConnAckProperties::default();
    connection.accept(Instant::now(), Session::new(), false, properties);
}

/// Grants whatever was asked for.
pub(crate) fn grant(connection: &mut Connection, subscribe: &Subscribe) {
    let reasons = subscribe.subscriptions.iter();
    answer(
        connection,
        subscribe.packet_id,
        reasons.map(|subscription| ReasonCode::granted(subscription.options.qos)),
    );
}

/// Answers a SUBSCRIBE.
pub(crate) fn answer(
    connection: &mut Connection,
    packet_id: PacketId,
    reasons: impl IntoIterator<Item = ReasonCode>,
) {
    connection.suback(SubAck {
        packet_id,
        properties: AckProperties::default(),
        reasons: reasons.into_iter().collect(),
    });
}

/// Answers an UNSUBSCRIBE.
pub(crate) fn release(connection: &mut Connection, unsubscribe: &Unsubscribe) {
    connection.unsuback(UnsubAck {
        packet_id: unsubscribe.packet_id,
        properties: AckProperties::default(),
        reasons: unsubscribe
            .filters
            .iter()
            .map(|_| ReasonCode::Success)
            .collect(),
    });
}

/// Acknowledges a message.
pub(crate) fn acknowledge(connection: &mut Connection, publish: &Publish) {
    if let Some(packet_id) = publish.packet_id {
        connection.acknowledge(packet_id, ReasonCode::Success);
    }
}

/// Does to an event what an ordinary broker does, but for passing messages on.
pub(crate) fn obliging(connection: &mut Connection, event: &Event) {
    match event {
        Event::Connect(_) => accept(connection),
        Event::Publish(publish) => acknowledge(connection, publish),
        Event::Subscribe(subscribe) => grant(connection, subscribe),
        Event::Unsubscribe(unsubscribe) => release(connection, unsubscribe),
        _ => {}
    }
}

/// Whether a client said goodbye as it should.
pub(crate) fn is_goodbye(event: &Event) -> bool {
    matches!(
        event,
        Event::Closed(Closed::Disconnected(disconnect)) if disconnect.reason == ReasonCode::Success
    )
}

/// Whether this is a key frame, and no cleared one.
pub(crate) fn is_frame(publish: &Publish) -> bool {
    publish.topic.as_str().starts_with("smqtt/keys/") && !publish.payload.is_empty()
}

/// Whether this clears a key frame.
pub(crate) fn is_clearing(publish: &Publish) -> bool {
    publish.topic.as_str().starts_with("smqtt/keys/")
        && publish.payload.is_empty()
        && publish.retain
        && publish.qos == QoS::AtLeastOnce
}
