//! The HTTP request that opens a WebSocket (RFC 6455 §4.2), and the answer.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use super::Refused;

/// The subprotocol that clients must offer `[MQTT-6.0.0-3]` and that is chosen `[MQTT-6.0.0-4]`.
const SUBPROTOCOL: &str = "mqtt";
/// Paths at which a WebSocket is opened when none was configured.
const USUAL_PATHS: [&str; 2] = ["/mqtt", "/"];
/// Longest request; browsers with large cookies stay below.
const MAX_REQUEST: usize = 8 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// What a listener demands of who opens a WebSocket.
#[derive(Debug)]
pub(crate) struct WebRules {
    /// The one path; without it the usual ones.
    pub(crate) path: Option<String>,
    /// Origins of web pages that are not from the same host; `*` is all.
    pub(crate) origins: Vec<String>,
}

/// A request while it arrives.
#[derive(Debug)]
pub(super) struct Opening {
    rules: Arc<WebRules>,
    request: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// More has to come.
    Incomplete,
    /// Frames follow; the answer.
    Opened(Vec<u8>),
    /// The answer, and the reason for the log.
    Refused(Vec<u8>, Refused),
}

impl Opening {
    pub(super) fn new(rules: Arc<WebRules>) -> Self {
        Opening {
            rules,
            request: Vec::new(),
        }
    }

    /// Takes what of `bytes` from `from` on belongs to the request.
    pub(super) fn receive(&mut self, bytes: &mut BytesMut, from: usize) -> Outcome {
        // The end may have begun before.
        let known = self.request.len().saturating_sub(END.len() - 1);
        let before = self.request.len();
        let taken = (MAX_REQUEST - before).min(bytes.len() - from);
        self.request.extend_from_slice(&bytes[from..from + taken]);
        let end = self.request[known..]
            .windows(END.len())
            .position(|window| window == END)
            .map(|at| known + at + END.len());
        let Some(end) = end else {
            bytes.truncate(from);
            return match self.request.len() {
                MAX_REQUEST => refuse(
                    "431 Request Header Fields Too Large",
                    "the request is longer than 8 KiB",
                ),
                _ => Outcome::Incomplete,
            };
        };
        // What follows is frames.
        let used = end - before;
        bytes.copy_within(from + used.., from);
        bytes.truncate(bytes.len() - used);
        match Request::try_parse(&self.request[..end]) {
            Ok(Some((_, request))) => self.judge(&request),
            _ => refuse("400 Bad Request", "the request is not HTTP/1.1"),
        }
    }

    fn judge(&self, request: &Request) -> Outcome {
        let path = request.uri().path();
        let known = match &self.rules.path {
            Some(configured) => configured == path,
            None => USUAL_PATHS.contains(&path),
        };
        if !known {
            return refuse("404 Not Found", "there is no MQTT at this path");
        }
        let Ok(mut response) = create_response(request) else {
            return match request.headers().contains_key("upgrade") {
                false => refuse_with(
                    "426 Upgrade Required",
                    "Upgrade: websocket\r\n",
                    Refused::Opening("the request is not for a WebSocket"),
                ),
                true => refuse_with(
                    "400 Bad Request",
                    "Sec-WebSocket-Version: 13\r\n",
                    Refused::Opening("the request is not for a WebSocket of version 13"),
                ),
            };
        };
        let offers_mqtt = request
            .headers()
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|offer| offer.to_str().ok())
            .flat_map(|offer| offer.split(','))
            .any(|offer| offer.trim() == SUBPROTOCOL);
        if !offers_mqtt {
            return refuse(
                "400 Bad Request",
                "the subprotocol `mqtt` was not offered in Sec-WebSocket-Protocol",
            );
        }
        if let Err(origin) = self.check_origin(request) {
            return refuse_with("403 Forbidden", "", Refused::Origin(origin));
        }
        response.headers_mut().insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        let mut answer = Vec::new();
        match write_response(&mut answer, &response) {
            Ok(()) => Outcome::Opened(answer),
            Err(_) => refuse("400 Bad Request", "the request cannot be answered"),
        }
    }

    /// A page that somebody happens to look at must not use the reader's place in the network, or
    /// certificate: pages of other hosts need permission. Programs that are no browsers name no
    /// origin, or any.
    fn check_origin(&self, request: &Request) -> Result<(), String> {
        let Some(origin) = request.headers().get(ORIGIN) else {
            return Ok(());
        };
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let listed = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(&origin);
        if self.rules.origins.iter().any(listed) {
            return Ok(());
        }
        let host = request.headers().get(HOST).and_then(|h| h.to_str().ok());
        let own = origin.split_once("://").map(|(_, page)| host_of(page));
        match (own, host.map(host_of)) {
            (Some(page), Some(host)) if page.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(origin
                .chars()
                .take(100)
                .collect::<String>()
                .escape_debug()
                .to_string()),
        }
    }
}

/// The host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn refuse(status: &str, why: &'static str) -> Outcome {
    refuse_with(status, "", Refused::Opening(why))
}

fn refuse_with(status: &str, headers: &str, why: Refused) -> Outcome {
    let text = match &why {
        Refused::Opening(why) => why,
        _ => "this page may not connect",
    };
    let mut answer = String::new();
    // Writing to memory does not fail.
    let _ = write!(
        answer,
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    );
    Outcome::Refused(answer.into_bytes(), why)
}
