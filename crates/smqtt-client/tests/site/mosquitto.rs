//! Stock Mosquitto, plain and with TLS.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use smqtt_client::BrokerAddress;

use super::{PATIENCE, Site};

/// A Mosquitto that is killed when dropped.
pub(crate) struct Mosquitto {
    process: Child,
    plain: u16,
    tls: u16,
}

impl Mosquitto {
    /// Starts it with two listeners: plain, and TLS that demands certificates of this site. Further
    /// configuration is appended.
    ///
    /// `None`, said loudly, if it is not installed. Under `scripts/test.sh`, which leaves such tests out
    /// where it cannot install it, that is a failure.
    pub(crate) fn start(site: &Site, further: &str) -> Option<Self> {
        let Some(program) = find() else {
            assert!(
                std::env::var_os("SMQTT_TEST_SH").is_none(),
                "mosquitto is not installed"
            );
            eprintln!("SKIPPED: mosquitto is not installed, and this test shows nothing");
            return None;
        };
        let server = site.server();
        let config = site.path().join("mosquitto.conf");
        for _ in 0..10 {
            let (plain, tls) = (free_port(), free_port());
            let text = format!(
                "per_listener_settings false\nallow_anonymous true\npersistence false\nuser root\n\
                 log_dest stderr\nmax_queued_messages 0\n{further}\n\
                 listener {plain} 127.0.0.1\nlistener {tls} 127.0.0.1\n\
                 cafile {0}/ca.crt\ncertfile {0}/server.crt\nkeyfile {0}/server.key\n\
                 require_certificate true\nuse_identity_as_username true\n",
                server.display()
            );
            std::fs::write(&config, text).unwrap();
            let mut process = Command::new(&program)
                .arg("-c")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if is_up(&mut process, plain) && is_up(&mut process, tls) {
                return Some(Self {
                    process,
                    plain,
                    tls,
                });
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("mosquitto did not come up");
    }

    pub(crate) fn plain(&self) -> BrokerAddress {
        format!("mqtt://127.0.0.1:{}", self.plain).parse().unwrap()
    }

    pub(crate) fn tls(&self) -> BrokerAddress {
        format!("mqtts://127.0.0.1:{}", self.tls).parse().unwrap()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .map(|directory| directory.join("mosquitto"))
        .find(|program| program.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_up(process: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE && matches!(process.try_wait(), Ok(None)) {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
