//! Ciphertexts of both schemes, raw and as edits of a genuine one: no panic, and only the genuine one
//! opens to its key.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/abe_ciphertext.rs"]
mod checks;

fuzz_target!(|data: (bool, Vec<(u16, u8)>, &[u8])| checks::check(data));
