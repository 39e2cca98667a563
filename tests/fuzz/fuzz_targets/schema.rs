//! Texts read through a schema: no panic, and what passes is what the schema allows.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/schema.rs"]
mod checks;

fuzz_target!(|text: &str| checks::check(text));
