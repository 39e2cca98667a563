//! MQTT 3.1.1 by its bytes: packets are put together and compared here without the broker's own codec.
#![allow(
    unreachable_pub,
    reason = "what the modules of this test program share"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::harness::PATIENCE;

/// CONNECT flags.
pub const CLEAN: u8 = 0x02;
pub const WILL: u8 = 0x04;
pub const WILL_RETAIN: u8 = 0x20;
pub const PASSWORD: u8 = 0x40;
pub const USERNAME: u8 = 0x80;

/// First bytes of packets.
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: [u8; 2] = [0xD0, 0];
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
/// CONNACK: accepted, no session present.
pub const WELCOME: [u8; 4] = [0x20, 2, 0, 0];
/// CONNACK: accepted, the session is resumed.
pub const WELCOME_BACK: [u8; 4] = [0x20, 2, 1, 0];

/// One connection.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// An open connection on which nothing was said.
    pub fn open(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Wire {
            stream,
            input: Vec::new(),
        }
    }

    /// A client with a clean session.
    pub fn clean(port: u16, client_id: &str) -> Wire {
        Wire::connected(port, &connect(CLEAN, client_id), &WELCOME)
    }

    /// A client whose session is kept, and which had none.
    pub fn kept(port: u16, client_id: &str) -> Wire {
        Wire::connected(port, &connect(0, client_id), &WELCOME)
    }

    /// A client that comes back to its session.
    pub fn resumed(port: u16, client_id: &str) -> Wire {
        Wire::connected(port, &connect(0, client_id), &WELCOME_BACK)
    }

    /// A client that sends this CONNECT and gets this CONNACK.
    pub fn connected(port: u16, connect: &[u8], connack: &[u8]) -> Wire {
        let mut wire = Wire::open(port);
        wire.send(connect);
        wire.expect(connack);
        wire
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// Sends what the broker may have stopped to read.
    pub fn send_in_vain(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet, or `None` when the broker has closed the connection.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = packet_length(&self.input) {
                return Some(self.input.drain(..length).collect());
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert_eq!(self.input, [], "the connection ends inside a packet");
                    return None;
                }
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("nothing came: {e}"),
            }
        }
    }

    pub fn receive(&mut self) -> Vec<u8> {
        self.next()
            .expect("a packet, but the broker closed the connection")
    }

    /// Makes sure that the next packet has these bytes.
    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let got = self.receive();
        assert_eq!(hex(&got), hex(bytes), "got (left), expected (right)");
    }

    /// Makes sure that the next packet is a PUBLISH, of which the packet identifier is not known before; returns that.
    #[track_caller]
    pub fn expect_publish(&mut self, flags: u8, topic: &str, payload: &[u8]) -> Option<u16> {
        let got = self.receive();
        assert_eq!(got[0] & 0xF0, 0x30, "not a PUBLISH: {}", hex(&got));
        let body = got.len() - remaining_length(&got[1..]).expect("a whole packet").0;
        let id = (flags & 0x06 != 0).then(|| {
            let at = body + 2 + topic.len();
            u16::from_be_bytes([got[at], got[at + 1]])
        });
        let expected = publish(flags, topic, id, payload);
        assert_eq!(hex(&got), hex(&expected), "got (left), expected (right)");
        assert_ne!(id, Some(0));
        id
    }

    /// Makes sure that the broker closes the connection and says nothing before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(packet) = self.next() {
            panic!("expected the end of the connection, got {}", hex(&packet));
        }
    }

    /// Makes sure that the broker has handled what was sent, and has nothing to say about it.
    #[track_caller]
    pub fn settle(&mut self) {
        self.send(&PINGREQ);
        self.expect(&PINGRESP);
    }

    /// Subscribes with packet identifier 999, which is granted as asked.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&subscribe(999, &[(filter, qos)]));
        self.expect(&suback(999, &[qos]));
    }

    /// Leaves with DISCONNECT and waits until the broker has let go.
    pub fn leave(mut self) {
        self.send(&DISCONNECT);
        while self.next().is_some() {}
    }

    /// Leaves without a word and waits until the broker has let go.
    pub fn vanish(mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
        while self.next().is_some() {}
    }
}

/// The value of a length at the start of the bytes, and how many bytes it takes.
fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    assert!(
        bytes.len() < 4,
        "a remaining length of more than four bytes"
    );
    None
}

/// The length of the first packet, if it is there whole.
pub fn packet_length(bytes: &[u8]) -> Option<usize> {
    let (value, size) = remaining_length(bytes.get(1..)?)?;
    let length = 1 + size + value;
    (bytes.len() >= length).then_some(length)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

/// A packet with this first byte and these fields.
pub fn packet(first: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest % 128).expect("seven bits");
        rest /= 128;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Two bytes of length and the bytes.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("no more than 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// A CONNECT without keep-alive, will and credentials.
pub fn connect(flags: u8, client_id: &str) -> Vec<u8> {
    connect_with(flags, 0, &[&string(client_id)])
}

/// A CONNECT with these flags, this keep-alive and these fields in the payload.
pub fn connect_with(flags: u8, keep_alive: u16, payload: &[&[u8]]) -> Vec<u8> {
    let header = [&string("MQTT")[..], &[4, flags], &keep_alive.to_be_bytes()].concat();
    packet(0x10, &[&header, &payload.concat()])
}

/// A CONNECT with a clean session and a will.
pub fn connect_with_will(flags: u8, client_id: &str, topic: &str, payload: &str) -> Vec<u8> {
    connect_with(
        CLEAN | WILL | flags,
        0,
        &[&string(client_id), &string(topic), &string(payload)],
    )
}

/// A PUBLISH; bits of `flags` are 8 for DUP, 4 and 2 for the QoS, 1 for RETAIN.
pub fn publish(flags: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let id = id.map(u16::to_be_bytes);
    let id = id.as_ref().map_or(&[][..], |id| &id[..]);
    packet(0x30 | flags, &[&string(topic), id, payload])
}

/// A packet of a packet identifier alone.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()])
}

pub fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, qos)| [&string(filter)[..], &[*qos]].concat())
        .collect();
    packet(0x82, &[&id.to_be_bytes(), &filters])
}

pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), codes])
}

pub fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(string).collect();
    packet(0xA2, &[&id.to_be_bytes(), &filters])
}

pub fn unsuback(id: u16) -> Vec<u8> {
    ack(0xB0, id)
}
