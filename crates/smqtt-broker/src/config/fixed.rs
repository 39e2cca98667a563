//! What cannot change while the broker runs.

use super::{Config, Listener};

impl Config {
    /// Takes from `running` what a running broker cannot change, and returns the keys for which
    /// something else was asked.
    ///
    /// Listeners are told apart by their URLs: those of `running` stay, in their order, with the
    /// rules that this configuration has for the same URL.
    pub(crate) fn keep_fixed(&mut self, running: &Config) -> Vec<&'static str> {
        let mut needs_restart = Vec::new();
        let mut keep = |key, changed| {
            if changed {
                needs_restart.push(key);
            }
        };
        keep("workers", self.worker_count() != running.worker_count());
        self.workers = running.workers;
        keep("data_dir", self.data_dir != running.data_dir);
        self.data_dir.clone_from(&running.data_dir);
        keep("store", self.store != running.store);
        self.store.clone_from(&running.store);
        keep("log.format", self.log.format != running.log.format);
        self.log.format = running.log.format;
        keep("capture", self.capture != running.capture);
        self.capture.clone_from(&running.capture);
        keep("tcp", self.tcp != running.tcp);
        self.tcp.clone_from(&running.tcp);
        keep("admin", self.admin != running.admin);
        self.admin.clone_from(&running.admin);
        keep("metrics", self.metrics != running.metrics);
        self.metrics.clone_from(&running.metrics);
        keep("listener", self.keep_listeners(&running.listeners));
        needs_restart
    }

    /// Whether a listener was added or taken away, or has a new name or file mode.
    fn keep_listeners(&mut self, running: &[Listener]) -> bool {
        let mut wanted = std::mem::take(&mut self.listeners);
        let mut changed = false;
        for open in running {
            let same = wanted.iter().position(|listener| listener.url == open.url);
            self.listeners.push(match same {
                Some(index) => {
                    let mut listener = wanted.remove(index);
                    // What its socket was made with.
                    changed |= listener.unix_mode != open.unix_mode || listener.name != open.name;
                    listener.unix_mode = open.unix_mode;
                    listener.name.clone_from(&open.name);
                    listener
                }
                None => {
                    changed = true;
                    open.clone()
                }
            });
        }
        changed || !wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text, std::path::Path::new("broker.toml")).expect("valid")
    }

    #[test]
    fn what_is_fixed_stays_and_is_named() {
        let running = config("workers = 1\ndata_dir = \"/a\"\n[limits]\nconnections = 5");
        let mut next = config(
            "workers = 2\ndata_dir = \"/b\"\n[log]\nformat = \"json\"\n[capture]\nfile = \"/c\"\n[limits]\nconnections = 6",
        );
        assert_eq!(
            next.keep_fixed(&running),
            ["workers", "data_dir", "log.format", "capture"]
        );
        let mut expected = running.clone();
        expected.limits.connections = 6;
        assert_eq!(next, expected);
        assert!(next.keep_fixed(&running).is_empty());
    }

    #[test]
    fn listeners_keep_their_places_and_get_new_rules() {
        let running = config(
            "[[listener]]\nurl = \"mqtt://127.0.0.1:1\"\n[[listener]]\nurl = \"mqtt://127.0.0.1:2\"\nallow_anonymous = true",
        );
        let mut next = config(
            "[[listener]]\nurl = \"mqtt://127.0.0.1:2\"\n[[listener]]\nurl = \"mqtt://127.0.0.1:1\"\nallow_anonymous = true",
        );
        assert!(next.keep_fixed(&running).is_empty());
        let rules: Vec<_> = next
            .listeners
            .iter()
            .map(|l| (l.url.address().expect("TCP").port(), l.allow_anonymous))
            .collect();
        assert_eq!(rules, [(1, true), (2, false)]);
        let mut other = config("[[listener]]\nurl = \"mqtt://127.0.0.1:3\"");
        assert_eq!(other.keep_fixed(&running), ["listener"]);
        assert_eq!(other.listeners, running.listeners);
    }
}
