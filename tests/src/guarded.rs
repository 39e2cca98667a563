//! A broker that believes revocation lists, and lets nobody but the authority announce its state.

use std::path::Path;

use crate::fleet::{Authority, Service};
use crate::programs::{program, run};

/// Where such a broker finds what it needs, and puts what it keeps.
pub struct Guarded<'a> {
    /// The directory for its configuration, `broker.toml`, and its data.
    pub root: &'a Path,
    /// The directory of `server.crt`, `server.key`, `ca.crt` and the lists, `ca.crl`.
    pub tls: &'a Path,
    /// Whether there is a second door, through which whoever comes is let in as if it were a device.
    pub back_door: bool,
}

impl Guarded<'_> {
    /// Starts it.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start(&self) -> Service {
        let (root, tls) = (self.root, self.tls);
        let (door, who, names) = match self.back_door {
            true => (
                "[[listener]]\nname = \"inside\"\nurl = \"mqtt://127.0.0.1:0\"\nallow_anonymous = true\n",
                "",
                "",
            ),
            false => ("", "who = [\"devices\"]\n", "client_id = \"prefix\"\n"),
        };
        let rules = format!(
            "[[rule]]\nallow = [\"publish\", \"retain\"]\nwho = [\"device:smqtt-authority\"]\n\
             topics = [\"smqtt/authority/state\"]\n\n\
             [[rule]]\nallow = [\"subscribe\"]\ntopics = [\"smqtt/authority/state\"]\n\n\
             [[rule]]\nallow = [\"publish\", \"subscribe\", \"retain\"]\n{who}\
             topics = [\"plant/#\", \"smqtt/keys/plant/#\"]\n"
        );
        std::fs::write(root.join("acl.toml"), rules).expect("a file can be written");
        let config = format!(
            "data_dir = {:?}\n[[listener]]\nname = \"devices\"\nurl = \"mqtts://127.0.0.1:0\"\n{door}\
             [tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\ncrl = {:?}\n\
             [access]\nacl = {:?}\n{names}",
            root.join("broker-data"),
            tls.join("server.crt"),
            tls.join("server.key"),
            tls.join("ca.crt"),
            tls.join("ca.crl"),
            root.join("acl.toml"),
        );
        std::fs::write(root.join("broker.toml"), config).expect("a file can be written");
        let mut command = program("smqtt-broker");
        command.arg("--config").arg(root.join("broker.toml"));
        Service::start(&mut command, "mqtts://")
    }

    /// The address of the second door of such a broker.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn inside(broker: &Service) -> String {
        let line = broker.running().wait_for_stderr("listening on mqtt://");
        let url = line.split_whitespace().find(|w| w.starts_with("mqtt://"));
        let url = url.expect("the line that was waited for holds an address");
        url.trim_end_matches(['/', ',']).to_owned()
    }
}

/// Such a broker of `authority`, with a certificate of its own in `root/broker`.
///
/// # Panics
/// If a program fails.
#[must_use]
pub fn guarded_broker(authority: &Authority, back_door: bool) -> Service {
    let tls = authority.issue_server("broker");
    let mut lists = authority.command(&["crl"]);
    let _ = run(lists.arg("--out").arg(tls.join("ca.crl"))).success();
    let guarded = Guarded {
        root: authority.root(),
        tls: &tls,
        back_door,
    };
    guarded.start()
}
