//! MQTT in WebSocket frames (RFC 6455; MQTT 5.0 §6), without a socket.
//!
//! MQTT is a stream of bytes here as elsewhere: what data frames hold is passed on as it arrives and
//! is never gathered, so a frame or message may have any size, and no client makes the broker hold
//! more than one frame header and one control frame `[MQTT-6.0.0-2]`.

mod opening;

use std::io::{self, Cursor, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use smallvec::SmallVec;
use smqtt_proto::Outbox;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

pub(crate) use opening::WebRules;
use opening::{Opening, Outcome};

/// Longest header of a client's frame.
const HEADER: usize = 14;
/// Slices in one vectored write, of which the first is the header.
const SLICES: usize = 33;
/// Longest payload of a control frame (RFC 6455 §5.5).
const CONTROL: usize = 125;

/// One WebSocket connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    input: Input,
    /// Whether the last data frame was not the last of its message.
    fragmented: bool,
    /// What goes out before anything else: the answer to the opening request, or a frame's header.
    head: SmallVec<[u8; 16]>,
    /// Bytes of the output that belong to the frame which has begun.
    frame_left: usize,
    /// A control frame that goes out before the next data frame: of several pings that were not
    /// answered yet, only the last is (RFC 6455 §5.5.3).
    control: Option<Vec<u8>>,
    /// A close frame was queued, nothing follows it.
    closing: bool,
}

#[derive(Debug)]
enum Input {
    Opening(Opening),
    Header(SmallVec<[u8; HEADER]>),
    Payload {
        kind: Kind,
        left: u64,
        /// Turned so that it begins with the byte for the next byte of the payload.
        mask: [u8; 4],
    },
    /// The peer has closed, or broke the rules: what still comes is not looked at.
    Ended,
}

#[derive(Debug)]
enum Kind {
    Data,
    Control(Control, SmallVec<[u8; CONTROL]>),
}

/// Why a WebSocket connection is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The request is answered with an error.
    #[error("it opened no WebSocket: {0}")]
    Opening(&'static str),
    #[error("its web page, {0}, is not among ws_origins")]
    Origin(String),
    /// `[MQTT-6.0.0-1]`
    #[error("it sent a WebSocket text frame, and MQTT is binary")]
    Text,
    #[error("it broke the rules of WebSocket: {0}")]
    Frame(&'static str),
}

impl WebSocket {
    /// One that waits for its opening request.
    pub(crate) fn new(rules: Arc<WebRules>) -> Self {
        WebSocket {
            input: Input::Opening(Opening::new(rules)),
            fragmented: false,
            head: SmallVec::new(),
            frame_left: 0,
            control: None,
            closing: false,
        }
    }

    /// Whether the WebSocket has yet to be opened.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.input, Input::Opening(_))
    }

    /// Whether the peer will send no more MQTT.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.input, Input::Ended)
    }

    /// Whether something has to be written that is not in the outbox.
    pub(crate) fn wants_write(&self) -> bool {
        !self.head.is_empty() || (self.frame_left == 0 && self.control.is_some())
    }

    /// Turns what came from the socket, `bytes` from `from` on, into the MQTT that is in it, in
    /// place. An answer may have to be written after it, even when it fails.
    ///
    /// # Errors
    /// [`Refused`]: the connection is over.
    pub(crate) fn receive(&mut self, bytes: &mut BytesMut, from: usize) -> Result<(), Refused> {
        if let Input::Opening(opening) = &mut self.input {
            match opening.receive(bytes, from) {
                Outcome::Incomplete => return Ok(()),
                Outcome::Opened(answer) => {
                    self.head = SmallVec::from_vec(answer);
                    self.input = Input::Header(SmallVec::new());
                }
                Outcome::Refused(answer, why) => {
                    self.head = SmallVec::from_vec(answer);
                    self.input = Input::Ended;
                    return Err(why);
                }
            }
        }
        let mut read = from;
        let mut written = from;
        while read < bytes.len() {
            match &mut self.input {
                Input::Header(header) => {
                    let before = header.len();
                    let more = (HEADER - before).min(bytes.len() - read);
                    header.extend_from_slice(&bytes[read..read + more]);
                    let mut cursor = Cursor::new(&header[..]);
                    match FrameHeader::parse(&mut cursor) {
                        Ok(None) => read += more,
                        Ok(Some((header, length))) => {
                            let used = usize::try_from(cursor.position()).unwrap_or(before);
                            read += used - before;
                            self.begin_frame(&header, length)?;
                        }
                        Err(_) => return Err(self.fail("a reserved opcode")),
                    }
                }
                Input::Payload { kind, left, mask } => {
                    let rest = bytes.len() - read;
                    let part = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                    unmask(&mut bytes[read..read + part], mask);
                    match kind {
                        Kind::Data => {
                            bytes.copy_within(read..read + part, written);
                            written += part;
                        }
                        // Its length was checked.
                        Kind::Control(_, payload) => {
                            payload.extend_from_slice(&bytes[read..read + part]);
                        }
                    }
                    read += part;
                    *left -= part as u64;
                    if *left == 0 {
                        self.end_frame()?;
                    }
                }
                Input::Opening(_) | Input::Ended => break,
            }
        }
        bytes.truncate(written);
        Ok(())
    }

    fn begin_frame(&mut self, header: &FrameHeader, length: u64) -> Result<(), Refused> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(self.fail("a reserved bit is set and no extension was agreed on"));
        }
        let Some(mask) = header.mask else {
            return Err(self.fail("a frame is not masked"));
        };
        if length > i64::MAX as u64 {
            return Err(self.fail("a frame has more than 2^63 bytes"));
        }
        let kind = match header.opcode {
            OpCode::Data(Data::Text) => {
                self.close(CloseCode::Unsupported);
                self.input = Input::Ended;
                return Err(Refused::Text);
            }
            OpCode::Data(Data::Binary) if self.fragmented => {
                return Err(self.fail("a message begins within another"));
            }
            OpCode::Data(Data::Continue) if !self.fragmented => {
                return Err(self.fail("a continuation of nothing"));
            }
            OpCode::Data(_) => {
                self.fragmented = !header.is_final;
                Kind::Data
            }
            OpCode::Control(_) if !header.is_final || length > CONTROL as u64 => {
                return Err(self.fail("a control frame is fragmented or too long"));
            }
            OpCode::Control(control) => Kind::Control(control, SmallVec::new()),
        };
        self.input = Input::Payload {
            kind,
            left: length,
            mask,
        };
        match length {
            0 => self.end_frame(),
            _ => Ok(()),
        }
    }

    fn end_frame(&mut self) -> Result<(), Refused> {
        let ended = std::mem::replace(&mut self.input, Input::Header(SmallVec::new()));
        let Input::Payload {
            kind: Kind::Control(control, payload),
            ..
        } = ended
        else {
            return Ok(());
        };
        match control {
            Control::Ping if !self.closing => self.queue(Control::Pong, &payload),
            Control::Close => {
                if payload.len() == 1 {
                    return Err(self.fail("a close code of one byte"));
                }
                if !self.closing {
                    // Its own code is the answer (RFC 6455 §5.5.1).
                    self.queue(Control::Close, &payload[..payload.len().min(2)]);
                    self.closing = true;
                }
                self.input = Input::Ended;
            }
            _ => {}
        }
        Ok(())
    }

    fn queue(&mut self, control: Control, payload: &[u8]) {
        let mut frame = Vec::with_capacity(2 + payload.len());
        header_of(OpCode::Control(control), payload.len(), &mut frame);
        frame.extend_from_slice(payload);
        self.control = Some(frame);
    }

    fn fail(&mut self, why: &'static str) -> Refused {
        self.close(CloseCode::Protocol);
        self.input = Input::Ended;
        Refused::Frame(why)
    }

    /// Queues a close frame behind what was handed over to be written.
    pub(crate) fn close(&mut self, code: CloseCode) {
        if !self.closing && !self.is_opening() {
            self.queue(Control::Close, &u16::from(code).to_be_bytes());
            self.closing = true;
        }
    }

    /// Hands everything that is to be written to `write`, as [`Outbox::drain_into`] does.
    /// `payload` is told what went out of the outbox.
    ///
    /// # Errors
    /// Those of `write`.
    pub(crate) fn drain(
        &mut self,
        out: &mut Outbox,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        mut payload: impl FnMut(&[IoSlice<'_>], usize),
    ) -> io::Result<()> {
        let closed = self.closing && self.control.is_none() && self.frame_left == 0;
        if self.is_opening() || closed {
            // There is nobody to read it.
            out.clear();
        }
        out.drain_into(|slices| {
            let taken = self.write_framed(slices, &mut write)?;
            payload(slices, taken);
            Ok(taken)
        })?;
        loop {
            if self.head.is_empty() {
                match self.control.take_if(|_| self.frame_left == 0) {
                    Some(frame) => self.head = SmallVec::from_vec(frame),
                    None => return Ok(()),
                }
            }
            match write(&[IoSlice::new(&self.head)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.head.drain(..taken)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes some of `slices`, and before them what must come first: together, so that a header
    /// does not go out as a packet of its own. Returns how many of their bytes went, one at least.
    fn write_framed(
        &mut self,
        slices: &[IoSlice<'_>],
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if self.frame_left == 0 {
                if let Some(control) = self.control.take_if(|_| !self.closing) {
                    self.head.extend_from_slice(&control);
                }
                self.frame_left = slices.iter().map(|slice| slice.len()).sum();
                header_of(OpCode::Data(Data::Binary), self.frame_left, &mut self.head);
            }
            let mut left = self.frame_left;
            let mut all = [IoSlice::new(&[]); SLICES];
            all[0] = IoSlice::new(&self.head);
            let mut used = 1;
            for (place, slice) in all[1..].iter_mut().zip(slices) {
                let part = slice.len().min(left);
                left -= part;
                *place = IoSlice::new(&slice[..part]);
                used += usize::from(part > 0);
            }
            let taken = match write(&all[..used])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                taken => taken,
            };
            let of_head = taken.min(self.head.len());
            self.head.drain(..of_head);
            if taken > of_head {
                self.frame_left -= taken - of_head;
                return Ok(taken - of_head);
            }
        }
    }
}

/// Appends the header of a frame that is a message of its own.
fn header_of(opcode: OpCode, length: usize, to: &mut impl Extend<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let mut bytes = [0; HEADER];
    let mut space = &mut bytes[..];
    // It has room for every header.
    let _ = header.format(length as u64, &mut space);
    let used = HEADER - space.len();
    to.extend(bytes.into_iter().take(used));
}

/// Takes the mask off, and turns it to where it goes on.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(*mask) {
            *byte ^= key;
        }
    }
    let rest = chunks.into_remainder();
    for (byte, key) in rest.iter_mut().zip(*mask) {
        *byte ^= key;
    }
    mask.rotate_left(rest.len());
}

#[cfg(test)]
mod tests;
