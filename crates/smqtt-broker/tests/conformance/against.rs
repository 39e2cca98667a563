//! The same words to Mosquitto and to this broker: where the specification leaves room, Mosquitto is the measure.

mod with_mosquitto {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};

    use super::super::harness::{Broker, wait_for};
    use super::super::v3_wire::*;

    /// A Mosquitto on a port of its own; stopped when dropped.
    struct Mosquitto {
        child: Child,
        port: u16,
        _dir: tempfile::TempDir,
    }

    impl Mosquitto {
        fn start() -> Mosquitto {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port")
                .port();
            let dir = tempfile::tempdir().expect("temporary directory");
            let config = dir.path().join("mosquitto.conf");
            let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n");
            std::fs::write(&config, text).expect("write configuration");
            let mut child = None;
            // Debian puts it where a user's path may not look.
            for program in ["mosquitto", "/usr/sbin/mosquitto"] {
                let started = Command::new(program)
                    .arg("-c")
                    .arg(&config)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                match started {
                    Ok(started) => child = Some(started),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => panic!("{program}: {error}"),
                }
                break;
            }
            let child = child.expect(
                "mosquitto is not installed: install it, or leave out the tests with 'with_mosquitto' in their names",
            );
            wait_for(|| TcpStream::connect(("127.0.0.1", port)).ok());
            Mosquitto {
                child,
                port,
                _dir: dir,
            }
        }
    }

    impl Drop for Mosquitto {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Says the words, each on the connection of that number, and notes what comes on every connection after each.
    /// A connection opens with its first word, closes for this side with an empty one, and may be opened again.
    fn transcript(port: u16, words: &[(usize, Vec<u8>)]) -> Vec<String> {
        let mut wires: Vec<Option<Wire>> = Vec::new();
        let mut notes = Vec::new();
        for (number, (speaker, word)) in words.iter().enumerate() {
            while wires.len() <= *speaker {
                wires.push(None);
            }
            if word.is_empty() {
                if let Some(wire) = wires[*speaker].take() {
                    wire.vanish();
                }
            } else {
                let wire = wires[*speaker].get_or_insert_with(|| Wire::open(port));
                wire.send_in_vain(word);
            }
            // The speaker first: when it has its answer, the others have theirs on the way.
            let others = (0..wires.len()).filter(|other| other != speaker);
            let order: Vec<usize> = std::iter::once(*speaker).chain(others).collect();
            for connection in order {
                let Some(wire) = &mut wires[connection] else {
                    continue;
                };
                // Twice, since retained and waiting messages may follow the first answer.
                let mut pings = 2;
                wire.send_in_vain(&PINGREQ);
                loop {
                    match wire.next() {
                        Some(packet) if packet == PINGRESP => {
                            pings -= 1;
                            if pings == 0 {
                                break;
                            }
                            wire.send_in_vain(&PINGREQ);
                        }
                        Some(packet) => {
                            let packet = without_packet_identifier(packet);
                            notes.push(format!("{number}: {connection} gets {}", hex(&packet)));
                        }
                        None => {
                            notes.push(format!("{number}: {connection} is closed"));
                            wires[connection] = None;
                            break;
                        }
                    }
                }
            }
        }
        notes
    }

    /// Which packet identifiers a broker gives to its messages is its own business.
    fn without_packet_identifier(mut packet: Vec<u8>) -> Vec<u8> {
        // All messages here are of fewer than 128 bytes: the topic's length is in the bytes 2 and 3.
        if packet[0] & 0xF0 == 0x30 && packet[0] & 0x06 != 0 {
            let at = 4 + usize::from(packet[3]);
            packet[at..at + 2].fill(0);
        }
        packet
    }

    /// One connection that says these after its CONNECT.
    fn alone(words: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        std::iter::once(connect(CLEAN, "alone"))
            .chain(words.iter().cloned())
            .map(|word| (0, word))
            .collect()
    }

    /// A subscriber, 0, and a publisher, 1, that says these.
    fn heard(filters: &[(&str, u8)], words: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        let mut all = vec![
            (0, connect(CLEAN, "sub")),
            (0, subscribe(1, filters)),
            (1, connect(CLEAN, "pub")),
        ];
        all.extend(words.iter().map(|word| (1, word.clone())));
        all
    }

    type Script = (&'static str, Vec<(usize, Vec<u8>)>);

    fn scripts() -> Vec<Script> {
        let all_qos = [
            publish(0, "t/a", None, b"0"),
            publish(2, "t/a", Some(1), b"1"),
            // In one breath, since the moment of delivery is one of the differences.
            [publish(4, "t/a", Some(2), b"2"), ack(PUBREL, 2)].concat(),
        ];
        vec![
            ("qos 0 subscription", heard(&[("t/#", 0)], &all_qos)),
            ("qos 1 subscription", heard(&[("t/#", 1)], &all_qos)),
            ("qos 2 subscription", heard(&[("t/#", 2)], &all_qos)),
            (
                "overlapping subscriptions",
                heard(&[("t/#", 0), ("t/+", 1), ("t/a", 2)], &all_qos),
            ),
            (
                "retained messages",
                vec![
                    (1, connect(CLEAN, "pub")),
                    (1, publish(1, "r/a", None, b"a")),
                    (1, publish(3, "r/b", Some(1), b"b")),
                    (1, publish(1, "r/c", None, b"c")),
                    (1, publish(1, "r/c", None, b"")),
                    (0, connect(CLEAN, "sub")),
                    (0, subscribe(1, &[("r/a", 2)])),
                    (0, subscribe(2, &[("r/b", 2)])),
                    (0, subscribe(3, &[("r/c", 2)])),
                    (0, subscribe(4, &[("r/a", 0)])),
                    (1, publish(1, "r/a", None, b"")),
                    (0, subscribe(5, &[("r/a", 0)])),
                ],
            ),
            (
                "a kept session",
                vec![
                    (0, connect(0, "kept")),
                    (0, subscribe(1, &[("t", 1)])),
                    (0, vec![]),
                    (1, connect(CLEAN, "pub")),
                    (1, publish(0, "t", None, b"0")),
                    (1, publish(2, "t", Some(1), b"1")),
                    (0, connect(0, "kept")),
                    (0, vec![]),
                    (0, connect(0, "kept")),
                    (0, connect(0, "kept")),
                    (0, connect(CLEAN, "kept")),
                    (0, connect(0, "kept")),
                ],
            ),
            (
                "a taken session",
                vec![
                    (0, connect(0, "same")),
                    (0, subscribe(1, &[("t", 0)])),
                    (1, connect(0, "same")),
                    (1, publish(0, "t", None, b"x")),
                ],
            ),
            (
                "wills",
                vec![
                    (0, connect(CLEAN, "sub")),
                    (0, subscribe(1, &[("w", 2)])),
                    (1, connect_with_will(0x08, "c", "w", "lost")),
                    (1, vec![]),
                    (1, connect_with_will(0, "c", "w", "left")),
                    (1, DISCONNECT.to_vec()),
                    (1, connect_with_will(WILL_RETAIN, "c", "w", "violated")),
                    (1, vec![0, 0]),
                    (1, connect_with_will(0, "c", "w", "taken over")),
                    (2, connect(CLEAN, "c")),
                    (0, subscribe(2, &[("w", 0)])),
                ],
            ),
            (
                "releases of nothing",
                alone(&[ack(PUBREL, 77), ack(PUBREL, 77)]),
            ),
            (
                "a repeated qos 2 message",
                heard(
                    &[("t", 0)],
                    &[
                        publish(4, "t", Some(1), b"x"),
                        publish(12, "t", Some(1), b"x"),
                        ack(PUBREL, 1),
                        ack(PUBREL, 1),
                    ],
                ),
            ),
            (
                "acknowledgements of nothing: PUBACK",
                alone(&[ack(PUBACK, 9)]),
            ),
            (
                "acknowledgements of nothing: PUBREC",
                alone(&[ack(PUBREC, 9)]),
            ),
            (
                "acknowledgements of nothing: PUBCOMP",
                alone(&[ack(PUBCOMP, 9)]),
            ),
            ("no subscription to end", alone(&[unsubscribe(1, &["t"])])),
            (
                "leading wildcards and $",
                heard(
                    &[("#", 0), ("+/x", 0)],
                    &[publish(0, "$other/x", None, b"x")],
                ),
            ),
            (
                "$ by its name",
                heard(&[("$other/#", 0)], &[publish(0, "$other/x", None, b"x")]),
            ),
            ("a second connect", alone(&[connect(CLEAN, "alone")])),
            (
                "an unknown level",
                vec![(
                    0,
                    packet(0x10, &[&string("MQTT"), &[9, 2, 0, 0], &string("c")]),
                )],
            ),
            (
                "another protocol",
                vec![(
                    0,
                    packet(0x10, &[&string("HTTP"), &[4, 2, 0, 0], &string("c")]),
                )],
            ),
            ("no identifier", vec![(0, connect(0, ""))]),
            ("nothing but a ping", vec![(0, PINGREQ.to_vec())]),
            (
                "will qos 3",
                vec![(0, connect_with_will(0x18, "c", "w", "x"))],
            ),
            (
                "a will without topic",
                vec![(0, connect_with_will(0, "c", "", "x"))],
            ),
            (
                "a will with a wildcard",
                vec![(0, connect_with_will(0, "c", "w/#", "x"))],
            ),
            ("qos 3", alone(&[publish(6, "t", Some(1), b"x")])),
            ("dup with qos 0", alone(&[publish(8, "t", None, b"x")])),
            ("identifier 0", alone(&[publish(2, "t", Some(0), b"x")])),
            ("an empty topic", alone(&[publish(0, "", None, b"x")])),
            (
                "a wildcard in a topic",
                alone(&[publish(0, "a/+", None, b"x")]),
            ),
            ("an empty filter", alone(&[subscribe(1, &[("", 0)])])),
            (
                "a misplaced wildcard",
                alone(&[subscribe(1, &[("a/#/b", 0)])]),
            ),
            ("no filter", alone(&[subscribe(1, &[])])),
            ("subscription qos 3", alone(&[subscribe(1, &[("t", 3)])])),
            (
                "reserved flags of SUBSCRIBE",
                alone(&[packet(0x80, &[&[0, 1], &string("t"), &[0]])]),
            ),
            ("reserved flags of PUBREL", alone(&[ack(0x60, 1)])),
            ("reserved flags of PINGREQ", alone(&[vec![0xC1, 0]])),
            ("what servers say", alone(&[WELCOME.to_vec()])),
            (
                "the broker's own topics",
                alone(&[publish(0, "$SYS/x", None, b"x")]),
            ),
        ]
    }

    /// Where this broker means to differ: docs/conformance.md has the reasons.
    const DIFFERENCES: &[&str] = &[
        "a repeated qos 2 message",
        "an unknown level",
        "dup with qos 0",
        "reserved flags of PINGREQ",
    ];

    #[test]
    fn both_answer_alike_but_for_the_known_differences() {
        let mut unexpected = Vec::new();
        for (name, words) in scripts() {
            // Each script meets brokers that know nothing of the others.
            let mosquitto = Mosquitto::start();
            let listener = ["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"];
            let broker = Broker::start(&[&listener[..], &["--workers", "1"]].concat());
            let theirs = transcript(mosquitto.port, &words);
            let ours = transcript(broker.port(), &words);
            if (theirs != ours) != DIFFERENCES.contains(&name) {
                unexpected.push(format!(
                    "{name}\n  mosquitto: {theirs:#?}\n  broker:    {ours:#?}"
                ));
            }
        }
        assert!(
            unexpected.is_empty(),
            "not as listed:\n{}",
            unexpected.join("\n")
        );
    }
}
