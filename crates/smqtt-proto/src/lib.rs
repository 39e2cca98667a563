//! MQTT 3.1.1 and 5.0 without I/O: packets, topics, connection state machines.
#![forbid(unsafe_code)]

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
pub use violation::{Closed, PublishError, Violation};
