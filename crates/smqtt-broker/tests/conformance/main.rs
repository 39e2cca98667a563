//! What the specifications demand, shown on the wire: docs/conformance.md names the test of each statement.

#[path = "../harness/mod.rs"]
mod harness;

mod against;
mod model;
mod splitting;
mod table;
mod v3_client;
mod v3_connect;
mod v3_delivery;
mod v3_format;
mod v3_publish;
mod v3_subscribe;
mod v3_topics;
mod v3_will;
mod v3_wire;
mod v5_connect;
mod v5_delivery;
mod v5_ending;
mod v5_format;
mod v5_publish;
mod v5_retain;
mod v5_session;
mod v5_shared;
mod v5_subscribe;
mod v5_topics;
mod v5_will;
mod v5_wire;
