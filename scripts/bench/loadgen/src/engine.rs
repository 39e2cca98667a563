//! All clients in one thread around one epoll: what is in flight from end to end is known exactly.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::sockopt::set_tcp_quickack;
use rustix::time::Timespec;
use rustls::ClientConfig;

use crate::client::{Client, State};
use crate::histogram::Histogram;
use crate::packet::{self, Template};

/// Where to connect, and how.
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Acknowledges at once what arrives: for brokers that wait for it (Nagle's algorithm).
    pub(crate) quickack: bool,
}

/// What is known of a publisher.
pub(crate) struct Publisher {
    client: usize,
    /// Which templates it sends, in turn.
    topics: Vec<usize>,
    next_topic: usize,
    packet_id: u16,
    /// Deliveries that have not come.
    pub(crate) undelivered: i64,
    /// Publications that are not acknowledged.
    pub(crate) unacknowledged: i64,
}

pub(crate) struct Engine {
    target: Target,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    pub(crate) clients: Vec<Client>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) templates: Vec<Template>,
    began: Instant,
    pub(crate) delivered: u64,
    pub(crate) last_delivery: Instant,
    /// How long deliveries took, while `records`.
    pub(crate) latencies: Histogram,
    pub(crate) records: bool,
    pub(crate) dead: usize,
}

/// The payload begins with when it was sent (8 bytes) and by whom (4 bytes).
pub(crate) const STAMP: usize = 12;

impl Engine {
    pub(crate) fn new(target: Target) -> io::Result<Engine> {
        let now = Instant::now();
        Ok(Engine {
            target,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(512),
            buffer: vec![0; 512 * 1024],
            clients: Vec::new(),
            publishers: Vec::new(),
            templates: Vec::new(),
            began: now,
            delivered: 0,
            last_delivery: now,
            latencies: Histogram::new(),
            records: false,
            dead: 0,
        })
    }

    /// Adds a client that subscribes with these packets once it is connected.
    pub(crate) fn add(&mut self, id: String, requests: VecDeque<Vec<u8>>) {
        self.clients.push(Client::new(id, requests, None));
    }

    /// Adds a client that publishes these templates in turn.
    pub(crate) fn add_publisher(&mut self, id: String, topics: Vec<usize>) {
        let (client, publisher) = (self.clients.len(), self.publishers.len());
        self.clients
            .push(Client::new(id, VecDeque::new(), Some(publisher)));
        self.publishers.push(Publisher {
            client,
            topics,
            next_topic: 0,
            packet_id: 0,
            undelivered: 0,
            unacknowledged: 0,
        });
    }

    /// Connects the clients from the one at `first` on, so many at a time. Returns how many are ready.
    pub(crate) fn connect(&mut self, first: usize, at_a_time: usize, limit: Duration) -> usize {
        let began = Instant::now();
        let (mut next, mut ready, mut active) = (first, 0, Vec::new());
        loop {
            while next < self.clients.len() && active.len() < at_a_time {
                active.push(next);
                if let Err(error) = self.open(next) {
                    self.end(next, &error);
                }
                next += 1;
            }
            self.poll(Duration::from_millis(5));
            active.retain(|&index: &usize| match self.clients[index].state {
                State::Ready => {
                    ready += 1;
                    false
                }
                state => state != State::Dead,
            });
            let over = next == self.clients.len() && active.is_empty();
            if over || began.elapsed() > limit {
                return ready;
            }
        }
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        client.open(self.target.port, self.target.tls.as_ref())?;
        let stream = client.stream.as_ref().expect("it was just opened");
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, stream, data, EventFlags::IN | EventFlags::OUT)?;
        Ok(())
    }

    fn end(&mut self, index: usize, why: &dyn std::fmt::Display) {
        let client = &mut self.clients[index];
        if client.state == State::Dead {
            return;
        }
        if self.dead < 5 {
            eprintln!("{} ended while {:?}: {why}", client.id, client.state);
        }
        client.state = State::Dead;
        client.stream = None;
        self.dead += 1;
    }

    fn flush(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let blocked = match client.flush() {
            Ok(all) => !all,
            Err(error) => return self.end(index, &error),
        };
        if blocked == client.watches_writes {
            return;
        }
        client.watches_writes = blocked;
        let Some(stream) = &client.stream else {
            return;
        };
        let mut interest = EventFlags::IN;
        interest.set(EventFlags::OUT, blocked);
        let data = EventData::new_u64(index as u64);
        if let Err(error) = epoll::modify(&self.epoll, stream, data, interest) {
            self.end(index, &error);
        }
    }

    /// Waits for what happens, at most so long, and deals with it.
    pub(crate) fn poll(&mut self, limit: Duration) {
        let timeout = Timespec {
            tv_sec: limit.as_secs() as _,
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        if let Err(error) = epoll::wait(&self.epoll, spare, Some(&timeout)) {
            assert_eq!(error, rustix::io::Errno::INTR, "epoll_wait: {error}");
        }
        for event in &events {
            let flags = event.flags;
            self.handle(event.data.u64() as usize, flags);
        }
        self.events = events;
    }

    fn handle(&mut self, index: usize, flags: EventFlags) {
        let client = &mut self.clients[index];
        if flags.contains(EventFlags::OUT) && client.state != State::Dead {
            if client.state == State::Connecting {
                client.state = State::Asking;
                client.output = packet::connect(&client.id);
            }
            self.flush(index);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(index);
        }
    }

    fn read(&mut self, index: usize) {
        // A bounded number of times, so that one client cannot starve the others.
        for _ in 0..4 {
            let mut buffer = std::mem::take(&mut self.buffer);
            let client = &mut self.clients[index];
            let kept = client.partial.len();
            buffer[..kept].copy_from_slice(&client.partial);
            client.partial.clear();
            let result = client.read(&mut buffer[kept..]);
            let filled = kept + result.as_ref().map_or(0, |input| input.bytes);
            let used = self.parse(index, &buffer[..filled]);
            let client = &mut self.clients[index];
            client.partial.extend_from_slice(&buffer[used..filled]);
            self.buffer = buffer;
            let input = match result {
                Ok(input) => input,
                Err(error) => return self.end(index, &error),
            };
            if client.state == State::Dead {
                return;
            }
            if self.target.quickack
                && input.bytes > 0
                && let Some(stream) = &client.stream
            {
                let _ = set_tcp_quickack(stream, true);
            }
            if client.has_output() {
                self.flush(index);
            }
            if !input.more {
                return;
            }
        }
    }

    /// Takes whole packets; returns how many bytes they were.
    fn parse(&mut self, index: usize, bytes: &[u8]) -> usize {
        let now = Instant::now();
        let since_began = (now - self.began).as_nanos() as u64;
        let mut used = 0;
        while let Some((first, body, length)) = whole(&bytes[used..]) {
            let client = &mut self.clients[index];
            match first >> 4 {
                3 => {
                    let qos = first >> 1 & 3;
                    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    if qos > 0 {
                        let answer = if qos == 1 { 0x40 } else { 0x50 };
                        let id = &body[at..at + 2];
                        client.output.extend_from_slice(&[answer, 2, id[0], id[1]]);
                        at += 2;
                    }
                    self.delivered += 1;
                    self.last_delivery = now;
                    if let Some((sent, publisher)) = stamp_of(&body[at..]) {
                        if self.records {
                            self.latencies.record(since_began.saturating_sub(sent));
                        }
                        if let Some(publisher) = self.publishers.get_mut(publisher) {
                            publisher.undelivered -= 1;
                        }
                    }
                }
                4 | 7 => {
                    if let Some(publisher) = client.publisher {
                        self.publishers[publisher].unacknowledged -= 1;
                    }
                }
                5 => client
                    .output
                    .extend_from_slice(&[0x62, 2, body[0], body[1]]),
                6 => client
                    .output
                    .extend_from_slice(&[0x70, 2, body[0], body[1]]),
                2 if body[1] != 0 => {
                    self.end(index, &format_args!("refused with code {}", body[1]));
                    break;
                }
                9 if body[2..].contains(&0x80) => {
                    self.end(index, &"a subscription was refused");
                    break;
                }
                2 | 9 => match client.requests.pop_front() {
                    Some(request) => client.output.extend_from_slice(&request),
                    None => client.state = State::Ready,
                },
                kind => eprintln!("unexpected packet type {kind}"),
            }
            used += length;
        }
        used
    }

    /// Has a publisher send so many messages.
    pub(crate) fn publish(&mut self, publisher: usize, count: i64, qos: u8, fan: i64) {
        let now = (Instant::now() - self.began).as_nanos() as u64;
        let number = publisher as u32;
        let publisher = &mut self.publishers[publisher];
        let client = &mut self.clients[publisher.client];
        for _ in 0..count {
            let template = &self.templates[publisher.topics[publisher.next_topic]];
            publisher.next_topic = (publisher.next_topic + 1) % publisher.topics.len();
            let begin = client.output.len();
            client.output.extend_from_slice(&template.bytes);
            let packet = &mut client.output[begin..];
            if qos > 0 {
                publisher.packet_id = publisher.packet_id.checked_add(1).unwrap_or(1);
                packet[template.packet_id..][..2]
                    .copy_from_slice(&publisher.packet_id.to_be_bytes());
            }
            packet[template.payload..][..8].copy_from_slice(&now.to_le_bytes());
            packet[template.payload + 8..][..4].copy_from_slice(&number.to_le_bytes());
        }
        publisher.undelivered += count * fan;
        if qos > 0 {
            publisher.unacknowledged += count;
        }
        let client = publisher.client;
        self.flush(client);
    }

    /// How many messages a publisher may send in a closed loop of this window.
    pub(crate) fn room(&self, publisher: usize, window: i64, fan: i64) -> i64 {
        let publisher = &self.publishers[publisher];
        let client = &self.clients[publisher.client];
        if client.state != State::Ready || client.watches_writes {
            return 0;
        }
        let underway = (publisher.undelivered + fan - 1).div_euclid(fan);
        window - underway.max(publisher.unacknowledged)
    }

    /// How many bytes a publisher still has to write.
    pub(crate) fn backlog(&self, publisher: usize) -> usize {
        self.clients[self.publishers[publisher].client].output.len()
    }
}

/// The first byte of a packet, its body and its whole length, if it is there whole.
fn whole(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut length = 0;
    for (place, &digit) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(digit & 127) << (7 * place);
        if digit < 128 {
            let begin = 2 + place;
            let body = bytes.get(begin..begin + length)?;
            return Some((bytes[0], body, begin + length));
        }
    }
    None
}

fn stamp_of(payload: &[u8]) -> Option<(u64, usize)> {
    let stamp = payload.first_chunk::<STAMP>()?;
    let (sent, publisher) = stamp.split_first_chunk::<8>()?;
    let publisher = u32::from_le_bytes(*publisher.first_chunk()?);
    Some((u64::from_le_bytes(*sent), publisher as usize))
}
