//! Policy and attribute-set texts: no panic, and the canonical form is a fixed point with the same
//! formula.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/policy_text.rs"]
mod checks;

fuzz_target!(|text: &str| checks::check(text));
