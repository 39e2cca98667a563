//! What operators are told and may ask for: the admin listener, metrics, and how the broker goes.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The admin listener: plain HTTP, for the operator's own programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where it listens; without it there is none. Beyond loopback it needs `token_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// A file (mode 0600) with the token that `/metrics`, `/clients` and `/drain` then ask for, as
    /// `Authorization: Bearer TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// What is counted beyond the ordinary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Topic levels under which messages are counted apart, such as `sensors` or `plant/7`; the
    /// longest that fits a topic gets it. At most 64.
    pub topic_prefixes: Vec<String>,
}

/// How the broker goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Seconds that a broker which is told to stop takes at most to send what still waits for
    /// clients that read.
    pub grace_seconds: u64,
    /// Clients that a draining broker sends away each second.
    pub drain_clients_per_second: u32,
    /// Seconds after which a draining broker stops, whoever is still there.
    pub drain_deadline_seconds: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            grace_seconds: 5,
            drain_clients_per_second: 100,
            drain_deadline_seconds: 300,
        }
    }
}

const MAX_PREFIXES: usize = 64;

impl Admin {
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.listen {
            Some(address) if !address.ip().is_loopback() && self.token_file.is_none() => {
                Err(format!(
                    "refusing an admin listener on {address} without a token: use a loopback address, or give admin.token_file"
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Metrics {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.topic_prefixes.len() > MAX_PREFIXES {
            return Err(format!(
                "metrics.topic_prefixes has {} prefixes: use at most {MAX_PREFIXES}",
                self.topic_prefixes.len()
            ));
        }
        match self.topic_prefixes.iter().find(|prefix| {
            prefix.is_empty() || prefix.ends_with('/') || prefix.contains(['+', '#', '\0'])
        }) {
            Some(prefix) => Err(format!(
                "metrics.topic_prefixes: \"{}\" is not the beginning of topics: write levels without wildcards and without a `/` at the end",
                prefix.escape_debug()
            )),
            None => Ok(()),
        }
    }

    /// The place of the longest prefix that `topic` lies under.
    pub(crate) fn prefix_of(&self, topic: &str) -> Option<usize> {
        self.topic_prefixes
            .iter()
            .enumerate()
            .filter(|(_, prefix)| {
                topic
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .max_by_key(|(_, prefix)| prefix.len())
            .map(|(index, _)| index)
    }
}

impl Shutdown {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.drain_clients_per_second == 0 {
            return Err(
                "shutdown.drain_clients_per_second = 0 would never end: use 1 or more".into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_levels_counts_a_topic() {
        let metrics = Metrics {
            topic_prefixes: vec!["plant".into(), "plant/7".into(), "x".into()],
        };
        metrics.validate().expect("valid");
        for (topic, expected) in [
            ("plant", Some(0)),
            ("plant/8/t", Some(0)),
            ("plant/7", Some(1)),
            ("plant/7/t", Some(1)),
            ("plant/70", Some(0)),
            ("plants", None),
            ("x/y", Some(2)),
            ("", None),
        ] {
            assert_eq!(metrics.prefix_of(topic), expected, "{topic}");
        }
        for wrong in ["", "a/", "a/#", "+"] {
            let metrics = Metrics {
                topic_prefixes: vec![wrong.into()],
            };
            assert!(metrics.validate().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_admin_listener_for_others_needs_a_token() {
        let mut admin = Admin {
            listen: Some(([0, 0, 0, 0], 9883).into()),
            token_file: None,
        };
        assert!(admin.validate().expect_err("open").contains("token_file"));
        admin.token_file = Some("token".into());
        admin.validate().expect("with a token");
        admin = Admin {
            listen: Some(([127, 0, 0, 1], 9883).into()),
            token_file: None,
        };
        admin.validate().expect("loopback");
    }
}
