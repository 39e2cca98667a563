//! What fuzzing has found interesting is checked in every run, without a fuzzer: the checks are those of
//! the targets in `tests/fuzz`.

#[path = "../../../tests/fuzz/checks/proxy_header.rs"]
mod proxy_header;
#[path = "../../../tests/fuzz/checks/websocket.rs"]
mod websocket;

/// Gives every file of a target's corpus to its check, as libFuzzer would.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let corpus = format!(
        "{}/../../tests/fuzz/corpus/{target}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        check(&std::fs::read(path).expect("readable"));
        count += 1;
    }
    assert!(count > 1, "{target} has a corpus");
}

#[test]
fn proxy_headers() {
    replay("proxy_header", proxy_header::check);
}

#[test]
fn websockets() {
    replay("websocket", websocket::check);
}
