//! The smqtt-broker daemon.
fn main() {}
