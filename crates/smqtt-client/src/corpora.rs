//! What fuzzing has found interesting is checked in every run, without a fuzzer: the checks are those of the target in
//! `tests/fuzz`.

#[path = "../../../tests/fuzz/checks/kept_records.rs"]
mod kept_records;

use crate::queue::record;
use crate::session::frame;

#[test]
fn records_on_the_disk() {
    let corpus = format!(
        "{}/../../tests/fuzz/corpus/kept_records",
        env!("CARGO_MANIFEST_DIR")
    );
    let inputs = std::fs::read_dir(corpus).expect("a corpus");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("an entry").path();
        kept_records::check(&std::fs::read(path).expect("an input"));
        count += 1;
    }
    assert!(count > 5, "the corpus is lost: {count} inputs");
}
