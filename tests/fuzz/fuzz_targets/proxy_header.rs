//! The header of the PROXY protocol: no panic, bounded, and one result however its bytes are cut.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the broker uses more of its file")]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/proxy_header.rs"]
mod checks;
#[path = "../../../crates/smqtt-broker/src/proxy/header.rs"]
mod proxy;

fuzz_target!(|data: &[u8]| checks::check(data));
