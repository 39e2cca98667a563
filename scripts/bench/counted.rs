//! What the benchmarks named `instructions` have in common; scripts/bench/instructions runs them under valgrind.
//!
//! Without arguments such a program prints the names of its operations, one a line; with a name it runs that
//! operation, warm, once within [`smqtt_counted`], the function whose instructions valgrind counts.

use std::hint::black_box;

#[inline(never)]
fn smqtt_counted(operation: &mut dyn FnMut()) {
    operation();
    black_box(());
}

/// Runs it three times and counts the last: what is made once and kept (tables, hashes, buffers) is there by then.
pub(crate) fn count<T>(mut operation: impl FnMut() -> T) {
    let mut last = None;
    for _ in 0..2 {
        last = Some(operation());
    }
    smqtt_counted(&mut || last = Some(black_box(operation())));
    drop(last);
}

/// Does what the command line says with `run`, which gets the name of an operation.
///
/// # Panics
/// The name is none of `operations`.
pub(crate) fn main(operations: &[&str], run: impl FnOnce(&str)) {
    // cargo passes `--bench` to benchmarks.
    match std::env::args().skip(1).find(|name| name != "--bench") {
        None => println!("{}", operations.join("\n")),
        Some(name) => {
            assert!(operations.contains(&&*name), "no operation {name}");
            run(&name);
        }
    }
}
