//! A way to a broker that can be shut and opened again: TCP, passed on as it is.

use std::net::SocketAddr;
use std::thread;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A listener in front of a broker, until it is dropped.
pub struct Gate {
    address: SocketAddr,
    open: Option<watch::Sender<bool>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Gate {
    /// A gate in front of `port` of 127.0.0.1; open.
    ///
    /// # Panics
    /// If it cannot come up.
    #[must_use]
    pub fn before(port: u16) -> Self {
        let (open, watched) = watch::channel(true);
        let (ready, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr();
                ready
                    .send(address.expect("a bound listener has an address"))
                    .expect("the starter waits");
                let mut gone = watched.clone();
                tokio::select! {
                    () = serve(listener, port, watched) => {}
                    () = async { while gone.changed().await.is_ok() {} } => {}
                }
            });
        });
        Self {
            address: address.recv().expect("the gate binds"),
            open: Some(open),
            thread: Some(thread),
        }
    }

    /// Where it listens, as a broker over TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtts://{}", self.address)
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
        if let Some(sender) = &self.open {
            sender.send_replace(open);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
