//! What is acknowledged was synced before: read off the system calls of the real broker, as `strace` saw
//! them.

#[path = "harness/disk.rs"]
mod disk;
mod harness;
#[path = "../../../tests/src/trace.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "another test uses the rest of it"
)]
mod trace;

use std::path::Path;

use harness::{Broker, Client, Options, publish, utf8, wait_for};
use smqtt_proto::QoS;
use trace::Call;

const MESSAGES: usize = 40;

/// Runs a broker below `strace`, publishes, and gives back its calls.
fn traced(durability: &str) -> Vec<Call> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let output = dir.path().join("trace");
    let config = dir.path().join("broker.toml");
    std::fs::write(&config, format!("[store]\ndurability = \"{durability}\"\n")).expect("write");
    let calls = "write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync";
    let mut options = disk::looking_at(calls, &output);
    // File names beside descriptors, whole buffers, in hexadecimal.
    options.extend(["-yy", "-xx", "--string-limit=1000000"].map(str::to_owned));
    let data = dir.path().join("data");
    let args = [
        "--config",
        utf8(&config),
        "--listen",
        "mqtt://127.0.0.1:0",
        "--allow-anonymous",
        "--workers",
        "2",
        "--data-dir",
        utf8(&data),
    ];
    let mut broker = Broker::spawn(disk::command(&options, &args), 1);
    let port = broker.port();
    let mut client = Client::connect(port, Options::v5("sub").persistent());
    client.subscribe("t", QoS::ExactlyOnce);
    client.disconnect();
    let mut publisher = Client::connect(port, Options::v5("pub").persistent());
    for number in 0..MESSAGES {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
        let mut packet = publish("t", qos, &marker(number));
        packet.retain = number.is_multiple_of(3);
        assert!(!publisher.publish_packet(packet).is_error());
    }
    broker.signal("KILL");
    broker.wait();
    // strace writes its last lines after the broker's end.
    let text = wait_for(|| read_ended(&output));
    trace::calls(&text)
}

/// The trace, once it has its end.
fn read_ended(trace: &Path) -> Option<String> {
    let text = std::fs::read_to_string(trace).ok()?;
    let end = text.rfind("+++ killed by SIGKILL +++")?;
    let begin = text[..end].rfind('\n')? + 1;
    let lines = text[..begin].lines().filter(|line| !line.contains("+++"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// What is in the payload of a message and nowhere else.
fn marker(number: usize) -> String {
    format!("<message {number:04}>")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// For each message, where in the trace its payload was written to a journal, where that journal was
/// synced, and where its acknowledgement left.
fn order(calls: &[Call], number: usize) -> (usize, Option<usize>, usize) {
    let payload = hex(marker(number).as_bytes());
    let journal_name = hex(b".jnl") + ">";
    let is_write = |name: &str| matches!(name, "write" | "writev" | "pwrite64" | "pwritev");
    let written = calls
        .iter()
        .position(|call| {
            is_write(&call.name)
                && call.arguments.contains(&journal_name)
                && call.arguments.contains(&payload)
        })
        .unwrap_or_else(|| panic!("{} was never written", marker(number)));
    let journal = calls[written]
        .arguments
        .split('>')
        .next()
        .expect("a descriptor");
    let synced = calls[written..]
        .iter()
        .position(|call| {
            matches!(&*call.name, "fsync" | "fdatasync")
                && call.arguments.starts_with(journal)
                && call.result == 0
        })
        .map(|at| written + at);
    // The publisher has one message under way at a time: the first acknowledgement after the PUBLISH is its.
    let acknowledgement = match number % 2 {
        0 => "\\x40",
        _ => "\\x50",
    };
    let left = calls[written..]
        .iter()
        .position(|call| {
            call.arguments.contains("<TCP:")
                && call
                    .arguments
                    .contains(&format!("\"{acknowledgement}\\x02"))
        })
        .unwrap_or_else(|| panic!("{} was acknowledged before it was written", marker(number)));
    (written, synced, written + left)
}

#[test]
fn what_is_acknowledged_was_synced_before_with_strace() {
    let calls = traced("sync");
    for number in 0..MESSAGES {
        let (_, synced, left) = order(&calls, number);
        assert!(
            synced.is_some_and(|synced| synced < left),
            "{}: synced at call {synced:?}, acknowledged at {left}",
            marker(number)
        );
    }
    // The same look at a broker that promises less sees the difference.
    let calls = traced("os");
    for number in 0..MESSAGES {
        let (written, synced, left) = order(&calls, number);
        assert!(written < left, "{}", marker(number));
        assert!(
            synced.is_none_or(|synced| synced > left),
            "{}",
            marker(number)
        );
    }
}
