//! MQTT over WebSocket, the opening request and frames: no panic, bounded, and one result however the bytes are cut.

use std::sync::Arc;

use bytes::BytesMut;
use smqtt_proto::Outbox;

use crate::websocket::{Refused, WebRules, WebSocket};

/// So that frames are reached without having to find a request first.
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
/// The longest answer to a request, or to frames.
const ANSWER: usize = 1024;
/// As many bytes of MQTT as were not read yet when more came.
const UNREAD: [u8; 5] = *b"MQTT!";

#[derive(Debug, PartialEq, Eq)]
struct Received {
    /// The MQTT in it, or why it was refused.
    result: Result<Vec<u8>, Refused>,
    answer: Vec<u8>,
    opening: bool,
    ended: bool,
}

/// Receives `data` in pieces of these lengths, over and over.
fn receive(data: &[u8], pieces: &[usize], rules: &Arc<WebRules>) -> Received {
    let mut web = WebSocket::new(rules.clone());
    let mut buffer = BytesMut::from(&UNREAD[..]);
    let mut result = Ok(());
    let mut rest = data;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() && result.is_ok() && !web.has_ended() {
        let (piece, after) = rest.split_at(rest.len().min(*pieces.next().expect("a cycle")));
        let from = buffer.len();
        buffer.extend_from_slice(piece);
        result = web.receive(&mut buffer, from);
        assert!(buffer.len() <= from + piece.len(), "it only takes away");
        rest = after;
    }
    assert_eq!(buffer[..UNREAD.len()], UNREAD);
    let (opening, ended) = (web.is_opening(), web.has_ended());
    let mut answer = Vec::new();
    web.drain(
        &mut Outbox::default(),
        |slices| {
            let before = answer.len();
            slices
                .iter()
                .for_each(|slice| answer.extend_from_slice(slice));
            Ok(answer.len() - before)
        },
        |_, _| {},
    )
    .expect("memory takes all");
    assert!(answer.len() <= ANSWER && !web.wants_write());
    Received {
        result: result.map(|()| buffer.to_vec()),
        answer,
        opening,
        ended,
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some((&[mode, first, second], data)) = data.split_first_chunk() else {
        return;
    };
    let rules = Arc::new(WebRules {
        path: (mode & 2 != 0).then(|| "/iot".to_owned()),
        origins: match mode & 4 {
            0 => Vec::new(),
            _ => vec!["https://app.example".to_owned()],
        },
    });
    let opened = mode & 1 != 0;
    let all = if opened {
        [REQUEST, data].concat()
    } else {
        data.to_vec()
    };
    let whole = receive(&all, &[usize::MAX], &rules);
    let cut = [usize::from(first) + 1, usize::from(second) + 1];
    for pieces in [&cut[..], &[1], &[REQUEST.len()]] {
        assert_eq!(
            receive(&all, pieces, &rules),
            whole,
            "in pieces of {pieces:?}"
        );
    }
}
