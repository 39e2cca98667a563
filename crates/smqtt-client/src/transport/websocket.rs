//! MQTT in WebSocket frames (RFC 6455; MQTT 5.0 §6), as a stream of bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::{BrokerAddress, Error};

/// The most bytes that one frame carries to the broker.
const FRAME: usize = 64 * 1024;

/// A stream on which a broker has agreed to speak MQTT in WebSocket frames.
pub(crate) struct WebSocket<S> {
    frames: WebSocketStream<S>,
    /// What is left of the last frame.
    read: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Opens a WebSocket at the path of `address`, subprotocol `mqtt`. A frame from the broker may have at most `max_frame` bytes:
    /// it is gathered before it is read.
    pub(crate) async fn open(
        address: &BrokerAddress,
        stream: S,
        max_frame: usize,
    ) -> Result<Self, Error> {
        let mut request =
            address
                .to_string()
                .into_client_request()
                .map_err(|error| Error::Address {
                    address: address.to_string(),
                    reason: error.to_string(),
                })?;
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
        let config = WebSocketConfig::default()
            .max_frame_size(Some(max_frame))
            .max_message_size(Some(max_frame))
            .read_buffer_size(FRAME)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * FRAME);
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (frames, _) = opening.await.map_err(|error| refused(address, error))?;
        Ok(Self {
            frames,
            read: Bytes::new(),
        })
    }
}

/// Why no WebSocket was opened.
fn refused(address: &BrokerAddress, error: tungstenite::Error) -> Error {
    let peer = address.to_string();
    match error {
        tungstenite::Error::Io(error) => super::tls_error(&peer, "opening a WebSocket", error),
        tungstenite::Error::Http(response) => Error::Refused {
            peer,
            reason: format!(
                "it opens no WebSocket there: HTTP status {}; is the path right?",
                response.status()
            ),
        },
        other => Error::Protocol(format!("it opens no WebSocket: {other}")),
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::BrokenPipe.into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read.is_empty() {
            let frame = match ready!(Pin::new(&mut this.frames).poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(tungstenite::Error::ConnectionClosed)) | None => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            };
            match frame {
                Message::Binary(bytes) => this.read = bytes,
                Message::Close(_) => return Poll::Ready(Ok(())),
                // Pings are answered below; [MQTT-6.0.0-1] is about what else there is.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Text(_) => {
                    let reason = "a text frame came, and MQTT is binary";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
                }
            }
        }
        let count = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read[..count]);
        this.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.frames).poll_ready(cx)).map_err(broken)?;
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut frame = BytesMut::with_capacity(length.min(FRAME));
        for slice in slices {
            let room = FRAME - frame.len();
            frame.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = frame.len();
        Pin::new(&mut this.frames)
            .start_send(Message::Binary(frame.freeze()))
            .map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().frames)
            .poll_flush(cx)
            .map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().frames)
            .poll_close(cx)
            .map_err(broken)
    }
}
