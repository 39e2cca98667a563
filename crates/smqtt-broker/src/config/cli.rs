//! The command line of `smqtt-broker`: every flag can also be given as `SMQTT_BROKER_*`, and
//! overrides the file.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::BoolishValueParser;

use super::{Config, ListenUrl, Listener, LogFormat};
use crate::Error;
use crate::commands::Command;

/// MQTT 3.1.1 and 5.0 broker over TLS 1.3 that relays what it cannot read.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "smqtt-broker", version, about, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Listen here instead of on the listeners of the configuration: mqtts://ADDR:PORT,
    /// mqtt://ADDR:PORT, wss://ADDR:PORT, ws://ADDR:PORT or unix:///PATH, port 0 for a free one;
    /// repeatable
    #[arg(
        long,
        value_name = "URL",
        env = "SMQTT_BROKER_LISTEN",
        value_delimiter = ','
    )]
    pub listen: Vec<ListenUrl>,
    /// Admit clients without a certificate, on every listener
    #[arg(long, env = "SMQTT_BROKER_ALLOW_ANONYMOUS", value_parser = BoolishValueParser::new())]
    pub allow_anonymous: bool,
    /// Allow mqtt:// and ws:// (no TLS) on addresses that are not loopback
    #[arg(long, env = "SMQTT_BROKER_ALLOW_PLAIN", value_parser = BoolishValueParser::new())]
    pub allow_plain: bool,
    /// Directory for the broker's state, made with mode 0700 when missing
    #[arg(long, value_name = "DIR", env = "SMQTT_BROKER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The broker's certificate chain (PEM)
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The broker's private key (PEM, mode 0600)
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// The authority's root certificate (PEM); devices must show a certificate issued under it
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
    /// The authority's revocation list (PEM or DER): devices on it are refused
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_TLS_CRL")]
    pub tls_crl: Option<PathBuf>,
    /// Worker threads, 0 for one per core
    #[arg(long, value_name = "N", env = "SMQTT_BROKER_WORKERS")]
    pub workers: Option<usize>,
    /// Log level or filter, such as info or info,smqtt_broker=debug
    #[arg(long, value_name = "LEVEL", env = "SMQTT_BROKER_LOG")]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "SMQTT_BROKER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Diagnostic: append every byte that the broker sees after TLS to this file (mode 0600)
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_CAPTURE")]
    pub capture: Option<PathBuf>,
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Serve /healthz, /readyz, /metrics, /clients and /drain here (HTTP), such as 127.0.0.1:9883
    #[arg(long, value_name = "ADDR:PORT", env = "SMQTT_BROKER_ADMIN")]
    pub admin: Option<std::net::SocketAddr>,
    /// Check the configuration and the certificate files, then exit without starting
    #[arg(long)]
    pub check_config: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped cleanly, 1 unexpected failure, 2 wrong command line, \
3 configuration invalid, 4 a file or directory is unusable, 5 cannot listen, 6 acl test: denied.";

impl Cli {
    /// The configuration that these flags ask for: the file's (or the defaults) with every flag
    /// that was given put over it, validated.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or the result does not validate.
    pub fn configuration(&self) -> Result<Config, Error> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path)?,
            None => Config::default(),
        };
        self.apply(&mut config);
        config.validate()?;
        Ok(config)
    }

    fn apply(&self, config: &mut Config) {
        fn put<T: Clone>(flag: &Option<T>, key: &mut Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        if !self.listen.is_empty() {
            config.listeners = self
                .listen
                .iter()
                .map(|url| Listener::new(url.clone()))
                .collect();
        }
        for listener in &mut config.listeners {
            listener.allow_plain |= self.allow_plain;
            listener.allow_anonymous |= self.allow_anonymous;
        }
        put(&self.data_dir, &mut config.data_dir);
        put(&self.tls_cert, &mut config.tls.cert);
        put(&self.tls_key, &mut config.tls.key);
        put(&self.tls_client_ca, &mut config.tls.client_ca);
        put(&self.tls_crl, &mut config.tls.crl);
        put(&self.capture, &mut config.capture.file);
        put(&self.admin, &mut config.admin.listen);
        config.workers = self.workers.unwrap_or(config.workers);
        config.log.format = self.log_format.unwrap_or(config.log.format);
        if let Some(level) = &self.log {
            config.log.level.clone_from(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, Error> {
        Cli::try_parse_from(std::iter::once(&"smqtt-broker").chain(args))
            .expect("flags")
            .configuration()
    }

    #[test]
    fn flags_override_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("broker.toml");
        std::fs::write(&file, "workers = 3\n[log]\nlevel = \"warn\"\n[[listener]]\nurl = \"mqtt://127.0.0.1:1\"\nallow_anonymous = true\n")
            .expect("write");
        let file = file.to_str().expect("utf-8");
        let from_file = parse(&["--config", file]).expect("valid");
        assert_eq!(
            (from_file.workers, from_file.log.level.as_str()),
            (3, "warn")
        );
        let overridden = parse(&[
            "--config",
            file,
            "--workers",
            "1",
            "--listen",
            "mqtt://127.0.0.1:2",
            "--allow-anonymous",
        ])
        .expect("valid");
        assert_eq!(overridden.workers, 1);
        assert_eq!(overridden.listeners.len(), 1);
        assert_eq!(
            overridden.listeners[0].url.address().expect("TCP").port(),
            2
        );
        assert_eq!(overridden.log.level, "warn");
    }

    #[test]
    fn insecure_listeners_need_their_own_word() {
        let message = |args: &[&str]| parse(args).expect_err("refused").to_string();
        assert!(message(&[]).contains("no listener"));
        assert!(
            message(&["--listen", "mqtt://0.0.0.0:0", "--allow-anonymous"])
                .contains("--allow-plain")
        );
        assert!(message(&["--listen", "mqtt://127.0.0.1:0"]).contains("--allow-anonymous"));
        assert!(message(&["--listen", "mqtts://127.0.0.1:0"]).contains("--tls-cert"));
        assert!(
            message(&[
                "--listen",
                "mqtts://127.0.0.1:0",
                "--tls-cert",
                "c",
                "--tls-key",
                "k"
            ])
            .contains("--tls-client-ca")
        );
        parse(&[
            "--listen",
            "mqtt://0.0.0.0:0",
            "--allow-anonymous",
            "--allow-plain",
        ])
        .expect("explicit");
    }
}
