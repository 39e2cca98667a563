//! MQTT over WebSocket, the opening request and frames: no panic, bounded, and one result however the bytes are cut.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the broker uses more of its file")]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/websocket.rs"]
mod checks;
#[path = "../../../crates/smqtt-broker/src/websocket/mod.rs"]
mod websocket;

fuzz_target!(|data: &[u8]| checks::check(data));
