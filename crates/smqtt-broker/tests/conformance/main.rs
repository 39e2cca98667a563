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
