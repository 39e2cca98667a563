//! `smqtt sub --session --out-dir`: a message's file is on the disk before its acknowledgement leaves, read off the system calls of
//! the real program, as `strace` saw them; and a program that is killed leaves no message without one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::BytesMut;
use smqtt_proto::{Decoder, Packet, ProtocolVersion};
use smqtt_tests::fleet::{Authority, Fleet, plain_broker, publish, subscribe};
use smqtt_tests::programs::{Running, program, run};
use smqtt_tests::trace::{Call, calls, traced};

const POLICY: &str = "role = reader";
const MESSAGES: usize = 30;

struct Site {
    fleet: Fleet,
    sensor: PathBuf,
    anna: PathBuf,
    messages: PathBuf,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::init();
        // Without TLS, acknowledgements are seen as what they are.
        let broker = plain_broker(&authority);
        let fleet = Fleet::with_broker(authority, broker);
        Self {
            sensor: fleet.enrol("sensor", "type = thermometer"),
            anna: fleet.enrol("anna", "role = reader"),
            messages: fleet.authority.root().join("messages/new"),
            fleet,
        }
    }

    /// `smqtt sub` into files.
    fn reader(&self, kept: bool) -> Command {
        let mut command = program("smqtt");
        command.args(["sub", "-t", "plant/#", "--mqtt", "5", "-i"]);
        command.arg(&self.anna).arg("--out-dir").arg(&self.messages);
        if kept {
            command.arg("--session");
            command.arg(self.fleet.authority.root().join("session"));
        }
        command
    }

    fn publish(&self, number: usize) -> Command {
        publish(&self.sensor, "plant/7", POLICY, &["-m", &marker(number)])
    }
}

/// A payload.
fn marker(number: usize) -> String {
    format!("<message {number:04}>")
}

/// A trace of a reader of all messages, to its end.
fn trace_of(site: &Site, kept: bool) -> Vec<Call> {
    let trace = site.fleet.authority.root().join(format!("trace-{kept}"));
    let looked_at = "read,readv,recvfrom,recvmsg,write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,link,linkat";
    let reader = Running::start(&mut traced(&site.reader(kept), looked_at, &trace));
    reader.wait_for_stderr("subscribed to");
    for number in 0..MESSAGES {
        let _ = run(&mut site.publish(number)).success();
        reader.watch_stdout(|text| (text.lines().count() > number).then_some(()));
    }
    let id = reader.id().to_string();
    let _ = reader.interrupt().success();
    // strace writes its last lines behind the program's end.
    let ended = |line: &str| {
        let parts = line.split_once(' ');
        parts.is_some_and(|(process, what)| {
            process == id && what.trim_start() == "+++ exited with 0 +++"
        })
    };
    let whole = |text: &String| text.lines().any(ended);
    let deadline = std::time::Instant::now() + smqtt_tests::programs::PATIENCE;
    loop {
        match fs::read_to_string(&trace).ok().filter(whole) {
            Some(text) => return calls(&text),
            None => assert!(std::time::Instant::now() < deadline, "strace does not end"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn is_socket(call: &Call) -> bool {
    call.arguments.contains("<TCP:")
}

fn reads(call: &Call) -> bool {
    matches!(&*call.name, "read" | "readv" | "recvfrom" | "recvmsg")
}

/// For each call that moved bytes between the program and the broker in one direction, the packets that were whole with it.
fn packets(calls: &[Call], inwards: bool) -> Vec<(usize, Packet)> {
    let mut decoder = match inwards {
        true => Decoder::new(ProtocolVersion::V5, 1 << 20),
        false => Decoder::for_server(1 << 20),
    };
    let mut bytes = BytesMut::new();
    let mut found = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        if is_socket(call) && reads(call) == inwards {
            bytes.extend_from_slice(&call.moved());
            while let Some(packet) = decoder.decode(&mut bytes).expect("MQTT") {
                found.push((at, packet));
            }
        }
    }
    found
}

/// Where in the trace what happened to a message.
#[derive(Debug)]
struct Order {
    written: usize,
    /// The file.
    synced: Option<usize>,
    named: usize,
    /// The directory, behind that.
    directory: Option<usize>,
    acknowledged: usize,
}

fn orders(calls: &[Call], directory: &Path) -> Vec<Order> {
    let acknowledged: BTreeMap<u16, usize> = packets(calls, false)
        .into_iter()
        .filter_map(|(at, packet)| match packet {
            Packet::PubAck(ack) => Some((ack.packet_id.get(), at)),
            _ => None,
        })
        .collect();
    // There are messages of this topic alone, which a broker may say once and then by an alias.
    let arrived = packets(calls, true).into_iter().filter_map(|(_, packet)| {
        let Packet::Publish(publish) = packet else {
            return None;
        };
        let topic = &publish.topic;
        assert!(topic.is_aliased() || topic.as_str() == "plant/7");
        publish.packet_id.map(|id| id.get())
    });
    let hex = |text: &str| -> String { text.bytes().map(|b| format!("\\x{b:02x}")).collect() };
    let directory = format!("<{}>", hex(directory.to_str().expect("UTF-8")));
    let syncs = |call: &Call| matches!(&*call.name, "fsync" | "fdatasync") && call.result == 0;
    let later = |from: usize, found: &dyn Fn(&Call) -> bool| {
        let at = calls[from..].iter().position(found);
        at.map(|at| from + at)
    };
    let order = |(number, id): (usize, u16)| {
        let payload = format!("\"{}\"", hex(&marker(number)));
        let to_file = |call: &Call| {
            call.name == "write" && !is_socket(call) && call.arguments.contains(&payload)
        };
        let written = later(0, &to_file).expect("a message is written");
        let file = calls[written]
            .arguments
            .split(", ")
            .next()
            .expect("a descriptor");
        let (_, path) = file.split_once('<').expect("a path");
        let path = path.trim_end_matches('>');
        let link = |call: &Call| {
            call.name.starts_with("link") && call.arguments.contains(path) && call.result == 0
        };
        let named = later(written, &link).expect("a file gets its name");
        Order {
            written,
            synced: later(written, &|call| {
                syncs(call) && call.arguments.starts_with(file)
            }),
            named,
            directory: later(named, &|call| {
                syncs(call) && call.arguments.contains(&directory)
            }),
            acknowledged: acknowledged[&id],
        }
    };
    arrived.enumerate().map(order).collect()
}

#[test]
fn a_file_is_on_the_disk_before_its_message_is_acknowledged_with_strace() {
    let site = Site::new();
    let kept = orders(&trace_of(&site, true), &site.messages);
    assert_eq!(kept.len(), MESSAGES);
    for order in kept {
        // Whole before it has its name; and the name, too, before the broker forgets the message.
        assert!(order.synced.is_some_and(|at| at < order.named), "{order:?}");
        let on_disk = order.directory.is_some_and(|at| at < order.acknowledged);
        assert!(on_disk, "{order:?}");
    }
    // The same look at a reader that promises less sees the difference.
    let forgetful = orders(&trace_of(&site, false), &site.messages);
    assert_eq!(forgetful.len(), MESSAGES);
    for order in forgetful {
        assert!(order.written < order.named, "{order:?}");
        assert_eq!((order.synced, order.directory), (None, None), "{order:?}");
    }
}

#[test]
fn a_reader_that_is_killed_leaves_a_file_for_every_message() {
    let site = Site::new();
    let witness = subscribe(&site.anna, "plant/#", &[]);
    let mut publisher = Running::start(&mut publish(&site.sensor, "plant/7", POLICY, &["-l"]));
    let count = || fs::read_dir(&site.messages).map_or(0, Iterator::count);
    for round in 0..4 {
        let reader = Running::start(&mut site.reader(true));
        reader.wait_for_stderr("subscribed to");
        for number in round * 30..round * 30 + 30 {
            publisher.write(format!("{}\n", marker(number)).as_bytes());
        }
        // Some are there, with luck not all.
        while count() < round * 30 + 10 {
            std::thread::yield_now();
        }
        reader.signal("KILL");
        let _ = reader.wait();
    }
    let _ = publisher.wait().success();
    witness.wait_for_stdout(&marker(119));
    let reader = Running::start(&mut site.reader(true));
    let last = ["-m", "the last"];
    let _ = run(&mut publish(&site.sensor, "plant/8", POLICY, &last)).success();
    reader.wait_for_stdout("plant%2F8");
    let _ = reader.interrupt().success();

    let mut texts: Vec<String> = fs::read_dir(&site.messages)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        // What was being written at a kill hides.
        .filter(|path| {
            let name = path.file_name().expect("a name");
            !name.as_encoded_bytes().starts_with(b".")
        })
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    texts.sort();
    texts.dedup();
    let mut expected: Vec<String> = (0..120).map(marker).collect();
    expected.push("the last".to_owned());
    expected.sort();
    assert_eq!(texts, expected);
}
