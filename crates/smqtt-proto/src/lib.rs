//! MQTT 3.1.1 and 5.0 without I/O: packets, topics, and the state machines of client and server connections.
//!
//! No socket is opened here, no clock is read and no thread is started: bytes and the time come in as parameters, bytes
//! and events come out. So a broker, a client, a test in virtual time and a fuzzer drive the same code.
//!
//! # The one invariant
//!
//! **Mutate, then drain.** After every call of a method of a connection that takes `&mut self` (`handle_*`, `accept`,
//! `publish`, `acknowledge`, ...),
//!
//! 1. call `poll_event` until it is `None`,
//! 2. write what is in `outbox` to the peer, as far as it takes it,
//! 3. arrange for `handle_timeout` at `poll_timeout`.
//!
//! A caller may do several mutations before it drains; all of them happen in the order of the calls. After
//! `Event::Closed` nothing follows: write the rest of the outbox, take the session if it is to be kept, close the stream.
//!
//! # Where to find what
//!
//! | | |
//! |---|---|
//! | [`packet`] | the fifteen packets with all their properties, one model for both versions |
//! | [`Decoder`], [`encode`] | bytes to packets, incrementally and without copying, and back |
//! | [`TopicName`], [`TopicFilter`] | parsed once, matched without allocation |
//! | [`Message`], [`Outbox`] | one message to many subscribers: encoded once, a few bytes each |
//! | [`server::Connection`], [`client::Connection`] | handshake, keep-alive, QoS 0 to 2, flow control, topic aliases |
//! | [`Session`] | what outlives a connection |
//! | [`DecodeError`], [`Violation`] | what a peer did wrong, and the reason code to tell it |
//!
//! Memory is bounded by configuration: a connection holds what of one packet has arrived (at most `max_packet_size`), the
//! batch that was handed in, as many messages as its window, as many topic aliases as were allowed. Nothing is allocated
//! for what a peer only announces.
//!
//! # Example
//!
//! A client and a server talk to each other through two buffers.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use bytes::{BufMut, BytesMut};
//! use smqtt_proto::packet::{ConnAckProperties, Publish};
//! use smqtt_proto::{
//!     Delivery, Message, MqttString, ProtocolVersion, QoS, ReasonCode, Session, TopicName, client, server,
//! };
//!
//! let now = Instant::now();
//! let options = client::Options::new(ProtocolVersion::V5, MqttString::new("sensor")?);
//! let mut client = client::Connection::new(options, Session::new(), now)?;
//! let mut server = server::Connection::new(Arc::new(server::Config::default()), now);
//!
//! // CONNECT and CONNACK.
//! let mut wire = BytesMut::new();
//! wire.put(client.outbox());
//! server.handle_input(now, &mut wire);
//! assert!(matches!(server.poll_event(), Some(server::Event::Connect(_))));
//! server.accept(now, Session::new(), false, ConnAckProperties::default());
//! wire.put(server.outbox());
//! client.handle_input(now, &mut wire);
//! assert!(matches!(client.poll_event(), Some(client::Event::Connected { .. })));
//!
//! // A message with QoS 1 and its PUBACK.
//! let publish = Publish::new(TopicName::new("berlin/temperature")?, "21.5");
//! let message = Arc::new(Message::new(&publish, now)?);
//! let id = client.publish(now, &message, Delivery::new(QoS::AtLeastOnce))?.expect("QoS 1 has an identifier");
//! wire.put(client.outbox());
//! server.handle_input(now, &mut wire);
//! let Some(server::Event::Publish(received)) = server.poll_event() else { panic!("a message was sent") };
//! assert_eq!(received.payload, "21.5");
//! server.acknowledge(id, ReasonCode::Success);
//! wire.put(server.outbox());
//! client.handle_input(now, &mut wire);
//! let acknowledged = client::Event::Acknowledged { packet_id: id, reason: ReasonCode::Success };
//! assert_eq!(client.poll_event(), Some(acknowledged));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod aliases;
pub mod client;
mod codec;
mod error;
mod flow;
mod intake;
mod message;
mod outbox;
pub mod packet;
mod protocol;
mod reason;
pub mod server;
mod session;
mod text;
mod topic;
mod traffic;
mod violation;

pub use codec::{Decoder, PropertyId, encode, encoded_len};
pub use error::{DecodeError, EncodeError};
pub use message::{Delivery, Framing, Message};
pub use outbox::Outbox;
pub use packet::{Credential, Packet, PacketType};
pub use protocol::{PacketId, ProtocolVersion, QoS};
pub use reason::ReasonCode;
pub use session::{InFlight, Session};
pub use text::{MqttString, TextError};
pub use topic::{Level, TopicError, TopicFilter, TopicName};
pub use traffic::Traffic;
pub use violation::{Closed, PublishError, Violation};
