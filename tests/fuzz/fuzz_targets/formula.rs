//! Encoded formulas and sets, as they stand in keys: no panic, one spelling, and the share matrix of
//! whatever decodes opens for exactly the sets that satisfy it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/formula.rs"]
mod checks;

fuzz_target!(|data: (&[u8], &[u8])| checks::check(data));
