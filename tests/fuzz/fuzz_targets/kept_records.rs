//! What a client reads from its disk, queued messages and announced key frames: no panic, and what is read is what would be written.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the client uses more of its files")]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/kept_records.rs"]
mod checks;
#[path = "../../../crates/smqtt-client/src/session/frame.rs"]
mod frame;
#[path = "../../../crates/smqtt-client/src/queue/record.rs"]
mod record;

fuzz_target!(|data: &[u8]| checks::check(data));
