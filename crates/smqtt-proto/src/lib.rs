//! MQTT 3.1.1 and 5.0 without I/O: packets, topics, connection state machines.
#![forbid(unsafe_code)]

mod codec;
mod error;
pub mod packet;
mod protocol;
mod reason;
mod text;
mod topic;

pub use codec::{Decoder, PropertyId, encode, encoded_len};
pub use error::{DecodeError, EncodeError};
pub use packet::{Credential, Packet, PacketType};
pub use protocol::{PacketId, ProtocolVersion, QoS};
pub use reason::ReasonCode;
pub use text::{MqttString, TextError};
pub use topic::{Level, TopicError, TopicFilter, TopicName};
