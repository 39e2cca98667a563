//! Sealing and opening, measured.
fn main() {}
