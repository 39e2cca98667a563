//! A way to a broker that can be shut and opened again: TCP, passed on as it is.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::listening::Listening;

/// A listener in front of a broker, until it is dropped.
pub struct Gate {
    listening: Listening,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A gate in front of `port` of 127.0.0.1; open.
    ///
    /// # Panics
    /// If it cannot come up.
    #[must_use]
    pub fn before(port: u16) -> Self {
        let (open, watched) = watch::channel(true);
        Self {
            listening: Listening::start(move |listener| serve(listener, port, watched)),
            open,
        }
    }

    /// Where it listens, as a broker over TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.listening.url()
    }

    /// Cuts every connection and lets none through.
    pub fn shut(&self) {
        self.set(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.set(true);
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn serve(listener: TcpListener, port: u16, open: watch::Receiver<bool>) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        if !*open.borrow() {
            continue;
        }
        let mut open = open.clone();
        tokio::spawn(async move {
            let Ok(mut broker) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}
