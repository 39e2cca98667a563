//! Asks the broker's admin listener.
#![allow(dead_code, unreachable_pub, reason = "as for the harness")]

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Broker, PATIENCE, utf8};

/// A broker with an admin listener, configured by `text`, and where that listener is.
pub fn administered(text: &str) -> (Broker, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("broker.toml");
    std::fs::write(&path, text).expect("write configuration");
    let mut broker = Broker::open_with(&["--config", utf8(&path), "--admin", "127.0.0.1:0"]);
    let line = broker.wait_for_line("admin on http://");
    let address = line.rsplit('/').next().expect("an address").to_owned();
    (broker, address)
}

/// Status and body of the answer to a request with these further header lines.
pub fn request(address: &str, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the admin listener listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let host = if headers.to_ascii_lowercase().contains("host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n"
    )
    .expect("the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"));
    let body = answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
    (status, body)
}

pub fn get(address: &str, path: &str) -> (u16, String) {
    request(address, "GET", path, "")
}

/// The value of one sample of `/metrics`.
pub fn metric(address: &str, sample: &str) -> Option<u64> {
    let (status, body) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert!(body.ends_with("# EOF\n"));
    body.lines()
        .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

pub fn client_report(address: &str, client_id: &str) -> serde_json::Value {
    let (status, body) = get(address, &format!("/clients?client_id={client_id}"));
    assert_eq!(status, 200, "{body}");
    let listing: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    listing["clients"][0].clone()
}
