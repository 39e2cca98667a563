//! Encoded parameters and keys of both schemes: no panic, and what decodes has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/abe_key.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::check(data));
