//! Bounds on what connections may take: how many there are, of all and of one address, and how long one lasts.

use std::collections::HashMap;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::limiter::network;

/// Takes a connection only if there is room for it, and ends it when its time is over, whatever it is doing then.
///
/// One deadline covers handshake, request and answer alike: a peer that is slow on purpose gains nothing in any of them.
#[derive(Clone)]
pub(crate) struct Bounds {
    room: Arc<Semaphore>,
    /// How many connections each address has, and may have.
    shares: Shares,
    share: usize,
    lifetime: Duration,
}

/// How many connections each address has.
type Shares = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Where a connection comes from.
pub(crate) trait Origin {
    /// Its address; `None` for one of this machine's own.
    fn origin(&self) -> Option<IpAddr>;

    /// Has it send at once what is written. A peer may wait 40 ms with its acknowledgement, and until then the rest of an answer
    /// that takes two segments would wait, too.
    fn send_at_once(&self) {}
}

impl Origin for TcpStream {
    fn origin(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| network(address.ip()))
    }

    fn send_at_once(&self) {
        // Refused, it costs time and nothing else.
        let _ = self.set_nodelay(true);
    }
}

#[cfg(unix)]
impl Origin for tokio::net::UnixStream {
    fn origin(&self) -> Option<IpAddr> {
        None
    }
}

impl Bounds {
    /// Room for so many connections, of which one address may have `share`.
    pub(crate) fn new(connections: usize, share: usize, lifetime: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(connections)),
            shares: Arc::default(),
            share,
            lifetime,
        }
    }

    fn place(&self, origin: Option<IpAddr>) -> Option<Place> {
        let permit = self.room.clone().try_acquire_owned().ok()?;
        let share = match origin {
            None => None,
            Some(address) => {
                let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = shares.entry(address).or_default();
                if *taken >= self.share {
                    return None;
                }
                *taken += 1;
                Some((address, self.shares.clone()))
            }
        };
        Some(Place {
            _permit: permit,
            share,
        })
    }
}

impl<I: Origin, S> Accept<I, S> for Bounds {
    type Stream = Bounded<I>;
    type Service = S;
    type Future = Ready<io::Result<(Bounded<I>, S)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        stream.send_at_once();
        ready(match self.place(stream.origin()) {
            Some(place) => {
                let deadline = Box::pin(sleep(self.lifetime));
                Ok((
                    Bounded {
                        stream,
                        deadline,
                        _place: place,
                    },
                    service,
                ))
            }
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "too many connections",
            )),
        })
    }
}

/// A connection that ends at its deadline and gives up its place when dropped.
pub(crate) struct Bounded<I> {
    stream: I,
    deadline: Pin<Box<Sleep>>,
    _place: Place,
}

/// A connection's place; free again when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    share: Option<(IpAddr, Shares)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((address, shares)) = &self.share {
            let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(taken) = shares.get_mut(address) {
                *taken -= 1;
                if *taken == 0 {
                    shares.remove(address);
                }
            }
        }
    }
}

impl<I: Unpin> Bounded<I> {
    fn poll_in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        act(Pin::new(&mut self.stream), cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Bounded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Bounded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write(cx, data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct From(&'static str);

    impl Origin for From {
        fn origin(&self) -> Option<IpAddr> {
            Some(self.0.parse().unwrap())
        }
    }

    impl Origin for tokio::io::Empty {
        fn origin(&self) -> Option<IpAddr> {
            None
        }
    }

    impl Origin for tokio::io::DuplexStream {
        fn origin(&self) -> Option<IpAddr> {
            None
        }
    }

    #[tokio::test]
    async fn one_address_does_not_take_the_room_of_others() {
        let bounds = Bounds::new(4, 2, Duration::from_secs(60));
        let a = accept(&bounds, From("192.0.2.1")).await.unwrap();
        let _b = accept(&bounds, From("192.0.2.1")).await.unwrap();
        assert!(accept(&bounds, From("192.0.2.1")).await.is_err());
        assert!(accept(&bounds, From("192.0.2.2")).await.is_ok());
        drop(a);
        assert!(accept(&bounds, From("192.0.2.1")).await.is_ok());
        assert_eq!(bounds.shares.lock().unwrap().len(), 1);
    }

    async fn accept<I: Origin>(bounds: &Bounds, stream: I) -> io::Result<Bounded<I>> {
        bounds.accept(stream, ()).await.map(|(stream, ())| stream)
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_a_place_is_free_again_when_one_leaves() {
        let bounds = Bounds::new(2, 2, Duration::from_secs(60));
        let (a, _b) = (
            accept(&bounds, tokio::io::empty()).await.unwrap(),
            accept(&bounds, tokio::io::empty()).await.unwrap(),
        );
        let refusal = accept(&bounds, tokio::io::empty()).await.err().unwrap();
        assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
        drop(a);
        assert!(accept(&bounds, tokio::io::empty()).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_ends_at_its_deadline_though_its_peer_says_nothing() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = accept(&Bounds::new(1, 1, Duration::from_millis(50)), near)
            .await
            .unwrap();
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let end = near.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            near.write_all(b"x").await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
