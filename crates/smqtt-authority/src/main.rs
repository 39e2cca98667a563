//! The smqtt-authority daemon.
fn main() {}
